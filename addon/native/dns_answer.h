// Plain DNS questions and the prebuilt answers to them: one question of class IN, nothing behind it but an OPT
// record. It knows no record types; all else is JavaScript's. RFC 1035, 4.1; RFC 6891, 6.1. The same contract as
// bpf/dns_answer.h: an answer is the question with another header, the stored tail behind it, and an OPT record
// if there was one. Names in the tail point to the question's, at 12, so that its casing is the answer's.
//
// No locks and no sockets here: dns_thread.cc has both.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <array>
#include <vector>

namespace zbpf {

constexpr size_t kDnsNameBytesMax = 255;
constexpr size_t kDnsAnswerBytesMax = 4096;  // what dns.udpSizeMax may be
constexpr size_t kDnsRecordsMax = 64;        // of an answer whose records are shuffled
constexpr size_t kDnsAnswersMax = 1 << 18;   // of a table; a power of two

struct DnsQuestion {
  uint8_t name[kDnsNameBytesMax + 1];  // in lower case; zeros behind it
  size_t name_bytes;                   // with lengths and the root's 0
  uint16_t type;
  size_t question_bytes;  // name, type and class
  size_t answer_bytes_max;
  bool has_opt, is_dnssec_ok;
};

// False: not plain, or not a question at all. Reads nothing beyond `bytes`, whatever they are.
bool ReadPlainQuestion(const uint8_t* message, size_t bytes, size_t udp_size_max, DnsQuestion* question);

// xorshift64* (S. Vigna, 2016): whose record comes first is no secret.
class DnsDice {
 public:
  explicit DnsDice(uint64_t seed) : state_(seed | 1) {}
  uint32_t Below(uint32_t bound) {
    state_ ^= state_ >> 12;
    state_ ^= state_ << 25;
    state_ ^= state_ >> 27;
    return static_cast<uint32_t>(((state_ * 0x2545f4914f6cdd1dULL) >> 32) * bound >> 32);
  }

 private:
  uint64_t state_;
};

// Name and tail lie behind it in the same piece of memory.
struct DnsAnswer {
  DnsAnswer* next;
  uint64_t hash;
  uint16_t type;
  uint16_t count;       // of records
  uint16_t tail_bytes;  // at least 1
  uint16_t shuffled;    // bytes of one record where they are shuffled, all of this length; else 0
  uint8_t name_bytes;

  const uint8_t* name() const { return reinterpret_cast<const uint8_t*>(this + 1); }
  const uint8_t* tail() const { return name() + name_bytes; }
};

// What is put into the table.
struct DnsRecords {
  const uint8_t* name;
  size_t name_bytes;
  uint16_t type, count, shuffled;
  const uint8_t* tail;
  size_t tail_bytes;
};

// Chains by the name alone, so that all types of a name go at once. The hash is seeded: names that fall into
// one chain cannot be thought out. It grows by one chain at a time (linear hashing, W. Litwin, 1980), so that no
// Set() pays for all that is there; the memory for all chains is only address space until they are used.
class DnsTable {
 public:
  DnsTable();  // throws bad_alloc
  ~DnsTable();
  DnsTable(const DnsTable&) = delete;
  DnsTable& operator=(const DnsTable&) = delete;

  // False: records that no answer can be made of, or none were there before and it is full. Throws bad_alloc, and then
  // nothing has changed.
  bool Set(const DnsRecords& records);
  void Forget(const uint8_t* name, size_t bytes);
  void Clear() noexcept;
  void Swap(DnsTable& other) noexcept;
  // Frees some of a table that nobody uses any more. True: there are more.
  bool Discard(size_t most) noexcept;
  const DnsAnswer* Find(const DnsQuestion& question) const;
  size_t size() const { return size_; }

 private:
  uint64_t Hash(const uint8_t* name, size_t bytes) const;
  size_t Place(uint64_t hash) const;
  DnsAnswer** Chain(uint64_t hash) { return &chains_[Place(hash)]; }
  void Grow() noexcept;

  uint64_t seed_;
  size_t size_ = 0;
  DnsAnswer** chains_;
  size_t used_;  // of kDnsAnswersMax chains
  size_t base_;  // a power of two: base_ <= used_ <= 2 * base_
};

// Who may ask for names of others: all that it is to an answer of ours is the bit RA.
class DnsClients {
 public:
  // 18 bytes each: family (4 or 6), bits of the prefix, 16 bytes of which IPv4 is mapped (RFC 4291, 2.5.5.2).
  static constexpr size_t kBlockBytes = 18;
  DnsClients() = default;
  DnsClients(const uint8_t* blocks, size_t bytes);
  bool Has(const uint8_t address[16]) const;

 private:
  struct Block {
    uint8_t family, bits, first[16];
  };
  std::vector<std::array<uint8_t, 16>> hosts_;  // sorted
  std::vector<Block> blocks_;
};

// Bytes of the answer at `to`, which has room for kDnsAnswerBytesMax; 0: more than the client takes.
size_t WriteDnsAnswer(const uint8_t* message, const DnsQuestion& question, const DnsAnswer& answer,
                      bool is_recursion_available, DnsDice& dice, uint8_t* to);

}  // namespace zbpf
