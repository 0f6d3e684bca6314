/*
 * A client of DNS over UDP that looks at every answer. Reads turns from
 * standard input, one a line, and prints for each
 *   NANOSECONDS RIGHT WRONG FAILED LOST [NANOSECONDS-OF-EACH…]
 *
 *   dns-ask ADDR PORT NAMES TIMEOUT-MS
 *
 * NAMES   a file of "NAME ADDRESS" lines, of which one is drawn each time; or
 *         unique:SUFFIX, names that nobody asked before, whose addresses are
 *         made from the name (dns.h)
 * Turns   wait COUNT          one query after the other, each answer waited for
 *         window COUNT SIZE   as fast as they are answered, SIZE under way, in batches
 *         pace COUNT RATE     RATE queries a second, however late the answers are;
 *                             each counts from when it was to be sent
 *
 * RIGHT is NOERROR with the one address that is wanted, FAILED another rcode or
 * too late, LOST no answer. What failed or was lost takes the whole timeout.
 */
#include "dns.h"

#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>

#define NAMES_MAX 200000
#define COUNT_MAX 100000
#define BATCH 32
#define IDS 65536

struct name {
  uint16_t bytes;
  uint32_t wanted;
  uint8_t *query;
};

/* A query under way, by its id. */
struct asked {
  int place; /* in the turn; -1: none is */
  const struct name *name;
};

static struct name *names;
static int name_count;
static const char *suffix;
static uint64_t timeout_ns;
static int fd;
static struct asked asked[IDS];
static uint16_t next_id;
static uint64_t *took; /* of each of a turn; while it is under way, when it was to be sent */
static long right, wrong, failed;
static int pending;
static uint32_t dice = 2463534242u; /* xorshift32, G. Marsaglia 2003 */

static uint32_t draw(void)
{
  dice ^= dice << 13;
  dice ^= dice >> 17;
  dice ^= dice << 5;
  return dice;
}

static void read_names(const char *path)
{
  char line[NAME_BYTES_MAX * 2], name[NAME_BYTES_MAX + 1], address[64];
  FILE *file = fopen(path, "r");
  names = calloc(NAMES_MAX, sizeof(*names));
  if (file == NULL || names == NULL)
    die(path);
  while (fgets(line, sizeof(line), file) != NULL && name_count < NAMES_MAX) {
    struct name *to = &names[name_count++];
    uint8_t query[DNS_BYTES_MAX];
    if (sscanf(line, "%255s %63s", name, address) != 2 || inet_pton(AF_INET, address, &to->wanted) != 1)
      die(line);
    to->bytes = make_query(query, name);
    to->query = malloc(DNS_BYTES_MAX);
    memcpy(to->query, query, DNS_BYTES_MAX);
  }
  fclose(file);
}

/* As many names as queries may be under way, each made anew before it is used. */
static void prepare_unique(void)
{
  names = calloc(IDS, sizeof(*names));
  uint8_t *room = calloc(IDS, DNS_BYTES_MAX);
  if (names == NULL || room == NULL)
    die("memory");
  for (int i = 0; i < IDS; i++)
    names[i].query = room + (size_t)i * DNS_BYTES_MAX;
}

static struct name *unique_name(uint16_t id)
{
  static unsigned made;
  static uint64_t born;
  char text[NAME_BYTES_MAX];
  if (born == 0)
    born = now_ns() ^ (uint64_t)getpid() << 40;
  snprintf(text, sizeof(text), "u%u-%llx.%s", made++, (unsigned long long)born, suffix);
  struct name *name = &names[id];
  name->bytes = make_query(name->query, text);
  name->wanted = address_of(name->query + HEADER_BYTES);
  return name;
}

