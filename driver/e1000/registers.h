// Registers and bits of the 82574L that this driver uses, by their names in the datasheet ("Intel 82574
// GbE Controller Family Datasheet", revision 3.4, chapter "Driver Programming Interface").
//
// Control thread, but where a queue says otherwise: a worker uses RDT, IMS, IMC and ICR, a forwarder TDT.
// Those are safe beside the control thread: each thread touches bits of its own, and IMS, IMC and ICR
// set or clear by a write.
#pragma once

#include <cstdint>

#include "driver/pci/function.h"

namespace ringcap::e1000 {

// General
inline constexpr uint32_t CTRL = 0x0000;         // device control
inline constexpr uint32_t STATUS = 0x0008;       // device status
inline constexpr uint32_t EECD = 0x0010;         // EEPROM control
inline constexpr uint32_t CTRL_EXT = 0x0018;     // extended device control
inline constexpr uint32_t MDIC = 0x0020;         // PHY registers
inline constexpr uint32_t EXTCNF_CTRL = 0x0F00;  // who may use MDIC
inline constexpr uint32_t PBA = 0x1000;          // packet buffer: KiB for receiving
inline constexpr uint32_t GCR = 0x5B00;          // PCIe control

// Interrupts
inline constexpr uint32_t ICR = 0x00C0;    // cause; writing a one clears it
inline constexpr uint32_t ITR = 0x00C4;    // moderation without MSI-X, 256 ns
inline constexpr uint32_t IMS = 0x00D0;    // mask set
inline constexpr uint32_t IMC = 0x00D8;    // mask clear
inline constexpr uint32_t EIAC = 0x00DC;   // causes that MSI-X clears by itself
inline constexpr uint32_t IVAR = 0x00E4;   // cause to vector
inline constexpr uint32_t EITR0 = 0x00E8;  // moderation of vector 0, 256 ns

// Receive
inline constexpr uint32_t RCTL = 0x0100;    // receive control
inline constexpr uint32_t RDBAL = 0x2800;   // ring address, low
inline constexpr uint32_t RDBAH = 0x2804;   // ring address, high
inline constexpr uint32_t RDLEN = 0x2808;   // ring bytes
inline constexpr uint32_t RDH = 0x2810;     // head: the device's
inline constexpr uint32_t RDT = 0x2818;     // tail: ours
inline constexpr uint32_t RDTR = 0x2820;    // interrupt delay
inline constexpr uint32_t RXDCTL = 0x2828;  // descriptor fetch and write-back
inline constexpr uint32_t RADV = 0x282C;    // absolute interrupt delay
inline constexpr uint32_t RXCSUM = 0x5000;  // checksum offload
inline constexpr uint32_t RFCTL = 0x5008;   // receive filter control
inline constexpr uint32_t MTA = 0x5200;     // multicast table, 128 words
inline constexpr uint32_t MRQC = 0x5818;    // multiple receive queues

// Transmit
inline constexpr uint32_t TCTL = 0x0400;    // transmit control
inline constexpr uint32_t TIPG = 0x0410;    // inter-packet gap
inline constexpr uint32_t TDBAL = 0x3800;   // ring address, low
inline constexpr uint32_t TDBAH = 0x3804;   // ring address, high
inline constexpr uint32_t TDLEN = 0x3808;   // ring bytes
inline constexpr uint32_t TDH = 0x3810;     // head: the device's
inline constexpr uint32_t TDT = 0x3818;     // tail: ours
inline constexpr uint32_t TXDCTL = 0x3828;  // descriptor fetch and write-back
inline constexpr uint32_t TARC0 = 0x3840;   // arbitration

// Statistics, all clear on read
inline constexpr uint32_t CRCERRS = 0x4000;  // CRC errors, 64 bytes and more
inline constexpr uint32_t MPC = 0x4010;      // missed: no room in the packet buffer
inline constexpr uint32_t GPRC = 0x4074;     // good packets received
inline constexpr uint32_t GPTC = 0x4080;     // good packets transmitted
inline constexpr uint32_t RUC = 0x40A4;      // undersize, good CRC
inline constexpr uint32_t RFC = 0x40A8;      // undersize, bad CRC
inline constexpr uint32_t ROC = 0x40AC;      // oversize, good CRC
inline constexpr uint32_t RJC = 0x40B0;      // oversize, bad CRC

namespace ctrl {
inline constexpr uint32_t GIO_MASTER_DISABLE = 1u << 2, SLU = 1u << 6, FRCSPD = 1u << 11, FRCDPX = 1u << 12,
                          RST = 1u << 26, RFCE = 1u << 27, TFCE = 1u << 28, VME = 1u << 30;
}
namespace status {
inline constexpr uint32_t LU = 1u << 1, GIO_MASTER_ENABLE = 1u << 19;
inline constexpr unsigned SPEED_SHIFT = 6;
}  // namespace status
namespace eecd {
inline constexpr uint32_t AUTO_RD = 1u << 9;
}
namespace ctrl_ext {
inline constexpr uint32_t DRV_LOAD = 1u << 28, PBA_CLR = 1u << 31;
}
namespace extcnf_ctrl {
inline constexpr uint32_t MDIO_SW_OWNERSHIP = 1u << 5;
}
namespace mdic {
inline constexpr uint32_t PHY_1 = 1u << 21, WRITE = 1u << 26, READ = 2u << 26, READY = 1u << 28,
                          ERROR = 1u << 30;
inline constexpr unsigned REGISTER_SHIFT = 16;
inline constexpr uint32_t PHY_CONTROL = 0, POWER_DOWN = 1u << 11;  // IEEE 802.3, 22.2.4.1
}  // namespace mdic
namespace interrupt {  // bits of ICR, IMS, IMC, EIAC
inline constexpr uint32_t LSC = 1u << 2, RXDMT0 = 1u << 4, RXO = 1u << 6, RXT0 = 1u << 7, RXQ0 = 1u << 20,
                          OTHER = 1u << 24, ALL = ~0u;
}
namespace ivar {
inline constexpr uint32_t VALID = 8;
inline constexpr unsigned RXQ0_SHIFT = 0, OTHER_SHIFT = 16;
}  // namespace ivar
namespace rctl {
inline constexpr uint32_t EN = 1u << 1, SBP = 1u << 2, UPE = 1u << 3, MPE = 1u << 4, LPE = 1u << 5,
                          BAM = 1u << 15, BSEX = 1u << 25, SECRC = 1u << 26;
inline constexpr unsigned BSIZE_SHIFT = 16;
}  // namespace rctl
namespace rfctl {
inline constexpr uint32_t ISCSI_DIS = 1u << 0, NFSW_DIS = 1u << 6, NFSR_DIS = 1u << 7, ACK_DIS = 1u << 12,
                          EXTEN = 1u << 15;
}
namespace dctl {  // RXDCTL and TXDCTL
inline constexpr unsigned HTHRESH_SHIFT = 8, WTHRESH_SHIFT = 16;
inline constexpr uint32_t TX_COUNT_DESC = 1u << 22, GRAN = 1u << 24;  // GRAN: thresholds count descriptors
}  // namespace dctl
namespace tctl {
inline constexpr uint32_t EN = 1u << 1, PSP = 1u << 3, RTLC = 1u << 24, MULR = 1u << 28;
inline constexpr unsigned CT_SHIFT = 4, COLD_SHIFT = 12;
}  // namespace tctl

// What a read gives when nobody answers. No register of the 82574L can have this value but counters.
inline constexpr uint32_t kAbsent = ~0u;

// Everything that was stored to memory before is seen by the device before it sees the next register write.
inline void publish_to_device() {
#if defined(__x86_64__)
  asm volatile("" ::: "memory");
#elif defined(__aarch64__)
  asm volatile("dmb oshst" ::: "memory");
#else
#error "say how stores to memory are ordered before stores to a device"
#endif
}

// Register access: a load or a store where the BAR is mapped, a call elsewhere (tests, odd kernels).
class Registers {
 public:
  Registers() = default;
  explicit Registers(pci::Bar* bar) : bar_(bar), mapped_(bar->mapped()) {}
  uint32_t read(uint32_t offset) const { return mapped_ ? mapped_[offset / 4] : bar_->read32(offset); }
  void write(uint32_t offset, uint32_t value) const {
    if (mapped_) {
      mapped_[offset / 4] = value;
    } else {
      bar_->write32(offset, value);
    }
  }
  void set(uint32_t offset, uint32_t bits) const { write(offset, read(offset) | bits); }
  void clear(uint32_t offset, uint32_t bits) const { write(offset, read(offset) & ~bits); }
  // Returns once all writes before it have reached the device.
  void flush() const { static_cast<void>(read(STATUS)); }

 private:
  pci::Bar* bar_ = nullptr;
  volatile uint32_t* mapped_ = nullptr;
};

}  // namespace ringcap::e1000
