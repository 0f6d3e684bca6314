/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Whether the calling task may talk to an endpoint. Never touches the context:
 * an entry says what is asked (struct zh_ask) and gets a verdict.
 *
 * Of several rules that match, the one that is named is the first met: of
 * everybody's, then by tag in the order of the cgroup's entry, user, real
 * group, supplementary groups in ascending order.
 *
 * Functions that are not static are verified once for each program, not once
 * for each way that leads there; Linux 5.10 lets them take numbers only. So
 * addresses travel as two words, and findings packed into one.
 */
#ifndef ZH_ACL_H
#define ZH_ACL_H

#define ZH_EPERM 1
#define ZH_ACL_TRIES 3

struct zh_ask {
  __u32 addr[4];
  __u32 vip[4]; /* zero if it was no VIP */
  __be16 port;
  __be16 vip_port;
  __u8 protocol;
  __u8 hook;
  __u16 pad;
  struct bpf_sock *sk; /* cgroup hooks only */
};

/* Three rule numbers in a word, 0: none. */
#define ZH_RULE_BITS 21
#define ZH_RULE(word, at) ((__u32)((word) >> (ZH_RULE_BITS * (at))) & ZH_ACL_RULE_MAX)
#define ZH_SUM(deny, allow, audit)                                                                 \
  ((__u64)((deny) & ZH_ACL_RULE_MAX) | (__u64)((allow) & ZH_ACL_RULE_MAX) << ZH_RULE_BITS |        \
   (__u64)((audit) & ZH_ACL_RULE_MAX) << (2 * ZH_RULE_BITS))
#define ZH_DENY_OF(sum) ZH_RULE(sum, 0)
#define ZH_ALLOW_OF(sum) ZH_RULE(sum, 1)
#define ZH_AUDIT_OF(sum) ZH_RULE(sum, 2)
#define ZH_UNKNOWN (1ULL << 63) /* beside a sum: the task's cgroup is not known */

struct zh_finding {
  __u32 verdict;
  __u32 rule;    /* whose verdict it is; 0: defaultAction, or nobody's */
  __u32 allow;   /* the allow rule that matched; 0: none */
  __u32 unknown; /* the task's cgroup is not known */
};

#define ZH_FINDING(verdict, rule, sum)                                                             \
  ((__u64)(verdict) | (__u64)((rule) & ZH_ACL_RULE_MAX) << 2 | (__u64)ZH_ALLOW_OF(sum) << 23 |     \
   ((sum) & ZH_UNKNOWN))

static __always_inline void zh_unpack(__u64 word, struct zh_finding *into)
{
  into->verdict = word & 3;
  into->rule = (word >> 2) & ZH_ACL_RULE_MAX;
  into->allow = (word >> 23) & ZH_ACL_RULE_MAX;
  into->unknown = word >> 63;
}

static __always_inline struct zh_acl *zh_acl_head(void)
{
  __u32 zero = 0;
  return bpf_map_lookup_elem(&zh_acl, &zero);
}

static __always_inline struct zh_acl_counts *zh_acl_count(void)
{
  __u32 zero = 0;
  return bpf_map_lookup_elem(&zh_acl_counts, &zero);
}

/* The flags of the policy in force; 0: nothing is judged. This is all that a
 * host without rules pays for: two looks at arrays, without a call. */
static __always_inline __u32 zh_acl_flags(void)
{
  if (zh_acl_mode == 0)
    return 0;
  struct zh_acl *acl = zh_acl_head();
  if (!acl)
    return 0;
  __u32 at = READ_ONCE(acl->gen) & 1;
  struct zh_acl_gen *gen = bpf_map_lookup_elem(&zh_acl_gens, &at);
  return gen ? gen->flags : 0;
}

static __always_inline int zh_has_ports(__u8 protocol)
{
  return protocol == IPPROTO_TCP || protocol == IPPROTO_UDP;
}

static __always_inline __u64 zh_half(const __u32 words[2])
{
  return (__u64)words[0] << 32 | words[1];
}

static __always_inline void zh_split(__u64 high, __u64 low, __u32 addr[4])
{
  addr[0] = high >> 32;
  addr[1] = (__u32)high;
  addr[2] = low >> 32;
  addr[3] = (__u32)low;
}

/* Copied at once: a removed element may be used again. Removals follow a flip of
 * the generation, which zh_acl_find notices, or concern a removed backend. */
static __always_inline int zh_dest(const struct zh_acl_dest_key *key, struct zh_acl_dest *into)
{
  struct zh_acl_dest *dest = bpf_map_lookup_elem(&zh_acl_dests, key);
  if (!dest)
    return 0;
  *into = *dest;
  return 1;
}

