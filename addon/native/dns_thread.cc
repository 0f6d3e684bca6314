// See dns_thread.h.
#include "dns_thread.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <system_error>
#include <utility>

namespace zbpf {
namespace {

constexpr int kBatch = 64;
constexpr size_t kDatagramBytes = 65536;
// Places of a batch lie so far apart: those of a power of two would share one line of the cache.
constexpr size_t kPlaceBytes = DnsThread::kReadBytesMax + 192;
constexpr int kEventsMax = 16;
// Reads of one socket that fail one after the other: a guess. ICMP errors and lack of memory pass.
constexpr int kFailuresMax = 64;
constexpr int kRoomWaitMs = 5;  // for a full send buffer; a guess
constexpr size_t kDiscardedAtOnce = 256;  // some 0.3 ms; a guess

uint64_t NowNs() {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1000000000 + static_cast<uint64_t>(now.tv_nsec);
}

void Add(std::atomic<uint64_t>& count, uint64_t more) { count.fetch_add(more, std::memory_order_relaxed); }

void AddressBytes(const uint8_t* socket_address, uint8_t ip[16]) {
  sa_family_t family;
  memcpy(&family, socket_address, sizeof(family));
  if (family == AF_INET6) {
    memcpy(ip, socket_address + offsetof(struct sockaddr_in6, sin6_addr), 16);
    return;
  }
  memset(ip, 0, 10);
  ip[10] = ip[11] = 0xff;
  memcpy(ip + 12, socket_address + offsetof(struct sockaddr_in, sin_addr), 4);
}

}  // namespace

// What one system call reads and one sends. Memory that is not used is never touched.
struct DnsThread::Batch {
  struct mmsghdr read[kBatch], sent[kBatch];
  struct iovec places[kBatch], answers[kBatch];
  uint8_t from[kBatch][sizeof(DnsPeer::address)];
  std::unique_ptr<uint8_t[]> datagrams;
  std::unique_ptr<uint8_t[]> written;
  DnsDice dice{NowNs()};
  int fd = -1;      // of those of Send()
  int waiting = 0;  // how many
  size_t used = 0;  // bytes of `written`

  explicit Batch(bool reads) {
    memset(read, 0, sizeof(read));
    memset(sent, 0, sizeof(sent));
    if (reads) datagrams.reset(new uint8_t[kBatch * kPlaceBytes]);
    written.reset(new uint8_t[reads ? kBatch * kDnsAnswerBytesMax : 2 * kDatagramBytes]);
  }

  void PrepareRead() {
    for (int i = 0; i < kBatch; i++) {
      places[i] = {datagrams.get() + i * kPlaceBytes, kReadBytesMax};
      read[i].msg_hdr.msg_name = from[i];
      read[i].msg_hdr.msg_namelen = sizeof(from[i]);
      read[i].msg_hdr.msg_iov = &places[i];
      read[i].msg_hdr.msg_iovlen = 1;
    }
  }

