/*
 * Connects at a steady pace, whatever becomes of the connects before: one that
 * hangs does not keep others from being tried.
 *
 *   steady ADDR PORT EVERY_US WAIT_MS [BACKEND:PORT…]
 *
 * Each attempt is a new TCP socket: connect, a line, the answer, whose first
 * word is the backend's name. After WAIT_MS it has failed with ETIMEDOUT. Goes
 * on until standard input ends; those under way then still end. Prints a line
 * for each attempt that failed, at once, with times of CLOCK_MONOTONIC:
 *   {"from":NS,"to":NS,"error":"connect ETIMEDOUT","backend":"10.77.0.2:8080"}
 * backend: whom the socket was talking to, VIPs resolved; "" when the kernel
 * had closed the socket by then. It is one of those given (IPv4), which the kernel
 * is asked about; without any, what /proc/net/tcp says, at 5 ms a look. When a
 * backend answers for the first time: {"answered":"a"}. At the end
 *   {"attempts":N,"skipped":N,"unlisted":N,"answers":{"a":{"count":N,"firstNs":NS,"lastNs":NS},…}}
 * answers: the first and the last began then. skipped: too many were under way;
 * unlisted: failed after LISTED_MAX others.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define UNDER_WAY_MAX 1024
#define FDS_MAX (UNDER_WAY_MAX + 16)
#define NAMES_MAX 256
#define NAME_BYTES 48
#define LISTED_MAX 100000

enum kind { FREE = 0, CONNECTING, ASKED };

static struct {
  enum kind kind;
  long long from;
} tries[FDS_MAX];

static struct {
  char name[NAME_BYTES];
  long count;
  long long first, last;
} names[NAMES_MAX];

static struct {
  const char *text;
  struct sockaddr_in at;
} candidates[NAMES_MAX];

static int poller, diag, under_way, names_used, candidates_used;
static long attempts, skipped, listed, unlisted;

static long long now(void)
{
  struct timespec at;
  clock_gettime(CLOCK_MONOTONIC, &at);
  return at.tv_sec * 1000000000LL + at.tv_nsec;
}

static void answered(const char *name, long long from)
{
  int i = 0;
  while (i < names_used && strcmp(names[i].name, name))
    i++;
  if (i == NAMES_MAX) {
    i--;
  } else if (i == names_used) {
    snprintf(names[i].name, NAME_BYTES, "%.47s", name);
    names[i].first = from;
    names_used++;
    printf("{\"answered\":\"%s\"}\n", names[i].name);
    fflush(stdout);
  }
  names[i].count++;
  if (from < names[i].first)
    names[i].first = from;
  if (from > names[i].last)
    names[i].last = from;
}

/* The far end in a line of /proc/net/tcp or tcp6: addresses are words in host order. */
static void far_end(const char *hex, unsigned port, char *to, size_t size)
{
  unsigned words[4];
  char addr[INET6_ADDRSTRLEN] = "";
  if (strlen(hex) == 8 && sscanf(hex, "%8x", &words[0]) == 1) {
    snprintf(to, size, "%s:%u", inet_ntop(AF_INET, words, addr, sizeof(addr)), port);
  } else if (sscanf(hex, "%8x%8x%8x%8x", &words[0], &words[1], &words[2], &words[3]) == 4) {
    snprintf(to, size, "[%s]:%u", inet_ntop(AF_INET6, words, addr, sizeof(addr)), port);
  }
}

static void from_proc(int fd, char *to, size_t size)
{
  struct stat own;
  if (fstat(fd, &own))
    return;
  for (int six = 0; six < 2 && !to[0]; six++) {
    FILE *table = fopen(six ? "/proc/net/tcp6" : "/proc/net/tcp", "r");
    char line[512], hex[33];
    unsigned port;
    unsigned long inode;
    while (table && fgets(line, sizeof(line), table))
      if (sscanf(line, " %*d: %*[0-9A-F]:%*x %32[0-9A-F]:%x %*x %*x:%*x %*x:%*x %*x %*d %*d %lu", hex, &port,
                 &inode) == 3 &&
          inode == own.st_ino)
        far_end(hex, port, to, size);
    if (table)
      fclose(table);
  }
}

