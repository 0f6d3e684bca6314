// The opaque things JavaScript holds: file descriptors of maps, programs, links and statistics, and whole
// objects. A number would be enough for the kernel, but a number can be closed twice, and then belongs to
// somebody else; so a handle is a tagged External that knows its kind and whether it is closed.
#pragma once

#include <napi.h>

#include <memory>
#include <string>

#include "args.h"

namespace zbpf {

enum class Kind { kMap, kProgram, kLink, kStats, kObject, kRing, kDns };

class Handle {
 public:
  explicit Handle(Kind kind) : kind(kind) {}
  virtual ~Handle() = default;
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;
  virtual void Close() noexcept = 0;
  virtual bool closed() const noexcept = 0;

  const Kind kind;
};

// Owns one descriptor. `name` is only for messages.
class FdHandle : public Handle {
 public:
  FdHandle(Kind kind, int fd, std::string name) : Handle(kind), fd(fd), name(std::move(name)) {}
  ~FdHandle() override { FdHandle::Close(); }
  void Close() noexcept override;
  bool closed() const noexcept override { return fd < 0; }

  int fd;
  std::string name;
};

struct MapHandle : FdHandle {
  MapHandle(int fd, std::string name) : FdHandle(Kind::kMap, fd, std::move(name)) {}
  uint32_t type = 0, key_size = 0, value_size = 0, max_entries = 0, flags = 0, id = 0;
  // Bytes of one value as the bpf() system call sees it: per-CPU maps give one for every possible CPU.
  size_t value_bytes = 0;
};

// A descriptor on its way into a handle: closed when an exception comes in between.
class FdGuard {
 public:
  explicit FdGuard(int fd) : fd_(fd) {}
  ~FdGuard();
  FdGuard(const FdGuard&) = delete;
  FdGuard& operator=(const FdGuard&) = delete;
  int get() const { return fd_; }
  void reset(int fd) {
    FdGuard old(fd_);
    fd_ = fd;
  }
  int release() {
    int fd = fd_;
    fd_ = -1;
    return fd;
  }

 private:
  int fd_;
};

int DupFd(int fd);

// The External owns the handle from here on; a handle that is never closed is closed by its finalizer. In a
// worker that is being terminated there are no new Externals any more: then the handle is closed here.
Napi::Value WrapHandle(Napi::Env env, std::unique_ptr<Handle> handle);
Napi::Value WrapFd(Napi::Env env, Kind kind, FdGuard& fd, std::string name);
// Throws ERR_BPF_ARGUMENT for anything but a handle of this kind, ERR_BPF_CLOSED for a closed one.
Handle* HandleArg(const Napi::CallbackInfo& info, size_t index, Kind kind, const std::string& operation);
// Any handle of the addon, closed or not; ERR_BPF_ARGUMENT for everything else.
Handle* AnyHandleArg(const Napi::CallbackInfo& info, size_t index, const std::string& operation);
FdHandle& FdArg(const Napi::CallbackInfo& info, size_t index, Kind kind, const std::string& operation);
MapHandle& MapArg(const Napi::CallbackInfo& info, size_t index, const std::string& operation);

// Opens a pin and insists on its kind, since bpf(BPF_OBJ_GET) hands out whatever lies there.
int OpenPinnedFd(Napi::Env env, const std::string& path, Kind kind, const std::string& operation);
Napi::Value WrapMapFd(Napi::Env env, FdGuard& fd, const std::string& operation);
Napi::Value WrapProgramFd(Napi::Env env, FdGuard& fd, const std::string& operation);

void InitHandles(Napi::Env env, Napi::Object exports);

}  // namespace zbpf
