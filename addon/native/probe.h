// Registers the functions of probe.cc.
#pragma once

#include <napi.h>

namespace zbpf {

void InitProbes(Napi::Env env, Napi::Object exports);

}  // namespace zbpf
