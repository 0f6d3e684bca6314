/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * A plain query (one question of class IN, nothing behind it but an OPT record)
 * for a known name becomes its answer. It knows nothing of record types. All
 * else is user space's. RFC 1035, 4.1; RFC 6891, 6.1.
 */
#ifndef ZH_DNS_ANSWER_H
#define ZH_DNS_ANSWER_H

#define ZH_DNS_HEADER_BYTES 12
#define ZH_DNS_OPT_BYTES 11
#define ZH_DNS_UDP_MIN 512
#define ZH_DNS_OPT 41

/* Name, type and class, and the fixed part of an OPT record; then zeros for the sum. */
#define ZH_DNS_RAW_BYTES (ZH_DNS_NAME_BYTES + 4 + ZH_DNS_OPT_BYTES + 1)

/* All that the verifier of 5.10 knows of an offset into raw is that it is a byte. */
#define ZH_DNS_ANY_BYTES 256

struct zh_dns_header {
  __u16 id;
  __u8 flags; /* QR, opcode, AA, TC, RD */
  __u8 code;  /* RA, Z, AD, CD, rcode */
  __be16 questions, answers, authorities, additionals;
};

struct zh_dns_scratch {
  struct zh_dns_key key;
  __u8 pad[4]; /* raw lies at a multiple of 8 */
  __u8 raw[ZH_DNS_ANY_BYTES + 32];
  struct zh_dns_answer answer;
  __u8 behind[ZH_DNS_TAIL_BYTES]; /* never read; what starts anywhere in the tail may be as long as it */
};

const volatile __u32 zh_dns_seed = 0;

struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, struct zh_dns_scratch);
} zh_dns_scratches SEC(".maps");

struct zh_dns_query {
  struct zh_dns_header header;
  __u32 question; /* bytes: name, type, class */
  __u32 size_max; /* of the answer */
  __u8 has_opt;
  __u8 is_dnssec_ok;
};

/* The first n bytes of a word as it lies in memory; n below 8. */
#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "names are cut as little-endian words"
#endif
#define ZH_DNS_FIRST_BYTES(n) ((1ULL << (8 * (n))) - 1)

/* Letters A to Z of eight bytes become a to z. Lengths of labels are below 64, and no letters. */
static __always_inline __u64 zh_dns_lower(__u64 word)
{
  __u64 low = word & 0x7f7f7f7f7f7f7f7fULL;
  __u64 from_a = low + 0x3f3f3f3f3f3f3f3fULL; /* bit 7 where >= 'A' */
  __u64 past_z = low + 0x2525252525252525ULL; /* bit 7 where > 'Z' */
  __u64 upper = (from_a ^ past_z) & ~word & 0x8080808080808080ULL;
  return word | (upper >> 2);
}

/* Bytes of the name in raw, or 0. Every label begins below `max`, so there are max / 2 at most. */
static __always_inline __u32 zh_dns_name(const struct zh_dns_scratch *s, __u32 loaded, __u32 max)
{
  __u32 at = 0;
  for (__u32 i = 0; i < max / 2; i++) {
    if (at >= max || at >= loaded)
      return 0;
    __u8 length = s->raw[at];
    if (length > 63)
      return 0;
    at += length + 1;
    if (length == 0)
      return at <= loaded ? at : 0;
  }
  return 0;
}

static __always_inline void zh_dns_make_key(struct zh_dns_scratch *s, __u32 name)
{
  const __u64 *from = (const __u64 *)s->raw;
  /* Two words: the name in the key lies at 4, raw at a multiple of 8. */
  __u32 *to = (__u32 *)s->key.name;
#pragma unroll
  for (int i = 0; i < ZH_DNS_NAME_BYTES / 8; i++) {
    __u64 word = 0;
    __u32 start = i * 8;
    if (name > start) {
      word = zh_dns_lower(from[i]);
      if (name < start + 8)
        word &= ZH_DNS_FIRST_BYTES(name - start);
    }
    to[2 * i] = (__u32)word;
    to[2 * i + 1] = (__u32)(word >> 32);
  }
  s->key.length = (__u16)name;
}

