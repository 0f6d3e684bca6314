// The door of dns_thread.h: bytes in, bytes out, and the event loop woken when something waits for JavaScript.
//
// Life: as that of a ring buffer (ringbuf.cc). Closing it, by JavaScript or by the end of the environment, joins
// the thread and closes the sockets at once; the rest is freed when libuv has closed the handle, for which the
// asynchronous cleanup hook makes the end of a worker wait.
#include "dns.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <string.h>
#include <uv.h>

#include <exception>
#include <memory>
#include <vector>

#include "dns_thread.h"
#include "handle.h"

namespace zbpf {
namespace {

// As libuv reads of one socket: everything else in the process has its turn too.
constexpr size_t kItemsPerTurn = 32;
// kind, length or errno, peer; then the message
constexpr size_t kItemHeaderBytes = 8 + sizeof(DnsPeer);
constexpr size_t kRecordsHeaderBytes = 10;

struct DnsHandle;

struct DnsServer {
  napi_env env = nullptr;
  uv_async_t wake = {};
  std::unique_ptr<DnsThread> thread;
  napi_ref deliver = nullptr;
  napi_async_context context = nullptr;
  napi_async_cleanup_hook_handle hook = nullptr;
  DnsHandle* handle = nullptr;
};

void CloseServer(DnsServer* server) noexcept;

struct DnsHandle : Handle {
  DnsHandle() : Handle(Kind::kDns) {}
  ~DnsHandle() override { DnsHandle::Close(); }
  void Close() noexcept override {
    if (server != nullptr) CloseServer(server);
  }
  bool closed() const noexcept override { return server == nullptr; }