/* Whether there is a connection from here to there, by sock_diag(7) for exactly one. */
static int is_connection(const struct sockaddr_in *here, const struct sockaddr_in *there)
{
  struct {
    struct nlmsghdr header;
    struct inet_diag_req_v2 body;
  } ask = {.header = {.nlmsg_len = sizeof(ask), .nlmsg_type = SOCK_DIAG_BY_FAMILY, .nlmsg_flags = NLM_F_REQUEST},
           .body = {.sdiag_family = AF_INET, .sdiag_protocol = IPPROTO_TCP, .idiag_states = -1}};
  struct {
    struct nlmsghdr header;
    struct inet_diag_msg body;
    char more[1024];
  } answer;
  ask.body.id.idiag_sport = here->sin_port;
  ask.body.id.idiag_dport = there->sin_port;
  ask.body.id.idiag_src[0] = here->sin_addr.s_addr;
  ask.body.id.idiag_dst[0] = there->sin_addr.s_addr;
  memset(ask.body.id.idiag_cookie, 0xff, sizeof(ask.body.id.idiag_cookie)); /* INET_DIAG_NOCOOKIE */
  if (send(diag, &ask, sizeof(ask), 0) != sizeof(ask) || recv(diag, &answer, sizeof(answer), 0) < 0)
    return 0;
  return answer.header.nlmsg_type == SOCK_DIAG_BY_FAMILY;
}

static void backend_of(int fd, char *to, size_t size)
{
  struct sockaddr_in here;
  socklen_t len = sizeof(here);
  to[0] = 0;
  if (candidates_used == 0)
    return from_proc(fd, to, size);
  if (getsockname(fd, (struct sockaddr *)&here, &len) || here.sin_family != AF_INET)
    return;
  for (int i = 0; i < candidates_used && !to[0]; i++)
    if (is_connection(&here, &candidates[i].at))
      snprintf(to, size, "%s", candidates[i].text);
}

static void add_candidate(const char *text)
{
  char addr[INET_ADDRSTRLEN] = "";
  struct sockaddr_in at = {.sin_family = AF_INET};
  const char *colon = strchr(text, ':');
  if (!colon || colon - text >= INET_ADDRSTRLEN || candidates_used == NAMES_MAX)
    exit((fprintf(stderr, "steady: no ADDR:PORT, or too many: %s\n", text), 2));
  memcpy(addr, text, colon - text);
  at.sin_port = htons(atoi(colon + 1));
  if (inet_pton(AF_INET, addr, &at.sin_addr) != 1)
    exit((fprintf(stderr, "steady: no IPv4 address: %s\n", addr), 2));
  candidates[candidates_used].text = text;
  candidates[candidates_used++].at = at;
}

static void done(int fd)
{
  struct linger reset = {.l_onoff = 1}; /* no TIME_WAIT: ports must not run out */
  setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
  close(fd);
  tries[fd].kind = FREE;
  under_way--;
}

static void failed(int fd, const char *where, int error)
{
  char backend[INET6_ADDRSTRLEN + 10];
  if (listed++ < LISTED_MAX) {
    backend_of(fd, backend, sizeof(backend));
    printf("{\"from\":%lld,\"to\":%lld,\"error\":\"%s %s\",\"backend\":\"%s\"}\n", tries[fd].from, now(), where,
           error ? strerrorname_np(error) : "EOF", backend);
    fflush(stdout);
  } else {
    unlisted++;
  }
  done(fd);
}

static void attempt(const struct sockaddr *to, socklen_t len)
{
  attempts++;
  int fd = under_way == UNDER_WAY_MAX ? -1 : socket(to->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0 || fd >= FDS_MAX) {
    skipped++;
    if (fd >= 0)
      close(fd);
    return;
  }
  under_way++;
  tries[fd].kind = CONNECTING;
  tries[fd].from = now();
  if (connect(fd, to, len) && errno != EINPROGRESS)
    return failed(fd, "connect", errno);
  struct epoll_event event = {.events = EPOLLOUT, .data.fd = fd};
  if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event))
    failed(fd, "epoll_ctl", errno);
}

