// Ring buffers on the event loop: libuv polls libbpf's epoll descriptor, libbpf reads the ring, and up to
// `recordsMax` records cross into JavaScript as one buffer per turn of the loop.
//
// Life: a Ring belongs to the loop. Closing it, by JavaScript or by the end of the environment, stops the
// poll at once and frees everything in the close callback of its handle, which libuv calls later; the
// asynchronous cleanup hook makes the end of a worker wait for that. A record is consumed from the ring
// before JavaScript sees it, so a callback that closes the ring or throws leaves nothing half done.
#include "ringbuf.h"

#include <bpf/libbpf.h>
#include <errno.h>
#include <unistd.h>
#include <uv.h>

#include <vector>

#include "handle.h"
#include "log.h"

namespace zbpf {
namespace {

constexpr size_t kTurnBytesMax = 1 << 20;
constexpr int kTurnIsOver = -EINTR;

struct RingHandle;

struct Ring {
  napi_env env = nullptr;
  uv_poll_t poll = {};
  struct ring_buffer* buffer = nullptr;
  int map_fd = -1;
  uint32_t records_max = 0;
  napi_ref deliver = nullptr;
  napi_async_context context = nullptr;
  napi_async_cleanup_hook_handle hook = nullptr;
  RingHandle* handle = nullptr;
  std::vector<uint8_t> data;
  std::vector<uint32_t> sizes;
  bool out_of_memory = false;
  int result = 0;
};

void CloseRing(Ring* ring) noexcept;

struct RingHandle : Handle {
  RingHandle() : Handle(Kind::kRing) {}
  ~RingHandle() override { RingHandle::Close(); }
  void Close() noexcept override {
    if (ring != nullptr) CloseRing(ring);
  }
  bool closed() const noexcept override { return ring == nullptr; }

