/*
 * One attempt to reach somebody: how it is written, the socket for it, and what
 * came of it. See attack.c for the words.
 */
#ifndef ATTEMPT_H
#define ATTEMPT_H

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif
#define PROTO_SMC 256 /* IPPROTO_SMC, Linux >= 6.11 */
#define FAMILY_SMC 43

union address {
  struct sockaddr any;
  struct sockaddr_in v4;
  struct sockaddr_in6 v6;
  struct sockaddr_storage room;
};

struct target {
  union address at;
  socklen_t len;
};

struct kind {
  const char *name;
  int family; /* 0: the target's */
  int type;
  int protocol;
};

struct attempt {
  const char *text; /* as written */
  const struct kind *kind;
  char how[40];
  int options; /* enum option */
  long length; /* of the address, if not its own */
  struct target to, other;
  int has_other;
  char word[64];
};

enum option {
  ON_V6 = 1,      /* an IPv6 socket, the address stays IPv4 */
  NO_FAMILY = 2,  /* the address says AF_UNSPEC */
  BIND = 4,       /* to the address OTHER first */
  FORK = 8,       /* a child dials the parent's socket, */
  DAEMON = 16,    /* a grandchild in a session of its own, */
  THREAD = 32,    /* another thread, */
  EXEC = 64,      /* another program */
  ASYNC = 128,    /* io_uring: by a worker, */
  SQPOLL = 256,   /* by the kernel's polling thread */
  BIG = 512,      /* a datagram that goes in fragments */
  EXTRA = 1024,   /* an extension header of IPv6 before it */
};

static const struct kind kinds[] = {
    {"tcp", 0, SOCK_STREAM, 0},
    {"udp", 0, SOCK_DGRAM, 0},
    {"mptcp", 0, SOCK_STREAM, IPPROTO_MPTCP},
    {"smc", FAMILY_SMC, SOCK_STREAM, 0},
    {"smc6", FAMILY_SMC, SOCK_STREAM, 1},
    {"smcproto", 0, SOCK_STREAM, PROTO_SMC},
    {"udplite", 0, SOCK_DGRAM, IPPROTO_UDPLITE},
    {"sctp", 0, SOCK_STREAM, IPPROTO_SCTP},
    {"sctpseq", 0, SOCK_SEQPACKET, IPPROTO_SCTP},
    {"dccp", 0, 6 /* SOCK_DCCP */, 33},
    {"ping", 0, SOCK_DGRAM, IPPROTO_ICMP},
    {"raw", 0, SOCK_RAW, 253}, /* for experiments (RFC 3692) */
    {"rawudp", 0, SOCK_RAW, IPPROTO_UDP},
    {"rawhdr", 0, SOCK_RAW, IPPROTO_RAW},
};

static const struct {
  const char *name;
  int bit;
} options[] = {{"on6", ON_V6},       {"unspec", NO_FAMILY}, {"bind", BIND},   {"fork", FORK},
               {"daemon", DAEMON},   {"thread", THREAD},    {"exec", EXEC},   {"async", ASYNC},
               {"sqpoll", SQPOLL},   {"big", BIG},          {"extra", EXTRA}};

static void usage(const char *what, const char *text)
{
  fprintf(stderr, "attack: %s: %s\n", what, text);
  exit(2);
}

/* ADDR,PORT; the address may end in %SCOPE, a number. Returns what follows. */
static char *parse_target(char *text, struct target *to)
{
  char *addr = strsep(&text, ","), *port = strsep(&text, ","), *scope;
  if (!addr || !port)
    usage("expected ADDR,PORT", addr ? addr : "");
  memset(to, 0, sizeof(*to));
  scope = strchr(addr, '%');
  if (scope)
    *scope++ = 0;
  if (strchr(addr, ':')) {
    to->at.v6.sin6_family = AF_INET6;
    to->at.v6.sin6_port = htons(atoi(port));
    to->at.v6.sin6_scope_id = scope ? atoi(scope) : 0;
    to->len = sizeof(to->at.v6);
    if (inet_pton(AF_INET6, addr, &to->at.v6.sin6_addr) != 1)
      usage("bad IPv6 address", addr);
  } else {
    to->at.v4.sin_family = AF_INET;
    to->at.v4.sin_port = htons(atoi(port));
    to->len = sizeof(to->at.v4);
    if (inet_pton(AF_INET, addr, &to->at.v4.sin_addr) != 1)
      usage("bad IPv4 address", addr);
  }
  return text;
}

