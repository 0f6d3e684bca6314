/* What the DNS programs of the bench share: questions, and answers read with suspicion. */
#include "bench.h"

#include <ctype.h>

#define DNS_PORT 53
#define DNS_BYTES_MAX 1232
#define NAME_BYTES_MAX 255
#define HEADER_BYTES 12
#define TYPE_A 1
#define TYPE_OPT 41

static inline unsigned word_at(const uint8_t *at)
{
  return at[0] << 8 | at[1];
}

static inline void put_word(uint8_t *at, unsigned word)
{
  at[0] = word >> 8;
  at[1] = word;
}

/* The address that upstreams of the bench give a name: FNV-1a of its labels in lower case, in 10/8. Network order. */
static inline uint32_t address_of(const uint8_t *name)
{
  uint32_t hash = 2166136261u;
  for (const uint8_t *at = name; *at != 0;) {
    int len = *at++;
    hash = (hash ^ len) * 16777619u;
    while (len-- > 0)
      hash = (hash ^ (uint8_t)tolower(*at++)) * 16777619u;
  }
  return htonl(10u << 24 | (hash & 0xffffff));
}

/* The bytes of a name with no pointer in it, its end included; 0 if it is none. */
static inline int plain_name(const uint8_t *at, const uint8_t *end)
{
  const uint8_t *start = at;
  while (at < end && *at != 0) {
    if (*at > 63)
      return 0;
    at += *at + 1;
  }
  return at < end && at + 1 - start <= NAME_BYTES_MAX ? at + 1 - start : 0;
}

/* A question for the A record of a dotted name, with EDNS; how long it is. */
static inline int make_query(uint8_t query[DNS_BYTES_MAX], const char *name)
{
  static const uint8_t tail[] = {0, 0, TYPE_A, 0, 1, 0, 0, TYPE_OPT, DNS_BYTES_MAX >> 8, DNS_BYTES_MAX & 255, 0, 0, 0, 0, 0, 0};
  static const uint8_t head[HEADER_BYTES] = {0, 0, 1 /* RD */, 0, 0, 1, 0, 0, 0, 0, 0, 1};
  if (strlen(name) + 2 > NAME_BYTES_MAX)
    die("a name that is too long");
  memcpy(query, head, sizeof(head));
  uint8_t *label = query + HEADER_BYTES, *at = label + 1;
  for (; *name != 0; name++) {
    if (*name == '.') {
      *label = at - label - 1;
      label = at++;
    } else {
      *at++ = *name;
    }
  }
  *label = at - label - 1;
  memcpy(at, tail, sizeof(tail));
  return at + sizeof(tail) - query;
}

enum verdict { RIGHT, WRONG, FAILED, STRAY };

/* Whether these bytes answer the query with this address; STRAY: they are about something else. */
static inline enum verdict judge(const uint8_t *answer, int bytes, const uint8_t *query, uint32_t wanted)
{
  const uint8_t *end = answer + bytes;
  int question = plain_name(query + HEADER_BYTES, query + DNS_BYTES_MAX) + 4;
  if (bytes < HEADER_BYTES + question || answer[2] < 0x80 || memcmp(answer, query, 2) != 0 ||
      memcmp(answer + HEADER_BYTES, query + HEADER_BYTES, question) != 0)
    return STRAY;
  if ((answer[3] & 15) != 0)
    return FAILED;
  const uint8_t *at = answer + HEADER_BYTES + question;
  for (int count = word_at(answer + 6); count > 0; count--) {
    int name = 0;
    if (at + 2 <= end && *at >= 0xc0)
      name = 2;
    else
      name = plain_name(at, end);
    if (name == 0 || at + name + 10 > end)
      return WRONG;
    at += name;
    int length = word_at(at + 8);
    if (at + 10 + length > end)
      return WRONG;
    if (word_at(at) == TYPE_A)
      return length == 4 && memcmp(at + 10, &wanted, 4) == 0 ? RIGHT : WRONG;
    at += 10 + length;
  }
  return WRONG;
}
