/*
 * One socket, a list of steps, a JSON array of what each step saw.
 *
 *   client 4|6 tcp|udp STEP…
 *     connect=ADDR,PORT   connect(), blocking
 *     nonblock=ADDR,PORT  connect() with O_NONBLOCK, poll(), SO_ERROR
 *     uring=ADDR,PORT     IORING_OP_CONNECT, by raw system calls
 *     fastopen=ADDR,PORT  sendto(MSG_FASTOPEN, "fast")
 *     unspec              connect(AF_UNSPEC)
 *     say=TEXT            send(), recv()
 *     hear                recv()
 *     sendto=ADDR,PORT    sendto("to PORT")
 *     recvfrom            recvfrom()
 *     recvmsg             recvmsg() with a name
 *     peer                getpeername(), getsockname()
 *     line                a line from standard input, or its end
 * Every other wait is bounded by 2 s. Exit code 0 unless the usage is wrong.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define WAIT_MS 2000

union address {
  struct sockaddr any;
  struct sockaddr_in v4;
  struct sockaddr_in6 v6;
};

static int family, type;

static void usage(const char *what)
{
  fprintf(stderr, "client: %s\n", what);
  exit(2);
}

static socklen_t parse(const char *text, union address *to)
{
  char addr[INET6_ADDRSTRLEN + 1] = "";
  int port = -1;
  if (sscanf(text, "%46[^,],%d", addr, &port) != 2)
    usage("expected ADDR,PORT");
  memset(to, 0, sizeof(*to));
  to->any.sa_family = family;
  if (family == AF_INET) {
    to->v4.sin_port = htons(port);
    if (inet_pton(AF_INET, addr, &to->v4.sin_addr) != 1)
      usage("bad IPv4 address");
    return sizeof(to->v4);
  }
  to->v6.sin6_port = htons(port);
  if (inet_pton(AF_INET6, addr, &to->v6.sin6_addr) != 1)
    usage("bad IPv6 address");
  return sizeof(to->v6);
}

static void print_address(const char *name, const union address *at)
{
  char text[INET6_ADDRSTRLEN] = "";
  if (at->any.sa_family == AF_INET)
    printf(",\"%s\":\"%s:%d\"", name, inet_ntop(AF_INET, &at->v4.sin_addr, text, sizeof(text)),
           ntohs(at->v4.sin_port));
  else if (at->any.sa_family == AF_INET6)
    printf(",\"%s\":\"[%s]:%d\"", name, inet_ntop(AF_INET6, &at->v6.sin6_addr, text, sizeof(text)),
           ntohs(at->v6.sin6_port));
}

static void print_error(int err)
{
  printf(",\"error\":\"%s\"", strerrorname_np(err));
}

static void print_names(int fd)
{
  union address at = {};
  socklen_t len = sizeof(at);
  if (getpeername(fd, &at.any, &len))
    printf(",\"peerError\":\"%s\"", strerrorname_np(errno));
  else
    print_address("peer", &at);
  len = sizeof(at);
  if (getsockname(fd, &at.any, &len) == 0)
    print_address("local", &at);
}

static void print_reply(char *text, ssize_t len)
{
  if (len < 0) {
    print_error(errno);
    return;
  }
  text[len] = 0;
  text[strcspn(text, "\n")] = 0;
  printf(",\"reply\":\"%s\"", text); /* the servers answer plain ASCII without quotes */
}

static int connect_nonblock(int fd, const union address *to, socklen_t len)
{
  int flags = fcntl(fd, F_GETFL), err = 0;
  fcntl(fd, F_SETFL, flags | O_NONBLOCK);
  if (connect(fd, &to->any, len))
    err = errno;
  if (err == EINPROGRESS) {
    struct pollfd wait = {.fd = fd, .events = POLLOUT};
    socklen_t size = sizeof(err);
    if (poll(&wait, 1, WAIT_MS) != 1)
      err = ETIMEDOUT;
    else
      getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &size);
  }
  fcntl(fd, F_SETFL, flags);
  return err;
}

