// Registers and bits that Intel's gigabit NICs from the 82540 to the I211 have at the same place, as far as
// ringcap uses them, by their names in the datasheets (82574: revision 3.4, 82576: 2.7, I350: 2.7,
// I210: 3.7). What only one family has is in driver/e1000e/registers.h and driver/igb/registers.h.
//
// Queues' registers are given from the beginning of the queue's block; where the blocks are differs.
#pragma once

#include <cstdint>

namespace ringcap::intel {

// General
inline constexpr uint32_t CTRL = 0x0000;      // device control
inline constexpr uint32_t STATUS = 0x0008;    // device status
inline constexpr uint32_t EECD = 0x0010;      // EEPROM control
inline constexpr uint32_t CTRL_EXT = 0x0018;  // extended device control
inline constexpr uint32_t MDIC = 0x0020;      // PHY registers

// Interrupts
inline constexpr uint32_t ICR = 0x00C0;  // cause; writing a one clears it
inline constexpr uint32_t ICS = 0x00C8;  // cause set: as if it had happened
inline constexpr uint32_t IMS = 0x00D0;  // mask set
inline constexpr uint32_t IMC = 0x00D8;  // mask clear

// Receive
inline constexpr uint32_t RCTL = 0x0100;    // receive control
inline constexpr uint32_t RXCSUM = 0x5000;  // checksum offload
inline constexpr uint32_t RFCTL = 0x5008;   // receive filter control
inline constexpr uint32_t MTA = 0x5200;     // multicast table, 128 words
inline constexpr uint32_t MRQC = 0x5818;    // multiple receive queues
inline constexpr uint32_t RETA = 0x5C00;    // RSS: hash to queue, 128 bytes
inline constexpr uint32_t RSSRK = 0x5C80;   // RSS: key, 40 bytes

// Transmit
inline constexpr uint32_t TCTL = 0x0400;  // transmit control
inline constexpr uint32_t TIPG = 0x0410;  // inter-packet gap

// A receive queue's
inline constexpr uint32_t RDBAL = 0x00;   // ring address, low
inline constexpr uint32_t RDBAH = 0x04;   // ring address, high
inline constexpr uint32_t RDLEN = 0x08;   // ring bytes
inline constexpr uint32_t RDH = 0x10;     // head: the device's
inline constexpr uint32_t RDT = 0x18;     // tail: ours
inline constexpr uint32_t RXDCTL = 0x28;  // descriptor fetch and write-back

// A transmit queue's
inline constexpr uint32_t TDBAL = 0x00;   // ring address, low
inline constexpr uint32_t TDBAH = 0x04;   // ring address, high
inline constexpr uint32_t TDLEN = 0x08;   // ring bytes
inline constexpr uint32_t TDH = 0x10;     // head: the device's
inline constexpr uint32_t TDT = 0x18;     // tail: ours
inline constexpr uint32_t TXDCTL = 0x28;  // descriptor fetch and write-back

// Statistics, all clear on read
inline constexpr uint32_t CRCERRS = 0x4000;   // CRC errors, 64 bytes and more
inline constexpr uint32_t ALGNERRC = 0x4004;  // alignment errors (10 and 100 Mbit/s)
inline constexpr uint32_t MPC = 0x4010;       // missed: no room in the packet buffer
inline constexpr uint32_t XONRXC = 0x4048;    // flow control: XON received
inline constexpr uint32_t XONTXC = 0x404C;    // XON sent
inline constexpr uint32_t XOFFRXC = 0x4050;   // XOFF received
inline constexpr uint32_t XOFFTXC = 0x4054;   // XOFF sent
inline constexpr uint32_t GPRC = 0x4074;      // good packets received
inline constexpr uint32_t BPRC = 0x4078;      // broadcasts received
inline constexpr uint32_t MPRC = 0x407C;      // multicasts received
inline constexpr uint32_t GPTC = 0x4080;      // good packets transmitted
inline constexpr uint32_t GORCL = 0x4088;     // good bytes received, CRC included; 64 bits
inline constexpr uint32_t GOTCL = 0x4090;     // good bytes transmitted, CRC included; 64 bits
inline constexpr uint32_t RNBC = 0x40A0;      // had to wait in the chip for a descriptor: not lost
inline constexpr uint32_t RUC = 0x40A4;       // undersize, good CRC
inline constexpr uint32_t RFC = 0x40A8;       // undersize, bad CRC
inline constexpr uint32_t ROC = 0x40AC;       // oversize, good CRC
inline constexpr uint32_t RJC = 0x40B0;       // oversize, bad CRC
inline constexpr uint32_t MPTC = 0x40F0;      // multicasts transmitted
inline constexpr uint32_t BPTC = 0x40F4;      // broadcasts transmitted

namespace ctrl {
inline constexpr uint32_t FD = 1u << 0, GIO_MASTER_DISABLE = 1u << 2, SLU = 1u << 6, SPEED = 3u << 8,
                          SPEED_1000 = 2u << 8, FRCSPD = 1u << 11, FRCDPX = 1u << 12, RST = 1u << 26,
                          RFCE = 1u << 27, TFCE = 1u << 28, VME = 1u << 30;
}
namespace status {
inline constexpr uint32_t LU = 1u << 1, GIO_MASTER_ENABLE = 1u << 19;
inline constexpr unsigned LAN_ID_SHIFT = 2, SPEED_SHIFT = 6;
}  // namespace status
namespace eecd {
inline constexpr uint32_t AUTO_RD = 1u << 9;
}
namespace ctrl_ext {
inline constexpr uint32_t DRV_LOAD = 1u << 28, PBA_CLR = 1u << 31;
}
namespace mdic {
inline constexpr uint32_t PHY_1 = 1u << 21, WRITE = 1u << 26, READ = 2u << 26, READY = 1u << 28,
                          ERROR = 1u << 30;
inline constexpr unsigned REGISTER_SHIFT = 16;
}  // namespace mdic
namespace phy {  // IEEE 802.3, 22.2.4
inline constexpr uint32_t CONTROL = 0, STATUS = 1, ADVERTISED = 4;
inline constexpr uint32_t SPEED_1000 = 1u << 6, FULL_DUPLEX = 1u << 8, RESTART = 1u << 9,  // of CONTROL
    POWER_DOWN = 1u << 11, NEGOTIATE = 1u << 12, LOOPBACK = 1u << 14, RESET = 1u << 15;
inline constexpr uint32_t NEGOTIATED = 1u << 5;  // of STATUS
inline constexpr uint32_t PAUSE = 3u << 10;      // of ADVERTISED
}  // namespace phy
namespace interrupt {  // bits of ICR, IMS, IMC
inline constexpr uint32_t LSC = 1u << 2, RXDMT0 = 1u << 4, RXO = 1u << 6, RXT0 = 1u << 7, ALL = ~0u;
}
namespace rctl {
inline constexpr uint32_t EN = 1u << 1, SBP = 1u << 2, UPE = 1u << 3, MPE = 1u << 4, LPE = 1u << 5,
                          LBM_MAC = 1u << 6, BAM = 1u << 15, BSEX = 1u << 25, SECRC = 1u << 26;
inline constexpr unsigned BSIZE_SHIFT = 16;
}  // namespace rctl
namespace rfctl {
inline constexpr uint32_t ISCSI_DIS = 1u << 0, NFSW_DIS = 1u << 6, NFSR_DIS = 1u << 7, ACK_DIS = 1u << 12,
                          EXTEN = 1u << 15;
}
namespace rxcsum {
inline constexpr uint32_t PCSD = 1u << 13;  // the descriptor has the RSS hash, not the checksum
}
namespace mrqc {
inline constexpr uint32_t TCP_IPV4 = 1u << 16, IPV4 = 1u << 17, TCP_IPV6_EX = 1u << 18, IPV6 = 1u << 20;
}
namespace dctl {  // RXDCTL and TXDCTL
inline constexpr unsigned HTHRESH_SHIFT = 8, WTHRESH_SHIFT = 16;
}
namespace tctl {
inline constexpr uint32_t EN = 1u << 1, PSP = 1u << 3, RTLC = 1u << 24;
inline constexpr unsigned CT_SHIFT = 4, COLD_SHIFT = 12;
}  // namespace tctl

}  // namespace ringcap::intel
