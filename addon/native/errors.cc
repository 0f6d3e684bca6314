// Builds and throws the TypeScript error classes; see errors.h.
#include "errors.h"

#include <bpf/libbpf.h>
#include <errno.h>
#include <string.h>
#include <uv.h>

namespace zbpf {
namespace {

// The kernel's own "not supported by this object"; uapi has no name for it and libc no text.
constexpr int kEnotsupp = 524;

const char* LibbpfName(int error) {
  switch (error) {
    case LIBBPF_ERRNO__LIBELF: return "ERR_LIBBPF_LIBELF";
    case LIBBPF_ERRNO__FORMAT: return "ERR_LIBBPF_FORMAT";
    case LIBBPF_ERRNO__KVERSION: return "ERR_LIBBPF_KVERSION";
    case LIBBPF_ERRNO__ENDIAN: return "ERR_LIBBPF_ENDIAN";
    case LIBBPF_ERRNO__INTERNAL: return "ERR_LIBBPF_INTERNAL";
    case LIBBPF_ERRNO__RELOC: return "ERR_LIBBPF_RELOC";
    case LIBBPF_ERRNO__LOAD: return "ERR_LIBBPF_LOAD";
    case LIBBPF_ERRNO__VERIFY: return "ERR_LIBBPF_VERIFY";
    case LIBBPF_ERRNO__PROG2BIG: return "ERR_LIBBPF_PROG2BIG";
    case LIBBPF_ERRNO__KVER: return "ERR_LIBBPF_KVER";
    case LIBBPF_ERRNO__PROGTYPE: return "ERR_LIBBPF_PROGTYPE";
    default: return "ERR_LIBBPF_OTHER";
  }
}

Napi::Object Extras(Napi::Env env, int error, const std::string& detail) {
  Napi::Object extras = Napi::Object::New(env);
  if (error != 0) extras.Set("errno", Napi::Number::New(env, error));
  if (!detail.empty()) extras.Set("detail", Napi::String::New(env, detail));
  return extras;
}

[[noreturn]] void ThrowBpfError(Napi::Env env, const std::string& code, const std::string& operation,
                                const std::string& why, Napi::Object extras) {
  EnvData& data = EnvData::Of(env);
  if (data.bpf_error.IsEmpty()) throw Napi::Error::New(env, operation + ": " + why);
  Napi::Object error = data.bpf_error.New({Napi::String::New(env, code), Napi::String::New(env, operation),
                                           Napi::String::New(env, why), extras});
  throw Napi::Error(env, error);
}

// useErrorClasses(BpfError, VerifierError)
void UseErrorClasses(const Napi::CallbackInfo& info) {
  if (!info[0].IsFunction() || !info[1].IsFunction())
    throw Napi::TypeError::New(info.Env(), "useErrorClasses: two classes expected");
  EnvData& data = EnvData::Of(info.Env());
  data.bpf_error = Napi::Persistent(info[0].As<Napi::Function>());
  data.verifier_error = Napi::Persistent(info[1].As<Napi::Function>());
}

}  // namespace

std::string ErrnoName(int error) {
  if (error == kEnotsupp) return "ENOTSUPP";
  if (error == EOPNOTSUPP) return "EOPNOTSUPP";  // libuv says ENOTSUP
  if (error >= __LIBBPF_ERRNO__START) return LibbpfName(error);
  char name[64];
  uv_err_name_r(-error, name, sizeof(name));
  if (name[0] == 'E') return name;
#if defined(__GLIBC__) && __GLIBC_PREREQ(2, 32)
  if (const char* libc_name = strerrorname_np(error)) return libc_name;
#endif
  return "E" + std::to_string(error);
}

std::string ErrnoText(int error) {
  if (error == kEnotsupp) return "Operation not supported by this kind of object";
  char text[128] = "";
  libbpf_strerror(error, text, sizeof(text));
  return text;
}

void ThrowArgument(Napi::Env env, const std::string& operation, const std::string& why) {
  ThrowBpfError(env, "ERR_BPF_ARGUMENT", operation, why, Extras(env, 0, ""));
}

void ThrowClosed(Napi::Env env, const std::string& operation) {
  ThrowBpfError(env, "ERR_BPF_CLOSED", operation, "the handle is closed", Extras(env, 0, ""));
}

void ThrowState(Napi::Env env, const std::string& operation, const std::string& why) {
  ThrowBpfError(env, "ERR_BPF_STATE", operation, why, Extras(env, 0, ""));
}

void ThrowErrno(Napi::Env env, int error, const std::string& operation, const std::string& detail) {
  ThrowBpfError(env, ErrnoName(error), operation, ErrnoText(error), Extras(env, error, detail));
}

void ThrowBatch(Napi::Env env, int error, const std::string& operation, uint32_t applied) {
  Napi::Object extras = Extras(env, error, "");
  extras.Set("applied", Napi::Number::New(env, applied));
  ThrowBpfError(env, ErrnoName(error), operation,
                ErrnoText(error) + " after " + std::to_string(applied) + " entries", extras);
}

void ThrowVerifier(Napi::Env env, int error, const std::string& operation, const std::string& program,
                   const std::string& log) {
  EnvData& data = EnvData::Of(env);
  if (data.verifier_error.IsEmpty()) throw Napi::Error::New(env, operation + ": rejected by the verifier");
  Napi::Object thrown = data.verifier_error.New(
      {Napi::String::New(env, ErrnoName(error)), Napi::String::New(env, operation),
       Napi::String::New(env, program), Napi::String::New(env, log), Extras(env, error, "")});
  throw Napi::Error(env, thrown);
}

void InitErrors(Napi::Env env, Napi::Object exports) {
  exports.Set("useErrorClasses", Napi::Function::New(env, UseErrorClasses));
}

}  // namespace zbpf
