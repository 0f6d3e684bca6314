// Objects: open, list, load, hand out maps and programs. See object.h.
#include "object.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include <memory>

#include "log.h"

namespace zbpf {
namespace {

// The verifier of kernels before 5.2 takes no more (UINT_MAX >> 8).
constexpr size_t kVerifierLogBytes = UINT32_MAX >> 8;
constexpr size_t kObjectBytesMax = 64u << 20;

// objectOpen(bytes, name, pinRoot | undefined, btfPath | undefined)
Napi::Value Open(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  std::string name = NameArg(info, 1, "object open", "name", 63);
  std::string operation = "object open " + name;
  Bytes bytes = BytesArg(info, 0, operation, "object");
  if (bytes.size == 0 || bytes.size > kObjectBytesMax)
    ThrowArgument(env, operation, "an object has 1 to 67108864 bytes, not " + std::to_string(bytes.size));
  std::string pin_root = Absent(info, 2) ? "" : PathArg(info, 2, operation);
  std::string btf = Absent(info, 3) ? "" : PathArg(info, 3, operation);
  auto handle = std::make_unique<ObjectHandle>();
  handle->name = name;
  handle->elf.assign(bytes.data, bytes.data + bytes.size);
  LIBBPF_OPTS(bpf_object_open_opts, opts);
  opts.object_name = name.c_str();
  if (!pin_root.empty()) opts.pin_root_path = pin_root.c_str();
  if (!btf.empty()) opts.btf_custom_path = btf.c_str();
  LogScope log(env);
  handle->object = bpf_object__open_mem(handle->elf.data(), handle->elf.size(), &opts);
  if (handle->object == nullptr) ThrowErrno(env, errno, operation, log.warnings());
  return WrapHandle(env, std::move(handle));
}

// objectMaps(object): [{name, type, keySize, valueSize, maxEntries, flags}]
Napi::Value Maps(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  auto& handle = *static_cast<ObjectHandle*>(HandleArg(info, 0, Kind::kObject, "object maps"));
  Napi::Array list = Napi::Array::New(env);
  struct bpf_map* map;
  uint32_t at = 0;
  bpf_object__for_each_map(map, handle.object) {
    Napi::Object spec = Napi::Object::New(env);
    spec.Set("name", Napi::String::New(env, bpf_map__name(map)));
    spec.Set("type", Napi::Number::New(env, bpf_map__type(map)));
    spec.Set("keySize", Napi::Number::New(env, bpf_map__key_size(map)));
    spec.Set("valueSize", Napi::Number::New(env, bpf_map__value_size(map)));
    spec.Set("maxEntries", Napi::Number::New(env, bpf_map__max_entries(map)));
    spec.Set("flags", Napi::Number::New(env, bpf_map__map_flags(map)));
    list.Set(at++, spec);
  }
  return list;
}

// objectPrograms(object): [{name, section, type, attachType, autoload}]
Napi::Value Programs(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  auto& handle = *static_cast<ObjectHandle*>(HandleArg(info, 0, Kind::kObject, "object programs"));
  Napi::Array list = Napi::Array::New(env);
  struct bpf_program* program;
  uint32_t at = 0;
  bpf_object__for_each_program(program, handle.object) {
    Napi::Object spec = Napi::Object::New(env);
    spec.Set("name", Napi::String::New(env, bpf_program__name(program)));
    spec.Set("section", Napi::String::New(env, bpf_program__section_name(program)));
    spec.Set("type", Napi::Number::New(env, bpf_program__type(program)));
    spec.Set("attachType", Napi::Number::New(env, bpf_program__expected_attach_type(program)));
    spec.Set("autoload", Napi::Boolean::New(env, bpf_program__autoload(program)));
    list.Set(at++, spec);
  }
  return list;
}

void PrepareLogs(ObjectHandle& handle) {
  struct bpf_program* program;
  handle.logs.clear();
  bpf_object__for_each_program(program, handle.object) {
    if (!bpf_program__autoload(program)) continue;
    handle.logs.push_back(std::make_unique<LogBuffer>(program, bpf_program__name(program)));
    bpf_program__set_log_level(program, handle.log_level);
  }
}

// Which program was rejected? Programs load one after the other and the first rejection ends it, so it is
// the last with a log. With a log level, those before it have logs as well, and one refused without a log
// (policy, memory) is told by libbpf's warning alone.
const LogBuffer* FindRejected(const ObjectHandle& handle, const std::string& warnings) {
  const LogBuffer* last = nullptr;
  for (const auto& log : handle.logs) {
    std::string text = log->text();
    if (warnings.find("prog '" + log->name() + "': BPF program load failed") != std::string::npos)
      return text.empty() ? nullptr : log.get();
    if (!text.empty()) last = log.get();
  }
  return last;
}

// objectLoad(object). After a failure the object is closed: libbpf cannot load it a second time.
void Load(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  ObjectHandle& handle = OpenObjectArg(info, "object load");
  std::string operation = "object load " + handle.name;
  PrepareLogs(handle);
  LogScope log(env);
  int failed = bpf_object__load(handle.object);
  handle.loaded = failed == 0;
  if (failed != 0) {
    int error = -failed;
    const LogBuffer* rejected = FindRejected(handle, log.warnings());
    std::string program = rejected == nullptr ? "" : rejected->name();
    std::string text = rejected == nullptr ? "" : rejected->text();
    handle.Close();
    if (!text.empty()) ThrowVerifier(env, error, operation, program, text);
    ThrowErrno(env, error, operation, log.warnings());
  }
  std::vector<uint8_t>().swap(handle.elf);
}

// objectMap(object, name): a handle of its own
Napi::Value Map(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  ObjectHandle& handle = LoadedObjectArg(info, "object map");
  std::string name = NameArg(info, 1, "object map", "name");
  std::string operation = "object map " + name;
  struct bpf_map* map = FindMap(env, handle, name, operation);
  int fd = bpf_map__fd(map);
  if (fd < 0) ThrowState(env, operation, "this map was not created");
  FdGuard own(DupFd(fd));
  if (own.get() < 0) ThrowErrno(env, errno, operation);
  return WrapMapFd(env, own, operation);
}

// objectProgram(object, name): a handle of its own
Napi::Value Program(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  ObjectHandle& handle = LoadedObjectArg(info, "object program");
  std::string name = NameArg(info, 1, "object program", "name");
  std::string operation = "object program " + name;
  struct bpf_program* program = FindProgram(env, handle, name, operation);
  int fd = bpf_program__fd(program);
  if (fd < 0) ThrowState(env, operation, "this program was not loaded (autoload is off)");
  FdGuard own(DupFd(fd));
  if (own.get() < 0) ThrowErrno(env, errno, operation);
  // Not through WrapProgramFd: the kernel cuts names at 15 bytes, the object file knows the whole.
  return WrapFd(env, Kind::kProgram, own, name);
}

// objectVerifierLog(object, program): "" unless a log level was set
Napi::Value VerifierLog(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  ObjectHandle& handle = LoadedObjectArg(info, "object log");
  std::string name = NameArg(info, 1, "object log", "program");
  FindProgram(env, handle, name, "object log " + name);
  for (const auto& log : handle.logs)
    if (log->name() == name) return Napi::String::New(env, log->text());
  return Napi::String::New(env, "");
}

}  // namespace

LogBuffer::LogBuffer(struct bpf_program* program, std::string name) : name_(std::move(name)) {
  void* bytes = mmap(nullptr, kVerifierLogBytes, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  bytes_ = bytes == MAP_FAILED ? nullptr : static_cast<char*>(bytes);
  // Without room, libbpf falls back to a buffer of its own and prints it.
  if (bytes_ != nullptr) bpf_program__set_log_buf(program, bytes_, kVerifierLogBytes);
}

LogBuffer::~LogBuffer() {
  if (bytes_ != nullptr) munmap(bytes_, kVerifierLogBytes);
}

std::string LogBuffer::text() const {
  return bytes_ == nullptr ? "" : std::string(bytes_, strnlen(bytes_, kVerifierLogBytes));
}

void ObjectHandle::Close() noexcept {
  if (object == nullptr) return;
  bpf_object__close(object);
  object = nullptr;
  logs.clear();
  elf.clear();
}

ObjectHandle& OpenObjectArg(const Napi::CallbackInfo& info, const std::string& operation) {
  auto& handle = *static_cast<ObjectHandle*>(HandleArg(info, 0, Kind::kObject, operation));
  if (handle.loaded) ThrowState(info.Env(), operation, "the object is loaded already");
  return handle;
}

ObjectHandle& LoadedObjectArg(const Napi::CallbackInfo& info, const std::string& operation) {
  auto& handle = *static_cast<ObjectHandle*>(HandleArg(info, 0, Kind::kObject, operation));
  if (!handle.loaded) ThrowState(info.Env(), operation, "the object is not loaded yet");
  return handle;
}

struct bpf_map* FindMap(Napi::Env env, const ObjectHandle& object, const std::string& name,
                        const std::string& operation) {
  struct bpf_map* map = bpf_object__find_map_by_name(object.object, name.c_str());
  if (map == nullptr) ThrowArgument(env, operation, "the object has no map " + name);
  return map;
}

struct bpf_program* FindProgram(Napi::Env env, const ObjectHandle& object, const std::string& name,
                                const std::string& operation) {
  struct bpf_program* program = bpf_object__find_program_by_name(object.object, name.c_str());
  if (program == nullptr) ThrowArgument(env, operation, "the object has no program " + name);
  return program;
}

void InitObjects(Napi::Env env, Napi::Object exports) {
  exports.Set("objectOpen", Napi::Function::New(env, Open));
  exports.Set("objectMaps", Napi::Function::New(env, Maps));
  exports.Set("objectPrograms", Napi::Function::New(env, Programs));
  exports.Set("objectLoad", Napi::Function::New(env, Load));
  exports.Set("objectMap", Napi::Function::New(env, Map));
  exports.Set("objectProgram", Napi::Function::New(env, Program));
  exports.Set("objectVerifierLog", Napi::Function::New(env, VerifierLog));
}

}  // namespace zbpf
