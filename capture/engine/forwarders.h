// Forwarders: what an engine sends, and for whom. Makes the forwarder threads, one per transmit queue in use,
// the rings through which workers hand them frames, and the senders' memory. Control thread, but where it
// says otherwise.
//
// Which transmit queue: a receive queue's frames go to the transmit queue of its number (modulo how many
// there are), so a flow, which stays on its receive queue, keeps its transmit queue and its order. A sender
// has the queue of the processor that it opened on.
#pragma once

#include <sys/socket.h>

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "capture/base/error.h"
#include "capture/base/fd.h"
#include "capture/engine/forwarder.h"
#include "capture/engine/plan.h"
#include "capture/engine/sender.h"
#include "capture/engine/state.h"
#include "capture/memory/shared_memory.h"
#include "capture/message/message.h"
#include "capture/port/port.h"

namespace ringcap::engine {

// Frames that port `from` received are sent on port `to`.
struct Forward {
  uint32_t from = 0;
  uint32_t to = 0;
  Filter filter = {};  // empty: every frame
};

// Who may send, besides root and the engine's user.
struct SendOptions {
  std::optional<uint32_t> group;  // gid; empty: nobody else
  uint64_t rate = 0;              // frames a second for each sender; 0: no limit
};

inline constexpr uint32_t kMaxForwards = 32;
// Memory for senders' frames on their way, of each transmit queue: whole hugepages.
inline constexpr uint64_t kSendRegionBytes = uint64_t{2} << 20;

struct ForwardersSetup {
  State* state = nullptr;
  std::string engine;
  std::vector<Port*> ports;
  std::vector<StateSource> sources;
  std::vector<Forward> forwards;
  std::optional<SendOptions> send;   // empty: nobody may send
  std::vector<Region> send_regions;  // one for each place of send_places()
  const std::byte* arena = nullptr;
  uint32_t ring_slots = 0;
  Poll poll = Poll::kAdaptive;
};

// Transmit queues that senders may use: port and queue. One region each.
std::vector<std::pair<uint32_t, uint32_t>> send_places(const std::vector<Port*>& ports);
// What goes into the state: a line for each ring of each forward, in the order in which Forwarders makes
// them.
std::vector<StateForwarder> forward_lines(const std::vector<Forward>& forwards,
                                          const std::vector<Port*>& ports,
                                          const std::vector<StateSource>& sources);
// kUsage: a port that cannot send, that is sent back to itself, or a pair that is there already.
Result<void> check_forwards(const std::vector<Forward>& forwards, const std::vector<Port*>& ports);

class Forwarders {
 public:
  static Result<std::unique_ptr<Forwarders>> create(ForwardersSetup setup);
  ~Forwarders() { stop(); }

  void start();
  // Lets them send what is in their rings, for a moment; then they have ended. Idempotent.
  void stop();

  // The rings and filters of all forwards.
  void fill(Plan& plan) const;
  // From the next plan on.
  void set_filter(uint32_t forward, Filter filter) { setup_.forwards[forward].filter = std::move(filter); }

  // A sender for `peer`; the descriptors are valid until the next call. Errors: kPermission, kUsage, kSystem.
  struct Grant {
    message::SendGranted granted;
    Fd memory;
    int bell = -1;
  };
  Result<Grant> open_sender(const message::SendOpen& open, int socket, const ucred& peer,
                            const std::string& name);
  void close_sender(uint64_t id);
  // Some times a second: frees the places of senders that are gone, logs those that misbehaved and, a line
  // each at most every ten seconds (`all`: now), what forwards lost.
  void tick(bool all = false);
  bool sends() const { return setup_.send.has_value(); }

 private:
  struct Place {  // a transmit queue and the thread that owns it
    uint32_t port = 0, queue = 0;
    std::unique_ptr<Forwarder> forwarder;
    Fd wake_socket;  // the workers' end
    std::thread thread;
  };
  struct Ring {
    std::unique_ptr<TakerRing> taker;
    std::unique_ptr<layout::Descriptor[]> slots;
    std::unique_ptr<layout::RingLine> line;
    std::unique_ptr<layout::ControlLine> control;
    uint32_t forward = 0, worker = 0;
  };

  explicit Forwarders(ForwardersSetup setup) : setup_(std::move(setup)) {}
  Result<void> make();
  Result<void> make_place(uint32_t port, uint32_t queue);
  Ring make_ring(const StateForwarder& line, uint32_t forward);
  Result<void> may_send(int socket, const ucred& peer) const;
  Result<Place*> place_for(const message::SendOpen& open);
  Result<uint32_t> free_entry();
  void log_losses(bool all);

  ForwardersSetup setup_;
  std::vector<StateForwarder> lines_;
  std::vector<Ring> rings_;
  std::vector<Place> places_;
  struct Open {
    std::shared_ptr<Sender> sender;
    uint32_t entry = 0;
    std::string name;
  };
  std::map<uint64_t, Open> senders_;
  struct Losses {
    uint64_t dropped = 0, refused = 0;
    uint64_t logged_at_ns = 0;
  };
  std::vector<Losses> losses_;  // by forward, as they were logged last
  uint64_t next_sender_ = 1;
};

}  // namespace ringcap::engine
