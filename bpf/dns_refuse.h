/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * A query that the kernel does not answer, and that no socket waits for (a killed agent), is
 * refused here. Linux would refuse it too, with ICMP over the link: six times, then once a second
 * (net.ipv4.icmp_ratelimit, which spares lo alone). REFUSED, as it sends clients to their next
 * server: systemd-resolved answers SERVFAIL with another try and fewer features.
 */
#ifndef ZH_DNS_REFUSE_H
#define ZH_DNS_REFUSE_H

/* With question and OPT it is below ZH_DNS_ANY_BYTES. */
#define ZH_DNS_REFUSED_NAME_BYTES 240
#define ZH_DNS_RCODE_REFUSED 5

static __always_inline int zh_dns_release(struct bpf_sock *sk)
{
  if (!sk)
    return 0;
  bpf_sk_release(sk);
  return 1;
}

/* Whether somebody here has a socket for a query from this port, once the addresses are exchanged. */
static __always_inline int zh_dns_is_served4(struct __sk_buff *skb, __be16 port)
{
  struct bpf_sock_tuple to = {};
  to.ipv4.saddr = zh_dns_there4;
  to.ipv4.daddr = zh_dns_here4;
  to.ipv4.sport = port;
  to.ipv4.dport = bpf_htons(ZH_DNS_PORT);
  return zh_dns_release(bpf_sk_lookup_udp(skb, &to, sizeof(to.ipv4), BPF_F_CURRENT_NETNS, 0));
}

static __always_inline int zh_dns_is_served6(struct __sk_buff *skb, __be16 port)
{
  struct bpf_sock_tuple to = {};
#pragma unroll
  for (int i = 0; i < 4; i++) {
    to.ipv6.saddr[i] = zh_dns_there6[i];
    to.ipv6.daddr[i] = zh_dns_here6[i];
  }
  to.ipv6.sport = port;
  to.ipv6.dport = bpf_htons(ZH_DNS_PORT);
  return zh_dns_release(bpf_sk_lookup_udp(skb, &to, sizeof(to.ipv6), BPF_F_CURRENT_NETNS, 0));
}

/*
 * Makes the message at `at`, of `length` bytes, a refusal: the header, the question, and an OPT
 * record of our own if it had one; never longer than it was. The refusal's sum << 32 | its length;
 * 0: it is no query with one question, and was left as it is; -1: it is neither any more.
 */
__noinline __s64 zh_dns_refuse(struct __sk_buff *skb, __u32 at, __u32 length)
{
  __u32 zero = 0;
  struct zh_dns_scratch *s = bpf_map_lookup_elem(&zh_dns_scratches, &zero);
  struct zh_dns_query query = {};
  struct zh_dns_header *h = &query.header;
  if (!s || length < ZH_DNS_HEADER_BYTES + 5 || bpf_skb_load_bytes(skb, at, h, sizeof(*h)))
    return 0;
  if ((h->flags & 0x80) || h->questions != bpf_htons(1) || h->answers || h->authorities)
    return 0;
  __u32 loaded = length - ZH_DNS_HEADER_BYTES;
  if (loaded > ZH_DNS_ANY_BYTES)
    loaded = ZH_DNS_ANY_BYTES;
  barrier_var(loaded);
  loaded = ((loaded - 1) & (ZH_DNS_ANY_BYTES - 1)) + 1;
  if (bpf_skb_load_bytes(skb, at + ZH_DNS_HEADER_BYTES, s->raw, loaded))
    return 0;
  __u32 name = zh_dns_name(s, loaded, ZH_DNS_REFUSED_NAME_BYTES);
  barrier_var(name);
  if (name == 0 || name > ZH_DNS_REFUSED_NAME_BYTES || name + 4 > loaded)
    return 0;
  name &= ZH_DNS_ANY_BYTES - 1;
  const __u8 *behind = &s->raw[name + 4];
  query.question = name + 4;
  query.has_opt = h->additionals && name + 4 + ZH_DNS_OPT_BYTES <= loaded && behind[0] == 0 &&
                  behind[1] == 0 && behind[2] == ZH_DNS_OPT;
  query.is_dnssec_ok = behind[7] >> 7;
  h->flags = 0x80 | (h->flags & 0x79); /* QR; opcode and RD as asked */
  h->code = (h->code & 0x10) | ZH_DNS_RCODE_REFUSED; /* CD as asked */
  h->additionals = bpf_htons(query.has_opt);
  __u8 opt[12];
  zh_dns_make_opt(opt, &query);
  __u32 end = ZH_DNS_HEADER_BYTES + query.question;
  __u32 size = end + (query.has_opt ? ZH_DNS_OPT_BYTES : 0);
  if (bpf_skb_change_tail(skb, at + size, 0) || bpf_skb_store_bytes(skb, at, h, sizeof(*h), 0))
    return -1;
  if (query.has_opt && bpf_skb_store_bytes(skb, at + end, opt, ZH_DNS_OPT_BYTES, 0))
    return -1;
  s->answer.sum = 0;
  return (__s64)zh_dns_sum(s, &query, 0, opt) << 32 | size;
}

#endif
