// Registers the functions of program.cc.
#pragma once

#include <napi.h>

namespace zbpf {

void InitPrograms(Napi::Env env, Napi::Object exports);

}  // namespace zbpf
