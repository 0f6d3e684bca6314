// Programs by descriptor: open, info, test run; and run-time statistics.
#include "program.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <string.h>
#include <time.h>

#include <vector>

#include "handle.h"

namespace zbpf {
namespace {

constexpr uint32_t kRepeatMax = 1000000;
constexpr uint32_t kTestBytesMax = 1 << 20;

int ProgramInfo(int fd, struct bpf_prog_info* raw, std::vector<uint32_t>* map_ids) {
  // Two system calls: the first tells how many map ids there are. A program's set of maps may still grow
  // in between (bpf_prog_bind_map); then the surplus is left out.
  uint32_t size = sizeof(*raw);
  memset(raw, 0, sizeof(*raw));
  if (bpf_obj_get_info_by_fd(fd, raw, &size) < 0) return errno;
  if (map_ids == nullptr || raw->nr_map_ids == 0) return 0;
  map_ids->resize(raw->nr_map_ids);
  struct bpf_prog_info second;
  memset(&second, 0, sizeof(second));
  second.nr_map_ids = static_cast<uint32_t>(map_ids->size());
  second.map_ids = reinterpret_cast<uint64_t>(map_ids->data());
  size = sizeof(second);
  if (bpf_obj_get_info_by_fd(fd, &second, &size) < 0) return errno;
  if (second.nr_map_ids < map_ids->size()) map_ids->resize(second.nr_map_ids);
  return 0;
}

// load_time counts from boot; JavaScript wants the wall clock.
double LoadedAtMs(uint64_t load_time_ns) {
  struct timespec wall, boot;
  clock_gettime(CLOCK_REALTIME, &wall);
  clock_gettime(CLOCK_BOOTTIME, &boot);
  double age_ms = (static_cast<double>(boot.tv_sec) * 1e3 + static_cast<double>(boot.tv_nsec) / 1e6) -
                  static_cast<double>(load_time_ns) / 1e6;
  return static_cast<double>(wall.tv_sec) * 1e3 + static_cast<double>(wall.tv_nsec) / 1e6 - age_ms;
}

// programOpenPinned(path)
Napi::Value OpenPinned(const Napi::CallbackInfo& info) {
  std::string path = PathArg(info, 0, "program open");
  std::string operation = "program open " + path;
  FdGuard fd(OpenPinnedFd(info.Env(), path, Kind::kProgram, operation));
  return WrapProgramFd(info.Env(), fd, operation);
}

// programOpenById(id)
Napi::Value OpenById(const Napi::CallbackInfo& info) {
  uint32_t id = U32Arg(info, 0, "program open", "id");
  std::string operation = "program open id " + std::to_string(id);
  FdGuard fd(bpf_prog_get_fd_by_id(id));
  if (fd.get() < 0) ThrowErrno(info.Env(), errno, operation);
  return WrapProgramFd(info.Env(), fd, operation);
}

// programInfo(program)
Napi::Value Info(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  FdHandle& program = FdArg(info, 0, Kind::kProgram, "program info");
  struct bpf_prog_info raw;
  std::vector<uint32_t> map_ids;
  int error = ProgramInfo(program.fd, &raw, &map_ids);
  if (error != 0) ThrowErrno(env, error, "program info " + program.name);
  char tag[2 * BPF_TAG_SIZE + 1];
  for (size_t i = 0; i < BPF_TAG_SIZE; i++) snprintf(tag + 2 * i, 3, "%02x", raw.tag[i]);
  Napi::Array maps = Napi::Array::New(env, map_ids.size());
  for (uint32_t i = 0; i < map_ids.size(); i++) maps.Set(i, Napi::Number::New(env, map_ids[i]));
  Napi::Object out = Napi::Object::New(env);
  out.Set("id", Napi::Number::New(env, raw.id));
  out.Set("name", Napi::String::New(env, program.name));
  out.Set("type", Napi::Number::New(env, raw.type));
  out.Set("tag", Napi::String::New(env, tag));
  out.Set("runCount", Napi::Number::New(env, static_cast<double>(raw.run_cnt)));
  out.Set("runTimeNs", Napi::Number::New(env, static_cast<double>(raw.run_time_ns)));
  out.Set("mapIds", maps);
  out.Set("loadedAtMs", Napi::Number::New(env, LoadedAtMs(raw.load_time)));
  out.Set("instructionsVerified", Napi::Number::New(env, raw.verified_insns));
  return out;
}

// programTestRun(program, dataIn | undefined, dataOutSize, ctxIn | undefined, ctxOutSize, repeat)
Napi::Value TestRun(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  FdHandle& program = FdArg(info, 0, Kind::kProgram, "program test run");
  std::string operation = "program test run " + program.name;
  LIBBPF_OPTS(bpf_test_run_opts, opts);
  std::vector<uint8_t> data_out(U32Arg(info, 2, operation, "dataOutSize", kTestBytesMax));
  std::vector<uint8_t> ctx_out(U32Arg(info, 4, operation, "ctxSize", kTestBytesMax));
  opts.repeat = static_cast<int>(U32Arg(info, 5, operation, "repeat", kRepeatMax));
  if (!Absent(info, 1)) {
    Bytes data = BytesArg(info, 1, operation, "dataIn");
    if (data.size > kTestBytesMax) ThrowArgument(env, operation, "dataIn must have at most 1048576 bytes");
    opts.data_in = data.data;
    opts.data_size_in = static_cast<uint32_t>(data.size);
  }
  if (!Absent(info, 3)) {
    Bytes ctx = BytesArg(info, 3, operation, "ctxIn");
    if (ctx.size > kTestBytesMax) ThrowArgument(env, operation, "ctxIn must have at most 1048576 bytes");
    opts.ctx_in = ctx.data;
    opts.ctx_size_in = static_cast<uint32_t>(ctx.size);
  }
  opts.data_out = data_out.empty() ? nullptr : data_out.data();
  opts.data_size_out = static_cast<uint32_t>(data_out.size());
  opts.ctx_out = ctx_out.empty() ? nullptr : ctx_out.data();
  opts.ctx_size_out = static_cast<uint32_t>(ctx_out.size());
  if (bpf_prog_test_run_opts(program.fd, &opts) < 0) ThrowErrno(env, errno, operation);
  Napi::Object out = Napi::Object::New(env);
  out.Set("retval", Napi::Number::New(env, opts.retval));
  out.Set("durationNs", Napi::Number::New(env, opts.duration));
  if (opts.data_out != nullptr)
    out.Set("dataOut", NewBytes(env, data_out.data(), std::min<size_t>(opts.data_size_out, data_out.size())));
  if (opts.ctx_out != nullptr)
    out.Set("ctxOut", NewBytes(env, ctx_out.data(), std::min<size_t>(opts.ctx_size_out, ctx_out.size())));
  return out;
}

// enableStats(): counts runs and their time for all programs of the host while the handle is open (≥ 5.8)
Napi::Value EnableStats(const Napi::CallbackInfo& info) {
  FdGuard fd(bpf_enable_stats(BPF_STATS_RUN_TIME));
  if (fd.get() < 0) ThrowErrno(info.Env(), errno, "statistics enable");
  return WrapFd(info.Env(), Kind::kStats, fd, "statistics");
}

}  // namespace

Napi::Value WrapProgramFd(Napi::Env env, FdGuard& fd, const std::string& operation) {
  struct bpf_prog_info raw;
  int error = ProgramInfo(fd.get(), &raw, nullptr);
  if (error != 0) ThrowErrno(env, error, operation);
  std::string name(raw.name, strnlen(raw.name, sizeof(raw.name)));
  return WrapFd(env, Kind::kProgram, fd, name);
}

void InitPrograms(Napi::Env env, Napi::Object exports) {
  exports.Set("programOpenPinned", Napi::Function::New(env, OpenPinned));
  exports.Set("programOpenById", Napi::Function::New(env, OpenById));
  exports.Set("programInfo", Napi::Function::New(env, Info));
  exports.Set("programTestRun", Napi::Function::New(env, TestRun));
  exports.Set("enableStats", Napi::Function::New(env, EnableStats));
}

}  // namespace zbpf
