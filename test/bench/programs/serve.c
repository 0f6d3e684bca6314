/*
 * The server end of a measurement: five servers, each a process of its own, at
 * five ports in a row from PORT on.
 *
 *   serve ADDR PORT
 *
 * PORT    accepts and closes at once          PORT+3  sends back every datagram
 * PORT+1  sends back what comes               PORT+4  says whom it sees, and closes
 * PORT+2  reads {u64 bytes, that many bytes}… and answers each with a byte
 *
 * Prints "ready" when all listen; ends when standard input does.
 */
#include "bench.h"

#include <signal.h>
#include <sys/prctl.h>

static int bound(int type, const char *addr, int port)
{
  struct sockaddr_storage at;
  socklen_t len = address(addr, port, &at);
  int one = 1, fd = socket(at.ss_family, type, 0);
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
  if (type == SOCK_STREAM)
    fix_buffers(fd); /* accepted sockets inherit them */
  if (fd < 0 || bind(fd, (void *)&at, len) || (type == SOCK_STREAM && listen(fd, 4096)))
    die("bind");
  return fd;
}

static void close_each(int listener)
{
  for (;;) {
    int fd = accept4(listener, 0, 0, SOCK_CLOEXEC);
    if (fd >= 0)
      close_reset(fd);
  }
}

static void echo_stream(int fd)
{
  char text[MESSAGE_BYTES];
  ssize_t got;
  while ((got = recv(fd, text, sizeof(text), 0)) > 0)
    send_all(fd, text, got);
}

static void sink_stream(int fd)
{
  static char chunk[2 * CHUNK_BYTES];
  uint64_t left;
  while (recv(fd, &left, sizeof(left), MSG_WAITALL) == sizeof(left)) {
    while (left > 0) {
      ssize_t got = recv(fd, chunk, left < sizeof(chunk) ? left : sizeof(chunk), 0);
      if (got <= 0)
        return;
      left -= got;
    }
    send_all(fd, chunk, 1);
  }
}

/* A process a connection: connections last for a whole measurement. */
static void stream_each(int listener, void (*serve)(int))
{
  signal(SIGCHLD, SIG_IGN);
  for (;;) {
    int one = 1, fd = accept(listener, 0, 0);
    if (fd >= 0 && fork() == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
      serve(fd);
      _exit(0);
    }
    close(fd);
  }
}

static void echo_datagrams(int fd)
{
  char text[MESSAGE_BYTES];
  for (;;) {
    struct sockaddr_storage from;
    socklen_t len = sizeof(from);
    ssize_t got = recvfrom(fd, text, sizeof(text), 0, (void *)&from, &len);
    if (got >= 0)
      sendto(fd, text, got, 0, (void *)&from, len);
  }
}

static void say_who(int listener)
{
  for (;;) {
    struct sockaddr_storage from;
    socklen_t len = sizeof(from);
    char text[TEXT_BYTES];
    int fd = accept(listener, (void *)&from, &len);
    if (fd < 0)
      continue;
    text_of(&from, text);
    send_all(fd, text, strlen(text));
    close(fd);
  }
}

static void run(int at, int fd)
{
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  switch (at) {
  case 0: close_each(fd); break;
  case 1: stream_each(fd, echo_stream); break;
  case 2: stream_each(fd, sink_stream); break;
  case 3: echo_datagrams(fd); break;
  default: say_who(fd);
  }
  _exit(1);
}

int main(int argc, char **argv)
{
  if (argc != 3)
    die("usage: serve ADDR PORT");
  signal(SIGPIPE, SIG_IGN);
  for (int i = 0; i < 5; i++) {
    int fd = bound(i == 3 ? SOCK_DGRAM : SOCK_STREAM, argv[1], atoi(argv[2]) + i);
    if (fork() == 0)
      run(i, fd);
    close(fd);
  }
  printf("ready\n");
  fflush(stdout);
  char end;
  while (read(0, &end, 1) > 0) {
  }
  return 0;
}