  void Put(int at, uint8_t* bytes, size_t size, uint8_t* address, socklen_t address_bytes) {
    answers[at] = {bytes, size};
    sent[at].msg_hdr.msg_name = address;
    sent[at].msg_hdr.msg_namelen = address_bytes;
    sent[at].msg_hdr.msg_iov = &answers[at];
    sent[at].msg_hdr.msg_iovlen = 1;
  }
};

DnsThread::DnsThread(size_t udp_size_max, std::vector<uint32_t> bounds_us, void (*wake)(void*), void* context)
    : udp_size_max_(udp_size_max),
      bounds_us_(std::move(bounds_us)),
      wake_(wake),
      context_(context),
      in_(new Batch(true)),
      out_(new Batch(false)) {
  in_->PrepareRead();
}

DnsThread::~DnsThread() { Stop(); }

int DnsThread::Start() {
  epoll_ = epoll_create1(EPOLL_CLOEXEC);
  event_ = epoll_ < 0 ? -1 : eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  struct epoll_event event = {};
  event.events = EPOLLIN;
  if (event_ < 0 || epoll_ctl(epoll_, EPOLL_CTL_ADD, event_, &event) < 0) {
    int error = errno;
    Stop();
    return error;
  }
  // Signals are the process's other threads'.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  int error = 0;
  try {
    thread_ = std::thread(&DnsThread::Run, this);
    pthread_setname_np(thread_.native_handle(), "zerohop-dns");
  } catch (const std::system_error& failed) {
    error = failed.code().value();
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (error != 0) Stop();
  return error;
}

void DnsThread::Stop() noexcept {
  if (thread_.joinable()) {
    is_stopping_.store(true, std::memory_order_release);
    uint64_t one = 1;
    [[maybe_unused]] ssize_t written = ::write(event_, &one, sizeof(one));  // fails only when it is awake anyway
    thread_.join();
  }
  for (auto& entry : sockets_) ::close(entry.second->fd);
  sockets_.clear();
  if (event_ >= 0) ::close(event_);
  if (epoll_ >= 0) ::close(epoll_);
  event_ = epoll_ = -1;
}

int DnsThread::Listen(const DnsListen& listen, uint32_t* id, uint16_t* port) {
  sa_family_t family = listen.address.ss_family;
  socklen_t bytes = family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
  // In its place before the thread can hear of it, and before there is a descriptor that could be lost.
  auto place = sockets_.end();
  try {
    std::unique_ptr<Socket> socket(new Socket{-1, next_id_, listen.is_direct, bytes, 0, false});
    place = sockets_.emplace(next_id_, std::move(socket)).first;
  } catch (const std::bad_alloc&) {
    return ENOMEM;
  }
  int fd = socket(family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  place->second->fd = fd;
  int on = 1, receive = static_cast<int>(listen.receive_bytes), send = static_cast<int>(listen.send_bytes);
  struct sockaddr_storage bound = {};
  socklen_t bound_bytes = sizeof(bound);
  struct epoll_event event = {};
  event.events = EPOLLIN;
  event.data.ptr = place->second.get();
  // The kernel gives at most net.core.rmem_max and wmem_max, and says nothing.
  bool ready = fd >= 0 && (family != AF_INET6 || setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)) == 0) &&
               setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &receive, sizeof(receive)) == 0 &&
               setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &send, sizeof(send)) == 0 &&
               ::bind(fd, reinterpret_cast<const struct sockaddr*>(&listen.address), bytes) == 0 &&
               getsockname(fd, reinterpret_cast<struct sockaddr*>(&bound), &bound_bytes) == 0 &&
               epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event) == 0;
  if (!ready) {
    int error = errno;
    if (fd >= 0) ::close(fd);
    sockets_.erase(place);  // without epoll_ctl() the thread does not know of it
    return error;
  }
  *id = next_id_++;
  *port = ntohs(family == AF_INET6 ? reinterpret_cast<struct sockaddr_in6*>(&bound)->sin6_port
                                   : reinterpret_cast<struct sockaddr_in*>(&bound)->sin_port);
  return 0;
}

bool DnsThread::Unlisten(uint32_t id) {
  auto found = sockets_.find(id);
  if (found == sockets_.end()) return false;
  Flush();
  std::unique_ptr<Socket> socket = std::move(found->second);
  sockets_.erase(found);
  epoll_ctl(epoll_, EPOLL_CTL_DEL, socket->fd, nullptr);  // fails where the thread did it already
  Quiesce();
  ::close(socket->fd);
  return true;
}

// Waits until the thread is between two rounds: events that it had fetched are done then.
void DnsThread::Quiesce() {
  uint64_t wanted = wanted_.fetch_add(1, std::memory_order_acq_rel) + 1;
  uint64_t one = 1;
  [[maybe_unused]] ssize_t written = ::write(event_, &one, sizeof(one));
  std::unique_lock<std::mutex> lock(round_mutex_);
  round_.wait(lock, [&] { return rounds_seen_ >= wanted; });
}

// Between two rounds. False: it is over.
bool DnsThread::Rested() {
  uint64_t wanted = wanted_.load(std::memory_order_acquire);
  if (wanted != rounds_seen_) {  // written by this thread alone
    std::lock_guard<std::mutex> lock(round_mutex_);
    rounds_seen_ = wanted;
    round_.notify_all();
  }
  return !is_stopping_.load(std::memory_order_acquire);
}

void DnsThread::Run() noexcept {
  struct epoll_event events[kEventsMax];
  while (Rested()) {
    int count = epoll_wait(epoll_, events, kEventsMax, Discard() ? 0 : -1);
    for (int i = 0; i < count; i++) {
      uint64_t woken;
      if (events[i].data.ptr != nullptr)
        Serve(static_cast<Socket*>(events[i].data.ptr));
      else if (::read(event_, &woken, sizeof(woken)) < 0)
        continue;  // somebody's earlier wake-up was read with this one
    }
  }
}

