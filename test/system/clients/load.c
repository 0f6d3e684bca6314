/*
 * Connects again and again, and says who answered.
 *
 *   load tcp|udp ADDR PORT COUNT [PAUSE_US [log]]
 *
 * Each round connects (TCP: a new socket; UDP: the same socket again), sends a
 * line, reads the answer, whose first word is the backend's name. Goes on until
 * COUNT rounds are done and standard input has ended. At the end prints
 *   {"rounds":N, "answers":{"a":N,…}, "errors":{"connect ECONNREFUSED":N,…}}
 * and with `log`, before it, one line a round: BEFORE_NS AFTER_NS NAME, where
 * the times of CLOCK_MONOTONIC are taken around connect().
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define NAMES_MAX 256
#define NAME_BYTES 48
#define ROUNDS_MAX 2000000
#define WAIT_S 5

static struct {
  char name[NAME_BYTES];
  long count;
  int error;
} names[NAMES_MAX];
static int names_used;

static struct {
  long long before, after;
  int name;
} *rounds;

static int name_of(const char *text, int error)
{
  for (int i = 0; i < names_used; i++)
    if (names[i].error == error && !strcmp(names[i].name, text))
      return i;
  if (names_used == NAMES_MAX)
    return NAMES_MAX - 1;
  snprintf(names[names_used].name, NAME_BYTES, "%s", text);
  names[names_used].error = error;
  return names_used++;
}

static int failed(const char *where)
{
  char text[NAME_BYTES];
  snprintf(text, sizeof(text), "%s %s", where, errno ? strerrorname_np(errno) : "EOF");
  return name_of(text, 1);
}

static long long now(void)
{
  struct timespec at;
  clock_gettime(CLOCK_MONOTONIC, &at);
  return at.tv_sec * 1000000000LL + at.tv_nsec;
}

static int open_socket(int family, int type)
{
  struct timeval wait = {.tv_sec = WAIT_S};
  int fd = socket(family, type, 0);
  if (fd >= 0) {
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait));
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof(wait));
  }
  return fd;
}

static int round_trip(int fd, const struct sockaddr *to, socklen_t len, long long *before, long long *after)
{
  char reply[256];
  *before = now();
  int err = connect(fd, to, len);
  *after = now();
  if (err)
    return failed("connect");
  if (send(fd, "x\n", 2, MSG_NOSIGNAL) != 2)
    return failed("send");
  errno = 0;
  ssize_t got = recv(fd, reply, sizeof(reply) - 1, 0);
  if (got <= 0)
    return failed("recv");
  reply[got] = 0;
  reply[strcspn(reply, " \n")] = 0;
  return name_of(reply, 0);
}

static void print_counts(const char *title, int errors, const char *end)
{
  const char *comma = "";
  printf("\"%s\":{", title);
  for (int i = 0; i < names_used; i++) {
    if (names[i].error != errors)
      continue;
    printf("%s\"%s\":%ld", comma, names[i].name, names[i].count);
    comma = ",";
  }
  printf("}%s", end);
}

int main(int argc, char **argv)
{
  struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};
  struct sockaddr_in v4 = {.sin_family = AF_INET};
  if (argc < 5)
    return fprintf(stderr, "usage: load tcp|udp ADDR PORT COUNT [PAUSE_US [log]]\n"), 2;
  int type = strcmp(argv[1], "udp") ? SOCK_STREAM : SOCK_DGRAM;
  int is4 = inet_pton(AF_INET, argv[2], &v4.sin_addr) == 1;
  if (!is4 && inet_pton(AF_INET6, argv[2], &v6.sin6_addr) != 1)
    return fprintf(stderr, "load: bad address %s\n", argv[2]), 2;
  v4.sin_port = v6.sin6_port = htons(atoi(argv[3]));
  const struct sockaddr *to = is4 ? (struct sockaddr *)&v4 : (struct sockaddr *)&v6;
  socklen_t len = is4 ? sizeof(v4) : sizeof(v6);
  long count = atol(argv[4]), pause_us = argc > 5 ? atol(argv[5]) : 0, done = 0;
  int log = argc > 6 && !strcmp(argv[6], "log");
  if (log && !(rounds = calloc(ROUNDS_MAX, sizeof(*rounds))))
    return perror("load"), 1;

  int udp = type == SOCK_DGRAM ? open_socket(to->sa_family, type) : -1;
  for (; done < ROUNDS_MAX; done++) {
    struct pollfd stop = {.fd = 0, .events = POLLIN};
    if (done >= count && poll(&stop, 1, 0) != 0)
      break;
    int fd = type == SOCK_DGRAM ? udp : open_socket(to->sa_family, type);
    long long before = 0, after = 0;
    int name = fd < 0 ? failed("socket") : round_trip(fd, to, len, &before, &after);
    names[name].count++;
    if (log) {
      rounds[done].before = before;
      rounds[done].after = after;
      rounds[done].name = name;
    }
    if (type == SOCK_STREAM && fd >= 0) {
      struct linger reset = {.l_onoff = 1}; /* no TIME_WAIT: ports must not run out */
      setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
      close(fd);
    }
    if (pause_us)
      usleep(pause_us);
  }
  if (log)
    for (long i = 0; i < done; i++)
      printf("%lld %lld %s%s\n", rounds[i].before, rounds[i].after, names[rounds[i].name].error ? "!" : "",
             names[rounds[i].name].name);
  printf("{\"rounds\":%ld,", done);
  print_counts("answers", 0, ",");
  print_counts("errors", 1, "}\n");
  return 0;
}
