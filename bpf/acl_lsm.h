/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Judging in BPF LSM (zh_acl_mode 2): every destination that a program names,
 * whatever the protocol, before the cgroup hooks run. VIPs pass: the cgroup
 * hooks judge where they lead, and where the unspecified address does.
 */
#ifndef ZH_ACL_LSM_H
#define ZH_ACL_LSM_H

#include <bpf/bpf_tracing.h>

/* sockaddr_in6 as far as the kernel insists on (net/ipv6, SIN6_LEN_RFC2133). */
struct zh_sockaddr {
  __u16 family;
  __be16 port;
  __u32 addr4; /* IPv6: flow label */
  __u32 addr6[4];
};

#define ZH_SOCKADDR_IN_BYTES 16
#define ZH_SOCKADDR_IN6_BYTES 28
/* include/uapi/linux/sctp.h */
#define ZH_SCTP_SOCKOPT_CONNECTX 110
#define ZH_SCTP_SENDMSG_CONNECT 126
#define ZH_SCOPE_LEVELS 16

/* Whether the task is below the agent's cgroup, as it is where the cgroup hooks
 * run. LSM programs of 5.10 have no bpf_get_current_ancestor_cgroup_id. */
static __always_inline int zh_lsm_scoped(void)
{
  if (zh_scope_id == 0)
    return 1;
  struct cgroup *cgroup = BPF_CORE_READ(zh_task(), cgroups, dfl_cgrp);
  for (int i = 0; i < ZH_SCOPE_LEVELS && cgroup; i++) {
    if (BPF_CORE_READ(cgroup, kn, id) == zh_scope_id)
      return 1;
    cgroup = BPF_CORE_READ(cgroup, self.parent, cgroup);
  }
  return 0;
}

/* The protocol to judge by; 0: nothing to judge. A packet of a raw socket may be
 * of any port, so only rules without ports apply to it. */
static __always_inline __u8 zh_lsm_protocol(struct socket *sock, struct sock *sk)
{
  __u16 family = sk->__sk_common.skc_family;
  if (family == ZH_AF_SMC)
    return IPPROTO_TCP;
  if (family != ZH_AF_INET && family != ZH_AF_INET6)
    return 0;
  if (sock->type == ZH_SOCK_RAW)
    return IPPROTO_RAW;
  __u16 protocol = sk->sk_protocol;
  /* Both become connections of TCP, SMC's with an inner socket of the kernel's own. */
  int stream = protocol == ZH_IPPROTO_MPTCP || protocol == ZH_IPPROTO_SMC;
  return stream ? IPPROTO_TCP : protocol;
}

/* The destination; 0 if there is none, or none that the kernel takes. */
static __always_inline int zh_lsm_address(struct sock *sk, const void *from, int bytes, int sends,
                                          struct zh_ask *ask)
{
  struct zh_sockaddr given = {};
  if (bytes < ZH_SOCKADDR_IN_BYTES || bpf_probe_read_kernel(&given, 8, from))
    return 0;
  ask->port = given.port;
  /* Sending, IPv4 sockets take AF_UNSPEC for AF_INET (net/ipv4/udp.c). */
  if (given.family == ZH_AF_INET ||
      (given.family == 0 && sends && sk->__sk_common.skc_family == ZH_AF_INET)) {
    ask->addr[2] = bpf_htonl(0xffff);
    ask->addr[3] = given.addr4;
    return 1;
  }
  if (given.family != ZH_AF_INET6 || bytes < (int)sizeof(given))
    return 0;
  return bpf_probe_read_kernel(ask->addr, sizeof(ask->addr), from + 8) == 0;
}

/* The unspecified address is where it leads, but to ports: the cgroup hooks know
 * better where those are. Whether it is this one's to judge. */
static __always_inline int zh_lsm_lands(struct zh_ask *ask)
{
  if (zh_is_any4(ask->addr) || zh_is_any6(ask->addr)) {
    if (zh_has_ports(ask->protocol))
      return 0;
    ask->addr[3] = zh_is_any6(ask->addr) ? bpf_htonl(1) : bpf_htonl(0x7f000001);
  }
  return 1;
}

