/*
 * Says when a service has arrived: connects until it works.
 *
 *   arrival PAUSE_US
 *
 * For each line `ADDR PORT` on standard input tries to connect (TCP), pausing
 * PAUSE_US between attempts, and prints one line: the time of CLOCK_MONOTONIC
 * right after the first connect() that worked, in nanoseconds. Without
 * success in WAIT_S prints 0. A SYN that nobody answers blocks for a second.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define WAIT_S 60

static long long now(void)
{
  struct timespec at;
  clock_gettime(CLOCK_MONOTONIC, &at);
  return at.tv_sec * 1000000000LL + at.tv_nsec;
}

static int knock(const struct sockaddr *to, socklen_t len)
{
  struct linger reset = {.l_onoff = 1}; /* no TIME_WAIT: ports must not run out */
  struct timeval wait = {.tv_sec = 1};
  int fd = socket(to->sa_family, SOCK_STREAM, 0);
  if (fd < 0)
    return 0;
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof(wait));
  setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
  int works = connect(fd, to, len) == 0;
  close(fd);
  return works;
}

int main(int argc, char **argv)
{
  char line[128], addr[64];
  if (argc != 2)
    return fprintf(stderr, "usage: arrival PAUSE_US\n"), 2;
  printf("ready\n");
  fflush(stdout);
  while (fgets(line, sizeof(line), stdin)) {
    struct sockaddr_in v4 = {.sin_family = AF_INET};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};
    int port, words = sscanf(line, "%63s %d", addr, &port);
    int is4 = words == 2 && inet_pton(AF_INET, addr, &v4.sin_addr) == 1;
    if (words != 2 || (!is4 && inet_pton(AF_INET6, addr, &v6.sin6_addr) != 1))
      return fprintf(stderr, "arrival: no ADDR PORT: %s", line), 2;
    v4.sin_port = v6.sin6_port = htons(port);
    const struct sockaddr *to = is4 ? (const void *)&v4 : (const void *)&v6;
    socklen_t len = is4 ? sizeof(v4) : sizeof(v6);
    long long end = now() + WAIT_S * 1000000000LL, at = 0;
    while (now() < end) {
      if (knock(to, len)) {
        at = now();
        break;
      }
      usleep(atoi(argv[1]));
    }
    printf("%lld\n", at);
    fflush(stdout);
  }
  return 0;
}
