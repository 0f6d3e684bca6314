// The door of the native half: every environment (main thread, each worker) runs this once.
#include <napi.h>

#include "dns.h"
#include "errors.h"
#include "handle.h"
#include "link.h"
#include "log.h"
#include "map.h"
#include "netlink.h"
#include "object.h"
#include "probe.h"
#include "program.h"
#include "ringbuf.h"

namespace {

Napi::Object Init(Napi::Env env, Napi::Object exports) {
  env.SetInstanceData(new zbpf::EnvData());
  zbpf::InitErrors(env, exports);
  zbpf::InitLog(env, exports);
  zbpf::InitHandles(env, exports);
  zbpf::InitObjects(env, exports);
  zbpf::InitObjectEdits(env, exports);
  zbpf::InitMaps(env, exports);
  zbpf::InitMapBatches(env, exports);
  zbpf::InitPrograms(env, exports);
  zbpf::InitLinks(env, exports);
  zbpf::InitNetlink(env, exports);
  zbpf::InitRings(env, exports);
  zbpf::InitDns(env, exports);
  zbpf::InitProbes(env, exports);
  return exports;
}

}  // namespace

NODE_API_MODULE(NODE_GYP_MODULE_NAME, Init)