/* The policy that protects the endpoint: its own, else that of its block.
 * `what`: port, then protocol << 16. */
static __always_inline int zh_acl_lookup(__u64 high, __u64 low, __u32 what, __u32 gen, __u32 flags,
                                         struct zh_acl_dest *into)
{
  __u8 protocol = what >> 16;
  int ports = zh_has_ports(protocol);
  struct zh_acl_dest_key key = {.gen = gen};
  if (ports) {
    key.port = (__be16)what;
    key.protocol = protocol;
    zh_split(high, low, key.addr);
    if ((flags & ZH_ACL_HAVE_DESTS) && zh_dest(&key, into))
      return 1;
  }
  if (!(flags & ZH_ACL_HAVE_CIDRS))
    return 0;
  struct zh_acl_cidr_key block = {.prefixlen = 160, .gen = gen};
  zh_split(high, low, block.addr);
  __u32 *region = bpf_map_lookup_elem(&zh_acl_cidrs, &block);
  if (!region)
    return 0;
  key.region = READ_ONCE(*region);
  zh_split(0, 0, key.addr);
  if (ports && zh_dest(&key, into))
    return 1;
  key.port = 0;
  key.protocol = 0;
  return zh_dest(&key, into);
}

/* The sum, and the rules of one more match. */
__noinline __u64 zh_acl_add(__u64 sum, __u32 gen, __u32 policy, __u32 kind, __u32 value)
{
  struct zh_acl_match_key key = {.gen = gen, .policy = policy, .kind = kind, .value = value};
  struct zh_acl_match *match = bpf_map_lookup_elem(&zh_acl_matches, &key);
  if (!match)
    return sum;
  __u32 deny = ZH_DENY_OF(sum), allow = ZH_ALLOW_OF(sum), audit = ZH_AUDIT_OF(sum);
  if (deny == 0)
    deny = match->deny;
  if (allow == 0)
    allow = match->allow;
  if (audit == 0)
    audit = match->audit;
  return ZH_SUM(deny, allow, audit) | (sum & ZH_UNKNOWN);
}

/* An entry in force is never rewritten, and goes only with its cgroup, when no
 * task is left in it. */
__noinline __u64 zh_acl_tags(__u64 sum, __u32 gen, __u32 policy, __u32 automaton)
{
  struct zh_acl_cgroup_key at = {.automaton = automaton};
  if (zh_acl_mode == 0)
    return sum;
  at.id = bpf_get_current_cgroup_id();
  struct zh_acl_cgroup *cgroup = bpf_map_lookup_elem(&zh_acl_cgroups, &at);
  if (!cgroup || cgroup->overflow || zh_cgroup_is_hidden()) {
    struct zh_acl_counts *counts = zh_acl_count();
    if (counts)
      __sync_fetch_and_add(&counts->unknown, 1);
    return sum | ZH_UNKNOWN;
  }
  for (__u32 i = 0; i < ZH_ACL_TAGS; i++) {
    if (i >= cgroup->count)
      break;
    sum = zh_acl_add(sum, gen, policy, ZH_ACL_TAG, cgroup->tags[i]);
  }
  return sum;
}

/* Whether the task has more supplementary groups than are looked at. */
__noinline int zh_acl_more_groups(void)
{
  return zh_acl_mode != 0 && BPF_CORE_READ(zh_task(), cred, group_info, ngroups) > ZH_GROUPS_MAX;
}

/* The kernel keeps supplementary groups sorted; those beyond the first
 * ZH_GROUPS_MAX are not looked at: they allow nothing, and what denies by group
 * is closed. */
__noinline __u64 zh_acl_groups(__u64 sum, __u32 gen, __u32 policy, __u32 gid)
{
  if (zh_acl_mode == 0)
    return sum;
  struct task_struct *task = zh_task();
  sum = zh_acl_add(sum, gen, policy, ZH_ACL_GROUP, gid);
  struct group_info *groups = BPF_CORE_READ(task, cred, group_info);
  __u32 count = BPF_CORE_READ(groups, ngroups);
  for (__u32 i = 0; i < ZH_GROUPS_MAX; i++) {
    __u32 group;
    if (i >= count || zh_group(groups, i, &group))
      break;
    sum = zh_acl_add(sum, gen, policy, ZH_ACL_GROUP, group);
  }
  return sum;
}

