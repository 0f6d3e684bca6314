// What every native function throws, and the data that belongs to one environment (main thread or worker).
//
// The error classes live in TypeScript (errors.ts) and are handed over once per environment, so that
// `instanceof` holds in each worker. Nothing here is shared between environments.
#pragma once

#include <napi.h>

#include <string>
#include <vector>

namespace zbpf {

struct LogLine {
  int level;
  std::string text;
};

struct EnvData {
  Napi::FunctionReference bpf_error;
  Napi::FunctionReference verifier_error;
  // Lines of libbpf's log that wait for JavaScript to fetch them (see log.h).
  int log_level = -1;
  std::vector<LogLine> log_lines;
  size_t log_dropped = 0;

  static EnvData& Of(Napi::Env env) { return *env.GetInstanceData<EnvData>(); }
};

// Our own refusals: wrong argument, closed handle, wrong phase.
[[noreturn]] void ThrowArgument(Napi::Env env, const std::string& operation, const std::string& why);
[[noreturn]] void ThrowClosed(Napi::Env env, const std::string& operation);
[[noreturn]] void ThrowState(Napi::Env env, const std::string& operation, const std::string& why);

// A refusal of the kernel or of libbpf; `error` is a positive errno. `detail` is what libbpf said about it.
[[noreturn]] void ThrowErrno(Napi::Env env, int error, const std::string& operation,
                             const std::string& detail = "");
// The same for a batch of which `applied` entries went through.
[[noreturn]] void ThrowBatch(Napi::Env env, int error, const std::string& operation, uint32_t applied);
[[noreturn]] void ThrowVerifier(Napi::Env env, int error, const std::string& operation,
                                const std::string& program, const std::string& log);

std::string ErrnoName(int error);
std::string ErrnoText(int error);

void InitErrors(Napi::Env env, Napi::Object exports);

}  // namespace zbpf
