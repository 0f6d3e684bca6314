// Registers the functions of link.cc.
#pragma once

#include <napi.h>

namespace zbpf {

void InitLinks(Napi::Env env, Napi::Object exports);

}  // namespace zbpf
