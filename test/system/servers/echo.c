/*
 * Backends for tests: answer "NAME CLIENT-ADDRESS LINE" to every line (TCP) or
 * datagram (UDP), so that a test learns who answered and whom the server saw.
 *
 *   echo NAME=tcp|udp,ADDR,PORT …
 *
 * One process serves any number of names. Port 0 takes a free one. When all
 * listen, prints one JSON array: [{"name","protocol","address","port"},…].
 * An IPv6 socket is IPv6 only.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define FDS_MAX 16384

enum kind { FREE = 0, TCP, UDP, STREAM };

static struct {
  enum kind kind;
  const char *name;
} fds[FDS_MAX];
static int poller;

static void die(const char *what)
{
  fprintf(stderr, "echo: %s: %s\n", what, strerror(errno));
  exit(1);
}

static void watch(int fd, enum kind kind, const char *name)
{
  struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
  if (fd >= FDS_MAX || epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event)) {
    close(fd);
    return;
  }
  fds[fd].kind = kind;
  fds[fd].name = name;
}

static int text_of(const struct sockaddr_storage *from, char *to, size_t size)
{
  char addr[INET6_ADDRSTRLEN] = "";
  if (from->ss_family == AF_INET) {
    const struct sockaddr_in *v4 = (const void *)from;
    return snprintf(to, size, "%s:%d", inet_ntop(AF_INET, &v4->sin_addr, addr, sizeof(addr)),
                    ntohs(v4->sin_port));
  }
  const struct sockaddr_in6 *v6 = (const void *)from;
  return snprintf(to, size, "[%s]:%d", inet_ntop(AF_INET6, &v6->sin6_addr, addr, sizeof(addr)),
                  ntohs(v6->sin6_port));
}

static int answer(int fd, const struct sockaddr_storage *from, const char *said, int len, char *to, size_t size)
{
  char peer[64];
  text_of(from, peer, sizeof(peer));
  while (len > 0 && said[len - 1] == '\n')
    len--;
  return snprintf(to, size, "%s %s %.*s\n", fds[fd].name, peer, len, said);
}

static void serve(int fd)
{
  struct sockaddr_storage from = {};
  socklen_t from_len = sizeof(from);
  char said[512], reply[768];
  if (fds[fd].kind == TCP) {
    int stream = accept4(fd, (struct sockaddr *)&from, &from_len, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (stream >= 0)
      watch(stream, STREAM, fds[fd].name);
    return;
  }
  ssize_t got = recvfrom(fd, said, sizeof(said), MSG_DONTWAIT, (struct sockaddr *)&from, &from_len);
  if (fds[fd].kind == UDP) {
    if (got >= 0) {
      int len = answer(fd, &from, said, got, reply, sizeof(reply));
      sendto(fd, reply, len, MSG_DONTWAIT | MSG_NOSIGNAL, (struct sockaddr *)&from, from_len);
    }
    return;
  }
  if (got <= 0) {
    if (got < 0 && errno == EAGAIN)
      return;
    fds[fd].kind = FREE;
    close(fd);
    return;
  }
  from_len = sizeof(from);
  getpeername(fd, (struct sockaddr *)&from, &from_len);
  int len = answer(fd, &from, said, got, reply, sizeof(reply));
  send(fd, reply, len, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* NAME=PROTOCOL,ADDR,PORT; cuts the argument into its words. */
static void listen_at(char *text, const char *comma)
{
  struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};
  struct sockaddr_in v4 = {.sin_family = AF_INET};
  char *name = strsep(&text, "="), *protocol = strsep(&text, ","), *addr = strsep(&text, ",");
  if (!addr || !text)
    die("expected NAME=tcp|udp,ADDR,PORT");
  int udp = !strcmp(protocol, "udp"), is4 = inet_pton(AF_INET, addr, &v4.sin_addr) == 1, one = 1;
  if (!is4 && inet_pton(AF_INET6, addr, &v6.sin6_addr) != 1)
    die(addr);
  v4.sin_port = v6.sin6_port = htons(atoi(text));
  struct sockaddr *at = is4 ? (struct sockaddr *)&v4 : (struct sockaddr *)&v6;
  socklen_t len = is4 ? sizeof(v4) : sizeof(v6);
  int fd = socket(at->sa_family, (udp ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
  if (!is4)
    setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one));
  if (fd < 0 || bind(fd, at, len) || (!udp && listen(fd, 4096)))
    die(addr);
  if (!udp) {
    int queue = 128;
    setsockopt(fd, IPPROTO_TCP, 23 /* TCP_FASTOPEN */, &queue, sizeof(queue));
  }
  getsockname(fd, at, &len);
  watch(fd, udp ? UDP : TCP, name);
  printf("%s{\"name\":\"%s\",\"protocol\":\"%s\",\"address\":\"%s\",\"port\":%d}", comma, name, protocol, addr,
         ntohs(is4 ? v4.sin_port : v6.sin6_port));
}

int main(int argc, char **argv)
{
  struct rlimit files = {FDS_MAX, FDS_MAX};
  setrlimit(RLIMIT_NOFILE, &files);
  poller = epoll_create1(EPOLL_CLOEXEC);
  printf("[");
  for (int i = 1; i < argc; i++)
    listen_at(argv[i], i > 1 ? "," : "");
  printf("]\n");
  fflush(stdout);
  for (;;) {
    struct epoll_event events[64];
    int ready = epoll_wait(poller, events, 64, -1);
    if (ready < 0 && errno != EINTR)
      die("epoll_wait");
    for (int i = 0; i < ready; i++)
      serve(events[i].data.fd);
  }
}
