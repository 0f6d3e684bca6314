// Maps, one entry at a time: create, open, info, get, set, delete, freeze. Batches: map_batch.cc.
#include "map.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <string.h>

#include "handle.h"
#include "log.h"

namespace zbpf {
namespace {

bool IsPerCpu(uint32_t type) {
  return type == BPF_MAP_TYPE_PERCPU_HASH || type == BPF_MAP_TYPE_PERCPU_ARRAY ||
         type == BPF_MAP_TYPE_LRU_PERCPU_HASH || type == BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE;
}

// Their values are descriptors when written: only a handle may be stored, never a number that may be stale.
bool HoldsHandles(uint32_t type) {
  return type == BPF_MAP_TYPE_ARRAY_OF_MAPS || type == BPF_MAP_TYPE_HASH_OF_MAPS ||
         type == BPF_MAP_TYPE_PROG_ARRAY;
}

// mapCreate(name, type, keySize, valueSize, maxEntries, flags, innerMap | undefined)
Napi::Value Create(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  std::string name = NameArg(info, 0, "map create", "name", BPF_OBJ_NAME_LEN - 1);
  std::string operation = "map create " + name;
  uint32_t type = U32Arg(info, 1, operation, "type");
  uint32_t key_size = U32Arg(info, 2, operation, "keySize");
  uint32_t value_size = U32Arg(info, 3, operation, "valueSize");
  uint32_t max_entries = U32Arg(info, 4, operation, "maxEntries");
  LIBBPF_OPTS(bpf_map_create_opts, opts);
  opts.map_flags = U32Arg(info, 5, operation, "flags");
  if (!Absent(info, 6)) opts.inner_map_fd = static_cast<uint32_t>(MapArg(info, 6, operation).fd);
  LogScope log(env);
  FdGuard fd(bpf_map_create(static_cast<bpf_map_type>(type), name.c_str(), key_size, value_size, max_entries,
                            &opts));
  if (fd.get() < 0) ThrowErrno(env, errno, operation, log.warnings());
  return WrapMapFd(env, fd, operation);
}

// mapOpenPinned(path)
Napi::Value OpenPinned(const Napi::CallbackInfo& info) {
  std::string path = PathArg(info, 0, "map open");
  std::string operation = "map open " + path;
  FdGuard fd(OpenPinnedFd(info.Env(), path, Kind::kMap, operation));
  return WrapMapFd(info.Env(), fd, operation);
}

// mapOpenById(id)
Napi::Value OpenById(const Napi::CallbackInfo& info) {
  uint32_t id = U32Arg(info, 0, "map open", "id");
  std::string operation = "map open id " + std::to_string(id);
  FdGuard fd(bpf_map_get_fd_by_id(id));
  if (fd.get() < 0) ThrowErrno(info.Env(), errno, operation);
  return WrapMapFd(info.Env(), fd, operation);
}

// mapInfo(map): everything but maxEntries of a reused map is fixed for a map's life, so no system call.
Napi::Value Info(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  MapHandle& map = MapArg(info, 0, "map info");
  Napi::Object out = Napi::Object::New(env);
  out.Set("id", Napi::Number::New(env, map.id));
  out.Set("name", Napi::String::New(env, map.name));
  out.Set("type", Napi::Number::New(env, map.type));
  out.Set("keySize", Napi::Number::New(env, map.key_size));
  out.Set("valueSize", Napi::Number::New(env, map.value_size));
  out.Set("valueBytes", Napi::Number::New(env, static_cast<double>(map.value_bytes)));
  out.Set("maxEntries", Napi::Number::New(env, map.max_entries));
  out.Set("flags", Napi::Number::New(env, map.flags));
  return out;
}

// mapGet(map, key)
Napi::Value Get(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  MapHandle& map = MapArg(info, 0, "map get");
  std::string operation = "map get " + map.name;
  Bytes key = BytesArg(info, 1, operation, "key", map.key_size);
  Napi::Uint8Array value = Napi::Uint8Array::New(env, map.value_bytes);
  // Creating the value may have run the garbage collector, but never JavaScript: `key` still stands.
  if (bpf_map_lookup_elem(map.fd, map.key_size == 0 ? nullptr : key.data, value.Data()) < 0) {
    if (errno == ENOENT) return env.Undefined();
    ThrowErrno(env, errno, operation);
  }
  return value;
}

// mapSet(map, key, value, flags); a Map or Program handle as value for maps that hold those
void Set(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  MapHandle& map = MapArg(info, 0, "map update");
  std::string operation = "map update " + map.name;
  Bytes key = BytesArg(info, 1, operation, "key", map.key_size);
  uint32_t flags = U32Arg(info, 3, operation, "flags", BPF_EXIST);
  uint32_t held = 0;
  const void* value = &held;
  if (HoldsHandles(map.type)) {
    Kind kind = map.type == BPF_MAP_TYPE_PROG_ARRAY ? Kind::kProgram : Kind::kMap;
    held = static_cast<uint32_t>(FdArg(info, 2, kind, operation).fd);
  } else {
    value = BytesArg(info, 2, operation, "value", map.value_bytes).data;
  }
  if (bpf_map_update_elem(map.fd, map.key_size == 0 ? nullptr : key.data, value, flags) < 0)
    ThrowErrno(env, errno, operation);
}

// mapDelete(map, key): false when there was none
Napi::Value Delete(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  MapHandle& map = MapArg(info, 0, "map delete");
  std::string operation = "map delete " + map.name;
  Bytes key = BytesArg(info, 1, operation, "key", map.key_size);
  if (bpf_map_delete_elem(map.fd, key.data) < 0) {
    if (errno == ENOENT) return Napi::Boolean::New(env, false);
    ThrowErrno(env, errno, operation);
  }
  return Napi::Boolean::New(env, true);
}

// mapFreeze(map): no more writes from user space, for good
void Freeze(const Napi::CallbackInfo& info) {
  MapHandle& map = MapArg(info, 0, "map freeze");
  if (bpf_map_freeze(map.fd) < 0) ThrowErrno(info.Env(), errno, "map freeze " + map.name);
}

}  // namespace

Napi::Value WrapMapFd(Napi::Env env, FdGuard& fd, const std::string& operation) {
  struct bpf_map_info raw;
  memset(&raw, 0, sizeof(raw));
  uint32_t size = sizeof(raw);
  if (bpf_obj_get_info_by_fd(fd.get(), &raw, &size) < 0) ThrowErrno(env, errno, operation);
  int cpus = libbpf_num_possible_cpus();
  if (cpus < 0) ThrowErrno(env, -cpus, operation);
  auto map = std::make_unique<MapHandle>(fd.get(), std::string(raw.name, strnlen(raw.name, sizeof(raw.name))));
  fd.release();
  map->type = raw.type;
  map->id = raw.id;
  map->key_size = raw.key_size;
  map->value_size = raw.value_size;
  map->max_entries = raw.max_entries;
  map->flags = raw.map_flags;
  map->value_bytes = IsPerCpu(raw.type) ? (static_cast<size_t>(raw.value_size) + 7) / 8 * 8 * cpus
                                        : static_cast<size_t>(raw.value_size);
  return WrapHandle(env, std::move(map));
}

void InitMaps(Napi::Env env, Napi::Object exports) {
  exports.Set("mapCreate", Napi::Function::New(env, Create));
  exports.Set("mapOpenPinned", Napi::Function::New(env, OpenPinned));
  exports.Set("mapOpenById", Napi::Function::New(env, OpenById));
  exports.Set("mapInfo", Napi::Function::New(env, Info));
  exports.Set("mapGet", Napi::Function::New(env, Get));
  exports.Set("mapSet", Napi::Function::New(env, Set));
  exports.Set("mapDelete", Napi::Function::New(env, Delete));
  exports.Set("mapFreeze", Napi::Function::New(env, Freeze));
}

}  // namespace zbpf
