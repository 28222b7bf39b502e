// Sender: one client that may send, as the forwarder that serves it sees it. Its memory is hostile input: the
// engine maps it read-only, reads each request once into locals, checks it, and copies the frame before
// anything looks at it; what changes meanwhile can spoil that frame and nothing else.
//
// A sender's life:
//   from     to       who              why
//   -        open     control thread   a client asked, and may
//   open     closing  control thread   its socket closed; what it asked for before is still sent
//   closing  gone     forwarder        all of that is sent, or kPatienceNs are over (the rest is dropped)
//   open     gone     forwarder        the count of requests makes no sense (misbehaved())
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>

#include "capture/base/error.h"
#include "capture/base/fd.h"
#include "capture/base/mapping.h"
#include "capture/layout/layout.h"

namespace ringcap::engine {

struct SenderSetup {
  uint64_t id = 0;
  uint32_t slots = 0;       // a power of two
  uint32_t slot_bytes = 0;  // longest frame, and frames' area / slots
  uint64_t rate = 0;        // frames a second that it may send; 0: as many as it likes
  layout::SenderEntry* entry = nullptr;
  Mapping memory;  // read-only
};

class Sender {
 public:
  static constexpr uint64_t kPatienceNs = 1'000'000'000;

  explicit Sender(SenderSetup setup);
  ~Sender() = default;

  // ---- the forwarder's thread

  // How many requests wait, at most `limit`, and as far as its credit goes. 0 and misbehaved() if their count
  // makes no sense.
  uint32_t waiting(uint32_t limit, uint64_t now_ns);
  // Copies the next request's frame to `to` and returns its length; 0: it was refused. Moves on either way.
  uint32_t take(std::span<std::byte> to);
  // What became of frames that were taken.
  void sent(uint64_t bytes);
  void dropped();
  void drop_pending();  // all that were taken and that nothing became of yet
  void write();         // the ledger
  bool misbehaved() const { return misbehaved_; }
  // Closing, or misbehaved, and nothing of it is left to be sent.
  bool finished(uint64_t now_ns);
  // Nothing of it will be looked at again.
  void let_go() { gone_.store(true, std::memory_order_release); }  // pairs with gone()
  void set_asleep(bool asleep) { setup_.entry->sleeps.store(asleep ? 1 : 0, std::memory_order_relaxed); }
  // Whether it asks for something now; pairs with the fence between set_asleep() and this.
  bool asks() const;
  // Whether it was closed, and finished() has not been asked since.
  bool closes() const { return closing_since_ns_ == 0 && closing_.load(std::memory_order_acquire); }
  // When its credit allows the next frame; 0: now.
  uint64_t next_credit_ns() const { return next_credit_ns_; }
  int bell() const { return bell_.get(); }

  // ---- the control thread

  void close() { closing_.store(true, std::memory_order_release); }
  bool gone() const { return gone_.load(std::memory_order_acquire); }
  uint64_t id() const { return setup_.id; }
  layout::SenderEntry& entry() { return *setup_.entry; }
  // The eventfd that the client writes to when the forwarder sleeps.
  Result<void> make_bell();

 private:
  uint64_t produced() const;
  uint64_t allowed(uint64_t asked, uint64_t now_ns);
  void drop_rest();

  SenderSetup setup_;
  Fd bell_;
  std::atomic<bool> closing_{false};
  std::atomic<bool> gone_{false};
  bool misbehaved_ = false;
  bool changed_ = true;
  uint64_t consumed_ = layout::kFirstPosition;
  uint64_t closing_since_ns_ = 0;
  uint64_t credit_at_ns_ = 0;  // when credit was counted last
  uint64_t credit_ = 0;        // frames times 1e9
  uint64_t next_credit_ns_ = 0;
  uint64_t asked_ = 0, refused_ = 0, sent_ = 0, dropped_ = 0, limited_ = 0, bytes_ = 0;
};

}  // namespace ringcap::engine
