/*
 * Tries to reach somebody by every door the kernel has, each attempt on a socket
 * of its own, and prints a JSON array of what came of each:
 *   {"reply":"…"}  |  {"error":"EPERM","at":"connect"}  |  {"missing":"why this kernel cannot"}
 *
 *   attack WORD ATTEMPT…      the n-th attempt says WORD.n, and before.WORD.n to OTHER
 *   ATTEMPT  KIND.HOW[+OPTION…]=ADDR,PORT[,OTHER-ADDR,OTHER-PORT]
 *   KIND     tcp udp mptcp smc smc6 smcproto udplite sctp sctpseq dccp ping raw rawudp rawhdr
 *   HOW      connect nonblock again fastopen fastopen-msg fastopen-mmsg fastopen-connect
 *            dissolve   connects to OTHER, talks, connect(AF_UNSPEC), connects to ADDR
 *            reconnect  as above without AF_UNSPEC between
 *            sendto sendmsg sendmmsg sendmmsg2 (first to OTHER) cork (MSG_MORE to ADDR, then send)
 *            astray     connected to OTHER, sendto ADDR
 *            join       joins the group ADDR, on the interface of its scope (IPv4: of OTHER), and sends there
 *            source     ADDR as source route of a datagram or connection to OTHER
 *            pktinfo    sendmsg with OTHER as IP_PKTINFO's source
 *            connectx   SCTP's own connect; connectx2: to OTHER, and if that fails to ADDR
 *            uring uring-send uring-sendmsg uring-fastopen
 *   OPTION   see attempt.h; lenN: the length of the address
 */
#define _GNU_SOURCE
#include "attempt.h"
#include "uring.h"

#include <fcntl.h>
#include <netinet/ip.h>
#include <poll.h>
#include <pthread.h>
#include <sys/uio.h>
#include <sys/wait.h>

#define BIG_BYTES 4000 /* three fragments on a wire of 1500 */

/* The addresses lie one after the other. */
static int connectx(int fd, const struct target *first, const struct target *to)
{
  char list[2 * sizeof(struct sockaddr_storage)];
  int len = 0;
  if (first) {
    memcpy(list, &first->at.any, first->len);
    len = first->len;
  }
  memcpy(list + len, &to->at.any, to->len);
  len += to->len;
  return setsockopt(fd, 132 /* SOL_SCTP */, 110 /* SCTP_SOCKOPT_CONNECTX */, list, len) < 0 ? errno : 0;
}

/* How a connection ends that is under way. */
static int outcome(int fd)
{
  struct pollfd wait = {.fd = fd, .events = POLLOUT};
  int err = 0;
  socklen_t size = sizeof(err);
  if (poll(&wait, 1, wait_ms()) != 1)
    return ETIMEDOUT;
  getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &size);
  return err;
}

static int nonblocking(int fd, const struct target *to)
{
  int flags = fcntl(fd, F_GETFL), err = 0;
  fcntl(fd, F_SETFL, flags | O_NONBLOCK);
  if (connect(fd, &to->at.any, to->len))
    err = errno;
  if (err == EINPROGRESS)
    err = outcome(fd);
  fcntl(fd, F_SETFL, flags);
  return err;
}

/* Seen on 5.10 and 6.1: an io_uring that is being taken down interrupts like a signal. */
static int dial(int fd, const struct target *to)
{
  if (!connect(fd, &to->at.any, to->len))
    return 0;
  return errno == EINTR ? outcome(fd) : errno;
}

/* Connects to OTHER and talks to it, which must succeed. */
static int befriend(int fd, const struct attempt *a)
{
  char line[96], reply[512];
  int err = dial(fd, &a->other), len = snprintf(line, sizeof(line), "before.%s\n", a->word);
  if (!err && (send(fd, line, len, MSG_NOSIGNAL) != len || recv(fd, reply, sizeof(reply), 0) <= 0))
    err = errno;
  if (err)
    usage(strerror(err), "OTHER does not answer");
  return 0;
}

static void hang_up(int fd)
{
  struct sockaddr none = {.sa_family = AF_UNSPEC};
  connect(fd, &none, sizeof(none));
}

struct mail {
  struct iovec data;
  struct msghdr head;
  char control[64];
};

