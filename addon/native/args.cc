// See args.h.
#include "args.h"

#include <math.h>
#include <string.h>

namespace zbpf {

Bytes BytesArg(const Napi::CallbackInfo& info, size_t index, const std::string& operation, const char* what,
               size_t expected) {
  Napi::Env env = info.Env();
  napi_value value = info[index];
  bool is_typed = false;
  napi_is_typedarray(env, value, &is_typed);
  if (!is_typed) ThrowArgument(env, operation, std::string(what) + " must be a Uint8Array");
  napi_typedarray_type type;
  size_t size = 0, offset = 0;
  void* data = nullptr;
  napi_value buffer = nullptr;
  if (napi_get_typedarray_info(env, value, &type, &size, &data, &buffer, &offset) != napi_ok ||
      (type != napi_uint8_array && type != napi_uint8_clamped_array))
    ThrowArgument(env, operation, std::string(what) + " must be a Uint8Array");
  bool unshared = false, detached = false;
  napi_is_arraybuffer(env, buffer, &unshared);
  if (!unshared)
    ThrowArgument(env, operation, std::string(what) + " must not be backed by a SharedArrayBuffer");
  napi_is_detached_arraybuffer(env, buffer, &detached);
  if (detached) ThrowArgument(env, operation, std::string(what) + " is a view of a detached buffer");
  if (expected != kAnySize && size != expected)
    ThrowArgument(env, operation,
                  std::string(what) + " must have " + std::to_string(expected) + " bytes, not " +
                      std::to_string(size));
  static const uint8_t kNothing[8] = {};
  return {size == 0 || data == nullptr ? kNothing : static_cast<const uint8_t*>(data), data == nullptr ? 0 : size};
}

uint32_t U32Arg(const Napi::CallbackInfo& info, size_t index, const std::string& operation, const char* what,
                uint32_t max) {
  Napi::Value value = info[index];
  double number = value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : NAN;
  if (!(number >= 0 && number <= max && floor(number) == number))
    ThrowArgument(info.Env(), operation,
                  std::string(what) + " must be an integer from 0 to " + std::to_string(max));
  return static_cast<uint32_t>(number);
}

bool BoolArg(const Napi::CallbackInfo& info, size_t index, const std::string& operation, const char* what) {
  if (!info[index].IsBoolean())
    ThrowArgument(info.Env(), operation, std::string(what) + " must be a boolean");
  return info[index].As<Napi::Boolean>().Value();
}

std::string NameArg(const Napi::CallbackInfo& info, size_t index, const std::string& operation,
                    const char* what, size_t bytes_max) {
  Napi::Env env = info.Env();
  if (!info[index].IsString()) ThrowArgument(env, operation, std::string(what) + " must be a string");
  size_t size = 0;
  napi_get_value_string_utf8(env, info[index], nullptr, 0, &size);
  if (size == 0) ThrowArgument(env, operation, std::string(what) + " must not be empty");
  if (size > bytes_max)
    ThrowArgument(env, operation,
                  std::string(what) + " must have at most " + std::to_string(bytes_max) + " bytes, not " +
                      std::to_string(size));
  std::string text = info[index].As<Napi::String>().Utf8Value();
  if (text.find('\0') != std::string::npos)
    ThrowArgument(env, operation, std::string(what) + " must not contain a NUL byte");
  return text;
}

std::string PathArg(const Napi::CallbackInfo& info, size_t index, const std::string& operation) {
  return NameArg(info, index, operation, "path", kPathBytesMax);
}

bool Absent(const Napi::CallbackInfo& info, size_t index) {
  return info.Length() <= index || info[index].IsUndefined();
}

Napi::Uint8Array NewBytes(Napi::Env env, const void* data, size_t size) {
  Napi::Uint8Array bytes = Napi::Uint8Array::New(env, size);
  if (size != 0) memcpy(bytes.Data(), data, size);
  return bytes;
}

}  // namespace zbpf
