/* What both ends of a measurement share. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MESSAGE_BYTES 64
#define CHUNK_BYTES 65536
#define BUFFER_BYTES (512 * 1024)
#define TEXT_BYTES 80

static inline void die(const char *what)
{
  fprintf(stderr, "bench: %s: %s\n", what, strerror(errno));
  _exit(1);
}

static inline uint64_t now_ns(void)
{
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000000000ull + now.tv_nsec;
}

static inline socklen_t address(const char *addr, int port, struct sockaddr_storage *to)
{
  struct sockaddr_in *v4 = (void *)to;
  struct sockaddr_in6 *v6 = (void *)to;
  memset(to, 0, sizeof(*to));
  v4->sin_port = htons(port); /* at the same place in both */
  if (inet_pton(AF_INET, addr, &v4->sin_addr) == 1) {
    to->ss_family = AF_INET;
    return sizeof(*v4);
  }
  if (inet_pton(AF_INET6, addr, &v6->sin6_addr) != 1)
    die(addr);
  to->ss_family = AF_INET6;
  return sizeof(*v6);
}

static inline void text_of(const struct sockaddr_storage *at, char text[TEXT_BYTES])
{
  char addr[INET6_ADDRSTRLEN];
  if (at->ss_family == AF_INET) {
    const struct sockaddr_in *v4 = (const void *)at;
    snprintf(text, TEXT_BYTES, "%s:%d", inet_ntop(AF_INET, &v4->sin_addr, addr, sizeof(addr)),
             ntohs(v4->sin_port));
  } else {
    const struct sockaddr_in6 *v6 = (const void *)at;
    snprintf(text, TEXT_BYTES, "[%s]:%d", inet_ntop(AF_INET6, &v6->sin6_addr, addr, sizeof(addr)),
             ntohs(v6->sin6_port));
  }
}

static inline void close_reset(int fd)
{
  struct linger now = {.l_onoff = 1, .l_linger = 0};
  setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
  close(fd);
}

/* Buffers that do not grow: how they grow is chance, and moves throughput by half. */
static inline void fix_buffers(int fd)
{
  int bytes = BUFFER_BYTES;
  setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof(bytes));
  setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes));
}

static inline void send_all(int fd, const char *bytes, size_t size)
{
  while (size > 0) {
    ssize_t sent = send(fd, bytes, size, MSG_NOSIGNAL);
    if (sent <= 0)
      die("send");
    bytes += sent;
    size -= sent;
  }
}