/* Reads the message at `at`, of `length` bytes, into s->key and query. 0: a plain query. */
static __always_inline int zh_dns_read(struct __sk_buff *skb, __u32 at, __u32 length,
                                       const struct zh_dns_config *config,
                                       struct zh_dns_scratch *s, struct zh_dns_query *query)
{
  struct zh_dns_header *h = &query->header;
  if (bpf_skb_load_bytes(skb, at, h, sizeof(*h)))
    return -1;
  /* All but RD, AD and CD is 0: a query, opcode 0, and what nobody sets. */
  if ((h->flags & 0xfe) || (h->code & 0xcf) || h->questions != bpf_htons(1) || h->answers ||
      h->authorities || (h->additionals & ~bpf_htons(1)))
    return -1;
  if (length < ZH_DNS_HEADER_BYTES + 5)
    return -1;
  __u32 loaded = length - ZH_DNS_HEADER_BYTES;
  if (loaded > ZH_DNS_RAW_BYTES - 1)
    loaded = ZH_DNS_RAW_BYTES - 1;
  barrier_var(loaded);
  if (loaded < 5 || loaded > ZH_DNS_RAW_BYTES - 1)
    return -1;
  if (bpf_skb_load_bytes(skb, at + ZH_DNS_HEADER_BYTES, s->raw, loaded))
    return -1;
  __u32 name = zh_dns_name(s, loaded, ZH_DNS_NAME_BYTES);
  barrier_var(name);
  if (name == 0 || name > ZH_DNS_NAME_BYTES || name + 4 > loaded)
    return -1;
  name &= ZH_DNS_ANY_BYTES - 1;
  const __u8 *after = &s->raw[name];
  s->key.type = (__u16)(after[0] << 8 | after[1]);
  if (after[2] != 0 || after[3] != 1)
    return -1;
  query->question = name + 4;
  query->size_max = ZH_DNS_UDP_MIN;
  query->has_opt = h->additionals != 0;
  query->is_dnssec_ok = 0;
  __u32 end = ZH_DNS_HEADER_BYTES + name + 4;
  if (query->has_opt) {
    if (name + 4 + ZH_DNS_OPT_BYTES > loaded)
      return -1;
    const __u8 *opt = after + 4;
    /* The root's name, OPT, and version 0. */
    if (opt[0] != 0 || opt[1] != 0 || opt[2] != ZH_DNS_OPT || opt[6] != 0)
      return -1;
    __u32 size = opt[3] << 8 | opt[4];
    if (size > config->udp_size_max)
      size = config->udp_size_max;
    if (size > ZH_DNS_UDP_MIN)
      query->size_max = size;
    query->is_dnssec_ok = opt[7] >> 7;
    __u32 options = opt[9] << 8 | opt[10];
    /* One option or none; several are read by user space. */
    end += ZH_DNS_OPT_BYTES + options;
    if (options) {
      __be16 sizes[2];
      if (options < 4 || bpf_skb_load_bytes(skb, at + end - options, sizes, sizeof(sizes)) ||
          bpf_ntohs(sizes[1]) + 4 != options)
        return -1;
    }
  }
  if (end != length)
    return -1;
  zh_dns_make_key(s, name);
  return 0;
}

static __always_inline __u32 zh_dns_mix(__u32 hash, __u64 words)
{
  hash = (hash ^ (__u32)words) * (__u32)ZH_DNS_MIX;
  hash ^= hash >> 15;
  hash = (hash ^ (__u32)(words >> 32)) * (__u32)ZH_DNS_MIX;
  return hash ^ hash >> 15;
}

/*
 * Copies what was found for s->key to s->answer. 0: it is an answer to this key, and whole. Another
 * CPU may have given the element to another name since it was found, or be writing it: then the
 * check, which is of the copy, is that of no answer, but for one chance in 2^32. So nothing hangs on
 * the order in which bytes are written and read. The loops end at the length; all that is known of
 * it afterwards would make the verifier look at the rest of the program for each.
 */
static __always_inline int zh_dns_take(struct zh_dns_scratch *s, const struct zh_dns_answer *found)
{
  const volatile __u64 *from = (const volatile __u64 *)found;
  const __u64 *key = (const __u64 *)&s->key;
  __u64 *to = (__u64 *)&s->answer;
  const __u32 head = __builtin_offsetof(struct zh_dns_answer, tail) / 8;
  __u32 check = *(const volatile __u32 *)&found->check;
  __u64 first = from[0];
  __u32 length = (first >> 16) & 0xffff, name = s->key.length;
  if (length < 1 || length > ZH_DNS_TAIL_BYTES)
    return -1;
  to[0] = first;
  __u32 hash = zh_dns_seed;
#pragma clang loop unroll(disable)
  for (__u32 i = 0; i < (sizeof(s->key) + sizeof(s->pad)) / 8; i++) {
    if (i * 8 >= __builtin_offsetof(struct zh_dns_key, name) + name)
      break;
    hash = zh_dns_mix(hash, key[i]);
  }
  hash = zh_dns_mix(hash, first);
#pragma clang loop unroll(disable)
  for (__u32 i = 0; i < ZH_DNS_TAIL_BYTES / 8; i++) {
    if (i * 8 >= length)
      break;
    __u64 words = from[head + i];
    to[head + i] = words;
    hash = zh_dns_mix(hash, words);
  }
  return hash == check ? 0 : -1;
}

