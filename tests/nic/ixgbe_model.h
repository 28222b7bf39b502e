// An 82599, X540 or X550 in the process: QEMU has none of them. From the datasheets' description of the
// device (section names beside what they are about), as far as a driver for capturing uses it, and not from
// the driver. See model.h; one thread.
#pragma once

#include <map>
#include <span>

#include "tests/nic/flows.h"
#include "tests/nic/model.h"

namespace ringcap::nic {

struct IxgbeKind {
  const char* name;
  uint16_t device;
  uint32_t receive_kib;  // packet buffer
  bool copper;           // its PHY is on the chip
  bool wide_table;       // RSS: 512 entries of 6 bits
  bool regsmp;           // SW_FW_SYNC has a semaphore of its own
  bool stamps;           // "Time Stamp in Packet": 8 bytes behind each frame
};
std::span<const IxgbeKind> ixgbe_kinds();

class IxgbeChip final : public Chip {
 public:
  explicit IxgbeChip(const IxgbeKind& which);
  const IxgbeKind& kind;

  // As from the wire: checked for its length, counted, and written to the queue. `how.errors`: as in an
  // advanced descriptor of this family.
  bool deliver(const std::vector<uint8_t>& frame, const WriteBack& how = {}, uint32_t queue = 0) override;
  // The same, to the queue that RSS chooses, which it returns.
  uint32_t deliver_flow(const Flow& flow, const std::vector<uint8_t>& frame);
  // The vector that queue `queue`'s frames are routed to; -1: none.
  int vector_of(uint32_t queue);
  // That of everything else.
  int other_vector();
  // LINKS: what it becomes. It is read once as it was, then as it is.
  void set_links(uint32_t value);

  // ---- faults
  uint32_t stuck_queue = ~0u;  // does not switch on
  bool dma_hangs = false;      // RDRXCTL.DMAIDONE stays away
  uint32_t unfinished = 0;     // so many resets until the requests on the bus are forgotten
  bool no_phy = false;         // nobody answers on MDIO
  // Of the PHY: device << 16 | register.
  std::map<uint32_t, uint16_t> phy{{1 << 16 | 2, 0x154},
                                   {7 << 16 | 0, 0x3000},
                                   {7 << 16 | 1, 1 << 5 | 1 << 2},
                                   {7 << 16 | 16, 0x01e1},
                                   {0x1e << 16 | 0, 0}};
  ChipClock clock;
  uint32_t negotiations = 0;   // of the PHY
  uint32_t link_restarts = 0;  // of the MAC

  uint32_t read(uint32_t offset) override;
  void write(uint32_t offset, uint32_t value) override;

 private:
  void reset() override;
  void check_sent(uint64_t word) override;
  bool receives() override;
  bool transmits() override;
  bool keeps_crc() override;
  bool is_on(uint32_t queue);
  bool owns(uint32_t bits);
  uint32_t write_queue(uint32_t queue, uint32_t offset, uint32_t value);
  void write_masks(uint32_t offset, uint32_t value);
  void run_mdio(uint32_t command);
  void check_order(uint32_t offset, uint32_t value);
  void check_set_up(uint32_t queue);
  uint32_t& counter(uint32_t first, uint32_t queue);
  bool is_bad(const std::vector<uint8_t>& frame, const WriteBack& how);
  void after_reset();
  bool stamps();

  uint32_t links_ = 0;  // LINKS as it is
  uint32_t mdio_register_ = 0;
};

}  // namespace ringcap::nic
