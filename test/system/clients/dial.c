/*
 * A workload that dials when it is told to. Reads lines, answers each with one
 * line: "ok", or the name of the errno. Words are separated by blanks.
 * Arguments: UID GID GROUP… to become first.
 *
 *   PROTO: tcp udp mptcp udplite icmp raw rawudp; ADDR with a colon is IPv6. FROM: bound to before
 *   connect  PROTO ADDR PORT [FROM]   a new socket's connect()
 *   sendto   PROTO ADDR PORT [FROM]   a new socket's sendto()
 *   fastopen ADDR PORT                sendto(MSG_FASTOPEN) on a new TCP socket
 *   unspec   PROTO ADDR PORT          sendto() on a new IPv4 socket, the address of family AF_UNSPEC
 *   v4on6    PROTO ADDR PORT          sendto() on a new IPv6 socket, the address of family AF_INET
 *   pktinfo  ADDR PORT SOURCE         sendmsg() of UDP over IPv4 with IP_PKTINFO
 *   uring    ADDR PORT                IORING_OP_CONNECT, by a worker of the kernel's
 *   open     PROTO 4|6                keeps a socket, in place of the last one
 *   bind     ADDR PORT                of the kept socket
 *   to       ADDR PORT                its connect()
 *   dissolve                          its connect(AF_UNSPEC)
 *   start    ADDR PORT                its connect(), not waited for: EINPROGRESS
 *   finish                            how that ended, waited for up to 20 s
 *   say      TEXT                     its send()
 *   listen                            its listen()
 *   hear                              its recv(), waited for up to 20 s: the text
 *   many     COUNT PROTO ADDR PORT    that many connects: "ERRNO=COUNT …"
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
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
#include <unistd.h>

#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif
#define WAIT_MS 20000
#define WORDS 6

union address {
  struct sockaddr any;
  struct sockaddr_in v4;
  struct sockaddr_in6 v6;
};

static int kept = -1;

static int is6(const char *addr)
{
  return strchr(addr, ':') != 0;
}

static int make(const char *proto, int family)
{
  if (!strcmp(proto, "tcp"))
    return socket(family, SOCK_STREAM, IPPROTO_TCP);
  if (!strcmp(proto, "mptcp"))
    return socket(family, SOCK_STREAM, IPPROTO_MPTCP);
  if (!strcmp(proto, "udp"))
    return socket(family, SOCK_DGRAM, IPPROTO_UDP);
  if (!strcmp(proto, "udplite"))
    return socket(family, SOCK_DGRAM, IPPROTO_UDPLITE);
  int icmp = family == AF_INET ? IPPROTO_ICMP : IPPROTO_ICMPV6;
  if (!strcmp(proto, "icmp"))
    return socket(family, SOCK_DGRAM, icmp);
  if (!strcmp(proto, "raw"))
    return socket(family, SOCK_RAW, 253); /* RFC 3692: for experiments */
  if (!strcmp(proto, "rawudp"))
    return socket(family, SOCK_RAW, IPPROTO_UDP);
  errno = EINVAL;
  return -1;
}

static socklen_t parse(const char *addr, const char *port, union address *to)
{
  memset(to, 0, sizeof(*to));
  if (is6(addr)) {
    to->v6.sin6_family = AF_INET6;
    to->v6.sin6_port = htons(atoi(port));
    if (inet_pton(AF_INET6, addr, &to->v6.sin6_addr) != 1)
      exit(2);
    return sizeof(to->v6);
  }
  to->v4.sin_family = AF_INET;
  to->v4.sin_port = htons(atoi(port));
  if (inet_pton(AF_INET, addr, &to->v4.sin_addr) != 1)
    exit(2);
  return sizeof(to->v4);
}

static int bound(const char *proto, int family, const char *from)
{
  int fd = make(proto, family);
  union address local;
  if (fd >= 0 && from) {
    socklen_t length = parse(from, "0", &local);
    if (bind(fd, &local.any, length))
      return -1;
  }
  return fd;
}

/* An ICMP echo request, so that ping sockets take it; to the others it is text. */
static const char packet[] = {8, 0, 0, 0, 0, 1, 0, 1};
static const char packet6[] = {(char)128, 0, 0, 0, 0, 1, 0, 1};

