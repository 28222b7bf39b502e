// Forwarder: the one thread that owns a transmit queue and everything that is sent on it: frames of rings (a
// bridge, re-injection) and frames that senders ask for. It is a taker inside the engine, with the same
// rings, reservation, filter and ledger as a consumer: when the queue is slower than what comes, its rings
// fill, and what finds no room is dropped for it alone.
//
// A frame's way through it:
//   of a ring     it stays where it was received; the ring's cursor moves when the port is done with it, and
//                 the worker then frees the buffer
//   of a sender   its request is read once and checked, its bytes copied once into a buffer of the
//                 forwarder's own region, which is free again when the port is done with it
//
// What clients can touch of it is their memory (sender.h) and their bell, an eventfd: neither can make it
// wait, and a client that dies takes its socket along, upon which the control thread closes its sender.
//
// Made by the control thread; run() is the thread's body; request_stop(), wake() and add() may be called by
// any thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "capture/base/fd.h"
#include "capture/engine/sender.h"
#include "capture/engine/taker.h"
#include "capture/engine/worker.h"
#include "capture/layout/layout.h"
#include "capture/port/port.h"

namespace ringcap::engine {

// One worker's ring, as the forwarder that reads it sees it.
struct ForwardRing {
  layout::Descriptor* slots = nullptr;
  layout::RingLine* line = nullptr;
  layout::ControlLine* control = nullptr;
  uint64_t mask = 0;
  layout::ForwarderEntry* entry = nullptr;
};

struct ForwarderSetup {
  std::vector<ForwardRing> rings;  // at most kMaxRings
  TransmitQueue* queue = nullptr;
  const std::byte* arena = nullptr;
  Region region;  // for senders' frames; empty where nobody may send
  Poll poll = Poll::kAdaptive;
  int cpu = -1;
  Fd wake_socket;  // readable when a worker wakes it
  uint64_t longest_sleep_ns = 1'000'000'000;
  std::string thread_name;
};

class Forwarder {
 public:
  static constexpr uint32_t kMaxRings = 128;

  explicit Forwarder(ForwarderSetup setup);

  // The thread's body: rounds until request_stop(); then what is in its rings is sent, as long as that
  // takes at most kLastNs.
  void run();
  void request_stop();
  void wake();

  // Control thread: the sender's requests are served from now on.
  void add(std::shared_ptr<Sender> sender);

  // One round; returns how many frames it moved on. run() calls it; tests may, instead of run().
  uint32_t round();

 private:
  struct Input {
    ForwardRing ring;
    uint64_t next = layout::kFirstPosition;  // to be given to the port
    uint64_t done = layout::kFirstPosition;  // everything before it is sent or refused: the cursor
    std::unique_ptr<uint8_t[]> finished;     // by slot, between done and next
    uint64_t sent = 0, refused = 0, bytes = 0;
    uint64_t to_refuse = 0;       // the port refused so many of those that it has not given back yet
    uint64_t end = ~uint64_t{0};  // nothing from here on is sent: set when it is to end
    bool changed = false;
  };
  struct Served {
    std::shared_ptr<Sender> sender;
    uint64_t to_refuse = 0;
    std::vector<TransmitFrame> held = {};  // read, and the port had no room for them yet
    bool over = false;                     // its ledger is closed
  };
  struct Owned {
    std::shared_ptr<Served> served;
    uint32_t length = 0;
  };

  void finish();
  uint32_t forward(uint32_t number);
  uint32_t give(std::span<const TransmitFrame> frames, uint64_t& refused);
  uint32_t complete();
  void complete_ring(Input& input, uint32_t slot);
  void complete_own(uint32_t buffer);
  static void advance(Input& input);
  static void write(Input& input);
  void refresh_senders();
  uint32_t serve_all();
  uint32_t serve(const std::shared_ptr<Served>& served, uint64_t now_ns);
  uint32_t give_held(Served& served);
  void close(Served& served);
  bool nothing_left() const;
  bool may_sleep();
  bool work_waits() const;
  uint64_t patience_ns();
  void sleep();

  ForwarderSetup setup_;
  std::vector<Input> inputs_;
  std::vector<std::shared_ptr<Served>> senders_;
  std::vector<TransmitFrame> frames_;
  FreeBuffers free_;          // of setup_.region
  std::vector<Owned> owned_;  // by buffer of setup_.region
  uint32_t first_ = 0;        // inputs and senders take turns at being first
  uint64_t in_flight_ = 0;    // given to the port, not completed
  uint64_t idle_since_ns_ = 0;
  uint64_t nap_ns_ = 0;
  bool full_ = false;  // the port did not take all that it was offered in this round

  std::atomic<bool> stop_{false};
  std::atomic<bool> asleep_{false};
  Fd wake_fd_;

  std::mutex news_mutex_;  // add() against refresh_senders()
  std::vector<std::shared_ptr<Sender>> news_;
  std::atomic<bool> has_news_{false};
};

}  // namespace ringcap::engine
