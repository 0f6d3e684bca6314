// A thread that reads UDP sockets in batches, answers the plain DNS questions that it has an answer to, and keeps
// the rest for JavaScript. Knows no N-API; dns.cc is the door.
//
// Who may touch what: all public functions are called from one thread, that of the event loop. It alone opens and
// closes sockets. The table, the clients and whether it is paused are read and written under table_mutex_, which
// the thread holds only while it looks answers up (never while it reads or sends), so that what a call changes
// holds for every question that is read after it returned, and no writer waits for more than one batch; nor does
// a batch wait for more than one name: what Clear() took out is freed by the thread, between its rounds. What is
// kept for JavaScript is under queue_mutex_. Counters are atomics that only ever grow. A socket is closed when the
// thread was seen between two rounds (see Quiesce): it has no reference to it then.
#pragma once

#include <netinet/in.h>
#include <stdint.h>
#include <sys/socket.h>

#include <atomic>
#include <condition_variable>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "dns_answer.h"

namespace zbpf {

// Where an answer goes: opaque to JavaScript, which gives it back as it came.
struct DnsPeer {
  uint32_t socket;
  uint8_t address[28];  // sockaddr_in or sockaddr_in6
};
static_assert(sizeof(DnsPeer) == 32 && sizeof(struct sockaddr_in6) == 28, "as addon/dns.ts has it");

enum class DnsTold : uint32_t {
  kQuestion = 0,  // or anything else that came
  kUnknown = 1,   // a plain question whose answer is not in the table
  kFailed = 2,    // the socket cannot be read any more; `error` says why
};

struct DnsItem {
  DnsTold told;
  uint32_t error;
  DnsPeer peer;
  std::vector<uint8_t> message;
};

struct DnsListen {
  struct sockaddr_storage address;
  bool is_direct;  // whether questions are answered here
  uint32_t receive_bytes, send_bytes;
};

class DnsThread {
 public:
  static constexpr size_t kBoundsMax = 32;
  // Of a datagram that comes in. A question with a name of 255 bytes has 271, and 16 with an OPT record; the rest
  // is for options of EDNS. A guess: padding fills up to 468 (RFC 8467, 4.1).
  static constexpr size_t kReadBytesMax = 4096;
  // What waits for JavaScript: at most 16 MiB, as each has at most kReadBytesMax; mostly 50 bytes.
  static constexpr size_t kQueueMax = 4096;

  struct Counts {
    std::atomic<uint64_t> answered4{0}, answered6{0}, unread{0}, unsent{0}, too_long{0}, nanoseconds{0};
    std::atomic<uint64_t> took[kBoundsMax + 1] = {};
  };

  // `wake` is called by the thread when something waits in an empty queue, never after Stop().
  DnsThread(size_t udp_size_max, std::vector<uint32_t> bounds_us, void (*wake)(void*), void* context);
  ~DnsThread();
  int Start();  // 0 or an errno, as of Listen
  void Stop() noexcept;
  int Listen(const DnsListen& listen, uint32_t* id, uint16_t* port);
  bool Unlisten(uint32_t id);
  // Gathers answers of JavaScript; Flush() sends them. What cannot be sent is counted.
  void Send(const DnsPeer& peer, const uint8_t* bytes, size_t size);
  void Flush();
  // Moves at most `most` items; true: there are more.
  bool Take(size_t most, std::vector<DnsItem>* items);
  // Of what Take() gave, so many came to nobody.
  void Lose(size_t items);

  bool Set(const DnsRecords& records);
  void Forget(const uint8_t* name, size_t bytes);
  void Clear() noexcept;
  void Pause(bool is_paused);
  void Allow(DnsClients clients);
  size_t answers();
  const Counts& counts() const { return counts_; }

 private:
  struct Socket {
    int fd;
    uint32_t id;
    bool is_direct;
    socklen_t address_bytes;
    int failures;     // the thread's, as is the next
    bool is_clogged;  // a wait for room was in vain: none until a batch went through
  };
  struct Batch;

  void Run() noexcept;
  bool Rested();
  void Quiesce();
  void Serve(Socket* socket) noexcept;
  bool Discard() noexcept;
  int AnswerAll(Socket* socket, int got, int* rest, int* left);
  bool SendAll(int fd, struct mmsghdr* messages, int count, int wait_ms) noexcept;
  void Tell(Socket* socket, DnsTold told, uint32_t error, const int* rest, int count) noexcept;

  const size_t udp_size_max_;
  const std::vector<uint32_t> bounds_us_;
  void (*const wake_)(void*);
  void* const context_;

  int epoll_ = -1, event_ = -1;
  std::thread thread_;
  std::map<uint32_t, std::unique_ptr<Socket>> sockets_;
  uint32_t next_id_ = 1;
  std::unique_ptr<Batch> in_;   // the thread's
  std::unique_ptr<Batch> out_;  // what Send() gathers

  std::atomic<bool> is_stopping_{false};
  std::atomic<uint64_t> wanted_{0};
  std::mutex round_mutex_;
  std::condition_variable round_;
  uint64_t rounds_seen_ = 0;  // under round_mutex_

  std::mutex table_mutex_;
  DnsTable table_;
  DnsClients clients_;
  bool is_paused_ = false;
  std::unique_ptr<DnsTable> cleared_;    // what Clear() took out, under table_mutex_
  std::atomic<bool> has_cleared_{false};
  std::unique_ptr<DnsTable> discarded_;  // the thread's, which frees it

  std::mutex queue_mutex_;
  std::deque<DnsItem> queue_;

  Counts counts_;
};

}  // namespace zbpf
