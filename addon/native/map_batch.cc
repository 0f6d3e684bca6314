// Many entries in one crossing. The kernel's batch operations where the map has them (≥ 5.6, by map type),
// one entry at a time within the same crossing where it has not. Batch support is never assumed from a
// version or a type: the kernel is asked and its refusal is the answer.
#include <bpf/bpf.h>
#include <errno.h>
#include <string.h>

#include <algorithm>
#include <unordered_set>
#include <vector>

#include "handle.h"
#include "map.h"

namespace zbpf {
namespace {

constexpr uint32_t kChunkEntriesMax = 1 << 20;
constexpr int kEnotsupp = 524;

// EINVAL: the kernel is older than batches. ENOTSUPP: this map type has none.
bool LacksBatch(int error) { return error == EINVAL || error == kEnotsupp || error == EOPNOTSUPP; }

uint32_t CountKeys(Napi::Env env, const MapHandle& map, const Bytes& keys, const std::string& operation) {
  if (map.key_size == 0) ThrowArgument(env, operation, "a map without keys has no batches");
  if (keys.size % map.key_size != 0)
    ThrowArgument(env, operation,
                  "keys must have a multiple of " + std::to_string(map.key_size) + " bytes, not " +
                      std::to_string(keys.size));
  size_t count = keys.size / map.key_size;
  if (count > UINT32_MAX) ThrowArgument(env, operation, "too many keys");
  return static_cast<uint32_t>(count);
}

// The kernel writes the count back only when it got as far as the entries; an untouched one means none.
uint32_t Applied(uint32_t count, uint32_t asked, int error) {
  return error == EFAULT || count >= asked ? 0 : count;
}

// mapUpdateBatch(map, keys, values)
void UpdateBatch(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  MapHandle& map = MapArg(info, 0, "map update batch");
  std::string operation = "map update batch " + map.name;
  if (map.type == BPF_MAP_TYPE_ARRAY_OF_MAPS || map.type == BPF_MAP_TYPE_HASH_OF_MAPS ||
      map.type == BPF_MAP_TYPE_PROG_ARRAY)
    ThrowArgument(env, operation, "a map that holds handles is written one entry at a time");
  Bytes keys = BytesArg(info, 1, operation, "keys");
  uint32_t asked = CountKeys(env, map, keys, operation);
  Bytes values = BytesArg(info, 2, operation, "values", asked * map.value_bytes);
  if (asked == 0) return;
  uint32_t count = asked;
  if (bpf_map_update_batch(map.fd, keys.data, values.data, &count, nullptr) == 0) return;
  int error = errno;
  uint32_t done = Applied(count, asked, error);
  if (!LacksBatch(error) || done != 0) ThrowBatch(env, error, operation, done);
  for (uint32_t i = 0; i < asked; i++) {
    if (bpf_map_update_elem(map.fd, keys.data + static_cast<size_t>(i) * map.key_size,
                            values.data + i * map.value_bytes, BPF_ANY) < 0)
      ThrowBatch(env, errno, operation, i);
  }
}

// mapDeleteBatch(map, keys): how many were there. Absent keys are skipped.
Napi::Value DeleteBatch(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  MapHandle& map = MapArg(info, 0, "map delete batch");
  std::string operation = "map delete batch " + map.name;
  Bytes keys = BytesArg(info, 1, operation, "keys");
  uint32_t asked = CountKeys(env, map, keys, operation);
  uint32_t deleted = 0;
  bool batch = true;
  for (uint32_t at = 0; at < asked;) {
    const uint8_t* key = keys.data + static_cast<size_t>(at) * map.key_size;
    if (batch) {
      uint32_t left = asked - at, count = left;
      if (bpf_map_delete_batch(map.fd, key, &count, nullptr) == 0) {
        deleted += left;
        break;
      }
      int error = errno;
      uint32_t done = Applied(count, left, error);
      deleted += done;
      at += done;
      if (error == ENOENT) {
        at++;  // the batch stops at an absent key: step over it and go on
      } else if (LacksBatch(error) && done == 0) {
        batch = false;
      } else {
        ThrowBatch(env, error, operation, deleted);
      }
    } else {
      if (bpf_map_delete_elem(map.fd, key) == 0)
        deleted++;
      else if (errno != ENOENT)
        ThrowBatch(env, errno, operation, deleted);
      at++;
    }
  }
  return Napi::Number::New(env, deleted);
}

Napi::Object Entries(Napi::Env env, const MapHandle& map, const uint8_t* keys, const uint8_t* values,
                     uint32_t count) {
  Napi::Object out = Napi::Object::New(env);
  out.Set("keys", NewBytes(env, keys, static_cast<size_t>(count) * map.key_size));
  out.Set("values", NewBytes(env, values, count * map.value_bytes));
  out.Set("count", Napi::Number::New(env, count));
  return out;
}

// mapReadChunk(map, cursor | undefined, entries): {keys, values, count, cursor?}, or undefined when the map
// has no batches or changes too fast for them (then mapKeys and mapGetMany do). No cursor: this was the last.
Napi::Value ReadChunk(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  MapHandle& map = MapArg(info, 0, "map read batch");
  std::string operation = "map read batch " + map.name;
  if (map.key_size == 0) ThrowArgument(env, operation, "a map without keys cannot be iterated");
  // Hash maps keep a bucket number in the cursor, all others a key.
  std::vector<uint8_t> in(std::max<size_t>(map.key_size, 8)), out(in.size());
  bool first = Absent(info, 1);
  if (!first) memcpy(in.data(), BytesArg(info, 1, operation, "cursor", in.size()).data, in.size());
  uint32_t entries = U32Arg(info, 2, operation, "entries", kChunkEntriesMax);
  if (entries == 0) ThrowArgument(env, operation, "entries must not be 0");
  std::vector<uint8_t> keys, values;
  for (int interrupted = 0;;) {
    keys.resize(static_cast<size_t>(entries) * map.key_size);
    values.resize(entries * map.value_bytes);
    uint32_t count = entries;
    int failed = bpf_map_lookup_batch(map.fd, first ? nullptr : in.data(), out.data(), keys.data(),
                                      values.data(), &count, nullptr);
    int error = failed < 0 ? errno : 0;
    if (error == ENOSPC && entries < kChunkEntriesMax) {
      entries = std::min(entries * 2, kChunkEntriesMax);  // one hash bucket holds more than this
      continue;
    }
    if (error == EINTR || error == EAGAIN) {
      if (++interrupted < 8) continue;
      return env.Undefined();
    }
    if (LacksBatch(error)) return env.Undefined();
    if (error != 0 && error != ENOENT) ThrowErrno(env, error, operation);
    Napi::Object chunk = Entries(env, map, keys.data(), values.data(), std::min(count, entries));
    if (error == 0 && count != 0) chunk.Set("cursor", NewBytes(env, out.data(), out.size()));
    return chunk;
  }
}

// mapKeys(map): all keys, each once. When the key under the cursor is deleted meanwhile, a hash map starts
// over from its first key (bpf(2)); keys already seen are then skipped, and the number of steps is bounded,
// so that this ends whatever others do to the map.
Napi::Value Keys(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  MapHandle& map = MapArg(info, 0, "map keys");
  std::string operation = "map keys " + map.name;
  if (map.key_size == 0) ThrowArgument(env, operation, "a map without keys cannot be iterated");
  std::unordered_set<std::string> seen;
  std::vector<uint8_t> keys;
  std::string key(map.key_size, '\0'), next(map.key_size, '\0');
  uint64_t steps_max = 4 * static_cast<uint64_t>(map.max_entries) + 1024;
  bool first = true;
  for (uint64_t step = 0; step < steps_max; step++) {
    if (bpf_map_get_next_key(map.fd, first ? nullptr : key.data(), next.data()) < 0) {
      if (errno == ENOENT) break;
      ThrowErrno(env, errno, operation);
    }
    first = false;
    if (seen.insert(next).second) keys.insert(keys.end(), next.begin(), next.end());
    key.swap(next);
  }
  return NewBytes(env, keys.data(), keys.size());
}

// mapGetMany(map, keys): {keys, values, count} of those that are there
Napi::Value GetMany(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  MapHandle& map = MapArg(info, 0, "map get many");
  std::string operation = "map get many " + map.name;
  Bytes asked = BytesArg(info, 1, operation, "keys");
  uint32_t total = CountKeys(env, map, asked, operation), found = 0;
  std::vector<uint8_t> keys(asked.size), values(total * map.value_bytes);
  for (uint32_t i = 0; i < total; i++) {
    const uint8_t* key = asked.data + static_cast<size_t>(i) * map.key_size;
    if (bpf_map_lookup_elem(map.fd, key, values.data() + found * map.value_bytes) < 0) {
      if (errno == ENOENT) continue;
      ThrowErrno(env, errno, operation);
    }
    memcpy(keys.data() + static_cast<size_t>(found) * map.key_size, key, map.key_size);
    found++;
  }
  return Entries(env, map, keys.data(), values.data(), found);
}

}  // namespace

void InitMapBatches(Napi::Env env, Napi::Object exports) {
  exports.Set("mapUpdateBatch", Napi::Function::New(env, UpdateBatch));
  exports.Set("mapDeleteBatch", Napi::Function::New(env, DeleteBatch));
  exports.Set("mapReadChunk", Napi::Function::New(env, ReadChunk));
  exports.Set("mapKeys", Napi::Function::New(env, Keys));
  exports.Set("mapGetMany", Napi::Function::New(env, GetMany));
}

}  // namespace zbpf