static void connected(int fd)
{
  int error = 0;
  socklen_t len = sizeof(error);
  getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len);
  if (error)
    return failed(fd, "connect", error);
  if (send(fd, "x\n", 2, MSG_NOSIGNAL) != 2)
    return failed(fd, "send", errno);
  struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
  tries[fd].kind = ASKED;
  if (epoll_ctl(poller, EPOLL_CTL_MOD, fd, &event))
    failed(fd, "epoll_ctl", errno);
}

static void heard(int fd)
{
  char reply[256];
  ssize_t got = recv(fd, reply, sizeof(reply) - 1, 0);
  if (got <= 0)
    return failed(fd, "recv", got ? errno : 0);
  reply[got] = 0;
  reply[strcspn(reply, " \n")] = 0;
  answered(reply, tries[fd].from);
  done(fd);
}

static void end_late(long long wait_ns)
{
  for (int fd = 0; fd < FDS_MAX; fd++)
    if (tries[fd].kind != FREE && now() - tries[fd].from > wait_ns)
      failed(fd, tries[fd].kind == CONNECTING ? "connect" : "recv", ETIMEDOUT);
}

static void print_counts(void)
{
  printf("{\"attempts\":%ld,\"skipped\":%ld,\"unlisted\":%ld,\"answers\":{", attempts, skipped, unlisted);
  for (int i = 0; i < names_used; i++)
    printf("%s\"%s\":{\"count\":%ld,\"firstNs\":%lld,\"lastNs\":%lld}", i ? "," : "", names[i].name, names[i].count,
           names[i].first, names[i].last);
  printf("}}\n");
}

int main(int argc, char **argv)
{
  struct sockaddr_in v4 = {.sin_family = AF_INET};
  struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};
  if (argc < 5)
    return fprintf(stderr, "usage: steady ADDR PORT EVERY_US WAIT_MS [BACKEND:PORT...]\n"), 2;
  int is4 = inet_pton(AF_INET, argv[1], &v4.sin_addr) == 1;
  if (!is4 && inet_pton(AF_INET6, argv[1], &v6.sin6_addr) != 1)
    return fprintf(stderr, "steady: bad address %s\n", argv[1]), 2;
  v4.sin_port = v6.sin6_port = htons(atoi(argv[2]));
  const struct sockaddr *to = is4 ? (const void *)&v4 : (const void *)&v6;
  socklen_t len = is4 ? sizeof(v4) : sizeof(v6);
  long every_us = atol(argv[3]);
  long long wait_ns = atol(argv[4]) * 1000000LL;
  struct timespec every = {.tv_sec = every_us / 1000000, .tv_nsec = every_us % 1000000 * 1000};
  struct itimerspec pace = {.it_interval = every, .it_value = every};

  for (int i = 5; i < argc; i++)
    add_candidate(argv[i]);
  diag = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
  int clock = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
  poller = epoll_create1(EPOLL_CLOEXEC);
  struct epoll_event tick = {.events = EPOLLIN, .data.fd = clock}, input = {.events = EPOLLIN, .data.fd = 0};
  if (every_us <= 0 || wait_ns <= 0 || timerfd_settime(clock, 0, &pace, NULL) ||
      epoll_ctl(poller, EPOLL_CTL_ADD, clock, &tick) || epoll_ctl(poller, EPOLL_CTL_ADD, 0, &input))
    return perror("steady"), 1;
  printf("started\n");
  fflush(stdout);

  int going = 1;
  while (going || under_way > 0) {
    struct epoll_event events[64];
    int count = epoll_wait(poller, events, 64, 50);
    for (int i = 0; i < count; i++) {
      int fd = events[i].data.fd;
      unsigned long long ticks;
      if (fd == 0) {
        char ignored[256];
        if (read(0, ignored, sizeof(ignored)) <= 0) {
          going = 0;
          epoll_ctl(poller, EPOLL_CTL_DEL, 0, NULL);
        }
      } else if (fd == clock) {
        /* Ticks that a busy machine let pass are not made up for. */
        if (read(clock, &ticks, sizeof(ticks)) == sizeof(ticks) && going)
          attempt(to, len);
      } else if (tries[fd].kind == CONNECTING) {
        connected(fd);
      } else if (tries[fd].kind == ASKED) {
        heard(fd);
      }
    }
    end_late(wait_ns);
  }
  print_counts();
  return 0;
}
