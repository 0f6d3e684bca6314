/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The bytes of access control that the kernel programs and user space share.
 * Addresses and ports as in abi.h; the TypeScript side is src/acl/abi.ts. Any
 * change here raises ZH_ACL_LAYOUT.
 *
 *   zh_acl.gen -> zh_acl_gens[gen & 1]               which policy is in force
 *   address, port, protocol -> zh_acl_dests          exact endpoint, or through
 *                        zh_acl_cidrs -> region      its most specific block
 *     -> policy: zh_acl_matches[policy, any | tag | user | group]
 *   the calling task's cgroup -> zh_acl_cgroups -> tags: the selectors it matches
 *   a new cgroup: zh_acl_globs and zh_acl_emits, from its parent's state
 *
 * Everything that says who may do what is keyed by generation: a new policy is
 * written beside the old one and comes into force with one store to zh_acl.gen.
 */
#ifndef ZH_ACL_ABI_H
#define ZH_ACL_ABI_H

#define ZH_ACL_LAYOUT 1

#define ZH_ACL_TAGS 12          /* selectors that one cgroup may match */
#define ZH_ACL_RULE_NAME_BYTES 64
#define ZH_ACL_RULE_MAX 0x1fffff /* rule numbers: three of them fit into a word */
#define ZH_ACL_ANY_BYTE 256     /* zh_acl_globs: every byte but '/' that has no entry */
#define ZH_ACL_START 1          /* state of the cgroup root; 0: no pattern can match below */

enum zh_acl_gen_flags {
  ZH_ACL_DEFAULT_DENY = 1, /* a destination that no rule names is closed */
  ZH_ACL_HAVE_DESTS = 2,   /* there are exact endpoints */
  ZH_ACL_HAVE_CIDRS = 4,
  ZH_ACL_HAVE_INGRESS = 8,
};

enum zh_acl_policy_flags {
  ZH_ACL_RESTRICTED = 1,    /* an allow rule names it: whom none allows is denied */
  ZH_ACL_HAS_ANY = 2,       /* has a match of kind any, */
  ZH_ACL_HAS_TAGS = 4,      /* of kind tag, */
  ZH_ACL_HAS_USERS = 8,     /* user, */
  ZH_ACL_HAS_GROUPS = 16,   /* group */
  ZH_ACL_TAGS_DENY = 32,    /* a deny rule selects by cgroup: an unknown cgroup is denied */
  ZH_ACL_GROUPS_DENY = 64,  /* a deny rule selects by group: so is who has more than are read */
};

enum zh_acl_kind {
  ZH_ACL_ANY = 0,   /* value 0 */
  ZH_ACL_TAG = 1,   /* value: a selector of cgroups */
  ZH_ACL_USER = 2,  /* value: real user id, as the initial user namespace has it */
  ZH_ACL_GROUP = 3, /* value: real or supplementary group id */
};

enum zh_acl_verdict {
  ZH_ACL_ALLOW = 0,
  ZH_ACL_DENY = 1,
  ZH_ACL_AUDIT = 2, /* allowed, and reported */
};

/* Where in the kernel the verdict was given. */
enum zh_acl_hook {
  ZH_ACL_LSM_CONNECT = 1,
  ZH_ACL_LSM_SENDMSG = 2,
  ZH_ACL_CGROUP_CONNECT = 3,
  ZH_ACL_CGROUP_SENDMSG = 4,
  ZH_ACL_INGRESS = 5,
};

/* One entry. automata: those whose states new cgroups get, 0: none; two while a
 * policy with other selectors is being made ready. */
struct zh_acl {
  __u32 gen;
  __u32 layout;
  __u32 automata[2];
  __u32 agent_tgid; /* exempt; 0: none */
  __u32 pad;
  __u64 agent_start; /* its start, clock ticks since boot (proc(5), stat field 22): tells a reused pid apart */
};

struct zh_acl_gen {
  __u32 gen;
  __u32 automaton;
  __u32 flags; /* enum zh_acl_gen_flags */
  __u32 pad;
};