/* Of 12 bytes, so that it can be summed. */
static __always_inline void zh_dns_make_opt(__u8 opt[12], const struct zh_dns_query *query)
{
  __builtin_memset(opt, 0, 12);
  opt[2] = ZH_DNS_OPT;
  opt[3] = ZH_DNS_SIZE_TAKEN >> 8;
  opt[4] = ZH_DNS_SIZE_TAKEN & 0xff;
  opt[7] = query->is_dnssec_ok << 7;
}

/* The sum of all that is in the answer, as if the message were at an even offset. */
static __always_inline __u32 zh_dns_sum(struct zh_dns_scratch *s, const struct zh_dns_query *query,
                                        __u32 length, const __u8 opt[12])
{
  __u32 question = query->question;
  barrier_var(question);
  question &= ZH_DNS_ANY_BYTES - 1;
  *(__u8 *)&s->raw[question] = 0;
  *(__u8 *)&s->raw[question + 1] = 0;
  *(__u8 *)&s->raw[question + 2] = 0;
  __s64 sum = bpf_csum_diff(0, 0, (__be32 *)&query->header, ZH_DNS_HEADER_BYTES, 0);
  __u32 padded = (question + 3) & 0xfc;
  sum = bpf_csum_diff(0, 0, (__be32 *)s->raw, padded, (__u32)sum);
  __u32 tail = bpf_htons(s->answer.sum);
  if (question & 1)
    tail = __builtin_bswap16((__u16)tail);
  __u32 total = (__u32)zh_fold((__u32)sum) + tail;
  if (query->has_opt) {
    __u32 last = zh_fold((__u32)bpf_csum_diff(0, 0, (__be32 *)opt, 12, 0));
    if ((question + length) & 1)
      last = __builtin_bswap16((__u16)last);
    total += last;
  }
  return total;
}

/* The tail of s->answer from `first` on, then what is before that. */
static __always_inline int zh_dns_write_tail(struct __sk_buff *skb, __u32 at,
                                             const struct zh_dns_scratch *s, __u32 tail, __u32 first)
{
  __u32 bytes = tail - first;
  barrier_var(bytes);
  bytes = ((bytes - 1) & (ZH_DNS_TAIL_BYTES - 1)) + 1;
  if (bpf_skb_store_bytes(skb, at, &s->answer.tail[first & (ZH_DNS_TAIL_BYTES - 1)], bytes, 0))
    return -1;
  if (first == 0)
    return 0;
  at += bytes;
  barrier_var(first);
  bytes = ((first - 1) & (ZH_DNS_TAIL_BYTES - 1)) + 1;
  return bpf_skb_store_bytes(skb, at, s->answer.tail, bytes, 0);
}

/* 1: too big. 0: the message at `at` is the answer in s, of *length bytes; *sum, if wanted, is its sum. */
static __always_inline int zh_dns_write(struct __sk_buff *skb, __u32 at, __u32 *length,
                                        const struct zh_dns_config *config,
                                        struct zh_dns_scratch *s, struct zh_dns_query *query,
                                        __u32 *sum)
{
  struct zh_dns_header *h = &query->header;
  __u32 tail = *(volatile __u16 *)&s->answer.length, rotate = s->answer.rotate;
  barrier_var(tail);
  if (tail < 1 || tail > ZH_DNS_TAIL_BYTES)
    return -1;
  __u32 start = ZH_DNS_HEADER_BYTES + query->question;
  __u32 size = start + tail + (query->has_opt ? ZH_DNS_OPT_BYTES : 0);
  if (size > query->size_max)
    return 1;
  __u32 first = 0;
  if (rotate) {
    __u32 records = tail / rotate;
    if (records > 1)
      first = (bpf_get_prandom_u32() % records) * rotate;
  }
  h->flags = 0x84 | (h->flags & 1); /* QR, AA */
  h->code = 0x80 | (h->code & 0x10); /* RA: who comes over the link is of this host; CD as asked */
  h->answers = bpf_htons(s->answer.count);
  h->additionals = bpf_htons(query->has_opt);
  __u8 opt[12];
  zh_dns_make_opt(opt, query);
  if (bpf_skb_change_tail(skb, at + size, 0))
    return -1;
  if (bpf_skb_store_bytes(skb, at, h, sizeof(*h), 0))
    return -1;
  if (zh_dns_write_tail(skb, at + start, s, tail, first))
    return -1;
  if (query->has_opt &&
      bpf_skb_store_bytes(skb, at + start + tail, opt, ZH_DNS_OPT_BYTES, 0))
    return -1;
  if (sum)
    *sum = zh_dns_sum(s, query, tail, opt);
  *length = size;
  return 0;
}

#endif
