// Registers and bits of the 82599, X540 and X550, as far as ringcap uses them, by their names in the
// datasheets (82599: revision 3.4, X540: 3.0, X550: 2.7; chapter "Programming Interface"). Where they are the
// gigabit families', they are in driver/intel/registers.h: CTRL, STATUS, CTRL_EXT, RXCSUM, MTA, the RSS table
// and key (at their old places, which these chips have as well), most of a queue's, most statistics.
#pragma once

#include <cstdint>

#include "driver/intel/registers.h"

namespace ringcap::ixgbe {

using namespace intel;  // NOLINT: the shared registers, under these chips' name, too

// General
inline constexpr uint32_t ESDP = 0x0020;         // software definable pins
inline constexpr uint32_t EEC = 0x10010;         // EEPROM
inline constexpr uint32_t SWSM = 0x10140;        // semaphore between drivers
inline constexpr uint32_t SW_FW_SYNC = 0x10160;  // who has what; under that semaphore
inline constexpr uint32_t GCR_EXT = 0x11050;     // PCIe

// Interrupts
inline constexpr uint32_t EICR = 0x0800;       // cause; writing a one clears it
inline constexpr uint32_t EICS = 0x0808;       // sets causes, for tests
inline constexpr uint32_t EIAC = 0x0810;       // vectors whose cause clears by itself
inline constexpr uint32_t EITR = 0x0820;       // moderation of vector 0; one every 4 bytes
inline constexpr uint32_t EIMS = 0x0880;       // mask set
inline constexpr uint32_t EIMC = 0x0888;       // mask clear
inline constexpr uint32_t GPIE = 0x0898;       // general
inline constexpr uint32_t IVAR = 0x0900;       // queue to vector, two queues a word
inline constexpr uint32_t IVAR_MISC = 0x0A00;  // everything else to vector
inline constexpr uint32_t EIMS_EX = 0x0AA0;    // mask set, a bit for each of 64 vectors
inline constexpr uint32_t EIMC_EX = 0x0AB0;    // mask clear, the same

// Flow control
inline constexpr uint32_t FCCFG = 0x3D00;  // sending of pause frames
inline constexpr uint32_t MFLCN = 0x4294;  // obeying them

// Receive
inline constexpr uint32_t RQSMR = 0x2300;      // queue to statistics, four queues a word
inline constexpr uint32_t RDRXCTL = 0x2F00;    // DMA of received frames
inline constexpr uint32_t RXCTRL = 0x3000;     // receive control
inline constexpr uint32_t RXPBSIZE = 0x3C00;   // packet buffers, 8 words
inline constexpr uint32_t FCTRL = 0x5080;      // filter control
inline constexpr uint32_t VLNCTRL = 0x5088;    // VLAN filter
inline constexpr uint32_t PSRTYPE = 0xEA00;    // header split: none
inline constexpr uint32_t ERETA = 0xEE80;      // X550: RSS table, entries 128 to 511
inline constexpr uint32_t PFUTA = 0xF400;      // unicast table, 128 words
inline constexpr uint32_t SECRXCTRL = 0x8D00;  // security engine, through which all frames go
inline constexpr uint32_t SECRXSTAT = 0x8D04;

// Transmit
inline constexpr uint32_t RTTDCS = 0x4900;      // arbiter
inline constexpr uint32_t TXPBTHRESH = 0x4950;  // 8 words
inline constexpr uint32_t DMATXCTL = 0x4A80;    // DMA of frames to send
inline constexpr uint32_t DTXMXSZRQ = 0x8100;   // outstanding reads
inline constexpr uint32_t MTQC = 0x8120;        // several transmit queues: none
inline constexpr uint32_t TXPBSIZE = 0xCC00;    // packet buffers, 8 words

// MAC and link
inline constexpr uint32_t HLREG0 = 0x4240;  // MAC
inline constexpr uint32_t MSCA = 0x425C;    // MDIO command
inline constexpr uint32_t MSRWD = 0x4260;   // MDIO data
inline constexpr uint32_t MAXFRS = 0x4268;  // longest frame
inline constexpr uint32_t AUTOC = 0x42A0;   // link configuration
inline constexpr uint32_t LINKS = 0x42A4;   // link status
inline constexpr uint32_t MACC = 0x4330;    // X540 and X550: MAC control

// Timestamps; X550
inline constexpr uint32_t TSYNCRXCTL = 0x5188;  // which frames are stamped
inline constexpr uint32_t SYSTIML = 0x8C0C;     // the clock
inline constexpr uint32_t SYSTIMH = 0x8C10;
inline constexpr uint32_t TSAUXC = 0x8C20;   // whether the clock runs
inline constexpr uint32_t SYSTIMR = 0x8C58;  // fractions of it: reading them latches the others

// Queues
inline constexpr uint32_t RECEIVE_BLOCK = 0x1000, RECEIVE_STRIDE = 0x40, TRANSMIT_BLOCK = 0x6000;
inline constexpr uint32_t DCA_RXCTRL = 0x0C;  // of a receive queue: how its writes cross the bus
inline constexpr uint32_t SRRCTL = 0x14;      // buffers and descriptors
inline constexpr uint32_t DCA_TXCTRL = 0x0C;  // of a transmit queue: how its accesses cross the bus
// Counters, of those queues that RQSMR says
inline constexpr uint32_t QPRC = 0x1030;   // frames received; one every 64 bytes
inline constexpr uint32_t QPRDC = 0x1430;  // frames dropped for want of a descriptor

// Statistics
inline constexpr uint32_t LXONTXC = 0x3F60;    // flow control: XON sent
inline constexpr uint32_t LXOFFTXC = 0x3F68;   // XOFF sent
inline constexpr uint32_t RXMPC = 0x3FA0;      // missed: no room in packet buffer 0
inline constexpr uint32_t RLEC = 0x4040;       // length field that is wrong
inline constexpr uint32_t LXONRXCNT = 0x41A4;  // XON received
inline constexpr uint32_t LXOFFRXCNT = 0x41A8;

namespace ctrl {
using namespace intel::ctrl;
}
namespace ctrl_ext {
using namespace intel::ctrl_ext;
inline constexpr uint32_t NS_DIS = 1u << 16, RO_DIS = 1u << 17;
}  // namespace ctrl_ext
namespace esdp {
inline constexpr uint32_t SDP3 = 1u << 3;  // of the SFP+: switches the laser off
}
namespace eec {
inline constexpr uint32_t AUTO_RD = 1u << 9;
}
namespace gcr_ext {
inline constexpr uint32_t BUFFERS_CLEAR = 1u << 30;
}
namespace sw_fw_sync {  // a driver's bits; the firmware's are 5 higher
inline constexpr uint32_t PHY0 = 1u << 1, PHY1 = 1u << 2, MAC_CSR = 1u << 3;
}
namespace eicr {  // bits of EICR, EIMS, EIMC: 0 to 15 are vectors, or without MSI-X what IVAR says
inline constexpr uint32_t LSC = 1u << 20, ALL = 0x7fff'ffff;
}
namespace gpie {
inline constexpr uint32_t MSIX_MODE = 1u << 4, OCD = 1u << 5, PBA = 1u << 31;
}
namespace eitr {
inline constexpr unsigned INTERVAL_SHIFT = 3;  // 2 microseconds
inline constexpr uint32_t MOST = 0x1ff;
inline constexpr uint32_t CNT_WDIS = 1u << 31;  // the count is not written
}  // namespace eitr
namespace ivar {
inline constexpr uint32_t VALID = 0x80;
inline constexpr unsigned OTHER_SHIFT = 8;  // of IVAR_MISC
}  // namespace ivar
namespace fccfg {
inline constexpr uint32_t TFCE = 3u << 3;
}
namespace mflcn {
inline constexpr uint32_t RPFCE = 1u << 2, RFCE = 1u << 3;
}
namespace rdrxctl {
inline constexpr uint32_t CRCSTRIP = 1u << 1, DMAIDONE = 1u << 3, RSCFRSTSIZE = 0x1fu << 17;
inline constexpr uint32_t WANTED = 3u << 25;  // the datasheet wants these two set
}  // namespace rdrxctl
namespace rxctrl {
inline constexpr uint32_t RXEN = 1u << 0;
}
namespace fctrl {
inline constexpr uint32_t SBP = 1u << 1, MPE = 1u << 8, UPE = 1u << 9, BAM = 1u << 10;
}
namespace vlnctrl {
inline constexpr uint32_t VFE = 1u << 30;
}
namespace secrx {
inline constexpr uint32_t RX_DIS = 1u << 1;  // of SECRXCTRL
inline constexpr uint32_t READY = 1u << 0;   // of SECRXSTAT
}  // namespace secrx
namespace rttdcs {
inline constexpr uint32_t ARBDIS = 1u << 6;
}
namespace dmatxctl {
inline constexpr uint32_t TE = 1u << 0;
}
namespace pbsize {
inline constexpr unsigned SHIFT = 10;  // KiB, of RXPBSIZE and TXPBSIZE
}
namespace hlreg0 {
inline constexpr uint32_t TXCRCEN = 1u << 0, RXCRCSTRP = 1u << 1, JUMBOEN = 1u << 2, TXPADEN = 1u << 10,
                          LPBK = 1u << 15, RXLNGTHERREN = 1u << 27;
}
namespace msca {
inline constexpr unsigned DEVICE_SHIFT = 16, PHY_SHIFT = 21;
inline constexpr uint32_t ADDRESS = 0, WRITE = 1u << 26, READ = 3u << 26, COMMAND = 1u << 30;
}  // namespace msca
namespace msrwd {
inline constexpr unsigned READ_SHIFT = 16;
}
namespace autoc {
inline constexpr uint32_t FLU = 1u << 0, AN_RESTART = 1u << 12;
}
namespace macc {
inline constexpr uint32_t FLU = 1u << 0;
}
namespace links {
inline constexpr uint32_t UP = 1u << 30, NON_STANDARD = 1u << 27;
inline constexpr unsigned SPEED_SHIFT = 28;  // 2 bits
}  // namespace links
namespace tsyncrxctl {
inline constexpr uint32_t TYPE_ALL = 4u << 1, EN = 1u << 4, IN_PACKET = 1u << 23;  // TSIP_UT_EN
}
namespace tsauxc {
inline constexpr uint32_t DISABLE_SYSTIME = 1u << 31;
}
namespace srrctl {
inline constexpr uint32_t ADVANCED_ONE_BUFFER = 1u << 25, DROP_EN = 1u << 28;
inline constexpr uint32_t BUFFER_UNIT = 1024;
}  // namespace srrctl
namespace dca {  // relaxed ordering, and a bit that the datasheet's "Receive Initialization" wants cleared
inline constexpr uint32_t RX_RELAXED = 1u << 13 | 1u << 15, RX_CLEARED = 1u << 12, TX_RELAXED = 1u << 11;
}
namespace dctl {  // RXDCTL and TXDCTL
using namespace intel::dctl;
inline constexpr uint32_t ENABLE = 1u << 25;
}  // namespace dctl
namespace mrqc {
using namespace intel::mrqc;
inline constexpr uint32_t RSS = 1, TCP_IPV6 = 1u << 21, UDP_IPV4 = 1u << 22, UDP_IPV6 = 1u << 23;
}  // namespace mrqc

}  // namespace ringcap::ixgbe