static struct msghdr *address_mail(struct mail *mail, char *line, int len, const struct target *to)
{
  memset(mail, 0, sizeof(*mail));
  mail->data = (struct iovec){line, len};
  mail->head.msg_name = (void *)to;
  mail->head.msg_namelen = to->len;
  mail->head.msg_iov = &mail->data;
  mail->head.msg_iovlen = 1;
  return &mail->head;
}

static void claim_source(struct mail *mail, const struct target *source)
{
  struct cmsghdr *control = (struct cmsghdr *)mail->control;
  struct in_pktinfo info = {.ipi_spec_dst = source->at.v4.sin_addr};
  mail->head.msg_control = control;
  mail->head.msg_controllen = CMSG_SPACE(sizeof(info));
  control->cmsg_level = IPPROTO_IP;
  control->cmsg_type = IP_PKTINFO;
  control->cmsg_len = CMSG_LEN(sizeof(info));
  memcpy(CMSG_DATA(control), &info, sizeof(info));
}

static int mail_many(int fd, const struct attempt *a, char *line, int len, int flags)
{
  struct mail mails[2];
  struct mmsghdr list[2] = {};
  char before[96];
  int two = !strcmp(a->how, "sendmmsg2");
  int size = snprintf(before, sizeof(before), "before.%s\n", a->word);
  list[0].msg_hdr = *address_mail(&mails[0], two ? before : line, two ? size : len, two ? &a->other : &a->to);
  list[1].msg_hdr = *address_mail(&mails[1], line, len, &a->to);
  int sent = sendmmsg(fd, list, two ? 2 : 1, flags);
  if (two && sent == 1) { /* the error of the second is kept for the next call */
    char reply[512];
    recv(fd, reply, sizeof(reply), 0);
    sent = sendmmsg(fd, list + 1, 1, flags);
  } else if (two && sent == 2) {
    char reply[512];
    recv(fd, reply, sizeof(reply), 0);
  }
  return sent < 0 ? errno : 0;
}

/* Strict source route through ADDR; what the last hop is, the socket's address says. */
static int route_through(int fd, const struct attempt *a)
{
  unsigned char options[8] = {IPOPT_NOP, IPOPT_SSRR, 7, 4};
  memcpy(options + 4, &a->to.at.v4.sin_addr, 4);
  return setsockopt(fd, IPPROTO_IP, IP_OPTIONS, options, sizeof(options)) ? errno : 0;
}

static int join_group(int fd, const struct attempt *a)
{
  if (a->to.at.any.sa_family == AF_INET) {
    struct ip_mreqn group = {.imr_multiaddr = a->to.at.v4.sin_addr,
                             .imr_address = a->other.at.v4.sin_addr};
    return setsockopt(fd, IPPROTO_IP, IP_ADD_MEMBERSHIP, &group, sizeof(group)) ? errno : 0;
  }
  struct ipv6_mreq group = {.ipv6mr_multiaddr = a->to.at.v6.sin6_addr,
                            .ipv6mr_interface = a->to.at.v6.sin6_scope_id};
  return setsockopt(fd, IPPROTO_IPV6, IPV6_JOIN_GROUP, &group, sizeof(group)) ? errno : 0;
}

static int by_uring(int fd, const struct attempt *a, char *line, int len)
{
  struct mail mail;
  struct io_uring_sqe what = {.fd = fd};
  const char *how = a->how + strlen("uring");
  if (!*how) {
    what.opcode = IORING_OP_CONNECT;
    what.addr = (unsigned long)&a->to.at;
    what.off = a->to.len;
  } else if (!strcmp(how, "-send")) {
    what.opcode = IORING_OP_SEND;
    what.addr = (unsigned long)line;
    what.len = len;
    what.off = (unsigned long)&a->to.at; /* addr2, addr_len: Linux >= 6.0 */
    memcpy(&what.splice_fd_in, &(__u16){a->to.len}, sizeof(__u16));
  } else {
    what.opcode = IORING_OP_SENDMSG;
    what.addr = (unsigned long)address_mail(&mail, line, len, &a->to);
    what.len = 1;
    what.msg_flags = MSG_NOSIGNAL | (strcmp(how, "-fastopen") ? 0 : MSG_FASTOPEN);
  }
  int result = uring_do(&what, a->options & ASYNC, a->options & SQPOLL);
  return result < 0 ? -result : 0;
}

