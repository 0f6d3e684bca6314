// Links: create on a cgroup, a network namespace, an interface or a kernel function; open, info, update,
// detach; iterators; and the question what is attached to a cgroup.
#include "link.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include <vector>

#include "handle.h"
#include "log.h"

namespace zbpf {
namespace {

constexpr size_t kIteratorBytesMax = 256u << 20;
constexpr uint32_t kQueryProgramsMax = 1 << 16;

// Newer kernels and headers know more; only what the oldest supported header has is used by name.
Napi::Value WrapLinkFd(Napi::Env env, FdGuard& fd, const std::string& operation) {
  struct bpf_link_info raw;
  memset(&raw, 0, sizeof(raw));
  uint32_t size = sizeof(raw);
  if (bpf_obj_get_info_by_fd(fd.get(), &raw, &size) < 0) ThrowErrno(env, errno, operation);
  return WrapFd(env, Kind::kLink, fd, "id " + std::to_string(raw.id));
}

int OpenPath(Napi::Env env, const std::string& path, int flags, const std::string& operation) {
  int fd = open(path.c_str(), flags | O_RDONLY | O_CLOEXEC);
  if (fd < 0) ThrowErrno(env, errno, operation);
  return fd;
}

// linkCreate(program, kind, target, attachType, flags): kind "cgroup" or "netns" with a path, "interface"
// with an index, "tracepoint" with the name of a raw tracepoint, "none" for programs that carry their target in
// themselves (LSM, tracing, iterators)
Napi::Value Create(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  FdHandle& program = FdArg(info, 0, Kind::kProgram, "link create");
  std::string operation = "link create " + program.name;
  std::string where = NameArg(info, 1, operation, "target kind");
  uint32_t attach_type = U32Arg(info, 3, operation, "attachType");
  LIBBPF_OPTS(bpf_link_create_opts, opts);
  opts.flags = U32Arg(info, 4, operation, "flags");
  FdGuard opened(-1);
  int target = 0;
  if (where == "tracepoint") {
    std::string name = NameArg(info, 2, operation, "tracepoint", 127);
    operation += " on " + name;
    FdGuard link(bpf_raw_tracepoint_open(name.c_str(), program.fd));
    if (link.get() < 0) ThrowErrno(env, errno, operation);
    return WrapLinkFd(env, link, operation);
  }
  if (where == "cgroup" || where == "netns") {
    std::string path = PathArg(info, 2, operation);
    operation += " on " + path;
    opened.reset(OpenPath(env, path, where == "cgroup" ? O_DIRECTORY : 0, operation));
    target = opened.get();
  } else if (where == "interface") {
    target = static_cast<int>(U32Arg(info, 2, operation, "interface index", INT32_MAX));
  } else if (where != "none") {
    ThrowArgument(env, operation, "unknown target kind " + where);
  }
  LogScope log(env);
  FdGuard fd(bpf_link_create(program.fd, target, static_cast<bpf_attach_type>(attach_type), &opts));
  if (fd.get() < 0) ThrowErrno(env, errno, operation, log.warnings());
  return WrapLinkFd(env, fd, operation);
}

// linkOpenPinned(path)
Napi::Value OpenPinned(const Napi::CallbackInfo& info) {
  std::string path = PathArg(info, 0, "link open");
  std::string operation = "link open " + path;
  FdGuard fd(OpenPinnedFd(info.Env(), path, Kind::kLink, operation));
  return WrapLinkFd(info.Env(), fd, operation);
}

// linkOpenById(id)
Napi::Value OpenById(const Napi::CallbackInfo& info) {
  uint32_t id = U32Arg(info, 0, "link open", "id");
  std::string operation = "link open id " + std::to_string(id);
  FdGuard fd(bpf_link_get_fd_by_id(id));
  if (fd.get() < 0) ThrowErrno(info.Env(), errno, operation);
  return WrapLinkFd(info.Env(), fd, operation);
}

// linkInfo(link): {id, type, programId, attachType?, cgroupId?, netnsInode?, interfaceIndex?}
Napi::Value Info(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  FdHandle& link = FdArg(info, 0, Kind::kLink, "link info");
  struct bpf_link_info raw;
  memset(&raw, 0, sizeof(raw));
  uint32_t size = sizeof(raw);
  if (bpf_obj_get_info_by_fd(link.fd, &raw, &size) < 0) ThrowErrno(env, errno, "link info " + link.name);
  Napi::Object out = Napi::Object::New(env);
  out.Set("id", Napi::Number::New(env, raw.id));
  out.Set("type", Napi::Number::New(env, raw.type));
  out.Set("programId", Napi::Number::New(env, raw.prog_id));
  switch (raw.type) {
    case BPF_LINK_TYPE_CGROUP:
      out.Set("cgroupId", Napi::BigInt::New(env, static_cast<uint64_t>(raw.cgroup.cgroup_id)));
      out.Set("attachType", Napi::Number::New(env, raw.cgroup.attach_type));
      break;
    case BPF_LINK_TYPE_TRACING:
      out.Set("attachType", Napi::Number::New(env, raw.tracing.attach_type));
      break;
    case BPF_LINK_TYPE_NETNS:
      out.Set("netnsInode", Napi::Number::New(env, raw.netns.netns_ino));
      out.Set("attachType", Napi::Number::New(env, raw.netns.attach_type));
      break;
    case BPF_LINK_TYPE_XDP:
      out.Set("interfaceIndex", Napi::Number::New(env, raw.xdp.ifindex));
      break;
    default:
      break;
  }
  return out;
}

// linkUpdate(link, program, oldProgram | undefined): swaps the program with no moment without one
void Update(const Napi::CallbackInfo& info) {
  FdHandle& link = FdArg(info, 0, Kind::kLink, "link update");
  std::string operation = "link update " + link.name;
  FdHandle& program = FdArg(info, 1, Kind::kProgram, operation);
  LIBBPF_OPTS(bpf_link_update_opts, opts);
  if (!Absent(info, 2)) {
    opts.flags = BPF_F_REPLACE;
    opts.old_prog_fd = static_cast<uint32_t>(FdArg(info, 2, Kind::kProgram, operation).fd);
  }
  if (bpf_link_update(link.fd, program.fd, &opts) < 0) ThrowErrno(info.Env(), errno, operation);
}

// linkDetach(link): the link stays as a handle, but attaches nothing any more (≥ 5.9)
void Detach(const Napi::CallbackInfo& info) {
  FdHandle& link = FdArg(info, 0, Kind::kLink, "link detach");
  if (bpf_link_detach(link.fd) < 0) ThrowErrno(info.Env(), errno, "link detach " + link.name);
}

// linkReadIterator(link): runs an iterator link once and returns all it printed (≥ 5.8)
Napi::Value ReadIterator(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  FdHandle& link = FdArg(info, 0, Kind::kLink, "iterator read");
  std::string operation = "iterator read " + link.name;
  FdGuard fd(bpf_iter_create(link.fd));
  if (fd.get() < 0) ThrowErrno(env, errno, operation);
  std::vector<uint8_t> bytes;
  constexpr size_t kStep = 64 * 1024;
  size_t used = 0;
  while (used < kIteratorBytesMax) {
    bytes.resize(used + kStep);
    ssize_t got = read(fd.get(), bytes.data() + used, kStep);
    if (got == 0) return NewBytes(env, bytes.data(), used);
    // EAGAIN: the iterator used up its turn without printing; ask for more (bpf_seq_read).
    if (got < 0 && errno != EAGAIN && errno != EINTR) ThrowErrno(env, errno, operation);
    if (got > 0) used += static_cast<size_t>(got);
  }
  ThrowErrno(env, EFBIG, operation);
}

// queryCgroup(path, attachType, effective): {programIds, flags}
Napi::Value QueryCgroup(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  std::string path = PathArg(info, 0, "cgroup query");
  std::string operation = "cgroup query " + path;
  uint32_t attach_type = U32Arg(info, 1, operation, "attachType");
  uint32_t query_flags = BoolArg(info, 2, operation, "effective") ? BPF_F_QUERY_EFFECTIVE : 0;
  FdGuard cgroup(OpenPath(env, path, O_DIRECTORY, operation));
  std::vector<uint32_t> ids(64);
  for (;;) {
    uint32_t count = static_cast<uint32_t>(ids.size()), attach_flags = 0;
    if (bpf_prog_query(cgroup.get(), static_cast<bpf_attach_type>(attach_type), query_flags, &attach_flags,
                       ids.data(), &count) < 0) {
      if (errno != ENOSPC || ids.size() >= kQueryProgramsMax) ThrowErrno(env, errno, operation);
      ids.resize(ids.size() * 4);
      continue;
    }
    Napi::Array list = Napi::Array::New(env, count);
    for (uint32_t i = 0; i < count && i < ids.size(); i++) list.Set(i, Napi::Number::New(env, ids[i]));
    Napi::Object out = Napi::Object::New(env);
    out.Set("programIds", list);
    out.Set("flags", Napi::Number::New(env, attach_flags));
    return out;
  }
}

}  // namespace

void InitLinks(Napi::Env env, Napi::Object exports) {
  exports.Set("linkCreate", Napi::Function::New(env, Create));
  exports.Set("linkOpenPinned", Napi::Function::New(env, OpenPinned));
  exports.Set("linkOpenById", Napi::Function::New(env, OpenById));
  exports.Set("linkInfo", Napi::Function::New(env, Info));
  exports.Set("linkUpdate", Napi::Function::New(env, Update));
  exports.Set("linkDetach", Napi::Function::New(env, Detach));
  exports.Set("linkReadIterator", Napi::Function::New(env, ReadIterator));
  exports.Set("queryCgroup", Napi::Function::New(env, QueryCgroup));
}

}  // namespace zbpf