static __always_inline __u64 zh_acl_conclude(const struct zh_acl_dest *dest, __u64 sum)
{
  if (ZH_DENY_OF(sum) != 0)
    return ZH_FINDING(ZH_ACL_DENY, ZH_DENY_OF(sum), sum);
  if ((sum & ZH_UNKNOWN) && (dest->flags & ZH_ACL_TAGS_DENY))
    return ZH_FINDING(ZH_ACL_DENY, dest->rule, sum);
  if ((dest->flags & ZH_ACL_GROUPS_DENY) && zh_acl_more_groups())
    return ZH_FINDING(ZH_ACL_DENY, dest->rule, sum);
  if (ZH_ALLOW_OF(sum) == 0 && (dest->flags & ZH_ACL_RESTRICTED))
    return ZH_FINDING(ZH_ACL_DENY, dest->rule, sum);
  if (ZH_AUDIT_OF(sum) != 0)
    return ZH_FINDING(ZH_ACL_AUDIT, ZH_AUDIT_OF(sum), sum);
  return ZH_FINDING(ZH_ACL_ALLOW, 0, sum);
}

/* What one generation says. `mode`: its automaton, and its flags << 32. */
__noinline __u64 zh_acl_judge(__u64 high, __u64 low, __u32 what, __u32 gen, __u64 mode)
{
  __u32 flags = mode >> 32;
  struct zh_acl_dest dest = {};
  if (!zh_acl_lookup(high, low, what, gen, flags, &dest))
    return (flags & ZH_ACL_DEFAULT_DENY) ? ZH_ACL_DENY : ZH_ACL_ALLOW;
  __u64 sum = 0;
  __u64 id = bpf_get_current_uid_gid();
  if (dest.flags & ZH_ACL_HAS_ANY)
    sum = zh_acl_add(sum, gen, dest.policy, ZH_ACL_ANY, 0);
  if (dest.flags & ZH_ACL_HAS_TAGS)
    sum = zh_acl_tags(sum, gen, dest.policy, (__u32)mode);
  if (dest.flags & ZH_ACL_HAS_USERS)
    sum = zh_acl_add(sum, gen, dest.policy, ZH_ACL_USER, (__u32)id);
  if (dest.flags & ZH_ACL_HAS_GROUPS)
    sum = zh_acl_groups(sum, gen, dest.policy, id >> 32);
  return zh_acl_conclude(&dest, sum);
}

/* The generation now in force, whole: 0 if it was replaced while we read it. */
static __always_inline int zh_acl_current(const struct zh_acl *acl, struct zh_acl_gen *into)
{
  __u32 gen = READ_ONCE(acl->gen);
  __u32 at = gen & 1;
  struct zh_acl_gen *found = bpf_map_lookup_elem(&zh_acl_gens, &at);
  if (!found)
    return 0;
  into->automaton = READ_ONCE(found->automaton);
  into->flags = READ_ONCE(found->flags);
  into->gen = READ_ONCE(found->gen);
  return into->gen == gen;
}

static __always_inline int zh_says_deny(__u64 word)
{
  return (word & 3) == ZH_ACL_DENY; /* as zh_unpack */
}

/* In `what`: only entries of endpoints count, as there is another answer. */
#define ZH_ACL_HERE (1 << 24)

/* A group of IPv4 or IPv6. */
static __always_inline int zh_is_group(__u64 high, __u64 low)
{
  if (high == 0)
    return low >> 32 == bpf_htonl(0xffff) && ((__u32)low & bpf_htonl(0xf0000000)) == bpf_htonl(0xe0000000);
  return (high >> 32 & bpf_htonl(0xff000000)) == bpf_htonl(0xff000000);
}

/* Judges until the generation was the same before and after: entries of the old
 * one are deleted after the flip. Never met it whole: denied, as no rule could
 * be asked; it would take a new policy every microsecond. */
__noinline __u64 zh_acl_find(__u64 high, __u64 low, __u32 what)
{
  struct zh_acl *acl = zh_acl_head();
  for (int try = 0; acl && try < ZH_ACL_TRIES; try++) {
    struct zh_acl_gen gen = {};
    if (!zh_acl_current(acl, &gen))
      continue;
    __u64 found = ZH_ACL_ALLOW;
    if (what & ZH_ACL_HERE)
      gen.flags &= ZH_ACL_HAVE_DESTS;
    if (gen.flags != 0)
      found = zh_acl_judge(high, low, what, gen.gen, (__u64)gen.flags << 32 | gen.automaton);
    asm volatile("" ::: "memory");
    if (READ_ONCE(acl->gen) == gen.gen)
      return found;
  }
  return ZH_ACL_DENY;
}

