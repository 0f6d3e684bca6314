/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The little that access control reads of the kernel's own structures. libbpf
 * finds the offsets in the running kernel's BTF (CO-RE), so a struct here has
 * the fields we use and no others. All of it is dead code in zh_acl_mode 0,
 * where a kernel has no BTF.
 */
#ifndef ZH_KERNEL_H
#define ZH_KERNEL_H

#include <linux/in6.h>
#include <bpf/bpf_core_read.h>

#define ZH_AF_INET 2
#define ZH_AF_INET6 10
#define ZH_AF_SMC 43
#define ZH_SOCK_STREAM 1
#define ZH_SOCK_RAW 3
#define ZH_IPPROTO_SMC 256
#define ZH_IPPROTO_MPTCP 262
#define ZH_MSG_FASTOPEN 0x20000000
#define ZH_PF_KTHREAD 0x00200000        /* include/linux/sched.h */
#define ZH_PF_IO_WORKER_OLD 0x20000000  /* until io_uring's workers became threads of the caller */
#define ZH_TCP_LISTEN 10

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct group_info {
  int ngroups;
  struct {
    __u32 val; /* as the initial user namespace has it */
  } gid[0];
};

struct cred {
  struct group_info *group_info;
};

struct cgroup;

struct css_set {
  struct cgroup *dfl_cgrp;
};

struct task_struct {
  unsigned int flags;
  struct task_struct *group_leader;
  const struct cred *cred;
  struct css_set *cgroups;
  __u64 start_boottime;
  /* io_uring's workers are threads of the caller where one of these exists:
   * Linux >= 5.12, and 5.10 from 5.10.162 on. Before, they are kernel threads. */
  void *pf_io_worker;
  void *worker_private;
};

struct sock_common {
  unsigned short skc_family;
  struct in6_addr skc_v6_rcv_saddr;
};

struct sock {
  struct sock_common __sk_common;
  __u8 sk_kern_sock : 1;
  __u16 sk_protocol;
};

struct inet_sock {
  __be32 inet_saddr;
};

struct socket {
  short type;
  struct sock *sk;
};

struct msghdr {
  void *msg_name;
  int msg_namelen;
  unsigned int msg_flags;
};

struct kernfs_node {
  const char *name;
  __u64 id;
};

struct cgroup_subsys_state {
  struct cgroup *cgroup;
  struct cgroup_subsys_state *parent;
};

struct cgroup_root {
  int hierarchy_id;
};

struct cgroup {
  struct cgroup_subsys_state self;
  struct kernfs_node *kn;
  struct cgroup_root *root;
};

#pragma clang attribute pop

#endif
