/*
 * The client end of a measurement. Reads counts from standard input, one a
 * line; for each does that many operations and prints
 *   NANOSECONDS WRONG-PEERS
 * The measured loop has no clock (but new-cgroup), no output and no branch on the variant.
 *
 *   lane KIND ADDR PORT [SPREAD [PATH]]
 *
 * KIND   connect-tcp   socket, connect, read until the server has closed, close
 *        connect-udp   socket, connect, close
 *        ask-udp       socket, connect, send, receive, close
 *        echo-tcp      64 bytes there and back on one connection
 *        echo-udp      the same on one connected socket, with send and recv
 *        bulk-tcp      64 KiB written, and once per count a byte back for all of it
 *        peername-tcp  getpeername() on one connection
 *        socket-udp    socket, close: what all of these do besides
 *        sendto-udp    64 bytes there and back on one socket that is not connected
 *        denied-tcp    as connect-tcp, connect-udp, sendto-udp, but each call must
 *        denied-udp    be refused with EPERM
 *        denied-sendto
 *        new-cgroup    makes PATH/some-N, enters it, connects; must be refused in
 *                      PATH/denied-N and nowhere else: others count as wrong. The
 *                      time is that of mkdir
 *        who           once, without input: what client and server see, as JSON
 * SPREAD an IPv4 address at random among this many from ADDR on, each time
 *
 * Connections end by reset (SO_LINGER 0): nothing stays in TIME_WAIT, so that
 * one round does not pay for the ports of the last.
 */
#include "bench.h"

#include <fcntl.h>
#include <sys/stat.h>

#define PATH_BYTES 256

static struct sockaddr_storage base;
static socklen_t base_len;
static unsigned spread = 1;
static uint32_t dice = 2463534242u; /* xorshift32, G. Marsaglia 2003 */

/* The address within a socket address. */
static const void *room(const struct sockaddr_storage *at, size_t *len)
{
  if (at->ss_family == AF_INET) {
    *len = 4;
    return &((const struct sockaddr_in *)at)->sin_addr;
  }
  *len = 16;
  return &((const struct sockaddr_in6 *)at)->sin6_addr;
}

/* Where to connect this time. */
static inline const struct sockaddr_storage *next(void)
{
  static struct sockaddr_storage at;
  if (spread == 1)
    return &base;
  dice ^= dice << 13;
  dice ^= dice >> 17;
  dice ^= dice << 5;
  at = base;
  struct sockaddr_in *in = (void *)&at;
  in->sin_addr.s_addr = htonl(ntohl(in->sin_addr.s_addr) + (uint32_t)(((uint64_t)dice * spread) >> 32));
  return &at;
}

static int open_to(int type, const struct sockaddr_storage *to)
{
  int fd = socket(to->ss_family, type, 0);
  if (fd < 0 || connect(fd, (const void *)to, base_len))
    die("connect");
  return fd;
}

static int open_tcp(const struct sockaddr_storage *to)
{
  int fd = open_to(SOCK_STREAM, to), one = 1;
  fix_buffers(fd);
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
  return fd;
}

/* Must not get there. */
static void refused(int type, const struct sockaddr_storage *to)
{
  int fd = socket(to->ss_family, type, 0);
  if (fd < 0 || connect(fd, (const void *)to, base_len) == 0 || errno != EPERM)
    die("a connect that is to be denied");
  close(fd);
}

static int wrong_peer(int fd, const struct sockaddr_storage *asked)
{
  struct sockaddr_storage peer = {0};
  socklen_t len = sizeof(peer);
  size_t bytes;
  const void *addr = room(asked, &bytes);
  if (getpeername(fd, (void *)&peer, &len) || peer.ss_family != asked->ss_family)
    return 1;
  return ((struct sockaddr_in *)&peer)->sin_port != ((const struct sockaddr_in *)asked)->sin_port ||
         memcmp(room(&peer, &bytes), addr, bytes) != 0;
}

/* Sixteen connections that are not timed, each asked for its peer. */
static int wrong_peers(int type)
{
  int wrong = 0;
  for (int i = 0; i < 16; i++) {
    struct sockaddr_storage asked = *next();
    int fd = open_to(type, &asked);
    wrong += wrong_peer(fd, &asked);
    if (type == SOCK_STREAM)
      close_reset(fd);
    else
      close(fd);
  }
  return wrong;
}

static void connect_tcp(long count)
{
  char byte;
  while (count-- > 0) {
    int fd = open_to(SOCK_STREAM, next());
    if (recv(fd, &byte, 1, 0) > 0)
      die("an answer from the closing server");
    close_reset(fd);
  }
}

static void connect_udp(long count)
{
  while (count-- > 0)
    close(open_to(SOCK_DGRAM, next()));
}

static void ask_udp(long count)
{
  char text[MESSAGE_BYTES] = "ask";
  while (count-- > 0) {
    int fd = open_to(SOCK_DGRAM, next());
    if (send(fd, text, sizeof(text), 0) < 0 || recv(fd, text, sizeof(text), 0) < 0)
      die("ask");
    close(fd);
  }
}

static void echo(int fd, long count, int flags)
{
  char text[MESSAGE_BYTES] = "ping";
  while (count-- > 0)
    if (send(fd, text, sizeof(text), 0) < 0 || recv(fd, text, sizeof(text), flags) <= 0)
      die("echo");
}

static void bulk(int fd, long count)
{
  static char chunk[CHUNK_BYTES];
  uint64_t bytes = (uint64_t)count * sizeof(chunk);
  send_all(fd, (char *)&bytes, sizeof(bytes));
  while (count-- > 0)
    send_all(fd, chunk, sizeof(chunk));
  if (recv(fd, chunk, 1, 0) != 1)
    die("the byte back");
}

