// A BPF object file in libbpf: open → edited (object_edit.cc) → loaded. The phases are types in TypeScript
// (object.ts) and a state here.
#pragma once

#include <bpf/libbpf.h>
#include <napi.h>

#include <string>
#include <vector>

#include "handle.h"

namespace zbpf {

// Room for one program's verifier log: reserved address space, of which only what is written is memory.
class LogBuffer {
 public:
  LogBuffer(struct bpf_program* program, std::string name);
  ~LogBuffer();
  LogBuffer(const LogBuffer&) = delete;
  LogBuffer& operator=(const LogBuffer&) = delete;
  std::string text() const;
  const std::string& name() const { return name_; }

 private:
  std::string name_;
  char* bytes_;
};

struct ObjectHandle : Handle {
  ObjectHandle() : Handle(Kind::kObject) {}
  ~ObjectHandle() override { ObjectHandle::Close(); }
  void Close() noexcept override;
  bool closed() const noexcept override { return object == nullptr; }

  struct bpf_object* object = nullptr;
  bool loaded = false;
  uint32_t log_level = 0;
  std::string name;
  // libbpf parses the ELF in place until it is loaded.
  std::vector<uint8_t> elf;
  std::vector<std::unique_ptr<LogBuffer>> logs;
};

// The object in the phase that the operation needs, or ERR_BPF_STATE.
ObjectHandle& OpenObjectArg(const Napi::CallbackInfo& info, const std::string& operation);
ObjectHandle& LoadedObjectArg(const Napi::CallbackInfo& info, const std::string& operation);
struct bpf_map* FindMap(Napi::Env env, const ObjectHandle& object, const std::string& name,
                        const std::string& operation);
struct bpf_program* FindProgram(Napi::Env env, const ObjectHandle& object, const std::string& name,
                                const std::string& operation);

void InitObjects(Napi::Env env, Napi::Object exports);
void InitObjectEdits(Napi::Env env, Napi::Object exports);

}  // namespace zbpf