static __always_inline int zh_is_vip(const struct zh_ask *ask)
{
  if (!zh_has_ports(ask->protocol))
    return 0;
  struct zh_vip_key key = {.port = ask->port, .protocol = ask->protocol};
  zh_copy_addr(key.addr, ask->addr);
  return zh_find(&key) != ZH_STRANGER;
}

/* Who may pass although no rule lets him. BPF LSM sees the VIP, not where it
 * leads: that is the cgroup hook's to judge. */
static __always_inline int zh_acl_exempt(const struct zh_acl *acl, struct zh_ask *ask)
{
  if (zh_is_kernel_thread() || zh_is_agent(acl))
    return 1;
  if (ask->hook == ZH_ACL_LSM_CONNECT || ask->hook == ZH_ACL_LSM_SENDMSG)
    return zh_is_vip(ask);
  return ask->hook == ZH_ACL_CGROUP_SENDMSG && zh_is_kernel_sock(&ask->sk);
}

/* Not inlined, so that BTF knows the event. */
static __noinline int zh_acl_tell(const struct zh_acl_event *event)
{
  if (bpf_ringbuf_output(&zh_acl_events, (void *)event, sizeof(*event), BPF_RB_NO_WAKEUP) == 0)
    return 0;
  struct zh_acl_counts *counts = zh_acl_count();
  if (counts)
    __sync_fetch_and_add(&counts->dropped, 1);
  return 0;
}

static __noinline int zh_acl_report(const struct zh_ask *ask, const struct zh_finding *found)
{
  struct zh_acl_event event = {.boot_ns = bpf_ktime_get_boot_ns(),
                               .rule = found->rule,
                               .port = ask->port,
                               .vip_port = ask->vip_port,
                               .protocol = ask->protocol,
                               .verdict = found->verdict,
                               .hook = ask->hook,
                               .unknown = found->unknown};
  __u64 id = bpf_get_current_uid_gid();
  event.uid = id;
  event.gid = id >> 32;
  event.pid = bpf_get_current_pid_tgid() >> 32;
  event.cgroup_id = bpf_get_current_cgroup_id();
  bpf_get_current_comm(event.comm, sizeof(event.comm));
  zh_copy_addr(event.addr, ask->addr);
  zh_copy_addr(event.vip, ask->vip);
  zh_acl_tell(&event);
  return 0;
}

static __always_inline void zh_acl_stat(__u32 rule, __u32 verdict)
{
  struct zh_acl_stats *stats = bpf_map_lookup_elem(&zh_acl_stats, &rule);
  if (!stats)
    return;
  __u64 *field = verdict == ZH_ACL_DENY    ? &stats->denied
                 : verdict == ZH_ACL_AUDIT ? &stats->audited
                                           : &stats->allowed;
  __sync_fetch_and_add(field, 1);
}

/* What follows of a finding that is not plain yes: counts, reports. Whether the
 * call is refused. */
static __noinline int zh_acl_settle(struct zh_ask *ask, __u64 word)
{
  struct zh_finding found;
  zh_unpack(word, &found);
  if (found.verdict != ZH_ACL_ALLOW) {
    struct zh_acl *acl = zh_acl_head();
    if (!acl || zh_acl_exempt(acl, ask))
      return 0;
    zh_acl_stat(found.rule, found.verdict);
    zh_acl_report(ask, &found);
  }
  if (found.verdict == ZH_ACL_DENY)
    return 1;
  if (found.allow != 0)
    zh_acl_stat(found.allow, ZH_ACL_ALLOW);
  return 0;
}

/* Whether the call is to be refused. Asking and settling are calls side by side,
 * not one in the other: Linux 5.10 and 6.1 allow a chain of calls 512 bytes of
 * stack, each rounded up to 32. */
static __always_inline int zh_acl_denies(struct zh_ask *ask)
{
  __u32 what = ask->port | (__u32)ask->protocol << 16;
  __u64 high = zh_half(ask->addr), low = zh_half(ask->addr + 2);
  __u64 word = zh_acl_find(high, low, what);
  /* Anybody may make this host a member of a group, and whoever listens on all
   * addresses then hears it: a datagram to a group is one to this host as well.
   * What holds for its addresses holds for ::1. */
  if (ask->protocol == IPPROTO_UDP && zh_is_group(high, low) && !zh_says_deny(word)) {
    __u64 here = zh_acl_find(0, bpf_htonl(1), what | ZH_ACL_HERE);
    if (zh_says_deny(here))
      word = here;
  }
  return word == ZH_ACL_ALLOW ? 0 : zh_acl_settle(ask, word);
}

#endif