static int send_to(int fd, union address *to, socklen_t length, int flags)
{
  const char *bytes = to->any.sa_family == AF_INET6 ? packet6 : packet;
  return sendto(fd, bytes, sizeof(packet), flags, &to->any, length) < 0 ? -1 : 0;
}

static int send_from(union address *to, const char *source)
{
  char control[CMSG_SPACE(sizeof(struct in_pktinfo))] = {0};
  struct iovec text = {(void *)packet, sizeof(packet)};
  struct msghdr msg = {.msg_name = to,
                       .msg_namelen = sizeof(to->v4),
                       .msg_iov = &text,
                       .msg_iovlen = 1,
                       .msg_control = control,
                       .msg_controllen = sizeof(control)};
  struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);
  cmsg->cmsg_level = IPPROTO_IP;
  cmsg->cmsg_type = IP_PKTINFO;
  cmsg->cmsg_len = CMSG_LEN(sizeof(struct in_pktinfo));
  struct in_pktinfo info = {0};
  inet_pton(AF_INET, source, &info.ipi_spec_dst);
  memcpy(CMSG_DATA(cmsg), &info, sizeof(info));
  int fd = make("udp", AF_INET);
  int result = sendmsg(fd, &msg, 0) < 0 ? -1 : 0;
  int error = errno;
  close(fd);
  errno = error;
  return result;
}

/* IOSQE_ASYNC: not in this task's system call, but in a worker's. */
static int connect_uring(union address *to, socklen_t length)
{
  struct io_uring_params params = {0};
  int ring = syscall(__NR_io_uring_setup, 4, &params);
  if (ring < 0)
    return -1;
  size_t sq_bytes = params.sq_off.array + params.sq_entries * 4;
  size_t cq_bytes = params.cq_off.cqes + params.cq_entries * sizeof(struct io_uring_cqe);
  char *sq = mmap(0, sq_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_SQ_RING);
  char *cq = mmap(0, cq_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_CQ_RING);
  struct io_uring_sqe *sqe =
    mmap(0, 4 * sizeof(*sqe), PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_SQES);
  int fd = make("tcp", to->any.sa_family);
  memset(sqe, 0, sizeof(*sqe));
  sqe->opcode = IORING_OP_CONNECT;
  sqe->flags = IOSQE_ASYNC;
  sqe->fd = fd;
  sqe->addr = (unsigned long)to;
  sqe->off = length;
  *(unsigned *)(sq + params.sq_off.array) = 0;
  __atomic_store_n((unsigned *)(sq + params.sq_off.tail), 1, __ATOMIC_RELEASE);
  int result = syscall(__NR_io_uring_enter, ring, 1, 1, IORING_ENTER_GETEVENTS, 0, 0);
  if (result == 1)
    result = ((struct io_uring_cqe *)(cq + params.cq_off.cqes))->res;
  munmap(sq, sq_bytes);
  munmap(cq, cq_bytes);
  munmap(sqe, 4 * sizeof(*sqe));
  close(fd);
  close(ring);
  if (result < 0)
    errno = -result;
  return result < 0 ? -1 : 0;
}

static void answer(int result)
{
  puts(result < 0 ? strerrorname_np(errno) : "ok");
}

static void many(int count, const char *proto, union address *to, socklen_t length)
{
  int seen[256] = {0};
  for (int i = 0; i < count; i++) {
    int fd = make(proto, to->any.sa_family);
    int failed = connect(fd, &to->any, length);
    seen[failed ? errno & 255 : 0]++;
    close(fd);
  }
  for (int i = 0; i < 256; i++)
    if (seen[i])
      printf("%s=%d ", i ? strerrorname_np(i) : "ok", seen[i]);
  puts("");
}

static int finish(void)
{
  struct pollfd wait = {.fd = kept, .events = POLLOUT};
  int error = 0;
  socklen_t length = sizeof(error);
  if (poll(&wait, 1, WAIT_MS) != 1)
    error = ETIMEDOUT;
  else
    getsockopt(kept, SOL_SOCKET, SO_ERROR, &error, &length);
  errno = error;
  return error ? -1 : 0;
}