/* Does what `how` says. Sets *sent when the line is out already. Returns errno. */
static int attack(int fd, const struct attempt *a, char *line, int len, int *sent)
{
  const char *how = a->how;
  const struct sockaddr *to = &a->to.at.any;
  struct mail mail;
  int on = 1;
  if (!strcmp(how, "connect"))
    return dial(fd, &a->to);
  if (!strcmp(how, "nonblock"))
    return nonblocking(fd, &a->to);
  if (!strcmp(how, "again")) {
    for (int i = 0; i < 9; i++)
      if (!dial(fd, &a->to))
        return 0;
    return dial(fd, &a->to);
  }
  if (!strcmp(how, "fastopen-connect")) {
    if (setsockopt(fd, IPPROTO_TCP, TCP_FASTOPEN_CONNECT, &on, sizeof(on)))
      return errno;
    return dial(fd, &a->to);
  }
  if (!strcmp(how, "dissolve") || !strcmp(how, "reconnect")) {
    befriend(fd, a);
    if (*how == 'd')
      hang_up(fd);
    return dial(fd, &a->to);
  }
  if (!strcmp(how, "source")) {
    int err = route_through(fd, a);
    return err ? err : dial(fd, &a->other);
  }
  if (!strcmp(how, "connectx") || !strcmp(how, "connectx2"))
    return connectx(fd, how[8] == '2' ? &a->other : 0, &a->to);
  if (!strcmp(how, "uring"))
    return by_uring(fd, a, line, len);
  *sent = 1;
  if (!strncmp(how, "uring", 5))
    return by_uring(fd, a, line, len);
  if (!strcmp(how, "fastopen"))
    return sendto(fd, line, len, MSG_FASTOPEN | MSG_NOSIGNAL, to, a->to.len) < 0 ? errno : 0;
  if (!strcmp(how, "fastopen-msg"))
    return sendmsg(fd, address_mail(&mail, line, len, &a->to), MSG_FASTOPEN) < 0 ? errno : 0;
  if (!strcmp(how, "fastopen-mmsg"))
    return mail_many(fd, a, line, len, MSG_FASTOPEN);
  if (!strcmp(how, "sendmmsg") || !strcmp(how, "sendmmsg2"))
    return mail_many(fd, a, line, len, 0);
  if (!strcmp(how, "sendmsg"))
    return sendmsg(fd, address_mail(&mail, line, len, &a->to), 0) < 0 ? errno : 0;
  if (!strcmp(how, "pktinfo")) {
    address_mail(&mail, line, len, &a->to);
    claim_source(&mail, &a->other);
    return sendmsg(fd, &mail.head, 0) < 0 ? errno : 0;
  }
  if (!strcmp(how, "cork")) {
    if (sendto(fd, line, 1, MSG_MORE, to, a->to.len) < 0)
      return errno;
    return sendto(fd, line + 1, len - 1, 0, to, a->to.len) < 0 ? errno : 0;
  }
  if (!strcmp(how, "astray")) {
    befriend(fd, a);
  } else if (!strcmp(how, "join")) {
    int err = join_group(fd, a);
    if (err)
      return err;
  } else if (strcmp(how, "sendto")) {
    usage("unknown way", how);
  }
  return sendto(fd, line, len, MSG_NOSIGNAL, to, a->to.len) < 0 ? errno : 0;
}

static void print_reply(int fd)
{
  char reply[512];
  ssize_t got = recv(fd, reply, sizeof(reply) - 1, 0);
  if (got < 0) {
    print_error("recv", errno);
    return;
  }
  reply[got] = 0;
  reply[strcspn(reply, "\n")] = 0;
  printf("{\"reply\":\"%s\"}", reply); /* the witness answers plain ASCII without quotes */
}