/* Egress: {gen, 0, address, port, protocol, 0} for an endpoint;
 * {gen, region, 0, port, protocol, 0} and {gen, region, 0, 0, 0, 0} for a block.
 * Ingress: {gen, 0, 0, port, protocol, 1}. */
struct zh_acl_dest_key {
  __u32 gen;
  __u32 region;
  __u32 addr[4];
  __be16 port;
  __u8 protocol;
  __u8 ingress;
};

struct zh_acl_dest {
  __u32 policy;
  __u32 flags; /* enum zh_acl_policy_flags */
  __u32 rule;  /* whose allow closes it: named when nobody's allow matches; 0: none */
};

/* bpf_lpm_trie_key: prefixlen counts from `gen` on, so 32 + bits of the address. */
struct zh_acl_cidr_key {
  __u32 prefixlen;
  __u32 gen;
  __u32 addr[4];
};

/* As above: 64 + bits of the address. The value is a struct zh_acl_match that
 * holds for every address whose longest prefix this is. */
struct zh_acl_source_key {
  __u32 prefixlen;
  __u32 gen;
  __u32 policy;
  __u32 addr[4];
};

struct zh_acl_match_key {
  __u32 gen;
  __u32 policy;
  __u32 kind; /* enum zh_acl_kind */
  __u32 value;
};

/* The first rule of each action that selects this; 0: none. Rule numbers stay
 * with a rule's name across generations; 0 stands for defaultAction. */
struct zh_acl_match {
  __u32 deny;
  __u32 allow;
  __u32 audit;
};

struct zh_acl_cgroup_key {
  __u64 id;
  __u32 automaton;
  __u32 pad;
};

struct zh_acl_cgroup {
  __u32 state;    /* where its children's names go on */
  __u16 count;    /* tags */
  __u16 overflow; /* it matches more selectors than fit: treated as unknown */
  __u32 tags[ZH_ACL_TAGS];
};

struct zh_acl_glob_key {
  __u32 automaton;
  __u32 state;
  __u32 byte; /* 0-255, or ZH_ACL_ANY_BYTE */
};

struct zh_acl_emit_key {
  __u32 automaton;
  __u32 state;
};

/* What a path that ends in this state matches, beside what its parents match. */
struct zh_acl_emit {
  __u32 count; /* may exceed ZH_ACL_TAGS: overflow */
  __u32 tags[ZH_ACL_TAGS];
};

struct zh_acl_rule {
  char name[ZH_ACL_RULE_NAME_BYTES];
  __u32 action; /* enum zh_acl_verdict */
  __u32 pad;
};

/* Where a cgroup is, or was: written when it is made, asked for when an event
 * names a cgroup that is gone. */
struct zh_acl_place {
  __u64 parent;   /* its id */
  char name[256]; /* the last part of the path, with its NUL; NAME_MAX of Linux */
};

/* Per CPU. */
struct zh_acl_stats {
  __u64 denied;
  __u64 allowed;
  __u64 audited;
};

/* Per CPU. */
struct zh_acl_counts {
  __u64 dropped;   /* events that found the ring buffer full */
  __u64 unknown;   /* tasks whose cgroup had no entry */
  __u64 unclassed; /* new cgroups that found zh_acl_cgroups full */
  __u64 pad;
};

struct zh_acl_event {
  __u64 boot_ns;   /* CLOCK_BOOTTIME */
  __u64 cgroup_id; /* ingress: of the receiving socket */
  __u32 rule;
  __u32 pid; /* thread group; ingress: 0 */
  __u32 uid;
  __u32 gid;
  __u32 addr[4]; /* egress: where it would have ended; ingress: the source */
  __u32 vip[4];  /* what was asked for, if a VIP; else zero */
  __be16 port;   /* egress: of addr; ingress: the local port */
  __be16 vip_port;
  __u8 protocol;
  __u8 verdict; /* ZH_ACL_DENY or ZH_ACL_AUDIT */
  __u8 hook;    /* enum zh_acl_hook */
  __u8 unknown; /* the cgroup had no entry */
  char comm[16];
};

#endif
