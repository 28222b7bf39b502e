// Consumers for system tests: processes of their own that attach through libringcap, take the frames of a
// `gen:` port, check their sequence numbers, and say how far they are; and a client that speaks the protocol
// by hand, to say what libringcap never would.
//
// Called by the test's main thread. A Consumer is forked, so nothing that the test holds open is open in it.
// What it reports lies in memory that test and consumer share; it stays readable when the consumer dies.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "capture/base/fd.h"
#include "capture/base/mapping.h"
#include "capture/layout/layout.h"
#include "capture/ledger/ledger.h"
#include "capture/message/message.h"
#include "libcap/client/ringcap.h"
#include "tests/system/harness.h"

namespace ringcap::test {

// Follows the sequence numbers of `gen:` frames, queue by queue, from each queue's first frame (0) on.
class SequenceCheck {
 public:
  // `from_start` false: the first frame of each queue may have any number.
  explicit SequenceCheck(bool from_start = true) : from_start_(from_start) {}
  void look(const ringcap_burst& burst);

  uint64_t frames = 0;
  uint64_t lost = 0;         // by lost_before
  uint64_t unexplained = 0;  // numbers that are missing beyond that: lost by the port, or by a bug
  uint64_t backwards = 0;    // numbers that came twice or too late
  uint64_t time_went_back = 0;

 private:
  bool from_start_;
  std::map<uint8_t, uint64_t> next_;  // by queue
  uint64_t last_ns_ = 0;
};

// What a consumer's process reports. Written by the consumer, but `stop`.
struct Progress {
  std::atomic<bool> stop;  // written by the test: detach and end
  std::atomic<bool> attached;
  std::atomic<bool> holding;  // has taken what it is to hold, and will give nothing back
  std::atomic<uint64_t> frames, lost, unexplained, backwards, time_went_back;
  std::atomic<uint64_t> rounds;   // whatever the body counts
  std::atomic<uint64_t> dropped;  // by ringcap_stats(), at the end
  std::atomic<int> result;        // the last result of attaching or taking
  char text[512];                 // of the last error

  void take_over(const SequenceCheck& check);
  void take_over(const ringcap_error& error);
};

class Consumer {
 public:
  using Body = std::function<void(Progress&)>;
  // Forks; the child runs `body` and ends with status 0. SIGKILLed with the test, or by the destructor.
  explicit Consumer(const Body& body);
  ~Consumer();
  Consumer(Consumer&&) noexcept;
  Consumer& operator=(Consumer&&) = delete;

  pid_t pid() const { return pid_; }
  Progress& progress() const { return *progress_; }
  void signal(int number) const;
  void kill();  // SIGKILL, and reaped
  // Asks it to end, and waits. Its exit status, or 128 + the signal.
  int stop();
  int wait();

 private:
  pid_t pid_;
  Mapping memory_;
  Progress* progress_;
  std::optional<int> status_;
};

struct Following {
  std::string engine;
  uint32_t ring_frames = 0;
  uint32_t flags = 0;
  uint64_t hold = 0;       // after so many frames: give nothing back and wait for death; 0: give all back
  bool from_start = true;  // attached before the port started
  std::vector<ringcap_instruction> filter = {};
};
// Attaches, takes, checks and gives back until it is to stop, or ringcap_take() says that it is over.
Consumer::Body follow(Following following);
// Starts `count` of them and waits until all have attached.
std::vector<Consumer> start_followers(size_t count, const Following& following);
// Waits until the consumer has taken so many frames. False: it did not in time, or ended.
bool took(Consumer& consumer, uint64_t frames);

// An attached consumer in this process, through libringcap. Throws where it cannot attach.
class Attachment {
 public:
  explicit Attachment(const std::string& engine, ringcap_options options = RINGCAP_OPTIONS_INIT);
  ringcap_t* get() const { return handle_.get(); }
  ringcap_counters counters() const;
  void detach() { handle_.reset(); }

 private:
  std::unique_ptr<ringcap_t, decltype(&ringcap_detach)> handle_;
};

// A consumer's hello that asks for a ring of so many frames.
message::Hello asking(uint32_t ring_slots, std::string program = "raw",
                      std::vector<filter::Instruction> filter = {});

// A control socket, and what it takes to say anything on it.
class RawClient {
 public:
  explicit RawClient(const std::string& engine);

  int socket() const { return socket_.get(); }
  void say(std::span<const std::byte> packet) const;
  void say(const message::Hello& hello) const { say(message::encode(hello)); }
  // The next message; empty bytes: the engine closed the connection. Throws when nothing comes in time.
  message::Received hear() const;
  // The reason of the next message, which is to be kRefused or kDetached. Wake-ups before it are skipped.
  Error hear_error() const;
  void close() { socket_.reset(); }

  // Says hello as a consumer and maps what it gets. Throws when it is refused.
  void attach(message::Hello hello = {});
  const message::Attached& attached() const { return attached_; }
  layout::ControlLine& control(uint32_t worker = 0) const {
    return control_.at<layout::ControlLine>(0)[worker];
  }
  uint64_t head(uint32_t worker = 0) const {
    return rings_.at<const layout::RingLine>(0)[worker].head.load(std::memory_order_acquire);
  }
  // state, arena, rings, control: as they came.
  const std::vector<Fd>& fds() const { return fds_; }

 private:
  Fd socket_;
  message::Attached attached_;
  std::vector<Fd> fds_;
  Mapping rings_, control_;
};

// ---- what a test asks of an engine's ledger --------------------------------------------------------

// What `ringcap stat` reads, read here: fewer processes. Throws where the engine does not answer.
ledger::Ledger ledger_of(const Engine& engine);
// Over all workers; over all queues.
uint64_t sum_of(const ledger::Ledger& ledger, uint64_t ledger::Worker::* counter);
uint64_t sum_of(const ledger::Ledger& ledger, uint64_t ledger::Queue::* counter);
// Frames that no consumer could see because they were lost before: missed and no_buffer.
uint64_t lost_before_consumers(const ledger::Ledger& ledger);
// Waits until that process is an attached consumer; until it has given back so many frames.
bool has_attached(const Engine& engine, pid_t pid);
bool has_released(const Engine& engine, pid_t pid, uint64_t released);
// Waits until no consumer is left and every buffer is free or with the port. "" then, else the table.
std::string not_come_back(const Engine& engine);

// What of a process may leak.
struct Belongings {
  size_t descriptors;
  size_t mappings;
  uint64_t resident_kb;
};
Belongings belongings_of(pid_t pid);
// "" if the process has no more descriptors than before (waits for it) and little more mappings and memory:
// repeat what may leak often enough.
std::string leaked(pid_t pid, const Belongings& before, uint64_t more_kb = 4096);

}  // namespace ringcap::test
