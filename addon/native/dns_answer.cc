// See dns_answer.h.
#include "dns_answer.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>

#include <algorithm>
#include <new>
#include <utility>

namespace zbpf {
namespace {

constexpr size_t kHeaderBytes = 12;
constexpr size_t kOptBytes = 11;
constexpr size_t kUdpBytesPlain = 512;  // RFC 1035, 4.2.1
constexpr size_t kSizeTaken = 1232;     // what our OPT says that this host takes (DNS Flag Day 2020)
constexpr uint16_t kTypeOpt = 41;
constexpr size_t kChainsMin = 64;
constexpr size_t kChainsBytes = kDnsAnswersMax * sizeof(DnsAnswer*);

uint16_t WordAt(const uint8_t* bytes, size_t at) { return static_cast<uint16_t>(bytes[at] << 8 | bytes[at + 1]); }

uint64_t EightAt(const uint8_t* bytes) {
  uint64_t word;
  memcpy(&word, bytes, sizeof(word));
  return word;
}

// Letters A to Z of eight bytes become a to z. Lengths of labels are below 64, and no letters.
uint64_t Lower(uint64_t word) {
  uint64_t low = word & 0x7f7f7f7f7f7f7f7fULL;
  uint64_t from_a = low + 0x3f3f3f3f3f3f3f3fULL;  // bit 7 where >= 'A'
  uint64_t past_z = low + 0x2525252525252525ULL;  // bit 7 where > 'Z'
  return word | ((from_a ^ past_z) & ~word & 0x8080808080808080ULL) >> 2;
}

// Where the name at `at` ends; 0: it is none.
size_t NameEnd(const uint8_t* bytes, size_t at, size_t end) {
  size_t last = std::min(end, at + kDnsNameBytesMax);
  while (at < last) {
    size_t length = bytes[at];
    if (length > 63) return 0;
    at += length + 1;
    if (length == 0) return at;
  }
  return 0;
}

// Whether options are whole (RFC 6891, 6.1.2); what they say is not looked at.
bool AreOptions(const uint8_t* bytes, size_t at, size_t end) {
  while (at + 4 <= end) at += 4 + static_cast<size_t>(WordAt(bytes, at + 2));
  return at == end;
}

uint64_t Seed() {
  uint64_t seed = 0;
  if (getrandom(&seed, sizeof(seed), 0) != sizeof(seed)) abort();  // fails for no reason that could be handled
  return seed;
}

}  // namespace

bool ReadPlainQuestion(const uint8_t* message, size_t bytes, size_t udp_size_max, DnsQuestion* question) {
  if (bytes < kHeaderBytes + 5) return false;
  // All but RD, AD and CD is 0: a query, opcode 0, and what nobody sets.
  if ((message[2] & 0xfe) != 0 || (message[3] & 0xcf) != 0) return false;
  // One question, no records but one additional.
  if (WordAt(message, 4) != 1 || WordAt(message, 6) != 0 || WordAt(message, 8) != 0 || WordAt(message, 10) > 1)
    return false;
  size_t name_end = NameEnd(message, kHeaderBytes, bytes);
  if (name_end == 0 || name_end + 4 > bytes || WordAt(message, name_end + 2) != 1) return false;
  question->name_bytes = name_end - kHeaderBytes;
  question->question_bytes = question->name_bytes + 4;
  question->type = WordAt(message, name_end);
  question->answer_bytes_max = kUdpBytesPlain;
  question->has_opt = message[11] != 0;
  question->is_dnssec_ok = false;
  size_t end = name_end + 4;
  if (question->has_opt) {
    const uint8_t* opt = message + end;
    // The root's name, OPT, and version 0.
    if (end + kOptBytes > bytes || opt[0] != 0 || WordAt(opt, 1) != kTypeOpt || opt[6] != 0) return false;
    size_t size = std::min<size_t>(WordAt(opt, 3), udp_size_max);
    question->answer_bytes_max = std::max(kUdpBytesPlain, size);
    question->is_dnssec_ok = opt[7] >= 0x80;
    size_t options = end + kOptBytes;
    end = options + WordAt(opt, 9);
    if (end > bytes || !AreOptions(message, options, end)) return false;
  }
  if (end != bytes) return false;
  size_t words = (question->name_bytes + 7) / 8;
  memset(question->name + 8 * (words - 1), 0, 8);
  memcpy(question->name, message + kHeaderBytes, question->name_bytes);
  for (size_t i = 0; i < words; i++) {
    uint64_t word = Lower(EightAt(question->name + 8 * i));
    memcpy(question->name + 8 * i, &word, sizeof(word));
  }
  return true;
}

DnsTable::DnsTable() : seed_(Seed()), used_(kChainsMin), base_(kChainsMin) {
  // Not malloc(), which may hand out memory that was used, and would have to write zeros over all of it.
  void* memory = mmap(nullptr, kChainsBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  chains_ = static_cast<DnsAnswer**>(memory);
}

DnsTable::~DnsTable() {
  Discard(SIZE_MAX);
  munmap(chains_, kChainsBytes);
}

void DnsTable::Swap(DnsTable& other) noexcept {
  std::swap(seed_, other.seed_);
  std::swap(size_, other.size_);
  std::swap(chains_, other.chains_);
  std::swap(used_, other.used_);
  std::swap(base_, other.base_);
}

// `name` may lie anywhere: the rest of its last word is taken as zeros.
uint64_t DnsTable::Hash(const uint8_t* name, size_t bytes) const {
  uint64_t hash = seed_;
  size_t at = 0;
  auto mix = [&hash](uint64_t word) {
    hash = (hash ^ word) * 0x9e3779b97f4a7c15ULL;
    hash ^= hash >> 29;
  };
  for (; at + 8 <= bytes; at += 8) mix(EightAt(name + at));
  uint64_t rest = 0;
  memcpy(&rest, name + at, bytes - at);
  mix(rest);
  return hash ^ hash >> 32;
}

// Of twice base_ places those from used_ on have no chain yet: what belongs there is still in the one it comes from.
size_t DnsTable::Place(uint64_t hash) const {
  size_t place = hash & (2 * base_ - 1);
  return place < used_ ? place : place - base_;
}

// One chain becomes two.
void DnsTable::Grow() noexcept {
  if (used_ == kDnsAnswersMax) return;
  if (used_ == 2 * base_) base_ *= 2;
  DnsAnswer** at = &chains_[used_ - base_];
  DnsAnswer** added = &chains_[used_++];
  while (*at != nullptr) {
    DnsAnswer* answer = *at;
    if (Chain(answer->hash) != added) {
      at = &answer->next;
      continue;
    }
    *at = answer->next;
    answer->next = *added;
    *added = answer;
  }
}

bool DnsTable::Set(const DnsRecords& records) {
  if (records.name_bytes == 0 || records.name_bytes > kDnsNameBytesMax ||
      NameEnd(records.name, 0, records.name_bytes) != records.name_bytes)
    return false;
  if (records.count == 0 || records.tail_bytes == 0 || records.tail_bytes > kDnsAnswerBytesMax) return false;
  if (records.shuffled != 0 && (records.count > kDnsRecordsMax ||
                                static_cast<size_t>(records.shuffled) * records.count != records.tail_bytes))
    return false;
  if (size_ >= used_) Grow();
  uint64_t hash = Hash(records.name, records.name_bytes);
  DnsAnswer** at = Chain(hash);
  for (; *at != nullptr; at = &(*at)->next) {
    const DnsAnswer& there = **at;
    if (there.hash == hash && there.type == records.type && there.name_bytes == records.name_bytes &&
        memcmp(there.name(), records.name, records.name_bytes) == 0)
      break;
  }
  if (*at == nullptr && size_ == kDnsAnswersMax) return false;
  void* memory = malloc(sizeof(DnsAnswer) + records.name_bytes + records.tail_bytes);
  if (memory == nullptr) throw std::bad_alloc();
  auto* answer = new (memory) DnsAnswer{nullptr,
                                        hash,
                                        records.type,
                                        records.count,
                                        static_cast<uint16_t>(records.tail_bytes),
                                        records.shuffled,
                                        static_cast<uint8_t>(records.name_bytes)};
  auto* data = reinterpret_cast<uint8_t*>(answer + 1);
  memcpy(data, records.name, records.name_bytes);
  memcpy(data + records.name_bytes, records.tail, records.tail_bytes);
  if (DnsAnswer* old = *at; old != nullptr) {
    *at = old->next;
    free(old);
    size_--;
  }
  DnsAnswer** chain = Chain(hash);
  answer->next = *chain;
  *chain = answer;
  size_++;
  return true;
}

void DnsTable::Forget(const uint8_t* name, size_t bytes) {
  uint64_t hash = Hash(name, bytes);
  for (DnsAnswer** at = Chain(hash); *at != nullptr;) {
    DnsAnswer* answer = *at;
    if (answer->hash != hash || answer->name_bytes != bytes || memcmp(answer->name(), name, bytes) != 0) {
      at = &answer->next;
      continue;
    }
    *at = answer->next;
    free(answer);
    size_--;
  }
}

bool DnsTable::Discard(size_t most) noexcept {
  for (; used_ > 0; used_--) {
    DnsAnswer*& chain = chains_[used_ - 1];
    for (; chain != nullptr; most--) {
      if (most == 0) return true;
      DnsAnswer* next = chain->next;
      free(chain);
      chain = next;
    }
  }
  return false;
}

void DnsTable::Clear() noexcept {
  Discard(SIZE_MAX);
  used_ = base_ = kChainsMin;
  size_ = 0;
}

const DnsAnswer* DnsTable::Find(const DnsQuestion& question) const {
  uint64_t hash = Hash(question.name, question.name_bytes);
  for (const DnsAnswer* at = chains_[Place(hash)]; at != nullptr; at = at->next) {
    if (at->hash == hash && at->type == question.type && at->name_bytes == question.name_bytes &&
        memcmp(at->name(), question.name, question.name_bytes) == 0)
      return at;
  }
  return nullptr;
}

DnsClients::DnsClients(const uint8_t* blocks, size_t bytes) {
  for (size_t at = 0; at + kBlockBytes <= bytes; at += kBlockBytes) {
    Block block;
    block.family = blocks[at];
    block.bits = std::min<uint8_t>(blocks[at + 1], 128);
    memcpy(block.first, blocks + at + 2, sizeof(block.first));
    if (block.bits < 128) {
      blocks_.push_back(block);
      continue;
    }
    std::array<uint8_t, 16> host;
    memcpy(host.data(), block.first, host.size());
    hosts_.push_back(host);
  }
  std::sort(hosts_.begin(), hosts_.end());
}

bool DnsClients::Has(const uint8_t address[16]) const {
  static const uint8_t kMapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
  uint8_t family = memcmp(address, kMapped, sizeof(kMapped)) == 0 ? 4 : 6;
  for (const Block& block : blocks_) {
    size_t whole = block.bits / 8;
    if (block.family != family || memcmp(block.first, address, whole) != 0) continue;
    if (((block.first[whole] ^ address[whole]) >> (8 - block.bits % 8)) == 0) return true;
  }
  std::array<uint8_t, 16> host;
  memcpy(host.data(), address, host.size());
  return std::binary_search(hosts_.begin(), hosts_.end(), host);
}

size_t WriteDnsAnswer(const uint8_t* message, const DnsQuestion& question, const DnsAnswer& answer,
                      bool is_recursion_available, DnsDice& dice, uint8_t* to) {
  size_t start = kHeaderBytes + question.question_bytes;
  size_t size = start + answer.tail_bytes + (question.has_opt ? kOptBytes : 0);
  if (size > question.answer_bytes_max || size > kDnsAnswerBytesMax) return 0;
  memcpy(to, message, start);
  to[2] = static_cast<uint8_t>(0x84 | (message[2] & 1));  // QR, AA
  to[3] = static_cast<uint8_t>((is_recursion_available ? 0x80 : 0) | (message[3] & 0x10));
  to[6] = static_cast<uint8_t>(answer.count >> 8);
  to[7] = static_cast<uint8_t>(answer.count);
  to[10] = 0;
  to[11] = question.has_opt;
  uint8_t* tail = to + start;
  if (answer.shuffled == 0 || answer.count < 2) {
    memcpy(tail, answer.tail(), answer.tail_bytes);
  } else {  // Fisher and Yates, as packet.ts does
    uint8_t order[kDnsRecordsMax];
    for (uint32_t i = 0; i < answer.count; i++) order[i] = static_cast<uint8_t>(i);
    for (uint32_t i = 0; i < answer.count; i++) {
      std::swap(order[i], order[i + dice.Below(answer.count - i)]);
      memcpy(tail + i * answer.shuffled, answer.tail() + order[i] * answer.shuffled, answer.shuffled);
    }
  }
  if (question.has_opt) {
    const uint8_t opt[kOptBytes] = {0, 0, kTypeOpt, kSizeTaken >> 8, kSizeTaken & 0xff, 0, 0,
                                    static_cast<uint8_t>(question.is_dnssec_ok ? 0x80 : 0)};
    memcpy(tail + answer.tail_bytes, opt, kOptBytes);
  }
  return size;
}

}  // namespace zbpf
