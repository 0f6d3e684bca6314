// Handles, and the few operations that maps, programs and links share: close, pin, unpin. See handle.h.
#include "handle.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

namespace zbpf {
namespace {

const napi_type_tag kHandleTag = {0x7a65726f686f7001, 0x9d1f3c5be2a84677};

const char* KindName(Kind kind) {
  switch (kind) {
    case Kind::kMap: return "map";
    case Kind::kProgram: return "program";
    case Kind::kLink: return "link";
    case Kind::kStats: return "statistics";
    case Kind::kObject: return "object";
    case Kind::kRing: return "ring buffer";
    case Kind::kDns: return "DNS thread";
  }
  return "?";
}

// The kernel's name of an anonymous inode is the only thing that tells a map's descriptor from a program's.
bool FdIsOfKind(int fd, Kind kind) {
  char link[48], target[64] = "";
  snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
  if (readlink(link, target, sizeof(target) - 1) < 0) return false;
  switch (kind) {
    case Kind::kMap: return strstr(target, "bpf-map") != nullptr;
    case Kind::kProgram: return strstr(target, "bpf-prog") != nullptr;
    case Kind::kLink: return strstr(target, "bpf_link") != nullptr || strstr(target, "bpf-link") != nullptr;
    default: return false;
  }
}

// The id is the second field of bpf_map_info, bpf_prog_info and bpf_link_info alike.
int IdOfFd(int fd, uint32_t* id) {
  union {
    struct bpf_map_info map;
    struct bpf_prog_info prog;
    struct bpf_link_info link;
  } info;
  memset(&info, 0, sizeof(info));
  uint32_t size = sizeof(info.link);
  if (bpf_obj_get_info_by_fd(fd, &info, &size) < 0) return errno;
  *id = info.link.id;
  return 0;
}

// close(handle): closing twice is fine.
void CloseHandle(const Napi::CallbackInfo& info) { AnyHandleArg(info, 0, "close")->Close(); }

FdHandle& PinnableArg(const Napi::CallbackInfo& info, const std::string& operation) {
  Handle* handle = AnyHandleArg(info, 0, operation);
  if (handle->kind != Kind::kMap && handle->kind != Kind::kProgram && handle->kind != Kind::kLink)
    ThrowArgument(info.Env(), operation, std::string("a ") + KindName(handle->kind) + " cannot be pinned");
  if (handle->closed()) ThrowClosed(info.Env(), operation);
  return *static_cast<FdHandle*>(handle);
}

// pin(handle, path)
void Pin(const Napi::CallbackInfo& info) {
  FdHandle& handle = PinnableArg(info, "pin");
  std::string path = PathArg(info, 1, "pin");
  if (bpf_obj_pin(handle.fd, path.c_str()) < 0)
    ThrowErrno(info.Env(), errno, std::string(KindName(handle.kind)) + " pin " + handle.name + " at " + path);
}

// unpin(handle, path): removes the pin only if it is a pin of this very object.
void Unpin(const Napi::CallbackInfo& info) {
  FdHandle& handle = PinnableArg(info, "unpin");
  std::string path = PathArg(info, 1, "unpin");
  std::string operation = std::string(KindName(handle.kind)) + " unpin " + handle.name + " at " + path;
  FdGuard pinned(OpenPinnedFd(info.Env(), path, handle.kind, operation));
  uint32_t ours = 0, theirs = 0;
  int error = IdOfFd(handle.fd, &ours);
  if (error == 0) error = IdOfFd(pinned.get(), &theirs);
  if (error != 0) ThrowErrno(info.Env(), error, operation);
  if (ours != theirs)
    ThrowArgument(info.Env(), operation,
                  "the pin holds id " + std::to_string(theirs) + ", not " + std::to_string(ours));
  if (unlink(path.c_str()) < 0) ThrowErrno(info.Env(), errno, operation);
}

// isOpen(handle)
Napi::Value IsOpen(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), !AnyHandleArg(info, 0, "isOpen")->closed());
}

}  // namespace

void FdHandle::Close() noexcept {
  if (fd < 0) return;
  ::close(fd);
  fd = -1;
}

FdGuard::~FdGuard() {
  if (fd_ >= 0) ::close(fd_);
}

int DupFd(int fd) { return fcntl(fd, F_DUPFD_CLOEXEC, 3); }

Napi::Value WrapHandle(Napi::Env env, std::unique_ptr<Handle> handle) {
  auto external =
      Napi::External<Handle>::New(env, handle.get(), [](Napi::BasicEnv, Handle* dead) { delete dead; });
  handle.release();
  external.TypeTag(&kHandleTag);
  return external;
}

Napi::Value WrapFd(Napi::Env env, Kind kind, FdGuard& fd, std::string name) {
  auto handle = std::make_unique<FdHandle>(kind, fd.get(), std::move(name));
  fd.release();
  return WrapHandle(env, std::move(handle));
}

Handle* AnyHandleArg(const Napi::CallbackInfo& info, size_t index, const std::string& operation) {
  if (!info[index].IsExternal() || !info[index].As<Napi::Object>().CheckTypeTag(&kHandleTag))
    ThrowArgument(info.Env(), operation, "a handle of this addon is expected");
  return info[index].As<Napi::External<Handle>>().Data();
}

Handle* HandleArg(const Napi::CallbackInfo& info, size_t index, Kind kind, const std::string& operation) {
  Handle* handle = AnyHandleArg(info, index, operation);
  if (handle->kind != kind)
    ThrowArgument(info.Env(), operation,
                  std::string("a ") + KindName(kind) + " is expected, not a " + KindName(handle->kind));
  if (handle->closed()) ThrowClosed(info.Env(), operation);
  return handle;
}

FdHandle& FdArg(const Napi::CallbackInfo& info, size_t index, Kind kind, const std::string& operation) {
  return *static_cast<FdHandle*>(HandleArg(info, index, kind, operation));
}

MapHandle& MapArg(const Napi::CallbackInfo& info, size_t index, const std::string& operation) {
  return *static_cast<MapHandle*>(HandleArg(info, index, Kind::kMap, operation));
}

int OpenPinnedFd(Napi::Env env, const std::string& path, Kind kind, const std::string& operation) {
  FdGuard fd(bpf_obj_get(path.c_str()));
  if (fd.get() < 0) ThrowErrno(env, errno, operation);
  if (!FdIsOfKind(fd.get(), kind))
    ThrowArgument(env, operation, std::string("what is pinned there is not a ") + KindName(kind));
  return fd.release();
}

void InitHandles(Napi::Env env, Napi::Object exports) {
  exports.Set("close", Napi::Function::New(env, CloseHandle));
  exports.Set("isOpen", Napi::Function::New(env, IsOpen));
  exports.Set("pin", Napi::Function::New(env, Pin));
  exports.Set("unpin", Napi::Function::New(env, Unpin));
}

}  // namespace zbpf