/* The next query, with an id of its own; it is under way from now on. */
static struct name *prepare(int place, uint64_t due)
{
  uint16_t id = next_id++;
  while (asked[id].place >= 0)
    id = next_id++;
  struct name *name = suffix != NULL ? unique_name(id) : &names[(uint64_t)draw() * name_count >> 32];
  asked[id] = (struct asked){.place = place, .name = name};
  took[place] = due;
  pending++;
  put_word(name->query, id);
  return name;
}

static void settle(const uint8_t *answer, int bytes, uint64_t now)
{
  if (bytes < HEADER_BYTES)
    return;
  struct asked *of = &asked[word_at(answer)];
  if (of->place < 0)
    return;
  uint8_t query[DNS_BYTES_MAX];
  memcpy(query, of->name->query, of->name->bytes);
  put_word(query, word_at(answer)); /* the same name may be under way twice */
  enum verdict is = judge(answer, bytes, query, of->name->wanted);
  uint64_t ns = now - took[of->place];
  if (is == STRAY)
    return;
  if (ns > timeout_ns)
    is = FAILED; /* as good as none */
  took[of->place] = is == RIGHT ? ns : timeout_ns;
  right += is == RIGHT;
  wrong += is == WRONG;
  failed += is == FAILED;
  of->place = -1;
  pending--;
}

/* What is still under way is lost. */
static long give_up(void)
{
  long lost = 0;
  for (int id = 0; id < IDS && pending > 0; id++)
    if (asked[id].place >= 0) {
      took[asked[id].place] = timeout_ns;
      asked[id].place = -1;
      pending--;
      lost++;
    }
  return lost;
}

/* Refused: nobody listens there; the next call says nothing of it. */
static void send_one(const struct name *name)
{
  if (send(fd, name->query, name->bytes, 0) < 0 && errno != ECONNREFUSED)
    die("send");
}

static long turn_wait(long count)
{
  uint8_t answer[65536];
  long lost = 0;
  for (long i = 0; i < count; i++) {
    uint64_t start = now_ns();
    send_one(prepare(i, start));
    while (pending > 0) {
      ssize_t got = recv(fd, answer, sizeof(answer), 0);
      uint64_t now = now_ns();
      if (got >= 0)
        settle(answer, got, now);
      if (pending > 0 && now - start > timeout_ns)
        lost += give_up();
    }
  }
  return lost;
}

static int send_batch(int place, int count)
{
  static struct mmsghdr list[BATCH];
  static struct iovec at[BATCH];
  static uint8_t copies[BATCH][DNS_BYTES_MAX];
  uint64_t now = now_ns();
  for (int i = 0; i < count; i++) {
    struct name *name = prepare(place + i, now);
    memcpy(copies[i], name->query, name->bytes);
    at[i] = (struct iovec){.iov_base = copies[i], .iov_len = name->bytes};
    list[i].msg_hdr = (struct msghdr){.msg_iov = &at[i], .msg_iovlen = 1};
  }
  for (int sent = 0; sent < count;) {
    int now_sent = sendmmsg(fd, list + sent, count - sent, 0);
    if (now_sent < 0 && errno != ECONNREFUSED)
      die("sendmmsg");
    sent += now_sent < 0 ? 1 : now_sent;
  }
  return count;
}

/* Until when the last good answer was there is what `end` says: lost ones at the end cost no throughput. */
static long turn_window(long count, int size, uint64_t *end)
{
  static struct mmsghdr list[BATCH];
  static struct iovec at[BATCH];
  static uint8_t answers[BATCH][DNS_BYTES_MAX];
  for (int i = 0; i < BATCH; i++) {
    at[i] = (struct iovec){.iov_base = answers[i], .iov_len = DNS_BYTES_MAX};
    list[i].msg_hdr = (struct msghdr){.msg_iov = &at[i], .msg_iovlen = 1};
  }
  uint64_t heard = now_ns();
  long lost = 0;
  for (long sent = 0; sent < count || pending > 0;) {
    long room = size - pending < count - sent ? size - pending : count - sent;
    /* Half a batch at least, so that neither end works datagram by datagram. */
    if (room >= BATCH / 2 || (room > 0 && room == count - sent))
      sent += send_batch(sent, room < BATCH ? room : BATCH);
    if (pending == 0 || (size - pending >= BATCH && sent < count))
      continue;
    int got = recvmmsg(fd, list, BATCH, MSG_WAITFORONE, NULL);
    uint64_t now = now_ns();
    for (int i = 0; i < got; i++)
      settle(answers[i], list[i].msg_len, now);
    if (got > 0)
      *end = heard = now;
    else if (now - heard > timeout_ns)
      lost += give_up();
  }
  return lost;
}