static int connect_uring(int fd, const union address *to, socklen_t len)
{
  struct io_uring_params params = {};
  int ring = syscall(SYS_io_uring_setup, 4, &params);
  if (ring < 0)
    return errno;
  size_t sq_size = params.sq_off.array + params.sq_entries * sizeof(__u32);
  size_t cq_size = params.cq_off.cqes + params.cq_entries * sizeof(struct io_uring_cqe);
  size_t size = sq_size > cq_size ? sq_size : cq_size;
  if (!(params.features & IORING_FEAT_SINGLE_MMAP))
    return ENOTSUP; /* Linux < 5.4 */
  char *at = mmap(0, size, PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_SQ_RING);
  struct io_uring_sqe *sqe = mmap(0, params.sq_entries * sizeof(*sqe), PROT_READ | PROT_WRITE,
                                  MAP_SHARED, ring, IORING_OFF_SQES);
  if (at == MAP_FAILED || sqe == MAP_FAILED)
    return errno;
  memset(sqe, 0, sizeof(*sqe));
  sqe->opcode = IORING_OP_CONNECT;
  sqe->fd = fd;
  sqe->addr = (unsigned long)to;
  sqe->off = len;
  *(__u32 *)(at + params.sq_off.array) = 0;
  __atomic_store_n((__u32 *)(at + params.sq_off.tail), 1, __ATOMIC_RELEASE);
  if (syscall(SYS_io_uring_enter, ring, 1, 1, IORING_ENTER_GETEVENTS, 0, 0) < 0)
    return errno;
  struct io_uring_cqe *cqe = (struct io_uring_cqe *)(at + params.cq_off.cqes);
  int err = -cqe->res;
  munmap(sqe, params.sq_entries * sizeof(*sqe));
  munmap(at, size);
  close(ring);
  return err;
}

static int say(int fd, const char *text, char *reply, size_t size)
{
  char line[256];
  int len = snprintf(line, sizeof(line), "%s\n", text);
  if (send(fd, line, len, MSG_NOSIGNAL) != len)
    return -1;
  return recv(fd, reply, size, 0);
}

static void step(int fd, char *text)
{
  union address to = {};
  socklen_t len = sizeof(to);
  char reply[512], *value = strchr(text, '=');
  int err = 0;
  if (value)
    *value++ = 0;
  printf("{\"step\":\"%s\"", text);
  if (!strcmp(text, "connect") || !strcmp(text, "nonblock") || !strcmp(text, "uring")) {
    len = parse(value ? value : "", &to);
    if (*text == 'c')
      err = connect(fd, &to.any, len) ? errno : 0;
    else
      err = *text == 'n' ? connect_nonblock(fd, &to, len) : connect_uring(fd, &to, len);
    if (err)
      print_error(err);
    print_names(fd);
  } else if (!strcmp(text, "fastopen")) {
    len = parse(value ? value : "", &to);
    if (sendto(fd, "fast\n", 5, MSG_FASTOPEN | MSG_NOSIGNAL, &to.any, len) != 5)
      print_error(errno);
    print_names(fd);
  } else if (!strcmp(text, "unspec")) {
    to.any.sa_family = AF_UNSPEC;
    if (connect(fd, &to.any, sizeof(to)))
      print_error(errno);
    print_names(fd);
  } else if (!strcmp(text, "say")) {
    print_reply(reply, say(fd, value ? value : "hi", reply, sizeof(reply) - 1));
  } else if (!strcmp(text, "hear")) {
    print_reply(reply, recv(fd, reply, sizeof(reply) - 1, 0));
  } else if (!strcmp(text, "sendto")) {
    len = parse(value ? value : "", &to);
    int size = snprintf(reply, sizeof(reply), "to %s\n", strchr(value, ',') + 1);
    if (sendto(fd, reply, size, MSG_NOSIGNAL, &to.any, len) != size)
      print_error(errno);
  } else if (!strcmp(text, "recvfrom")) {
    print_reply(reply, recvfrom(fd, reply, sizeof(reply) - 1, 0, &to.any, &len));
    print_address("from", &to);
  } else if (!strcmp(text, "recvmsg")) {
    struct iovec io = {.iov_base = reply, .iov_len = sizeof(reply) - 1};
    struct msghdr message = {.msg_name = &to, .msg_namelen = len, .msg_iov = &io, .msg_iovlen = 1};
    print_reply(reply, recvmsg(fd, &message, 0));
    print_address("from", &to);
  } else if (!strcmp(text, "peer")) {
    print_names(fd);
  } else if (!strcmp(text, "line")) {
    fflush(stdout);
    if (!fgets(reply, sizeof(reply), stdin))
      clearerr(stdin);
  } else {
    usage("unknown step");
  }
  printf("}");
}

int main(int argc, char **argv)
{
  if (argc < 4)
    usage("usage: client 4|6 tcp|udp STEP…");
  family = *argv[1] == '6' ? AF_INET6 : AF_INET;
  type = strcmp(argv[2], "udp") ? SOCK_STREAM : SOCK_DGRAM;
  int fd = socket(family, type, 0);
  if (fd < 0)
    usage(strerror(errno));
  struct timeval wait = {.tv_sec = WAIT_MS / 1000};
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait));
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof(wait));
  printf("[");
  for (int i = 3; i < argc; i++) {
    if (i > 3)
      printf(",");
    step(fd, argv[i]);
  }
  printf("]\n");
  close(fd);
  return 0;
}
