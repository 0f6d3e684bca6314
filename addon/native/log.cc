// See log.h.
#include "log.h"

#include <bpf/libbpf.h>
#include <stdio.h>
#include <stdlib.h>

#include <mutex>

#include "args.h"

namespace zbpf {
namespace {

constexpr size_t kLinesMax = 10000;
constexpr size_t kWarningBytesMax = 64 * 1024;

// A plain pointer: no destructor may be left to run in a thread that outlives its environment.
thread_local LogScope* current = nullptr;

// Called from C frames of libbpf: must not throw.
int Print(enum libbpf_print_level level, const char* format, va_list args) {
  LogScope* scope = current;
  if (scope == nullptr) return 0;
  if (level != LIBBPF_WARN && static_cast<int>(level) > scope->wanted_level()) return 0;
  char* text = nullptr;
  int size = vasprintf(&text, format, args);
  if (size < 0) return 0;
  try {
    scope->Take(level, text, static_cast<size_t>(size));
  } catch (...) {
  }
  free(text);
  return 0;
}

// setLogLevel(level): -1 nothing, 0 warnings, 1 information, 2 everything; passed as level + 1.
void SetLogLevel(const Napi::CallbackInfo& info) {
  EnvData& data = EnvData::Of(info.Env());
  data.log_level = static_cast<int>(U32Arg(info, 0, "setLogLevel", "level", 3)) - 1;
  if (data.log_level < 0) data.log_lines.clear();
}

// takeLog(): [level, text, level, text, …] or undefined when there is nothing.
Napi::Value TakeLog(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  EnvData& data = EnvData::Of(env);
  if (data.log_lines.empty()) return env.Undefined();
  std::vector<LogLine> lines;
  lines.swap(data.log_lines);
  if (data.log_dropped != 0) {
    lines.push_back({LIBBPF_WARN, "log: " + std::to_string(data.log_dropped) + " more lines dropped"});
    data.log_dropped = 0;
  }
  Napi::Array flat = Napi::Array::New(env, lines.size() * 2);
  uint32_t at = 0;
  for (const LogLine& line : lines) {
    flat.Set(at++, Napi::Number::New(env, line.level));
    flat.Set(at++, Napi::String::New(env, line.text));
  }
  return flat;
}

}  // namespace

LogScope::LogScope(Napi::Env env) : data_(EnvData::Of(env)), outer_(current) { current = this; }

LogScope::~LogScope() { current = outer_; }

void LogScope::Take(int level, const char* text, size_t size) {
  while (size > 0 && text[size - 1] == '\n') size--;
  if (level == LIBBPF_WARN && warnings_.size() + size < kWarningBytesMax) {
    if (!warnings_.empty()) warnings_ += '\n';
    warnings_.append(text, size);
  }
  if (level > data_.log_level) return;
  if (data_.log_lines.size() >= kLinesMax)
    data_.log_dropped++;
  else
    data_.log_lines.push_back({level, std::string(text, size)});
}

void InitLog(Napi::Env env, Napi::Object exports) {
  static std::once_flag once;
  std::call_once(once, [] { libbpf_set_print(Print); });
  exports.Set("setLogLevel", Napi::Function::New(env, SetLogLevel));
  exports.Set("takeLog", Napi::Function::New(env, TakeLog));
}

}  // namespace zbpf
