// What this kernel can do, asked by trying (libbpf's probes), and the names libbpf and uapi give to numbers.
#include "probe.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <string.h>

#include <vector>

#include "handle.h"
#include "log.h"

namespace zbpf {
namespace {

#define ZBPF_HELPER_NAME(name) #name
const char* const kHelpers[] = {__BPF_FUNC_MAPPER(ZBPF_HELPER_NAME)};
#undef ZBPF_HELPER_NAME

// 1 yes, 0 no, negative: libbpf has no way to find out.
Napi::Value Answer(Napi::Env env, int result, const std::string& operation, const LogScope& log) {
  if (result >= 0) return Napi::Boolean::New(env, result > 0);
  ThrowErrno(env, -result, operation, log.warnings());
}

// probeProgramType(type)
Napi::Value ProgramType(const Napi::CallbackInfo& info) {
  uint32_t type = U32Arg(info, 0, "probe program type", "type");
  LogScope log(info.Env());
  return Answer(info.Env(), libbpf_probe_bpf_prog_type(static_cast<bpf_prog_type>(type), nullptr),
                "probe program type " + std::to_string(type), log);
}

// probeMapType(type)
Napi::Value MapType(const Napi::CallbackInfo& info) {
  uint32_t type = U32Arg(info, 0, "probe map type", "type");
  LogScope log(info.Env());
  return Answer(info.Env(), libbpf_probe_bpf_map_type(static_cast<bpf_map_type>(type), nullptr),
                "probe map type " + std::to_string(type), log);
}

// The least a program of this type needs to reach the verifier.
void Expect(uint32_t program_type, struct bpf_prog_load_opts* opts) {
  switch (program_type) {
    case BPF_PROG_TYPE_CGROUP_SOCK_ADDR: opts->expected_attach_type = BPF_CGROUP_INET4_CONNECT; break;
    case BPF_PROG_TYPE_CGROUP_SOCKOPT: opts->expected_attach_type = BPF_CGROUP_GETSOCKOPT; break;
    case BPF_PROG_TYPE_SK_LOOKUP: opts->expected_attach_type = BPF_SK_LOOKUP; break;
    case BPF_PROG_TYPE_SYSCALL: opts->prog_flags = BPF_F_SLEEPABLE; break;
    default: break;
  }
}

// probeHelper(programType, helperId): loads a program that does nothing but call it. The verifier either does
// not know the helper there, or complains of the arguments. Not libbpf_probe_bpf_helper(): up to libbpf 1.4
// that does not know how kernels ≥ 6.8 word the refusal, and says yes to everything.
Napi::Value Helper(const Napi::CallbackInfo& info) {
  uint32_t type = U32Arg(info, 0, "probe helper", "program type");
  uint32_t id = U32Arg(info, 1, "probe helper", "helper");
  Napi::Env env = info.Env();
  std::string operation = "probe helper " + std::to_string(id);
  if (type == BPF_PROG_TYPE_TRACING || type == BPF_PROG_TYPE_EXT || type == BPF_PROG_TYPE_LSM ||
      type == BPF_PROG_TYPE_STRUCT_OPS)
    ThrowErrno(env, EOPNOTSUPP, operation);  // needs a target in the kernel's BTF
  if (id > INT32_MAX) return Napi::Boolean::New(env, false);
  struct bpf_insn code[2] = {};
  code[0].code = BPF_JMP | BPF_CALL;
  code[0].imm = static_cast<int32_t>(id);
  code[1].code = BPF_JMP | BPF_EXIT;
  std::vector<char> verdict(64 * 1024);
  LIBBPF_OPTS(bpf_prog_load_opts, opts);
  Expect(type, &opts);
  opts.log_level = 1;
  opts.log_buf = verdict.data();
  opts.log_size = static_cast<uint32_t>(verdict.size());
  LogScope log(env);
  FdGuard fd(bpf_prog_load(static_cast<bpf_prog_type>(type), nullptr, "GPL", code, 2, &opts));
  int error = fd.get() < 0 ? errno : 0;
  if (error != 0 && verdict[0] == '\0') {
    if (error == EINVAL) return Napi::Boolean::New(env, false);  // not even the program type
    ThrowErrno(env, error, operation, log.warnings());
  }
  for (const char* refusal : {"invalid func ", "unknown func ", "program of this type cannot use helper "})
    if (strstr(verdict.data(), refusal) != nullptr) return Napi::Boolean::New(env, false);
  return Napi::Boolean::New(env, true);
}

// helperNames(): the name of helper i at [i], without its bpf_
Napi::Value HelperNames(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  Napi::Array names = Napi::Array::New(env);
  for (uint32_t i = 0; i < sizeof(kHelpers) / sizeof(kHelpers[0]); i++)
    names.Set(i, Napi::String::New(env, kHelpers[i]));
  return names;
}

template <typename Type>
Napi::Array Names(Napi::Env env, const char* (*name_of)(Type)) {
  Napi::Array names = Napi::Array::New(env);
  for (uint32_t i = 0; i < 256; i++) {
    const char* name = name_of(static_cast<Type>(i));
    if (name == nullptr) break;
    names.Set(i, Napi::String::New(env, name));
  }
  return names;
}

// typeNames(): libbpf's names, against which constants.ts is tested
Napi::Value TypeNames(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  Napi::Object out = Napi::Object::New(env);
  out.Set("map", Names<bpf_map_type>(env, libbpf_bpf_map_type_str));
  out.Set("program", Names<bpf_prog_type>(env, libbpf_bpf_prog_type_str));
  out.Set("attach", Names<bpf_attach_type>(env, libbpf_bpf_attach_type_str));
  out.Set("link", Names<bpf_link_type>(env, libbpf_bpf_link_type_str));
  return out;
}

// possibleCpus()
Napi::Value PossibleCpus(const Napi::CallbackInfo& info) {
  LogScope log(info.Env());
  int cpus = libbpf_num_possible_cpus();
  if (cpus < 0) ThrowErrno(info.Env(), -cpus, "possible cpus", log.warnings());
  return Napi::Number::New(info.Env(), cpus);
}

// libbpfVersion(): "1.1"
Napi::Value LibbpfVersion(const Napi::CallbackInfo& info) {
  return Napi::String::New(info.Env(),
                           std::to_string(libbpf_major_version()) + "." + std::to_string(libbpf_minor_version()));
}

}  // namespace

void InitProbes(Napi::Env env, Napi::Object exports) {
  exports.Set("probeProgramType", Napi::Function::New(env, ProgramType));
  exports.Set("probeMapType", Napi::Function::New(env, MapType));
  exports.Set("probeHelper", Napi::Function::New(env, Helper));
  exports.Set("helperNames", Napi::Function::New(env, HelperNames));
  exports.Set("typeNames", Napi::Function::New(env, TypeNames));
  exports.Set("possibleCpus", Napi::Function::New(env, PossibleCpus));
  exports.Set("libbpfVersion", Napi::Function::New(env, LibbpfVersion));
}

}  // namespace zbpf
