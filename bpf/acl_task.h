/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Who calls: what exempts a task, and its supplementary groups. */
#ifndef ZH_ACL_TASK_H
#define ZH_ACL_TASK_H

static __always_inline struct task_struct *zh_task(void)
{
  return (struct task_struct *)bpf_get_current_task();
}

/* Before io_uring's workers became threads of the caller they were kernel
 * threads in the root cgroup, with the caller's credentials: users' work, by a
 * task whose cgroup says nothing. */
static __always_inline int zh_is_old_io_worker(__u32 flags, struct task_struct *task)
{
  return !bpf_core_field_exists(task->pf_io_worker) &&
         !bpf_core_field_exists(task->worker_private) && (flags & ZH_PF_KTHREAD) &&
         (flags & ZH_PF_IO_WORKER_OLD);
}

static __always_inline int zh_cgroup_is_hidden(void)
{
  struct task_struct *task = zh_task();
  return zh_is_old_io_worker(BPF_CORE_READ(task, flags), task);
}

/* A denied kernel thread can hang the host: an NFS client tried again in a
 * loop (cilium#33395). */
static __always_inline int zh_is_kernel_thread(void)
{
  struct task_struct *task = zh_task();
  __u32 flags = BPF_CORE_READ(task, flags);
  return (flags & ZH_PF_KTHREAD) && !zh_is_old_io_worker(flags, task);
}

/* The start tells a reused pid apart; ticks as in proc(5), stat, field 22. */
static __always_inline int zh_is_agent(const struct zh_acl *acl)
{
  if (acl->agent_tgid == 0 || acl->agent_tgid != (__u32)(bpf_get_current_pid_tgid() >> 32))
    return 0;
  struct task_struct *task = zh_task();
  return BPF_CORE_READ(task, group_leader, start_boottime) / 10000000 == acl->agent_start;
}

/* Sockets of the kernel's own that a user's call happens to drive. The way over
 * the stack makes a number of the pointer: the verifier lets nobody read beyond
 * struct bpf_sock otherwise. */
static __always_inline struct sock *zh_sock_of(struct bpf_sock **slot)
{
  __u64 address = 0;
  bpf_probe_read_kernel(&address, sizeof(address), slot);
  return (struct sock *)address;
}

static __always_inline int zh_is_kernel_sock(struct bpf_sock **slot)
{
  struct sock *sk = zh_sock_of(slot);
  return sk && BPF_CORE_READ_BITFIELD_PROBED(sk, sk_kern_sock);
}

#define ZH_GROUPS_MAX 64

/* The i-th supplementary group. */
static __always_inline int zh_group(const struct group_info *groups, __u32 i, __u32 *gid)
{
  const __u32 *first = (const void *)&groups->gid;
  return bpf_probe_read_kernel(gid, sizeof(*gid), first + i) != 0;
}

#endif