static __always_inline int zh_lsm_denies(struct socket *sock, const void *address, int bytes,
                                         __u32 flags, __u8 hook)
{
  if (zh_acl_flags() == 0)
    return 0;
  struct sock *sk = sock->sk;
  if (!sk || BPF_CORE_READ_BITFIELD(sk, sk_kern_sock))
    return 0;
  int sends = hook == ZH_ACL_LSM_SENDMSG;
  struct zh_ask ask = {.protocol = zh_lsm_protocol(sock, sk), .hook = hook};
  if (ask.protocol == 0)
    return 0;
  /* A stream of TCP does not look at the address, but for TCP fast open. */
  if (sends && ask.protocol == IPPROTO_TCP && !(flags & ZH_MSG_FASTOPEN))
    return 0;
  if (!zh_lsm_scoped() || !zh_lsm_address(sk, address, bytes, sends, &ask))
    return 0;
  return zh_lsm_lands(&ask) && zh_acl_denies(&ask);
}

SEC("?lsm/socket_connect")
int BPF_PROG(zh_lsm_connect, struct socket *sock, void *address, int bytes, int ret)
{
  if (ret != 0)
    return ret;
  return zh_lsm_denies(sock, address, bytes, 0, ZH_ACL_LSM_CONNECT) ? -ZH_EPERM : 0;
}

/* Runs for every send of the host: those without an address leave first. */
SEC("?lsm/socket_sendmsg")
int BPF_PROG(zh_lsm_sendmsg, struct socket *sock, struct msghdr *msg, int size, int ret)
{
  void *name = msg->msg_name;
  if (!name || ret != 0)
    return ret;
  return zh_lsm_denies(sock, name, msg->msg_namelen, msg->msg_flags, ZH_ACL_LSM_SENDMSG)
           ? -ZH_EPERM
           : 0;
}

#define ZH_SCTP_ADDRESSES_MAX 8
#define ZH_SCTP_STOP 0
#define ZH_SCTP_DENIED (-1)

/* Judges the first of the addresses that lie one after the other in `bytes`.
 * Returns
 * - its length (16 or 28), if SCTP may go there: the next one begins behind it;
 * - ZH_SCTP_DENIED, if it may not;
 * - ZH_SCTP_STOP, if there is nothing to judge: no rules, nothing left, cut off,
 *   or neither IPv4 nor IPv6. The call goes on, and SCTP itself refuses what is
 *   no address (net/sctp/socket.c). */
__noinline int zh_lsm_sctp_address(__u64 address, int bytes)
{
  struct zh_ask ask = {.protocol = IPPROTO_SCTP, .hook = ZH_ACL_LSM_CONNECT};
  __u16 family = 0;
  if (zh_acl_mode == 0 || bytes < ZH_SOCKADDR_IN_BYTES ||
      bpf_probe_read_kernel(&family, sizeof(family), (void *)address) ||
      !zh_lsm_address(0, (void *)address, bytes, 0, &ask))
    return ZH_SCTP_STOP;
  if (zh_lsm_lands(&ask) && zh_acl_denies(&ask))
    return ZH_SCTP_DENIED;
  return family == ZH_AF_INET6 ? ZH_SOCKADDR_IN6_BYTES : ZH_SOCKADDR_IN_BYTES;
}

/* Where else SCTP is told to go: sctp_connectx(), and addresses beside a message
 * (net/sctp/socket.c). What a peer's packets bring comes here too, in whatever
 * task is running: not judged. */
SEC("?lsm/sctp_bind_connect")
int BPF_PROG(zh_lsm_sctp, struct sock *sk, int option, void *addresses, int bytes, int ret)
{
  if (ret != 0 || (option != ZH_SCTP_SOCKOPT_CONNECTX && option != ZH_SCTP_SENDMSG_CONNECT))
    return ret;
  if (zh_acl_flags() == 0 || BPF_CORE_READ_BITFIELD(sk, sk_kern_sock) || !zh_lsm_scoped())
    return 0;
  __u64 at = 0; /* read, since the verifier takes no pointer for a number */
  bpf_probe_read_kernel(&at, sizeof(at), &ctx[2]);
  for (int i = 0; i < ZH_SCTP_ADDRESSES_MAX; i++) {
    int length = zh_lsm_sctp_address(at, bytes);
    if (length == ZH_SCTP_DENIED)
      return -ZH_EPERM;
    if (length <= 0)
      return 0;
    at += length;
    bytes -= length;
  }
  /* More than are read. */
  return bytes > 0 ? -ZH_EPERM : 0;
}

#endif
