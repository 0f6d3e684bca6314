// What libbpf does over netlink (classifier programs on an interface), and netlink itself: one request, its
// answers. Bytes in, bytes out; what the messages mean is the caller's.
#include "netlink.h"

#include <bpf/libbpf.h>
#include <errno.h>
#include <linux/netlink.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <vector>

#include "handle.h"
#include "log.h"

namespace zbpf {
namespace {

constexpr size_t kRequestBytesMax = 64 * 1024;
constexpr size_t kAnswerBytesMax = 16u << 20;
constexpr size_t kDatagramBytes = 64 * 1024;
constexpr int kWaitSeconds = 5;

struct TcPlace {
  struct bpf_tc_hook hook;
  uint32_t handle, priority;
};

// (interfaceIndex, direction, handle, priority) from argument `first` on
TcPlace PlaceArgs(const Napi::CallbackInfo& info, size_t first, const std::string& operation) {
  TcPlace place;
  memset(&place, 0, sizeof(place));
  place.hook.sz = sizeof(place.hook);
  place.hook.ifindex = static_cast<int>(U32Arg(info, first, operation, "interface index", INT32_MAX));
  std::string direction = NameArg(info, first + 1, operation, "direction");
  if (direction == "ingress")
    place.hook.attach_point = BPF_TC_INGRESS;
  else if (direction == "egress")
    place.hook.attach_point = BPF_TC_EGRESS;
  else
    ThrowArgument(info.Env(), operation, "direction must be ingress or egress, not " + direction);
  place.handle = U32Arg(info, first + 2, operation, "handle");
  place.priority = U32Arg(info, first + 3, operation, "priority", UINT16_MAX);
  return place;
}

// tcSet(program, interfaceIndex, direction, handle, priority): replaces what is there in one step
void TcSet(const Napi::CallbackInfo& info) {
  FdHandle& program = FdArg(info, 0, Kind::kProgram, "tc set");
  std::string operation = "tc set " + program.name;
  TcPlace place = PlaceArgs(info, 1, operation);
  LogScope log(info.Env());
  int error = bpf_tc_hook_create(&place.hook);
  if (error != 0 && error != -EEXIST) ThrowErrno(info.Env(), -error, operation, log.warnings());
  LIBBPF_OPTS(bpf_tc_opts, opts);
  opts.prog_fd = program.fd;
  opts.flags = BPF_TC_F_REPLACE;
  opts.handle = place.handle;
  opts.priority = place.priority;
  error = bpf_tc_attach(&place.hook, &opts);
  if (error != 0) ThrowErrno(info.Env(), -error, operation, log.warnings());
}

// tcRemove(interfaceIndex, direction, handle, priority): false if there was none
Napi::Value TcRemove(const Napi::CallbackInfo& info) {
  TcPlace place = PlaceArgs(info, 0, "tc remove");
  LIBBPF_OPTS(bpf_tc_opts, opts);
  opts.handle = place.handle;
  opts.priority = place.priority;
  LogScope log(info.Env());
  int error = bpf_tc_detach(&place.hook, &opts);
  if (error != 0 && error != -ENOENT && error != -EINVAL)
    ThrowErrno(info.Env(), -error, "tc remove", log.warnings());
  return Napi::Boolean::New(info.Env(), error == 0);
}

// tcProgram(interfaceIndex, direction, handle, priority): its id, or undefined
Napi::Value TcProgram(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  TcPlace place = PlaceArgs(info, 0, "tc query");
  LIBBPF_OPTS(bpf_tc_opts, opts);
  opts.handle = place.handle;
  opts.priority = place.priority;
  LogScope log(env);
  int error = bpf_tc_query(&place.hook, &opts);
  // Without the hook the kernel says EINVAL, without the interface ENODEV.
  if (error == -ENOENT || error == -EINVAL || error == -ENODEV) return env.Undefined();
  if (error != 0) ThrowErrno(env, -error, "tc query", log.warnings());
  return Napi::Number::New(env, opts.prog_id);
}

// Whether the answer to the request is whole; *error is what the kernel says of it.
bool Ended(const std::vector<uint8_t>& bytes, size_t from, uint32_t sequence, int* error) {
  size_t left = bytes.size() - from;
  for (auto* m = reinterpret_cast<const struct nlmsghdr*>(bytes.data() + from); NLMSG_OK(m, left);
       m = NLMSG_NEXT(m, left)) {
    if (m->nlmsg_seq != sequence) continue;
    if (m->nlmsg_type == NLMSG_ERROR && m->nlmsg_len >= NLMSG_LENGTH(sizeof(struct nlmsgerr))) {
      *error = -reinterpret_cast<const struct nlmsgerr*>(NLMSG_DATA(m))->error;
      return true;
    }
    if (m->nlmsg_type == NLMSG_DONE) return true;
  }
  return false;
}

// netlinkRequest(protocol, message): one message that asks for an acknowledgement (NLM_F_ACK) or a dump; the
// messages that answer it, whole. The kernel's refusal is an exception with its errno.
Napi::Value Request(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  uint32_t protocol = U32Arg(info, 0, "netlink request", "protocol", 31);
  Bytes message = BytesArg(info, 1, "netlink request", "message");
  if (message.size < sizeof(struct nlmsghdr) || message.size > kRequestBytesMax)
    ThrowArgument(env, "netlink request", "message must have 16 to 65536 bytes");
  std::vector<uint8_t> request(message.data, message.data + message.size);
  auto* header = reinterpret_cast<struct nlmsghdr*>(request.data());
  if (header->nlmsg_len != message.size)
    ThrowArgument(env, "netlink request", "message must have the length that its header says");
  if ((header->nlmsg_flags & (NLM_F_ACK | NLM_F_DUMP)) == 0)
    ThrowArgument(env, "netlink request", "message must ask for an acknowledgement or a dump");
  std::string operation = "netlink request " + std::to_string(header->nlmsg_type);
  FdGuard fd(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, static_cast<int>(protocol)));
  if (fd.get() < 0) ThrowErrno(env, errno, operation);
  struct timeval wait = {kWaitSeconds, 0};
  struct sockaddr_nl kernel;
  memset(&kernel, 0, sizeof(kernel));
  kernel.nl_family = AF_NETLINK;
  if (setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait)) < 0 ||
      sendto(fd.get(), request.data(), request.size(), 0, reinterpret_cast<struct sockaddr*>(&kernel),
             sizeof(kernel)) < 0)
    ThrowErrno(env, errno, operation);
  std::vector<uint8_t> answer;
  for (int error = 0;;) {
    size_t used = answer.size();
    if (used > kAnswerBytesMax) ThrowErrno(env, EFBIG, operation);
    answer.resize(used + kDatagramBytes);
    ssize_t got = recv(fd.get(), answer.data() + used, kDatagramBytes, MSG_TRUNC);
    if (got < 0 && errno == EINTR) got = 0;
    if (got < 0) ThrowErrno(env, errno, operation);
    if (static_cast<size_t>(got) > kDatagramBytes) ThrowErrno(env, EMSGSIZE, operation);
    // Messages of a datagram start at multiples of 4, and so does the next datagram.
    answer.resize(used + NLMSG_ALIGN(static_cast<size_t>(got)));
    if (!Ended(answer, used, header->nlmsg_seq, &error)) continue;
    if (error != 0) ThrowErrno(env, error, operation);
    return NewBytes(env, answer.data(), answer.size());
  }
}

}  // namespace

void InitNetlink(Napi::Env env, Napi::Object exports) {
  exports.Set("tcSet", Napi::Function::New(env, TcSet));
  exports.Set("tcRemove", Napi::Function::New(env, TcRemove));
  exports.Set("tcProgram", Napi::Function::New(env, TcProgram));
  exports.Set("netlinkRequest", Napi::Function::New(env, Request));
}

}  // namespace zbpf
