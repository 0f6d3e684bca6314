/*
 * Name servers with manners as told, one at each address, at port 53 over UDP.
 * Every name has the A record that dns.h makes of it, and nothing else.
 *
 *   dns-upstream ADDR…
 *
 * Reads from standard input, and answers each line with "ok":
 *   ADDR MICROSECONDS   answers so much later
 *   ADDR drop           says nothing
 *   ADDR servfail       says SERVFAIL at once
 *   ADDR gone           is not there: the socket is closed, the kernel refuses
 *   counts              answers instead how many queries each has had, in order
 * At first all answer at once. Ends when standard input does.
 */
#include "dns.h"

#include <poll.h>
#include <sys/prctl.h>
#include <signal.h>

#define SERVERS_MAX 8
#define WAITING_MAX 16384
#define DROP -1
#define SERVFAIL -2

struct waiting {
  uint64_t due;
  struct sockaddr_storage to;
  socklen_t len;
  int bytes;
  uint8_t answer[DNS_BYTES_MAX];
};

struct server {
  const char *addr;
  int fd; /* -1: gone */
  long manner; /* microseconds, DROP, SERVFAIL */
  long queries;
  struct waiting *ring;
  unsigned first, end;
};

static struct server servers[SERVERS_MAX];
static int count;

static void open_server(struct server *of)
{
  struct sockaddr_storage at;
  socklen_t len = address(of->addr, DNS_PORT, &at);
  of->fd = socket(at.ss_family, SOCK_DGRAM | SOCK_NONBLOCK, 0);
  fix_buffers(of->fd);
  if (of->fd < 0 || bind(of->fd, (void *)&at, len))
    die(of->addr);
}

/* Of a query in place; 0: none. */
static int make_answer(uint8_t *message, int bytes, long manner)
{
  static const uint8_t opt[] = {0, 0, TYPE_OPT, DNS_BYTES_MAX >> 8, DNS_BYTES_MAX & 255, 0, 0, 0, 0, 0, 0};
  if (bytes < HEADER_BYTES || message[2] >= 0x80 || word_at(message + 4) != 1)
    return 0;
  int name = plain_name(message + HEADER_BYTES, message + bytes);
  if (name == 0 || HEADER_BYTES + name + 4 > bytes)
    return 0;
  uint8_t *at = message + HEADER_BYTES + name;
  int has_answer = manner != SERVFAIL && word_at(at) == TYPE_A, has_edns = word_at(message + 10) > 0;
  at += 4;
  message[2] = 0x80 | (message[2] & 1);
  message[3] = 0x80 | (manner == SERVFAIL ? 2 : 0);
  put_word(message + 6, has_answer);
  put_word(message + 8, 0);
  put_word(message + 10, has_edns);
  if (has_answer) {
    static const uint8_t record[] = {0xc0, HEADER_BYTES, 0, TYPE_A, 0, 1, 0, 0, 1, 44, 0, 4};
    uint32_t data = address_of(message + HEADER_BYTES);
    memcpy(at, record, sizeof(record));
    memcpy(at + sizeof(record), &data, 4);
    at += sizeof(record) + 4;
  }
  if (has_edns) {
    memcpy(at, opt, sizeof(opt));
    at += sizeof(opt);
  }
  return at - message;
}

static void hear(struct server *of)
{
  for (;;) {
    if (of->end - of->first == WAITING_MAX)
      of->first++; /* the oldest is lost */
    struct waiting *next = &of->ring[of->end % WAITING_MAX];
    next->len = sizeof(next->to);
    ssize_t got = recvfrom(of->fd, next->answer, DNS_BYTES_MAX - 64, 0, (void *)&next->to, &next->len);
    if (got < 0)
      return;
    of->queries++;
    if (of->manner == DROP)
      continue;
    next->bytes = make_answer(next->answer, got, of->manner);
    next->due = of->manner > 0 ? now_ns() + of->manner * 1000 : 0;
    of->end += next->bytes > 0;
  }
}

/* What is due; nanoseconds until the next one is. */
static uint64_t speak(struct server *of)
{
  while (of->first != of->end) {
    struct waiting *next = &of->ring[of->first % WAITING_MAX];
    uint64_t now = now_ns();
    if (next->due > now)
      return next->due - now;
    sendto(of->fd, next->answer, next->bytes, 0, (void *)&next->to, next->len);
    of->first++;
  }
  return UINT64_MAX;
}

static void order(const char *line)
{
  char addr[64], word[16];
  if (strncmp(line, "counts", 6) == 0) {
    for (int i = 0; i < count; i++)
      printf("%ld%c", servers[i].queries, i + 1 < count ? ' ' : '\n');
    return;
  }
  if (sscanf(line, "%63s %15s", addr, word) != 2)
    die(line);
  for (int i = 0; i < count; i++) {
    struct server *of = &servers[i];
    if (strcmp(of->addr, addr) != 0)
      continue;
    int is_gone = strcmp(word, "gone") == 0;
    of->first = of->end; /* what it would have said */
    if (is_gone && of->fd >= 0) {
      close(of->fd);
      of->fd = -1;
    } else if (!is_gone && of->fd < 0) {
      open_server(of);
    }
    of->manner = strcmp(word, "drop") == 0 ? DROP : strcmp(word, "servfail") == 0 ? SERVFAIL : atol(word);
    printf("ok\n");
    return;
  }
  die(addr);
}

/* Whole lines only; false at the end. */
static int read_orders(void)
{
  static char text[4096];
  static size_t have;
  ssize_t got = read(0, text + have, sizeof(text) - have - 1);
  if (got <= 0)
    return 0;
  have += got;
  text[have] = 0;
  char *line = text, *end;
  while ((end = strchr(line, '\n')) != NULL) {
    *end = 0;
    order(line);
    line = end + 1;
  }
  fflush(stdout);
  have -= line - text;
  memmove(text, line, have);
  return 1;
}

int main(int argc, char **argv)
{
  if (argc < 2 || argc > SERVERS_MAX + 1)
    die("usage: dns-upstream ADDR…");
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  count = argc - 1;
  for (int i = 0; i < count; i++) {
    servers[i].addr = argv[i + 1];
    servers[i].ring = calloc(WAITING_MAX, sizeof(struct waiting));
    open_server(&servers[i]);
  }
  printf("ready\n");
  fflush(stdout);
  for (;;) {
    struct pollfd at[SERVERS_MAX + 1] = {{.fd = 0, .events = POLLIN}};
    uint64_t wait = 1000000000;
    for (int i = 0; i < count; i++) {
      uint64_t next = servers[i].fd >= 0 ? speak(&servers[i]) : UINT64_MAX;
      wait = next < wait ? next : wait;
      at[i + 1] = (struct pollfd){.fd = servers[i].fd, .events = POLLIN}; /* -1 is left out */
    }
    struct timespec left = {.tv_sec = wait / 1000000000, .tv_nsec = wait % 1000000000};
    if (ppoll(at, count + 1, &left, NULL) < 0)
      continue;
    for (int i = 0; i < count; i++)
      if (at[i + 1].revents != 0)
        hear(&servers[i]);
    if (at[0].revents != 0 && !read_orders())
      return 0;
  }
}
