// Decoding of arguments. Everything JavaScript hands over is checked here, whatever TypeScript promised:
// a wrong type, size or range is an ERR_BPF_ARGUMENT that names what was expected and what was given.
#pragma once

#include <napi.h>

#include <optional>
#include <string>

#include "errors.h"

namespace zbpf {

struct Bytes {
  const uint8_t* data;
  size_t size;
};

constexpr size_t kPathBytesMax = 4095;  // PATH_MAX less its NUL
constexpr size_t kAnySize = static_cast<size_t>(-1);

// A Uint8Array (or Buffer) over a live, unshared ArrayBuffer. The bytes are valid until JavaScript runs again.
Bytes BytesArg(const Napi::CallbackInfo& info, size_t index, const std::string& operation, const char* what,
               size_t expected = kAnySize);
uint32_t U32Arg(const Napi::CallbackInfo& info, size_t index, const std::string& operation, const char* what,
                uint32_t max = UINT32_MAX);
bool BoolArg(const Napi::CallbackInfo& info, size_t index, const std::string& operation, const char* what);
// A non-empty string without NUL bytes.
std::string NameArg(const Napi::CallbackInfo& info, size_t index, const std::string& operation,
                    const char* what, size_t bytes_max = 255);
std::string PathArg(const Napi::CallbackInfo& info, size_t index, const std::string& operation);
bool Absent(const Napi::CallbackInfo& info, size_t index);

Napi::Uint8Array NewBytes(Napi::Env env, const void* data, size_t size);

}  // namespace zbpf
