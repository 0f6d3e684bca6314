/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Every byte that the kernel programs and user space share.
 *
 * Addresses are 16 bytes in network order; an IPv4 address a.b.c.d is written
 * ::ffff:a.b.c.d (RFC 4291, 2.5.5.2), so one key serves both families:
 *   240.0.0.1  =  00 00 00 00 00 00 00 00 00 00 ff ff f0 00 00 01
 * Ports are in network order (80 = 00 50), everything else in host order.
 * The TypeScript side is src/datapath/abi.ts; test/bpf/abi.test.ts compares the
 * two through the object's BTF. Any change here raises ZH_LAYOUT.
 *
 *   zh_vips[key] -> service index -> zh_services[index].set = {base, count, gen}
 *     -> zh_slots[base + i] (alias table) -> zh_backends[id] = address
 *
 * A reader trusts nothing that it has not checked: the service repeats its key,
 * the slot its gen, the backend its service. A writer fills slots
 * and backends that nobody refers to, then switches `set` in one step.
 */
#ifndef ZH_ABI_H
#define ZH_ABI_H

#define ZH_LAYOUT 1
#define ZH_MAGIC 0x7a65686f /* "zeho" */

/* The value of zh_vips for {VIP, port 0, protocol 0}: the address is a VIP of
 * ours, so a port that no service has is refused instead of leaving the host. */
#define ZH_NO_SUCH_PORT 0xffffffffU

#define ZH_SERVICE_NAME_BYTES 128
#define ZH_PORT_NAME_BYTES 16
#define ZH_FLOWS 16

enum zh_backend_state {
  ZH_BACKEND_FREE = 0,     /* index not in use */
  ZH_BACKEND_ACTIVE = 1,   /* takes new connections as its weight says */
  ZH_BACKEND_DRAINING = 2, /* no new connections; flows of UDP sockets stay */
  ZH_BACKEND_DOWN = 3,     /* unreachable or unhealthy: no new connections, no flows */
};

struct zh_vip_key {
  __u32 addr[4];
  __be16 port;
  __u8 protocol; /* IPPROTO_TCP or IPPROTO_UDP */
  __u8 pad;
};

/* base: first slot; count: slots in the alias table, 0 if no backend is usable;
 * gen: counts the sets this service has had. Read and written as one word. */
struct zh_set {
  __u32 base;
  __u16 count;
  __u16 gen;
};

struct zh_service {
  struct zh_vip_key key;
  __u32 members; /* slots written at set.base, usable or not: for dumps only */
  union {
    struct zh_set set;
    __u64 set_word;
  };
};

/* One column of an alias table (Vose 1991, "A linear algorithm for generating
 * random numbers with a given distribution"): of the 2^32 values of a fraction,
 * those below `threshold` mean `backend`, the others `alias`. */
struct zh_slot {
  __u32 backend;
  __u32 alias;
  __u32 threshold;
  __u16 gen;
  __u16 weight; /* what the operator asked for; for dumps only */
};

struct zh_backend {
  __u32 addr[4];
  __be16 port;
  __u16 state; /* enum zh_backend_state */
  __u32 service;
  __u32 incarnation; /* changes whenever the index gets a new owner */
  __u32 pad;
};

struct zh_name {
  char service[ZH_SERVICE_NAME_BYTES];
  char port[ZH_PORT_NAME_BYTES];
};

/* What a socket asked for and what it got. */
struct zh_pair {
  __u32 vip[4];
  __u32 addr[4];
  __be16 vip_port;
  __be16 port;
  __u32 service;
  __u32 backend;
  __u32 incarnation;
};

/* Direct-mapped by socket cookie. A slot belongs to `cookie` until that socket
 * is released; `spilled` sockets of the same slot live in zh_socks_more. */
struct zh_sock {
  __u64 cookie; /* 0: free */
  struct bpf_spin_lock lock;
  __u32 spilled;
  struct zh_pair pair;
};

/* The VIPs that one unconnected UDP socket talks to, newest overwrite oldest.
 * last: the one it sent to last, which an answer is most likely to be for when
 * several VIPs share a backend. */
struct zh_flows {
  struct bpf_spin_lock lock;
  __u32 next;
  __u32 last;
  struct zh_pair pair[ZH_FLOWS];
};

/* What was served is counted by backend alone: one atomic a connect. */
struct zh_service_stats {
  __u64 refused; /* calls refused because no backend was usable */
  __u64 retries; /* looks that met a set just being replaced */
};

struct zh_backend_stats {
  __u64 connects; /* connect() calls given this backend */
  __u64 sends;    /* datagrams of unconnected UDP sockets given this backend */
};

struct zh_counters {
  __u64 spilled;       /* sockets that went to zh_socks_more, ever */
  __u64 untracked;     /* no memory to remember a socket: it shows its backend */
  __u64 flows_evicted; /* UDP sockets with more than ZH_FLOWS VIPs */
  __u64 no_such_port;  /* VIP of ours, port of nobody */
};

struct zh_meta {
  __u32 magic;
  __u32 layout;
  __u64 revision; /* of the state that was applied last */
};

#endif
