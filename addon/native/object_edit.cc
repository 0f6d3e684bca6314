// What may be changed between open and load: initial data, sizes, which maps to reuse, which programs to load.
#include <bpf/btf.h>
#include <errno.h>
#include <string.h>

#include "log.h"
#include "object.h"

namespace zbpf {
namespace {

struct Section {
  uint8_t* bytes;
  size_t size;
};

Section FindSection(const Napi::CallbackInfo& info, ObjectHandle& handle, const std::string& name,
                    const std::string& operation) {
  struct bpf_map* map = FindMap(info.Env(), handle, name, operation);
  size_t size = 0;
  // libbpf offers this memory for exactly this purpose, const only in its type (see its skeletons).
  void* bytes = const_cast<void*>(bpf_map__initial_value(map, &size));
  if (bytes == nullptr) ThrowArgument(info.Env(), operation, name + " is not a data section");
  return {static_cast<uint8_t*>(bytes), size};
}

// objectSection(object, section): its bytes as they would be loaded
Napi::Value GetSection(const Napi::CallbackInfo& info) {
  ObjectHandle& handle = OpenObjectArg(info, "object section");
  std::string name = NameArg(info, 1, "object section", "section");
  Section section = FindSection(info, handle, name, "object section " + name);
  return NewBytes(info.Env(), section.bytes, section.size);
}

// objectSetSection(object, section, bytes)
void SetSection(const Napi::CallbackInfo& info) {
  ObjectHandle& handle = OpenObjectArg(info, "object section");
  std::string name = NameArg(info, 1, "object section", "section");
  std::string operation = "object section " + name;
  Section section = FindSection(info, handle, name, operation);
  Bytes bytes = BytesArg(info, 2, operation, "section", section.size);
  memcpy(section.bytes, bytes.data, bytes.size);
}

struct Global {
  std::string section;
  uint32_t offset = 0, size = 0;
};

// Looks a variable up in the datasecs of the object's BTF; libbpf has filled in the offsets at open.
bool FindGlobal(const ObjectHandle& handle, const std::string& name, Global* found) {
  const struct btf* btf = bpf_object__btf(handle.object);
  if (btf == nullptr) return false;
  for (uint32_t id = 1; id < btf__type_cnt(btf); id++) {
    const struct btf_type* type = btf__type_by_id(btf, id);
    if (type == nullptr || !btf_is_datasec(type)) continue;
    const char* section = btf__name_by_offset(btf, type->name_off);
    if (section == nullptr || section[0] != '.') continue;
    const struct btf_var_secinfo* entry = btf_var_secinfos(type);
    for (int i = 0; i < btf_vlen(type); i++, entry++) {
      const struct btf_type* variable = btf__type_by_id(btf, entry->type);
      const char* variable_name = variable == nullptr ? nullptr : btf__name_by_offset(btf, variable->name_off);
      if (variable_name == nullptr || name != variable_name) continue;
      *found = {section, entry->offset, entry->size};
      return true;
    }
  }
  return false;
}

// objectSetGlobal(object, name, bytes)
void SetGlobal(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  ObjectHandle& handle = OpenObjectArg(info, "object global");
  std::string name = NameArg(info, 1, "object global", "name");
  std::string operation = "object global " + name;
  Global global;
  if (!FindGlobal(handle, name, &global)) ThrowArgument(env, operation, "the object has no such global variable");
  Bytes bytes = BytesArg(info, 2, operation, name.c_str(), global.size);
  Section section = FindSection(info, handle, global.section, operation);
  if (static_cast<size_t>(global.offset) + global.size > section.size)
    ThrowArgument(env, operation, "the BTF of the object places it outside of " + global.section);
  memcpy(section.bytes + global.offset, bytes.data, bytes.size);
}

// objectGlobals(object): [{name, section, offset, size}]
Napi::Value Globals(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  ObjectHandle& handle = OpenObjectArg(info, "object globals");
  Napi::Array list = Napi::Array::New(env);
  const struct btf* btf = bpf_object__btf(handle.object);
  uint32_t at = 0;
  for (uint32_t id = 1; btf != nullptr && id < btf__type_cnt(btf); id++) {
    const struct btf_type* type = btf__type_by_id(btf, id);
    if (type == nullptr || !btf_is_datasec(type)) continue;
    const char* section = btf__name_by_offset(btf, type->name_off);
    if (section == nullptr || section[0] != '.' || strncmp(section, ".maps", 5) == 0) continue;
    const struct btf_var_secinfo* entry = btf_var_secinfos(type);
    for (int i = 0; i < btf_vlen(type); i++, entry++) {
      const struct btf_type* variable = btf__type_by_id(btf, entry->type);
      const char* name = variable == nullptr ? nullptr : btf__name_by_offset(btf, variable->name_off);
      Napi::Object global = Napi::Object::New(env);
      global.Set("name", Napi::String::New(env, name == nullptr ? "" : name));
      global.Set("section", Napi::String::New(env, section));
      global.Set("offset", Napi::Number::New(env, entry->offset));
      global.Set("size", Napi::Number::New(env, entry->size));
      list.Set(at++, global);
    }
  }
  return list;
}

// objectSetMaxEntries(object, map, entries)
void SetMaxEntries(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  ObjectHandle& handle = OpenObjectArg(info, "object map size");
  std::string name = NameArg(info, 1, "object map size", "map");
  std::string operation = "object map size " + name;
  uint32_t entries = U32Arg(info, 2, operation, "maxEntries");
  LogScope log(env);
  int failed = bpf_map__set_max_entries(FindMap(env, handle, name, operation), entries);
  if (failed != 0) ThrowErrno(env, -failed, operation, log.warnings());
}

// objectReuseMap(object, name, map): libbpf would take any map; a wrong shape is refused here.
void ReuseMap(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  ObjectHandle& handle = OpenObjectArg(info, "object reuse map");
  std::string name = NameArg(info, 1, "object reuse map", "map");
  std::string operation = "object reuse map " + name;
  struct bpf_map* map = FindMap(env, handle, name, operation);
  MapHandle& given = MapArg(info, 2, operation);
  struct {
    const char* what;
    uint32_t wanted, given;
  } const shape[] = {{"type", bpf_map__type(map), given.type},
                     {"keySize", bpf_map__key_size(map), given.key_size},
                     {"valueSize", bpf_map__value_size(map), given.value_size},
                     {"flags", bpf_map__map_flags(map), given.flags}};
  for (const auto& part : shape) {
    if (part.wanted != part.given)
      ThrowArgument(env, operation,
                    std::string("the given map has ") + part.what + " " + std::to_string(part.given) +
                        ", the object wants " + std::to_string(part.wanted));
  }
  LogScope log(env);
  int failed = bpf_map__reuse_fd(map, given.fd);
  if (failed != 0) ThrowErrno(env, -failed, operation, log.warnings());
}

// objectSetAutocreate(object, map, wanted)
void SetAutocreate(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  ObjectHandle& handle = OpenObjectArg(info, "object autocreate");
  std::string name = NameArg(info, 1, "object autocreate", "map");
  std::string operation = "object autocreate " + name;
  bool wanted = BoolArg(info, 2, operation, "autocreate");
  int failed = bpf_map__set_autocreate(FindMap(env, handle, name, operation), wanted);
  if (failed != 0) ThrowErrno(env, -failed, operation);
}

// objectSetAutoload(object, program, wanted)
void SetAutoload(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  ObjectHandle& handle = OpenObjectArg(info, "object autoload");
  std::string name = NameArg(info, 1, "object autoload", "program");
  std::string operation = "object autoload " + name;
  bool wanted = BoolArg(info, 2, operation, "autoload");
  int failed = bpf_program__set_autoload(FindProgram(env, handle, name, operation), wanted);
  if (failed != 0) ThrowErrno(env, -failed, operation);
}

// objectSetLogLevel(object, level): bits 1 and 2 for more and yet more, 4 for statistics (linux/bpf_verifier.h)
void SetLogLevel(const Napi::CallbackInfo& info) {
  ObjectHandle& handle = OpenObjectArg(info, "object log level");
  handle.log_level = U32Arg(info, 1, "object log level", "level", 7);
}

}  // namespace

void InitObjectEdits(Napi::Env env, Napi::Object exports) {
  exports.Set("objectSection", Napi::Function::New(env, GetSection));
  exports.Set("objectSetSection", Napi::Function::New(env, SetSection));
  exports.Set("objectGlobals", Napi::Function::New(env, Globals));
  exports.Set("objectSetGlobal", Napi::Function::New(env, SetGlobal));
  exports.Set("objectSetMaxEntries", Napi::Function::New(env, SetMaxEntries));
  exports.Set("objectReuseMap", Napi::Function::New(env, ReuseMap));
  exports.Set("objectSetAutocreate", Napi::Function::New(env, SetAutocreate));
  exports.Set("objectSetAutoload", Napi::Function::New(env, SetAutoload));
  exports.Set("objectSetLogLevel", Napi::Function::New(env, SetLogLevel));
}

}  // namespace zbpf
