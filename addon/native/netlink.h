// Registers the functions of netlink.cc.
#pragma once

#include <napi.h>

namespace zbpf {

void InitNetlink(Napi::Env env, Napi::Object exports);

}  // namespace zbpf
