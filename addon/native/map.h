// Registers the functions of map.cc and map_batch.cc.
#pragma once

#include <napi.h>

namespace zbpf {

void InitMaps(Napi::Env env, Napi::Object exports);
void InitMapBatches(Napi::Env env, Napi::Object exports);

}  // namespace zbpf