static void parse_option(struct attempt *a, const char *name)
{
  if (!strncmp(name, "len", 3)) {
    a->length = atol(name + 3);
    return;
  }
  for (size_t i = 0; i < sizeof(options) / sizeof(*options); i++) {
    if (!strcmp(options[i].name, name)) {
      a->options |= options[i].bit;
      return;
    }
  }
  usage("unknown option", name);
}

/* KIND.HOW[+OPTION…]=ADDR,PORT[,OTHER-ADDR,OTHER-PORT] */
static void parse_attempt(const char *text, const char *word, struct attempt *a)
{
  char *copy = strdup(text), *rest = copy;
  char *words = strsep(&rest, "=");
  char *kind = strsep(&words, "."), *how = words ? strsep(&words, "+") : NULL;
  memset(a, 0, sizeof(*a));
  a->text = text;
  if (!rest || !how)
    usage("expected KIND.HOW[+OPTION]=ADDR,PORT", text);
  for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++)
    if (!strcmp(kinds[i].name, kind))
      a->kind = &kinds[i];
  if (!a->kind)
    usage("unknown kind of socket", kind);
  snprintf(a->how, sizeof(a->how), "%s", how);
  snprintf(a->word, sizeof(a->word), "%s", word);
  while (words)
    parse_option(a, strsep(&words, "+"));
  rest = parse_target(rest, &a->to);
  if (rest) {
    parse_target(rest, &a->other);
    a->has_other = 1;
  }
  if (a->options & NO_FAMILY)
    a->to.at.any.sa_family = AF_UNSPEC;
  if (a->length)
    a->to.len = a->length;
  free(copy);
}

static long wait_ms(void)
{
  const char *patience = getenv("ZEROHOP_TEST_PATIENCE"), *wait = getenv("ATTACK_WAIT_MS");
  if (wait)
    return atol(wait);
  return 2000 * (patience ? atol(patience) : 1);
}

/* A socket for the attempt, or -1. */
static int open_socket(const struct attempt *a)
{
  int family = a->options & ON_V6 ? AF_INET6 : a->to.at.any.sa_family;
  int protocol = a->kind->protocol, off = 0, on = 1;
  if (family == AF_UNSPEC)
    family = AF_INET;
  if (a->kind->protocol == IPPROTO_ICMP && family == AF_INET6)
    protocol = IPPROTO_ICMPV6;
  if (a->kind->family)
    family = a->kind->family;
  int fd = socket(family, a->kind->type, protocol);
  if (fd < 0)
    return -1;
  struct timeval wait = {.tv_sec = wait_ms() / 1000, .tv_usec = wait_ms() % 1000 * 1000};
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait));
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof(wait));
  setsockopt(fd, SOL_SOCKET, SO_BROADCAST, &on, sizeof(on));
  if (family == AF_INET6)
    setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
  static const char padding[8] = {0, 0, 1, 4}; /* IPv6 destination options: PadN (RFC 8200, 4.2) */
  if (a->options & EXTRA && setsockopt(fd, IPPROTO_IPV6, IPV6_DSTOPTS, padding, sizeof(padding)))
    usage(strerror(errno), a->text);
  if (a->options & BIND && bind(fd, &a->other.at.any, a->other.len))
    usage(strerror(errno), a->text);
  return fd;
}

static void print_error(const char *at, int err)
{
  printf("{\"error\":\"%s\",\"at\":\"%s\"}", strerrorname_np(err), at);
}

/* The kernel cannot do such a thing at all. */
static void print_missing(const char *at, int err)
{
  printf("{\"missing\":\"%s: %s\"}", at, strerrorname_np(err));
}

#endif
