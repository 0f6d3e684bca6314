// Registers the functions of dns.cc.
#pragma once

#include <napi.h>

namespace zbpf {

void InitDns(Napi::Env env, Napi::Object exports);

}  // namespace zbpf