/* Answers until then. */
static void listen_until(uint64_t until)
{
  static uint8_t answer[65536];
  for (uint64_t now = now_ns(); now < until; now = now_ns()) {
    struct pollfd at = {.fd = fd, .events = POLLIN};
    struct timespec left = {.tv_sec = (until - now) / 1000000000, .tv_nsec = (until - now) % 1000000000};
    if (ppoll(&at, 1, &left, NULL) <= 0)
      continue;
    ssize_t got = recv(fd, answer, sizeof(answer), MSG_DONTWAIT);
    if (got >= 0)
      settle(answer, got, now_ns());
  }
}

static long turn_pace(long count, long rate)
{
  uint64_t start = now_ns(), gap = 1000000000 / rate;
  for (long i = 0; i < count; i++) {
    listen_until(start + i * gap);
    send_one(prepare(i, start + i * gap));
  }
  uint64_t end = start + count * gap + timeout_ns;
  while (pending > 0 && now_ns() < end)
    listen_until(now_ns() + 1000000 < end ? now_ns() + 1000000 : end);
  return give_up();
}

static void turn(const char *line)
{
  long count = 0, number = 1, lost = 0;
  char kind[16] = "";
  if (sscanf(line, "%15s %ld %ld", kind, &count, &number) < 2 || count < 1 || count > COUNT_MAX || number < 1)
    die(line);
  right = wrong = failed = 0;
  uint64_t start = now_ns(), end = 0;
  if (strcmp(kind, "wait") == 0)
    lost = turn_wait(count);
  else if (strcmp(kind, "pace") == 0)
    lost = turn_pace(count, number);
  else if (strcmp(kind, "window") == 0 && number >= BATCH)
    lost = turn_window(count, number, &end);
  else
    die(line);
  if (end == 0)
    end = now_ns();
  printf("%llu %ld %ld %ld %ld", (unsigned long long)(end - start), right, wrong, failed, lost);
  if (strcmp(kind, "window") != 0)
    for (long i = 0; i < count; i++)
      printf(" %llu", (unsigned long long)took[i]);
  printf("\n");
  fflush(stdout);
}

int main(int argc, char **argv)
{
  if (argc != 5)
    die("usage: dns-ask ADDR PORT NAMES TIMEOUT-MS");
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  timeout_ns = atoll(argv[4]) * 1000000ull;
  dice ^= (uint32_t)now_ns();
  took = calloc(COUNT_MAX, sizeof(*took));
  for (int id = 0; id < IDS; id++)
    asked[id].place = -1;
  if (strncmp(argv[3], "unique:", 7) == 0) {
    suffix = argv[3] + 7;
    prepare_unique();
  } else {
    read_names(argv[3]);
  }
  struct sockaddr_storage to;
  socklen_t len = address(argv[1], atoi(argv[2]), &to);
  struct timeval tick = {.tv_usec = 50000}; /* how exactly a lost answer is noticed */
  fd = socket(to.ss_family, SOCK_DGRAM, 0);
  fix_buffers(fd);
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tick, sizeof(tick));
  if (fd < 0 || connect(fd, (void *)&to, len))
    die("connect");
  printf("ready\n");
  fflush(stdout);
  char line[256];
  while (fgets(line, sizeof(line), stdin) != NULL)
    turn(line);
  return 0;
}
