#include "driver/ixgbe/dump.h"

#include "driver/ixgbe/registers.h"

namespace ringcap::ixgbe {
namespace {

constexpr uint32_t kReceive = RECEIVE_BLOCK, kTransmit = TRANSMIT_BLOCK;
constexpr uint32_t kRal0 = 0xA200, kRah0 = 0xA204;  // RAL, RAH: the NIC's own address

constexpr pci::RegisterName kNames[] = {{"CTRL", CTRL},
                                        {"STATUS", STATUS},
                                        {"CTRL_EXT", CTRL_EXT},
                                        {"ESDP", ESDP},
                                        {"EEC", EEC},
                                        {"GCR_EXT", GCR_EXT},
                                        {"EIMS", EIMS},
                                        {"EIAC", EIAC},
                                        {"GPIE", GPIE},
                                        {"IVAR", IVAR},
                                        {"IVAR_MISC", IVAR_MISC},
                                        {"EITR", EITR},
                                        {"AUTOC", AUTOC},
                                        {"LINKS", LINKS},
                                        {"HLREG0", HLREG0},
                                        {"MAXFRS", MAXFRS},
                                        {"MFLCN", MFLCN},
                                        {"FCCFG", FCCFG},
                                        {"RXCTRL", RXCTRL},
                                        {"FCTRL", FCTRL},
                                        {"VLNCTRL", VLNCTRL},
                                        {"RDRXCTL", RDRXCTL},
                                        {"SECRXSTAT", SECRXSTAT},
                                        {"RXPBSIZE", RXPBSIZE},
                                        {"RXCSUM", RXCSUM},
                                        {"MRQC", MRQC},
                                        {"RAL", kRal0},
                                        {"RAH", kRah0},
                                        {"DMATXCTL", DMATXCTL},
                                        {"TXPBSIZE", TXPBSIZE},
                                        {"SRRCTL", kReceive + SRRCTL},
                                        {"RDBAL", kReceive + RDBAL},
                                        {"RDBAH", kReceive + RDBAH},
                                        {"RDLEN", kReceive + RDLEN},
                                        {"RDH", kReceive + RDH},
                                        {"RDT", kReceive + RDT},
                                        {"RXDCTL", kReceive + RXDCTL},
                                        {"TDBAL", kTransmit + TDBAL},
                                        {"TDBAH", kTransmit + TDBAH},
                                        {"TDLEN", kTransmit + TDLEN},
                                        {"TDH", kTransmit + TDH},
                                        {"TDT", kTransmit + TDT},
                                        {"TXDCTL", kTransmit + TXDCTL}};

}  // namespace

Result<std::vector<pci::RegisterValue>> dump(pci::Function& function) {
  return pci::read_registers(function, kNames);
}

}  // namespace ringcap::ixgbe