/* What the line is depends on the kind: most carry the word, these a packet. */
static int make_line(const struct attempt *a, char *line, size_t size)
{
  if (a->kind->protocol == IPPROTO_ICMP) {
    memset(line, 0, 16);
    line[0] = a->to.at.any.sa_family == AF_INET6 ? (char)128 : 8; /* echo request */
    return 16;
  }
  const struct sockaddr_in *to = a->has_other ? &a->other.at.v4 : &a->to.at.v4;
  int head = 0;
  if (!strncmp(a->kind->name, "rawh", 4)) { /* an IP header with its own idea of the target */
    struct iphdr ip = {.version = 4, .ihl = 5, .ttl = 9, .protocol = IPPROTO_UDP};
    ip.daddr = to->sin_addr.s_addr;
    ip.saddr = htonl(INADDR_LOOPBACK);
    memcpy(line, &ip, head = sizeof(ip));
  }
  int len = strlen(a->word) + 1;
  if (!strncmp(a->kind->name, "rawh", 4) || !strcmp(a->kind->name, "rawudp")) {
    __be16 udp[4] = {htons(9999), to->sin_port, htons(8 + len), 0};
    memcpy(line + head, udp, sizeof(udp));
    head += sizeof(udp);
  }
  head += snprintf(line + head, size - head, "%s\n", a->word);
  if (a->options & BIG)
    for (; head < BIG_BYTES; head++)
      line[head] = '\n';
  return head;
}

static void carry_out(int fd, const struct attempt *a)
{
  char line[BIG_BYTES];
  int sent = 0, len = make_line(a, line, sizeof(line));
  int err = attack(fd, a, line, len, &sent);
  if (err >= URING_MISSING)
    print_missing("io_uring", err - URING_MISSING);
  else if (err)
    print_error(a->how, err);
  else if (!sent && send(fd, line, len, MSG_NOSIGNAL) != len)
    print_error("send", errno);
  else if (!strncmp(a->kind->name, "raw", 3))
    printf("{\"reply\":\"sent\"}");
  else
    print_reply(fd);
  fflush(stdout);
}

static struct {
  int fd;
  const struct attempt *attempt;
} job;

static void *thread_main(void *none)
{
  carry_out(job.fd, job.attempt);
  return none;
}

static void in_thread(int fd, const struct attempt *a)
{
  pthread_t thread;
  job.fd = fd;
  job.attempt = a;
  if (pthread_create(&thread, 0, thread_main, 0) || pthread_join(thread, 0))
    usage("no thread", a->text);
}

/* Others do it with our socket; we wait until all that hold the pipe are gone. */
static void by_others(int fd, const struct attempt *a, const char *self)
{
  char number[16], byte;
  int done[2];
  fflush(stdout);
  if (pipe(done))
    usage(strerror(errno), a->text);
  pid_t child = fork();
  if (child == 0) {
    if (a->options & DAEMON) {
      setsid();
      if (fork())
        _exit(0);
    }
    if (a->options & EXEC) {
      snprintf(number, sizeof(number), "%d", fd);
      setenv("ATTACK_FD", number, 1);
      execl("/proc/self/exe", self, a->word, a->text, NULL);
    }
    carry_out(fd, a);
    _exit(0);
  }
  close(done[1]);
  waitpid(child, 0, 0);
  while (read(done[0], &byte, 1) > 0)
    ;
  close(done[0]);
}

int main(int argc, char **argv)
{
  struct attempt a;
  char word[64];
  const char *inherited = getenv("ATTACK_FD");
  if (argc < 3)
    usage("usage", "attack WORD ATTEMPT…");
  if (inherited) { /* executed by ourselves: the word is whole already */
    parse_attempt(argv[2], argv[1], &a);
    carry_out(atoi(inherited), &a);
    return 0;
  }
  printf("[");
  for (int i = 2; i < argc; i++) {
    snprintf(word, sizeof(word), "%s.%d", argv[1], i - 1);
    parse_attempt(argv[i], word, &a);
    if (i > 2)
      printf(",");
    int fd = open_socket(&a);
    if (fd < 0)
      print_missing("socket", errno);
    else if (a.options & (FORK | DAEMON | EXEC))
      by_others(fd, &a, argv[0]);
    else if (a.options & THREAD)
      in_thread(fd, &a);
    else
      carry_out(fd, &a);
    close(fd);
  }
  printf("]\n");
  return 0;
}
