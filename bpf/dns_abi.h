/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Every byte that the programs of zerohop_dns.bpf.c and user space share.
 *
 * The TypeScript side is src/dns/kernel-abi.ts; test/bpf/dns-abi.test.ts compares
 * the two through the object's BTF. Addresses and ports are in network order,
 * everything else in host order. The maps are made anew at each start of an
 * agent, so there is no layout number: nobody reads those of another version.
 *
 * An answer is the query with another header, the stored tail behind the
 * question, and an OPT record if the query had one. Names in the tail are
 * pointers to the question's, at 12 (RFC 1035, 4.1.4), so that the casing of the
 * question is that of the answer.
 */
#ifndef ZH_DNS_ABI_H
#define ZH_DNS_ABI_H

/* Longer names, and longer answers, are answered by user space. */
#define ZH_DNS_NAME_BYTES 128
#define ZH_DNS_TAIL_BYTES 512
#define ZH_DNS_PORT 53
#define ZH_DNS_MIX 2246822507 /* odd; of MurmurHash3 */
/* What our OPT says that this host takes, whatever it gives (DNS Flag Day 2020). */
#define ZH_DNS_SIZE_TAKEN 1232

struct zh_dns_key {
  __u16 type;
  __u16 length; /* of the name: labels with their lengths, and the root's 0 */
  __u8 name[ZH_DNS_NAME_BYTES]; /* in lower case; zeros behind */
};

/* Several records are given in turn: the answer begins at a multiple of `rotate` below `length`,
 * and what is before that comes last. */
struct zh_dns_answer {
  __u16 count;  /* of answers */
  __u16 length; /* of the tail; at least 1 */
  __u16 rotate; /* bytes of one record, or 0; even */
  __u16 sum;    /* of the tail at an even offset: 16-bit words in network order, RFC 1071, not inverted */
  /* Of the key as far as the name goes, the 8 bytes before this, and the tail; each as 32-bit words in host
   * order, with zeros up to a multiple of 8 bytes: h = (h ^ word) * ZH_DNS_MIX, h ^= h >> 15. It begins as
   * zh_dns_seed, which the loader draws. */
  __u32 check;
  __u32 pad;
  __u8 tail[ZH_DNS_TAIL_BYTES]; /* zeros behind */
};

/* One entry: what the programs are told. */
struct zh_dns_config {
  __u64 netns;         /* cookie of the resolver's network namespace; 0: redirect nobody */
  __u32 ingress;       /* index of the interface where answers come in */
  __u16 udp_size_max;  /* of an answer to a client with EDNS */
  __u8 is_redirecting4; /* clients of listen4 go to the link */
  __u8 is_redirecting6;
  __u32 listen4;
  __be16 listen_port4;
  __be16 listen_port6;
  __u32 listen6[4];
  __u32 nonce_addr; /* who connects there (UDP) is the resolver: its namespace goes to zh_dns_netns */
  __be16 nonce_port;
  __u16 pad;
};

/* Per CPU. Each packet on the link is counted once, but for what is refused: that is unknown, unfit, … too. */
struct zh_dns_counts {
  __u64 answered4;
  __u64 answered6;
  __u64 unknown;   /* queries for names or types that are not here: to user space */
  __u64 unfit;     /* queries that are not plain ones: to user space */
  __u64 too_big;   /* answers that do not fit the client's size: to user space */
  __u64 others;    /* user space's answers, TCP, ICMP: sent on to the other end */
  __u64 torn;      /* answers that were being replaced: to user space */
  __u64 strangers; /* not between the link's two addresses: dropped */
  __u64 refused4;  /* queries that user space would have had, but nobody was there */
  __u64 refused6;
};

#endif
