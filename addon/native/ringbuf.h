// Registers the functions of ringbuf.cc.
#pragma once

#include <napi.h>

namespace zbpf {

void InitRings(Napi::Env env, Napi::Object exports);

}  // namespace zbpf
