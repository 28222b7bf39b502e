// Client: one attached consumer, in C++. ringcap.h is the same thing for C. One thread at a time, but
// stats() and break_loop(), which any thread and signal handlers may call.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "capture/base/error.h"
#include "capture/base/fd.h"
#include "capture/base/mapping.h"
#include "capture/cluster/kind.h"
#include "capture/filter/program.h"
#include "capture/layout/layout.h"
#include "capture/message/message.h"
#include "libcap/client/gather.h"
#include "libcap/client/rings.h"

namespace ringcap::client {

struct ClientOptions {
  std::string program;      // "": this program's name
  uint32_t ring_slots = 0;  // 0: the engine's default
  bool allow_smaller = false;
  bool merge = false;
  std::vector<filter::Instruction> filter;
  int32_t wait_ms = 0;  // for the engine to appear; -1: for ever
  uint32_t merge_wait_ms = 10;
  std::optional<cluster::Kind> kind = {};  // that the cluster must have
  std::optional<cluster::Level> level = {};
  // Fewer wake-ups: take() that found nothing, shortly after it gave frames, sleeps until a ring has so many
  // (at most a quarter of it, at most `max`) or for batch_ms. 0: until there is one.
  uint32_t batch_frames = 0;
  uint32_t batch_ms = 10;
  // Tells the engine at the end. False: the socket's last copy tells, so that after fork() either process may
  // go on when the other has closed.
  bool detach = true;
};

struct Stats {
  uint64_t considered = 0, not_matched = 0, offered = 0, published = 0, dropped = 0, released = 0,
           in_ring = 0, late = 0, missed = 0;
};

enum class Taken { kFrames, kTimeout, kEnd, kBreak, kError };

struct FrameBurst {
  const layout::Descriptor* frames = nullptr;
  uint32_t count = 0;
  uint32_t ring = 0;  // kMerged: gathered
  uint64_t position = 0;
};

class Client {
 public:
  static constexpr uint32_t kMerged = ~uint32_t{0};
  static constexpr uint32_t kMaxBurst = 4096;

  // `consumed`: NAME[@CLUSTER[/MEMBER]].
  static Result<std::unique_ptr<Client>> attach(const std::string& consumed, const ClientOptions& options);
  // Over a connected control socket (an engine in this process).
  static Result<std::unique_ptr<Client>> attach_socket(Fd socket, const ClientOptions& options,
                                                       const std::string& cluster = {},
                                                       const std::string& member = {});
  ~Client();

  // See ringcap_take(). After kError, error() says what happened.
  Taken take(uint32_t max, int timeout_ms, FrameBurst& burst);
  bool give_back(const FrameBurst& burst);
  // Another filter (empty: every frame) for all that take() gives from now on, what is in the rings already
  // included. Bursts that are out stay valid. Waits until every worker goes by it (milliseconds). On an error
  // the old one stays. Errors: kFilter (not valid), kGone, kSystem (no answer).
  // `outgoing`: for the frames that the host sent, where that is another one than for those it received.
  Result<void> set_filter(const std::vector<filter::Instruction>& filter,
                          const std::optional<std::vector<filter::Instruction>>& outgoing = std::nullopt);
  // The engine's answer to the wish to send over this connection: granted or refused (Sender::open()).
  Result<message::Received> ask_to_send(uint32_t port, uint32_t frames);
  int socket() const { return socket_.get(); }
  int selectable_fd();
  // Of the last burst, the caller has frames left that it has not looked at: the selectable descriptor is
  // readable as long as that is so.
  void keep_ready(bool frames_left);
  // Sleeps until a ring holds `frames` frames more than were taken, at most `ms`; less when break_loop() is
  // called or the engine ends. For who takes many at a time.
  void settle(uint32_t frames, int ms);
  void break_loop();
  Stats stats() const;

  const std::byte* frame(const layout::Descriptor& d) const {
    return arena_.data() + layout::frame_offset(d);
  }
  const std::byte* arena() const { return arena_.data(); }
  uint64_t arena_bytes() const { return attached_.arena_bytes; }
  const layout::Header& header() const { return *state_.at<const layout::Header>(0); }
  const Error& error() const { return error_; }
  uint32_t slot() const { return attached_.slot; }
  uint32_t ring_slots() const { return attached_.ring_slots; }
  uint32_t rings() const { return attached_.workers; }
  uint64_t id() const { return attached_.id; }
  uint32_t link_type() const;

 private:
  Client() = default;
  Result<void> greet(const ClientOptions& options, const std::string& cluster, const std::string& member);
  Result<message::Received> answer();
  Result<void> map(std::vector<Fd>& fds);
  Result<void> make_wake_fds();
  uint32_t look(uint32_t max, bool flush, FrameBurst& burst);
  uint32_t look_direct(uint32_t max, FrameBurst& burst);
  void read_socket();
  void on_packet(message::Received received);
  Result<message::Received> later_answer();
  Result<message::Received> wait_for_answer();
  std::string why_detached() const;
  bool sources_ended() const;
  Taken nothing_left();
  void sleep(uint32_t max, int timeout_ms);
  void wait(int timeout_ms);
  void update_selectable();
  void signal_ready(bool ready);
  bool descriptors_are_ours() const;

  Fd socket_, break_fd_, ready_fd_, epoll_;
  uint64_t socket_inode_ = 0;
  bool detach_ = true;
  message::Attached attached_;
  Mapping state_, arena_;
  Rings rings_;
  std::optional<Gather> gather_;
  bool gathering_ = false;                         // bursts come from gather_, else from the rings directly
  std::optional<message::Received> later_answer_;  // to what we asked for after we attached
  uint32_t next_ring_ = 0;
  uint32_t batch_frames_ = 0;  // 0 or 1: every frame wakes us
  int batch_ms_ = 0;
  bool flowing_ = false;  // frames came, and since then we did not sleep for a batch in vain
  bool selectable_ = false;
  bool ready_signalled_ = false;
  bool frames_left_ = false;  // see keep_ready()
  bool closed_ = false;       // the engine closed the socket
  std::atomic<bool> break_{false};
  Error error_;
};

// Replaces the filter of an engine (`cluster` empty) or of one of its clusters; waits until every worker goes
// by it. Errors: kPermission, kFilter, kNotFound.
Result<void> replace_filter(const std::string& engine, const std::string& cluster,
                            const std::vector<filter::Instruction>& filter);
// For Sender::open(): a connection that may send and takes no frames, and the engine's state.
struct Joined {
  Fd socket;
  Mapping state;
};
Result<Joined> join_as_sender(const std::string& engine, const std::string& program);
Result<message::Received> ask_to_send(int socket, uint32_t port, uint32_t frames);
// An observer: the engine's state memory, to read its ledger. Closed with the mapping.
Result<Mapping> observe(const std::string& engine);
// Asks an engine to end, and waits until it has (its lock is free), at most `wait_ms`.
Result<void> stop_engine(const std::string& engine, int wait_ms);

}  // namespace ringcap::client