static void hear(void)
{
  char text[256];
  struct timeval limit = {.tv_sec = WAIT_MS / 1000};
  setsockopt(kept, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
  ssize_t got = recv(kept, text, sizeof(text) - 1, 0);
  if (got < 0) {
    answer(-1);
    return;
  }
  text[got] = 0;
  puts(text);
}

static void with_socket(int words, char **word)
{
  union address to;
  const char *what = word[0], *proto = word[1];
  socklen_t length = parse(word[2], word[3], &to);
  int family = !strcmp(what, "v4on6") ? AF_INET6 : to.any.sa_family;
  int fd = bound(proto, family, words > 4 ? word[4] : 0);
  int result = fd;
  if (fd >= 0) {
    if (!strcmp(what, "unspec"))
      to.any.sa_family = AF_UNSPEC;
    result = !strcmp(what, "connect") ? connect(fd, &to.any, length) : send_to(fd, &to, length, 0);
    int error = errno;
    close(fd);
    errno = error;
  }
  answer(result);
}

static int with_kept(int words, char **word)
{
  union address to;
  const char *what = word[0];
  if (!strcmp(what, "dissolve")) {
    struct sockaddr nobody = {.sa_family = AF_UNSPEC};
    return connect(kept, &nobody, sizeof(nobody));
  }
  if (!strcmp(what, "finish"))
    return finish();
  if (!strcmp(what, "listen"))
    return listen(kept, 16);
  if (!strcmp(what, "say") && words == 2)
    return send(kept, word[1], strlen(word[1]), MSG_NOSIGNAL) < 0 ? -1 : 0;
  if (words != 3)
    exit(2);
  if (!strcmp(what, "open")) {
    close(kept);
    kept = make(word[1], word[2][0] == '6' ? AF_INET6 : AF_INET);
    return kept;
  }
  socklen_t length = parse(word[1], word[2], &to);
  if (!strcmp(what, "bind"))
    return bind(kept, &to.any, length);
  if (!strcmp(what, "start"))
    fcntl(kept, F_SETFL, O_NONBLOCK);
  else if (strcmp(what, "to") != 0)
    exit(2);
  return connect(kept, &to.any, length);
}

static void perform(int words, char **word)
{
  union address to;
  const char *what = word[0];
  if (words >= 4 && (!strcmp(what, "connect") || !strcmp(what, "sendto") ||
                     !strcmp(what, "unspec") || !strcmp(what, "v4on6"))) {
    with_socket(words, word);
  } else if (words == 5 && !strcmp(what, "many")) {
    socklen_t length = parse(word[3], word[4], &to);
    many(atoi(word[1]), word[2], &to, length);
  } else if (words == 3 && !strcmp(what, "fastopen")) {
    socklen_t length = parse(word[1], word[2], &to);
    int fd = make("tcp", to.any.sa_family);
    answer(send_to(fd, &to, length, MSG_FASTOPEN));
    close(fd);
  } else if (words == 4 && !strcmp(what, "pktinfo")) {
    parse(word[1], word[2], &to);
    answer(send_from(&to, word[3]));
  } else if (words == 3 && !strcmp(what, "uring")) {
    socklen_t length = parse(word[1], word[2], &to);
    answer(connect_uring(&to, length));
  } else if (!strcmp(what, "hear")) {
    hear();
  } else {
    answer(with_kept(words, word));
  }
}

static void become(int count, char **ids)
{
  gid_t groups[256];
  for (int i = 2; i < count && i < 258; i++)
    groups[i - 2] = atoi(ids[i]);
  int gid = atoi(ids[1]), uid = atoi(ids[0]);
  if (setgroups(count - 2, groups) || setresgid(gid, gid, gid) || setresuid(uid, uid, uid)) {
    perror("dial");
    exit(1);
  }
}

int main(int argc, char **argv)
{
  char line[512];
  if (argc > 2)
    become(argc - 1, argv + 1);
  setvbuf(stdout, 0, _IOLBF, 0);
  while (fgets(line, sizeof(line), stdin)) {
    char *word[WORDS] = {0};
    int words = 0;
    for (char *at = strtok(line, " \n"); at && words < WORDS; at = strtok(0, " \n"))
      word[words++] = at;
    if (words > 0)
      perform(words, word);
  }
  return 0;
}
