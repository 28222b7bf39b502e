#include "driver/intel/dump.h"

#include "driver/intel/registers.h"

namespace ringcap::intel {
namespace {

using pci::RegisterName;

constexpr uint32_t kRal0 = 0x5400, kRah0 = 0x5404;  // RAL, RAH: the NIC's own address
constexpr uint32_t kOld = 0x2800, kOldTransmit = 0x3800, kNew = 0xC000, kNewTransmit = 0xE000;

constexpr RegisterName kCommon[] = {
    {"CTRL", CTRL}, {"STATUS", STATUS}, {"EECD", EECD},     {"CTRL_EXT", CTRL_EXT}, {"IMS", IMS},
    {"RCTL", RCTL}, {"TCTL", TCTL},     {"RXCSUM", RXCSUM}, {"RAL", kRal0},         {"RAH", kRah0}};

Result<std::vector<pci::RegisterValue>> dump(pci::Function& function, uint32_t receive, uint32_t transmit,
                                             std::initializer_list<RegisterName> own) {
  std::vector<RegisterName> names(std::begin(kCommon), std::end(kCommon));
  names.insert(names.end(), own);
  const RegisterName queues[] = {
      {"RDBAL", receive + RDBAL},  {"RDBAH", receive + RDBAH},  {"RDLEN", receive + RDLEN},
      {"RDH", receive + RDH},      {"RDT", receive + RDT},      {"RXDCTL", receive + RXDCTL},
      {"TDBAL", transmit + TDBAL}, {"TDBAH", transmit + TDBAH}, {"TDLEN", transmit + TDLEN},
      {"TDH", transmit + TDH},     {"TDT", transmit + TDT},     {"TXDCTL", transmit + TXDCTL}};
  names.insert(names.end(), std::begin(queues), std::end(queues));
  return pci::read_registers(function, names);
}

}  // namespace

Result<std::vector<pci::RegisterValue>> dump_8254x(pci::Function& function) {
  return dump(function, kOld, kOldTransmit, {{"ITR", 0x00C4}, {"PBA", 0x1000}, {"TIPG", TIPG}});
}

Result<std::vector<pci::RegisterValue>> dump_82574(pci::Function& function) {
  return dump(function, kOld, kOldTransmit,
              {{"ITR", 0x00C4},
               {"EITR[0]", 0x00E8},
               {"EITR[1]", 0x00EC},
               {"IVAR", 0x00E4},
               {"PBA", 0x1000},
               {"TIPG", TIPG},
               {"RFCTL", RFCTL},
               {"MRQC", MRQC},
               {"EXTCNF_CTRL", 0x0F00},
               {"GCR", 0x5B00}});
}

Result<std::vector<pci::RegisterValue>> dump_igb(pci::Function& function) {
  return dump(function, kNew, kNewTransmit,
              {{"GPIE", 0x1514},
               {"EIMS", 0x1524},
               {"EIAC", 0x152C},
               {"IVAR", 0x1700},
               {"IVAR_MISC", 0x1740},
               {"EITR[0]", 0x1680},
               {"RLPML", 0x5004},
               {"RFCTL", RFCTL},
               {"MRQC", MRQC},
               {"SRRCTL", kNew + 0x0C}});
}

}  // namespace ringcap::intel
