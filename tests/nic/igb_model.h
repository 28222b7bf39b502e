// The chips of the igb family in the process: for what QEMU's 82576 never does, and for the chips that QEMU
// does not have. From the datasheets' description of the device, as far as a driver for capturing uses it:
// queues that must be switched on, lengths that are checked, frames without a descriptor that are dropped and
// counted or wait, semaphores, a PHY, RSS. See model.h; one thread.
#pragma once

#include <map>
#include <span>

#include "tests/nic/flows.h"
#include "tests/nic/model.h"

namespace ringcap::nic {

struct IgbKind {
  const char* name;
  uint16_t device;
  uint32_t queues;
  uint32_t vectors;
  bool vectors_by_pairs;  // IVAR: two queues a word
  bool crc_by_queue;      // DVMOLR.STRCRC
  bool drops_keep;        // RQDPC is not cleared by reading
  bool stamps;            // "Packet Timestamp": 16 bytes before each frame
  bool seconds;           // the clock counts seconds and nanoseconds, not 40 bits of nanoseconds
};
std::span<const IgbKind> igb_kinds();

class IgbChip final : public Chip {
 public:
  explicit IgbChip(const IgbKind& which);
  const IgbKind& kind;

  // As from the wire: checked for its length, counted (GPRC, ROC, MPC, RQDPC), and written to the queue.
  bool deliver(const std::vector<uint8_t>& frame, const WriteBack& how = {}, uint32_t queue = 0) override;
  // The same, to the queue that RSS chooses, which it returns.
  uint32_t deliver_flow(const Flow& flow, const std::vector<uint8_t>& frame);
  // The vector that queue `queue`'s frames are routed to; -1: none.
  int vector_of(uint32_t queue);

  std::map<uint32_t, uint16_t> phy{{0, 0x1140}, {1, 0x7969 | 1 << 5}, {4, 0x01e1}};
  uint32_t negotiations = 0;
  uint32_t stuck_queue = ~0u;  // does not switch on
  ChipClock clock;
  bool forgets_stamps = false;  // frames come without

  uint32_t read(uint32_t offset) override;
  void write(uint32_t offset, uint32_t value) override;

 private:
  void reset() override;
  void check_sent(uint64_t word) override;
  void run_mdic(uint32_t command);
  void lose(uint32_t queue);
  bool stamps(uint32_t queue);
};

}  // namespace ringcap::nic