  DnsServer* server = nullptr;
};

void OnClosed(uv_handle_t* wake) {
  DnsServer* server = static_cast<DnsServer*>(wake->data);
  napi_async_cleanup_hook_handle hook = server->hook;
  delete server;
  if (hook != nullptr) napi_remove_async_cleanup_hook(hook);
}

void CloseServer(DnsServer* server) noexcept {
  auto* wake = reinterpret_cast<uv_handle_t*>(&server->wake);
  if (uv_is_closing(wake)) return;
  server->thread->Stop();  // nobody wakes the loop from here on
  if (server->handle != nullptr) server->handle->server = nullptr;
  server->handle = nullptr;
  if (server->deliver != nullptr) napi_delete_reference(server->env, server->deliver);
  if (server->context != nullptr) napi_async_destroy(server->env, server->context);
  server->deliver = nullptr;
  server->context = nullptr;
  uv_close(wake, OnClosed);
}

void OnEnvironmentEnd(napi_async_cleanup_hook_handle, void* data) { CloseServer(static_cast<DnsServer*>(data)); }

// As Node writes addresses of clients.
std::string ClientText(const DnsPeer& peer) {
  sa_family_t family;
  memcpy(&family, peer.address, sizeof(family));
  char text[INET6_ADDRSTRLEN + 1 + IF_NAMESIZE] = "";
  if (family != AF_INET6) {
    struct sockaddr_in v4;
    memcpy(&v4, peer.address, sizeof(v4));
    inet_ntop(AF_INET, &v4.sin_addr, text, sizeof(text));
    return text;
  }
  struct sockaddr_in6 v6;
  memcpy(&v6, peer.address, sizeof(v6));
  inet_ntop(AF_INET6, &v6.sin6_addr, text, sizeof(text));
  char name[IF_NAMESIZE];
  if (IN6_IS_ADDR_LINKLOCAL(&v6.sin6_addr) && if_indextoname(v6.sin6_scope_id, name) != nullptr)
    return std::string(text) + "%" + name;
  return text;
}

// deliver(bytes, clients)
void Deliver(DnsServer* server, const std::vector<DnsItem>& items) {
  Napi::Env env(server->env);
  size_t size = 0;
  for (const DnsItem& item : items) size += kItemHeaderBytes + item.message.size();
  Napi::Uint8Array bytes = Napi::Uint8Array::New(env, size);
  Napi::Array clients = Napi::Array::New(env, items.size());
  uint8_t* at = bytes.Data();
  uint32_t place = 0;
  for (const DnsItem& item : items) {
    uint32_t head[2] = {static_cast<uint32_t>(item.told), static_cast<uint32_t>(item.message.size())};
    if (item.told == DnsTold::kFailed) head[1] = item.error;
    memcpy(at, head, sizeof(head));
    memcpy(at + sizeof(head), &item.peer, sizeof(item.peer));
    if (!item.message.empty()) memcpy(at + kItemHeaderBytes, item.message.data(), item.message.size());
    at += kItemHeaderBytes + item.message.size();
    bool has_failed = item.told == DnsTold::kFailed;
    clients.Set(place++, Napi::String::New(env, has_failed ? ErrnoName(static_cast<int>(item.error)) : ClientText(item.peer)));
  }
  napi_value args[] = {bytes, clients};
  napi_value function = nullptr, receiver = env.Global(), ignored = nullptr;
  if (napi_get_reference_value(env, server->deliver, &function) != napi_ok || function == nullptr) return;
  // From here on the server may be gone: JavaScript may close it.
  if (napi_make_callback(env, server->context, receiver, function, 2, args, &ignored) != napi_pending_exception)
    return;
  napi_value thrown = nullptr;
  if (napi_get_and_clear_last_exception(env, &thrown) == napi_ok) napi_fatal_exception(env, thrown);
}

void OnWake(uv_async_t* wake) {
  DnsServer* server = static_cast<DnsServer*>(wake->data);
  if (uv_is_closing(reinterpret_cast<uv_handle_t*>(wake))) return;
  Napi::HandleScope scope(server->env);
  std::vector<DnsItem> items;
  // Deliver() throws before it calls JavaScript, or not at all: the server is still there.
  try {
    if (server->thread->Take(kItemsPerTurn, &items)) uv_async_send(wake);
    if (!items.empty()) Deliver(server, items);
  } catch (const Napi::Error&) {
    server->thread->Lose(items.size());  // the environment is ending and takes no more values
  } catch (const std::exception&) {      // no memory; libuv, which called this, knows no exceptions
    server->thread->Lose(items.size());
    uv_async_send(wake);
  }
}

DnsThread& ThreadArg(const Napi::CallbackInfo& info, const std::string& operation) {
  return *static_cast<DnsHandle*>(HandleArg(info, 0, Kind::kDns, operation))->server->thread;
}

// dnsOpen(deliver, udpSizeMax, boundsUs): bounds are the bytes of numbers of 32 bits
Napi::Value Open(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const std::string operation = "dns open";
  if (!info[0].IsFunction()) ThrowArgument(env, operation, "the callback must be a function");
  uint32_t udp_size_max = U32Arg(info, 1, operation, "udpSizeMax", kDnsAnswerBytesMax);
  Bytes raw = BytesArg(info, 2, operation, "boundsUs");
  std::vector<uint32_t> bounds(raw.size / sizeof(uint32_t));
  if (bounds.size() > DnsThread::kBoundsMax || raw.size % sizeof(uint32_t) != 0)
    ThrowArgument(env, operation, "boundsUs must be at most 32 numbers of 4 bytes");
  if (!bounds.empty()) memcpy(bounds.data(), raw.data, raw.size);
  uv_loop_t* loop = nullptr;
  if (napi_get_uv_event_loop(env, &loop) != napi_ok) ThrowState(env, operation, "there is no event loop");
  auto handle = std::make_unique<DnsHandle>();
  auto server = std::make_unique<DnsServer>();
  auto wake = [](void* async) { uv_async_send(static_cast<uv_async_t*>(async)); };
  server->thread = std::make_unique<DnsThread>(udp_size_max, std::move(bounds), wake, &server->wake);
  int failed = uv_async_init(loop, &server->wake, OnWake);
  if (failed != 0) ThrowErrno(env, -failed, operation);
  // The handle is known to the loop now: from here on only CloseServer may free the server.
  DnsServer* live = server.release();
  live->env = env;
  live->wake.data = live;
  live->handle = handle.get();
  handle->server = live;
  napi_value resource = Napi::String::New(env, "zerohop_bpf.DnsThread");
  bool ready = napi_create_reference(env, info[0], 1, &live->deliver) == napi_ok &&
               napi_async_init(env, nullptr, resource, &live->context) == napi_ok &&
               napi_add_async_cleanup_hook(env, OnEnvironmentEnd, live, &live->hook) == napi_ok;
  int error = ready ? live->thread->Start() : 0;
  if (!ready || error != 0) {
    CloseServer(live);
    if (error != 0) ThrowErrno(env, error, operation);
    ThrowState(env, operation, "the event loop refused the DNS thread");
  }
  return WrapHandle(env, std::move(handle));
}

// dnsListen(dns, address, port, isDirect, receiveBytes, sendBytes): [socket, port]
Napi::Value Listen(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  DnsThread& thread = ThreadArg(info, "dns listen");
  std::string address = NameArg(info, 1, "dns listen", "address");
  uint32_t port = U32Arg(info, 2, "dns listen", "port", UINT16_MAX);
  std::string operation = "udp bind " + address + " port " + std::to_string(port);
  DnsListen listen;
  memset(&listen, 0, sizeof(listen));
  auto* v4 = reinterpret_cast<struct sockaddr_in*>(&listen.address);
  auto* v6 = reinterpret_cast<struct sockaddr_in6*>(&listen.address);
  if (uv_ip4_addr(address.c_str(), static_cast<int>(port), v4) != 0 &&
      uv_ip6_addr(address.c_str(), static_cast<int>(port), v6) != 0)
    ThrowArgument(env, operation, "the address must be one of IPv4 or IPv6");
  listen.is_direct = BoolArg(info, 3, operation, "isDirect");
  listen.receive_bytes = U32Arg(info, 4, operation, "receiveBytes", INT32_MAX / 2);
  listen.send_bytes = U32Arg(info, 5, operation, "sendBytes", INT32_MAX / 2);
  uint32_t id = 0;
  uint16_t bound = 0;
  int error = thread.Listen(listen, &id, &bound);
  if (error != 0) ThrowErrno(env, error, operation);
  Napi::Array out = Napi::Array::New(env, 2);
  out.Set(0u, Napi::Number::New(env, id));
  out.Set(1u, Napi::Number::New(env, bound));
  return out;
}

// dnsUnlisten(dns, socket): false if there is none
Napi::Value Unlisten(const Napi::CallbackInfo& info) {
  DnsThread& thread = ThreadArg(info, "dns unlisten");
  return Napi::Boolean::New(info.Env(), thread.Unlisten(U32Arg(info, 1, "dns unlisten", "socket")));
}

// dnsSend(dns, bytes): of each answer its length (32 bits), its peer, and itself
void Send(const Napi::CallbackInfo& info) {
  DnsThread& thread = ThreadArg(info, "dns send");
  Bytes bytes = BytesArg(info, 1, "dns send", "answers");
  for (size_t at = 0; at < bytes.size;) {
    uint32_t size;
    DnsPeer peer;
    size_t left = bytes.size - at;
    if (left >= sizeof(size)) memcpy(&size, bytes.data + at, sizeof(size));
    if (left < sizeof(size) + sizeof(peer) || left - sizeof(size) - sizeof(peer) < size)
      ThrowArgument(info.Env(), "dns send", "answers must be whole: one is cut off");
    memcpy(&peer, bytes.data + at + sizeof(size), sizeof(peer));
    at += sizeof(size) + sizeof(peer);
    thread.Send(peer, bytes.data + at, size);
    at += size;
  }
  thread.Flush();
}

// dnsSet(dns, records): one after the other, each five numbers of 16 bits (type, bytes of the name, records, bytes of
// one that are shuffled, bytes of all), then the name and the records. How many were taken.
Napi::Value Set(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  DnsThread& thread = ThreadArg(info, "dns set");
  Bytes bytes = BytesArg(info, 1, "dns set", "records");
  uint32_t taken = 0;
  for (size_t at = 0; at < bytes.size;) {
    uint16_t head[kRecordsHeaderBytes / 2];
    size_t left = bytes.size - at;
    if (left >= sizeof(head)) memcpy(head, bytes.data + at, sizeof(head));
    if (left < sizeof(head) || left - sizeof(head) < static_cast<size_t>(head[1]) + head[4])
      ThrowArgument(env, "dns set", "records must be whole: some are cut off");
    const uint8_t* name = bytes.data + at + sizeof(head);
    try {
      if (thread.Set({name, head[1], head[0], head[2], head[3], name + head[1], head[4]})) taken++;
    } catch (const std::bad_alloc&) {
      ThrowErrno(env, ENOMEM, "dns set");
    }
    at += sizeof(head) + head[1] + head[4];
  }
  return Napi::Number::New(env, taken);
}

// dnsForget(dns, names): one after the other, as on the wire
void Forget(const Napi::CallbackInfo& info) {
  DnsThread& thread = ThreadArg(info, "dns forget");
  Bytes bytes = BytesArg(info, 1, "dns forget", "names");
  for (size_t start = 0, at = 0; at < bytes.size;) {
    size_t length = bytes.data[at];
    at += length + 1;
    if (at > bytes.size || (length == 0 && at - start > kDnsNameBytesMax))
      ThrowArgument(info.Env(), "dns forget", "names must be whole: one is cut off or too long");
    if (length != 0) continue;
    thread.Forget(bytes.data + start, at - start);
    start = at;
  }
}

// dnsClear(dns)
void Clear(const Napi::CallbackInfo& info) { ThreadArg(info, "dns clear").Clear(); }

// dnsPause(dns, wanted): everything goes to JavaScript
void Pause(const Napi::CallbackInfo& info) {
  ThreadArg(info, "dns pause").Pause(BoolArg(info, 1, "dns pause", "wanted"));
}

// dnsAllow(dns, blocks): see DnsClients
void Allow(const Napi::CallbackInfo& info) {
  DnsThread& thread = ThreadArg(info, "dns allow");
  Bytes bytes = BytesArg(info, 1, "dns allow", "blocks");
  if (bytes.size % DnsClients::kBlockBytes != 0)
    ThrowArgument(info.Env(), "dns allow", "blocks must have 18 bytes each");
  thread.Allow(DnsClients(bytes.data, bytes.size));
}

// dnsCounts(dns): answers in the table, answered over IPv4 and IPv6, not read in time, not sent, too long,
// nanoseconds, and how many took at most each of the bounds, and longer
Napi::Value CountsOf(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  DnsThread& thread = ThreadArg(info, "dns counts");
  const DnsThread::Counts& counts = thread.counts();
  std::vector<double> numbers = {static_cast<double>(thread.answers())};
  for (const auto* one : {&counts.answered4, &counts.answered6, &counts.unread, &counts.unsent, &counts.too_long,
                          &counts.nanoseconds})
    numbers.push_back(static_cast<double>(one->load(std::memory_order_relaxed)));
  for (const auto& one : counts.took) numbers.push_back(static_cast<double>(one.load(std::memory_order_relaxed)));
  Napi::Float64Array out = Napi::Float64Array::New(env, numbers.size());
  memcpy(out.Data(), numbers.data(), numbers.size() * sizeof(double));
  return out;
}

}  // namespace

void InitDns(Napi::Env env, Napi::Object exports) {
  exports.Set("dnsOpen", Napi::Function::New(env, Open));
  exports.Set("dnsListen", Napi::Function::New(env, Listen));
  exports.Set("dnsUnlisten", Napi::Function::New(env, Unlisten));
  exports.Set("dnsSend", Napi::Function::New(env, Send));
  exports.Set("dnsSet", Napi::Function::New(env, Set));
  exports.Set("dnsForget", Napi::Function::New(env, Forget));
  exports.Set("dnsClear", Napi::Function::New(env, Clear));
  exports.Set("dnsPause", Napi::Function::New(env, Pause));
  exports.Set("dnsAllow", Napi::Function::New(env, Allow));
  exports.Set("dnsCounts", Napi::Function::New(env, CountsOf));
}

}  // namespace zbpf