static void echo_to(int fd, long count)
{
  char text[MESSAGE_BYTES] = "ping";
  while (count-- > 0)
    if (sendto(fd, text, sizeof(text), 0, (const void *)next(), base_len) < 0 ||
        recv(fd, text, sizeof(text), 0) <= 0)
      die("sendto");
}

static void refused_sendto(int fd, long count)
{
  char text[MESSAGE_BYTES] = "ping";
  while (count-- > 0)
    if (sendto(fd, text, sizeof(text), 0, (const void *)next(), base_len) >= 0 || errno != EPERM)
      die("a sendto that is to be denied");
}

static void enter(const char *path)
{
  char procs[PATH_BYTES + 16];
  snprintf(procs, sizeof(procs), "%s/cgroup.procs", path);
  int fd = open(procs, O_WRONLY);
  if (fd < 0 || write(fd, "0", 1) != 1)
    die(procs);
  close(fd);
}

/* The first call in a cgroup that is as old as it takes to enter it. */
static int first_connect_is_denied(void)
{
  int fd = socket(base.ss_family, SOCK_DGRAM, 0);
  int failed = connect(fd, (const void *)&base, base_len);
  if (failed && errno != EPERM)
    die("connect");
  close(fd);
  return failed != 0;
}

static uint64_t new_cgroups(const char *path, long count, int *wrong)
{
  static unsigned made;
  uint64_t took = 0;
  *wrong = 0;
  while (count-- > 0) {
    char child[PATH_BYTES];
    int denied = ++made & 1;
    snprintf(child, sizeof(child), "%s/%s-%u", path, denied ? "denied" : "some", made);
    uint64_t start = now_ns();
    if (mkdir(child, 0755))
      die(child);
    took += now_ns() - start;
    enter(child);
    *wrong += first_connect_is_denied() != denied;
    enter(path);
    if (rmdir(child))
      die(child);
  }
  return took;
}

static void peername(int fd, long count)
{
  struct sockaddr_storage peer;
  while (count-- > 0) {
    socklen_t len = sizeof(peer);
    if (getpeername(fd, (void *)&peer, &len))
      die("getpeername");
  }
}

static int who(void)
{
  char peer[TEXT_BYTES], local[TEXT_BYTES], seen[TEXT_BYTES] = "";
  int fd = open_to(SOCK_STREAM, &base);
  struct sockaddr_storage at;
  socklen_t len = sizeof(at);
  getpeername(fd, (void *)&at, &len);
  text_of(&at, peer);
  len = sizeof(at);
  getsockname(fd, (void *)&at, &len);
  text_of(&at, local);
  if (recv(fd, seen, sizeof(seen) - 1, MSG_WAITALL) <= 0)
    die("who");
  printf("{\"peer\":\"%s\",\"local\":\"%s\",\"seen\":\"%s\"}\n", peer, local, seen);
  return 0;
}

static void once(const char *kind, int fd, long count)
{
  if (!strcmp(kind, "connect-tcp"))
    connect_tcp(count);
  else if (!strcmp(kind, "connect-udp"))
    connect_udp(count);
  else if (!strcmp(kind, "ask-udp"))
    ask_udp(count);
  else if (!strcmp(kind, "echo-tcp"))
    echo(fd, count, MSG_WAITALL);
  else if (!strcmp(kind, "echo-udp"))
    echo(fd, count, 0);
  else if (!strcmp(kind, "bulk-tcp"))
    bulk(fd, count);
  else if (!strcmp(kind, "peername-tcp"))
    peername(fd, count);
  else if (!strcmp(kind, "socket-udp"))
    while (count-- > 0)
      close(socket(base.ss_family, SOCK_DGRAM, 0));
  else if (!strcmp(kind, "sendto-udp"))
    echo_to(fd, count);
  else if (!strcmp(kind, "denied-sendto"))
    refused_sendto(fd, count);
  else if (!strncmp(kind, "denied", 6))
    while (count-- > 0)
      refused(strcmp(kind, "denied-udp") ? SOCK_STREAM : SOCK_DGRAM, next());
  else
    die("an unknown kind");
}

int main(int argc, char **argv)
{
  if (argc < 4)
    die("usage: lane KIND ADDR PORT [SPREAD]");
  const char *kind = argv[1];
  base_len = address(argv[2], atoi(argv[3]), &base);
  if (argc > 4)
    spread = atoi(argv[4]);
  if (!strcmp(kind, "who"))
    return who();
  const char *path = argc > 5 ? argv[5] : 0;
  int udp = strstr(kind, "-udp") != 0, opens = !strncmp(kind, "connect", 7) || !strncmp(kind, "ask", 3);
  int aimed = !strcmp(kind, "sendto-udp") || !strcmp(kind, "denied-sendto"); /* one socket, not connected */
  int idle = opens || path || !strcmp(kind, "socket-udp") || (!aimed && !strncmp(kind, "denied", 6));
  int fd = aimed  ? socket(base.ss_family, SOCK_DGRAM, 0)
           : idle ? -1
           : udp  ? open_to(SOCK_DGRAM, &base)
                  : open_tcp(&base);
  int wrong = fd < 0 || aimed ? 0 : wrong_peer(fd, &base);
  setvbuf(stdout, 0, _IOLBF, 0);
  printf("ready\n");
  char line[64];
  while (fgets(line, sizeof(line), stdin)) {
    long count = atol(line);
    uint64_t start = now_ns();
    if (!path)
      once(kind, fd, count);
    uint64_t took = path ? new_cgroups(path, count, &wrong) : now_ns() - start;
    if (opens)
      wrong = wrong_peers(udp ? SOCK_DGRAM : SOCK_STREAM);
    printf("%llu %d\n", (unsigned long long)took, wrong);
  }
  return 0;
}