// Frees a part of what Clear() took out. True: there is more.
bool DnsThread::Discard() noexcept {
  if (discarded_ == nullptr && has_cleared_.exchange(false, std::memory_order_acquire)) {
    std::lock_guard<std::mutex> lock(table_mutex_);
    discarded_ = std::move(cleared_);
  }
  if (discarded_ != nullptr && !discarded_->Discard(kDiscardedAtOnce)) discarded_.reset();
  return discarded_ != nullptr;
}

void DnsThread::Serve(Socket* socket) noexcept {
  Batch& batch = *in_;
  int got = recvmmsg(socket->fd, batch.read, kBatch, MSG_DONTWAIT, nullptr);
  if (got < 0) {
    if (errno == EAGAIN || errno == EINTR || ++socket->failures != kFailuresMax) return;
    uint32_t error = static_cast<uint32_t>(errno);
    epoll_ctl(epoll_, EPOLL_CTL_DEL, socket->fd, nullptr);
    int none = 0;
    Tell(socket, DnsTold::kFailed, error, &none, 1);
    return;
  }
  socket->failures = 0;
  uint64_t start = NowNs();
  int rest[kBatch];  // places; those of plain questions are negative: -1 - place
  int left = 0;
  int answered = AnswerAll(socket, got, rest, &left);
  if (answered > 0) {
    uint64_t took = NowNs() - start;  // as much as any of them waited here
    size_t bucket = 0;
    while (bucket < bounds_us_.size() && took > bounds_us_[bucket] * uint64_t{1000}) bucket++;
    Add(counts_.took[bucket], static_cast<uint64_t>(answered));
    Add(counts_.nanoseconds, took * static_cast<uint64_t>(answered));
    Add(socket->address_bytes == sizeof(struct sockaddr_in6) ? counts_.answered6 : counts_.answered4,
        static_cast<uint64_t>(answered));
    // All sockets wait with it: once, not for each batch of one that stays full.
    socket->is_clogged = !SendAll(socket->fd, batch.sent, answered, socket->is_clogged ? 0 : kRoomWaitMs);
  }
  if (left > 0) Tell(socket, DnsTold::kQuestion, 0, rest, left);
  for (int i = 0; i < got; i++) batch.read[i].msg_hdr.msg_namelen = sizeof(batch.from[i]);
}

int DnsThread::AnswerAll(Socket* socket, int got, int* rest, int* left) {
  Batch& batch = *in_;
  int answered = 0;
  size_t used = 0;
  DnsQuestion question;
  std::lock_guard<std::mutex> lock(table_mutex_);
  for (int i = 0; i < got; i++) {
    if ((batch.read[i].msg_hdr.msg_flags & MSG_TRUNC) != 0) {
      Add(counts_.too_long, 1);
      continue;
    }
    const uint8_t* message = static_cast<const uint8_t*>(batch.places[i].iov_base);
    bool is_plain = socket->is_direct && ReadPlainQuestion(message, batch.read[i].msg_len, udp_size_max_, &question);
    const DnsAnswer* answer = is_plain && !is_paused_ ? table_.Find(question) : nullptr;
    size_t size = 0;
    if (answer != nullptr) {
      uint8_t ip[16];
      AddressBytes(batch.from[i], ip);
      size = WriteDnsAnswer(message, question, *answer, clients_.Has(ip), batch.dice, batch.written.get() + used);
    }
    if (size == 0) {
      rest[(*left)++] = is_plain && answer == nullptr ? -1 - i : i;
      continue;
    }
    batch.Put(answered++, batch.written.get() + used, size, batch.from[i], socket->address_bytes);
    used += size;
  }
  return answered;
}

// What finds no room, also after the wait, is dropped and counted. False: some found none.
bool DnsThread::SendAll(int fd, struct mmsghdr* messages, int count, int wait_ms) noexcept {
  bool has_waited = wait_ms == 0;
  for (int sent = 0; sent < count;) {
    int done = sendmmsg(fd, messages + sent, static_cast<unsigned>(count - sent), MSG_DONTWAIT);
    if (done > 0) {
      sent += done;
      continue;
    }
    if (done < 0 && errno == EINTR) continue;
    if (done < 0 && errno == EAGAIN) {
      struct pollfd room = {fd, POLLOUT, 0};
      if (!has_waited && poll(&room, 1, wait_ms) > 0) {
        has_waited = true;
        continue;
      }
      Add(counts_.unsent, static_cast<uint64_t>(count - sent));
      return false;
    }
    // This one cannot be sent: no route, a firewall, from port 0.
    Add(counts_.unsent, 1);
    sent++;
  }
  return true;
}

