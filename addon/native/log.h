// libbpf's log. Its print callback is one per process, so it is set once and finds its way by thread: a
// LogScope on the stack of the native function that calls libbpf receives what libbpf says meanwhile.
// JavaScript never runs inside that call; the lines wait in EnvData until TypeScript fetches them.
#pragma once

#include <napi.h>

#include <string>

#include "errors.h"

namespace zbpf {

class LogScope {
 public:
  explicit LogScope(Napi::Env env);
  ~LogScope();
  LogScope(const LogScope&) = delete;
  LogScope& operator=(const LogScope&) = delete;

  // The warnings since this scope began: the `detail` of an error.
  const std::string& warnings() const { return warnings_; }
  void Take(int level, const char* text, size_t size);
  int wanted_level() const { return data_.log_level; }

 private:
  EnvData& data_;
  LogScope* outer_;
  std::string warnings_;
};

void InitLog(Napi::Env env, Napi::Object exports);

}  // namespace zbpf