  Ring* ring = nullptr;
};

void OnClosed(uv_handle_t* poll) {
  Ring* ring = static_cast<Ring*>(poll->data);
  ring_buffer__free(ring->buffer);
  ::close(ring->map_fd);
  napi_async_cleanup_hook_handle hook = ring->hook;
  delete ring;
  if (hook != nullptr) napi_remove_async_cleanup_hook(hook);
}

void CloseRing(Ring* ring) noexcept {
  if (uv_is_closing(reinterpret_cast<uv_handle_t*>(&ring->poll))) return;
  if (ring->handle != nullptr) ring->handle->ring = nullptr;
  ring->handle = nullptr;
  uv_poll_stop(&ring->poll);
  if (ring->deliver != nullptr) napi_delete_reference(ring->env, ring->deliver);
  if (ring->context != nullptr) napi_async_destroy(ring->env, ring->context);
  ring->deliver = nullptr;
  ring->context = nullptr;
  uv_close(reinterpret_cast<uv_handle_t*>(&ring->poll), OnClosed);
}

void OnEnvironmentEnd(napi_async_cleanup_hook_handle, void* data) { CloseRing(static_cast<Ring*>(data)); }

// Called from C frames of libbpf: must not throw. A negative answer ends the turn; the record counts as read.
int OnRecord(void* context, void* data, size_t size) {
  Ring* ring = static_cast<Ring*>(context);
  try {
    const uint8_t* bytes = static_cast<const uint8_t*>(data);
    ring->sizes.reserve(ring->sizes.size() + 1);
    ring->data.insert(ring->data.end(), bytes, bytes + size);
    ring->sizes.push_back(static_cast<uint32_t>(size));
  } catch (...) {
    ring->out_of_memory = true;
    return kTurnIsOver;
  }
  return ring->sizes.size() >= ring->records_max || ring->data.size() >= kTurnBytesMax ? kTurnIsOver : 0;
}

// Reads one turn's worth into data and sizes.
void Consume(Ring* ring) {
  ring->data.clear();
  ring->sizes.clear();
  ring->out_of_memory = false;
  ring->result = ring_buffer__consume(ring->buffer);
}

Napi::Uint32Array NewSizes(Napi::Env env, const Ring& ring) {
  Napi::Uint32Array sizes = Napi::Uint32Array::New(env, ring.sizes.size());
  for (size_t i = 0; i < ring.sizes.size(); i++) sizes[i] = ring.sizes[i];
  return sizes;
}

// deliver(bytes, sizes, errno): TypeScript cuts the bytes up and calls the user once per record.
void Deliver(Ring* ring, int error) {
  Napi::Env env(ring->env);
  Napi::Uint8Array bytes = NewBytes(env, ring->data.data(), ring->data.size());
  napi_value args[] = {bytes, NewSizes(env, *ring), Napi::Number::New(env, error)};
  napi_value function = nullptr, receiver = env.Global(), ignored = nullptr;
  if (napi_get_reference_value(env, ring->deliver, &function) != napi_ok || function == nullptr) return;
  // From here on the ring may be gone: JavaScript may close it.
  if (napi_make_callback(env, ring->context, receiver, function, 3, args, &ignored) != napi_pending_exception)
    return;
  napi_value thrown = nullptr;
  if (napi_get_and_clear_last_exception(env, &thrown) == napi_ok) napi_fatal_exception(env, thrown);
}

void OnReadable(uv_poll_t* poll, int status, int) {
  Ring* ring = static_cast<Ring*>(poll->data);
  Consume(ring);
  if (status < 0) ring->result = status;
  int result = ring->result;
  int error = ring->out_of_memory ? ENOMEM : result < 0 && result != kTurnIsOver ? -result : 0;
  if (ring->sizes.empty() && error == 0) return;
  Napi::HandleScope scope(ring->env);
  try {
    Deliver(ring, error);
  } catch (const Napi::Error&) {
    // The environment is ending and takes no more values.
  }
}

// ringDrain(ring): [bytes, sizes] of what is there now, at most one turn's worth
Napi::Value Drain(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  Ring* ring = static_cast<RingHandle*>(HandleArg(info, 0, Kind::kRing, "ring buffer drain"))->ring;
  Consume(ring);
  int result = ring->result;
  int error = ring->out_of_memory ? ENOMEM : result < 0 && result != kTurnIsOver ? -result : 0;
  if (error != 0) ThrowErrno(env, error, "ring buffer drain");
  Napi::Array out = Napi::Array::New(env, 2);
  out.Set(0u, NewBytes(env, ring->data.data(), ring->data.size()));
  out.Set(1u, NewSizes(env, *ring));
  return out;
}

// ringOpen(map, deliver, recordsMax)
Napi::Value Open(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  MapHandle& map = MapArg(info, 0, "ring buffer open");
  std::string operation = "ring buffer open " + map.name;
  if (!info[1].IsFunction()) ThrowArgument(env, operation, "the callback must be a function");
  uint32_t records_max = U32Arg(info, 2, operation, "recordsMax", 1 << 20);
  if (records_max == 0) ThrowArgument(env, operation, "recordsMax must not be 0");
  if (map.type != BPF_MAP_TYPE_RINGBUF) ThrowArgument(env, operation, "the map is not a BPF_MAP_TYPE_RINGBUF");
  uv_loop_t* loop = nullptr;
  if (napi_get_uv_event_loop(env, &loop) != napi_ok) ThrowState(env, operation, "there is no event loop");
  FdGuard fd(DupFd(map.fd));
  if (fd.get() < 0) ThrowErrno(env, errno, operation);
  auto handle = std::make_unique<RingHandle>();
  auto ring = std::make_unique<Ring>();
  LogScope log(env);
  ring->buffer = ring_buffer__new(fd.get(), OnRecord, ring.get(), nullptr);
  if (ring->buffer == nullptr) ThrowErrno(env, errno, operation, log.warnings());
  int failed = uv_poll_init(loop, &ring->poll, ring_buffer__epoll_fd(ring->buffer));
  if (failed != 0) {
    ring_buffer__free(ring->buffer);
    ThrowErrno(env, -failed, operation);
  }
  // The poll handle is known to the loop now: from here on only CloseRing may free the ring.
  Ring* live = ring.release();
  live->env = env;
  live->map_fd = fd.release();
  live->records_max = records_max;
  live->poll.data = live;
  live->handle = handle.get();
  handle->ring = live;
  napi_value resource = Napi::String::New(env, "zerohop_bpf.RingBuffer");
  bool ready = napi_create_reference(env, info[1], 1, &live->deliver) == napi_ok &&
               napi_async_init(env, nullptr, resource, &live->context) == napi_ok &&
               napi_add_async_cleanup_hook(env, OnEnvironmentEnd, live, &live->hook) == napi_ok &&
               uv_poll_start(&live->poll, UV_READABLE, OnReadable) == 0;
  if (!ready) {
    CloseRing(live);
    ThrowState(env, operation, "the event loop refused the ring buffer");
  }
  return WrapHandle(env, std::move(handle));
}

// ringRef(ring, wanted): whether the ring keeps the process alive
void SetRef(const Napi::CallbackInfo& info) {
  auto& handle = *static_cast<RingHandle*>(HandleArg(info, 0, Kind::kRing, "ring buffer"));
  auto* poll = reinterpret_cast<uv_handle_t*>(&handle.ring->poll);
  if (BoolArg(info, 1, "ring buffer", "ref"))
    uv_ref(poll);
  else
    uv_unref(poll);
}

}  // namespace

void InitRings(Napi::Env env, Napi::Object exports) {
  exports.Set("ringOpen", Napi::Function::New(env, Open));
  exports.Set("ringDrain", Napi::Function::New(env, Drain));
  exports.Set("ringRef", Napi::Function::New(env, SetRef));
}

}  // namespace zbpf