void DnsThread::Tell(Socket* socket, DnsTold told, uint32_t error, const int* rest, int count) noexcept {
  Batch& batch = *in_;
  bool was_empty;
  {
    std::lock_guard<std::mutex> lock(queue_mutex_);
    was_empty = queue_.empty();
    for (int i = 0; i < count; i++) {
      try {
        DnsItem item = {told, error, {socket->id, {}}, {}};
        if (told != DnsTold::kFailed) {
          int place = rest[i] < 0 ? -1 - rest[i] : rest[i];
          if (rest[i] < 0) item.told = DnsTold::kUnknown;
          memcpy(item.peer.address, batch.from[place], sizeof(item.peer.address));
          const uint8_t* bytes = static_cast<const uint8_t*>(batch.places[place].iov_base);
          item.message.assign(bytes, bytes + batch.read[place].msg_len);
        }
        queue_.push_back(std::move(item));
      } catch (const std::bad_alloc&) {
        Add(counts_.unread, 1);
      }
      if (queue_.size() <= kQueueMax) continue;
      // The oldest question goes: who sent it waits no longer, or asks again.
      auto oldest = std::find_if(queue_.begin(), queue_.end(),
                                 [](const DnsItem& item) { return item.told != DnsTold::kFailed; });
      if (oldest == queue_.end()) continue;
      queue_.erase(oldest);
      Add(counts_.unread, 1);
    }
  }
  if (was_empty) wake_(context_);
}

bool DnsThread::Take(size_t most, std::vector<DnsItem>* items) {
  items->reserve(most);
  std::lock_guard<std::mutex> lock(queue_mutex_);
  while (items->size() < most && !queue_.empty()) {
    items->push_back(std::move(queue_.front()));
    queue_.pop_front();
  }
  return !queue_.empty();
}

void DnsThread::Lose(size_t items) { Add(counts_.unread, items); }

void DnsThread::Send(const DnsPeer& peer, const uint8_t* bytes, size_t size) {
  auto found = sockets_.find(peer.socket);
  sa_family_t family;
  memcpy(&family, peer.address, sizeof(family));
  bool fits = found != sockets_.end() && size <= kDatagramBytes &&
              (family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in)) ==
                  found->second->address_bytes;
  if (!fits) {
    Add(counts_.unsent, 1);
    return;
  }
  Batch& batch = *out_;
  if (batch.waiting == kBatch || batch.fd != found->second->fd || batch.used + size > 2 * kDatagramBytes) Flush();
  uint8_t* copy = batch.written.get() + batch.used;
  memcpy(copy, bytes, size);
  memcpy(batch.from[batch.waiting], peer.address, sizeof(peer.address));
  batch.fd = found->second->fd;
  batch.Put(batch.waiting, copy, size, batch.from[batch.waiting], found->second->address_bytes);
  batch.used += size;
  batch.waiting++;
}

void DnsThread::Flush() {
  Batch& batch = *out_;
  if (batch.waiting > 0) SendAll(batch.fd, batch.sent, batch.waiting, 0);  // the loop waits for nobody
  batch.waiting = 0;
  batch.used = 0;
}

bool DnsThread::Set(const DnsRecords& records) {
  std::lock_guard<std::mutex> lock(table_mutex_);
  return table_.Set(records);
}

void DnsThread::Forget(const uint8_t* name, size_t bytes) {
  std::lock_guard<std::mutex> lock(table_mutex_);
  table_.Forget(name, bytes);
}

void DnsThread::Clear() noexcept {
  std::unique_ptr<DnsTable> old, before;
  try {
    old.reset(new DnsTable);
  } catch (const std::bad_alloc&) {
    std::lock_guard<std::mutex> lock(table_mutex_);
    table_.Clear();
    return;
  }
  {
    std::lock_guard<std::mutex> lock(table_mutex_);
    table_.Swap(*old);
    before = std::move(cleared_);  // the thread did not get to it yet: freed here, so that they never pile up
    cleared_ = std::move(old);
  }
  has_cleared_.store(true, std::memory_order_release);
  uint64_t one = 1;
  [[maybe_unused]] ssize_t written = ::write(event_, &one, sizeof(one));
}

void DnsThread::Pause(bool is_paused) {
  std::lock_guard<std::mutex> lock(table_mutex_);
  is_paused_ = is_paused;
}

void DnsThread::Allow(DnsClients clients) {
  std::lock_guard<std::mutex> lock(table_mutex_);
  clients_ = std::move(clients);
}

size_t DnsThread::answers() {
  std::lock_guard<std::mutex> lock(table_mutex_);
  return table_.size();
}

}  // namespace zbpf
