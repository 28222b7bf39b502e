#include "driver/vmxnet3/statistics.h"

#include <cstring>

#include "driver/pci/moderation_names.h"

namespace ringcap::vmxnet3 {
namespace {

// In the order of the device's UPT1_TxStats and UPT1_RxStats; Linux's names, without what indents them.
constexpr std::array<const char*, 2 * kStatistics> kNames = {
    "TSO pkts tx",    "TSO bytes tx",  "ucast pkts tx",  "ucast bytes tx", "mcast pkts tx",
    "mcast bytes tx", "bcast pkts tx", "bcast bytes tx", "pkts tx err",    "pkts tx discard",
    "LRO pkts rx",    "LRO byte rx",   "ucast pkts rx",  "ucast bytes rx", "mcast pkts rx",
    "mcast bytes rx", "bcast pkts rx", "bcast bytes rx", "pkts rx OOB",    "pkts rx err"};

enum : size_t { kUnicast = 12, kMulticast = 14, kBroadcast = 16, kOutOfBuffers = 18, kErrors = 19 };

}  // namespace

Statistics::Statistics() {
  for (size_t i = 0; i < kNames.size(); ++i) all_[i].name = kNames[i];
  all_.back().name = pci::moderation_level_name(0);
}

Statistics::Values Statistics::read(const TxQueueDesc& transmit, const RxQueueDesc& receive) {
  Values values;
  std::memcpy(values.data(), transmit.stats, sizeof(transmit.stats));
  std::memcpy(values.data() + kStatistics, receive.stats, sizeof(receive.stats));
  return values;
}

// A value below the last one: the device began anew.
void Statistics::update(const TxQueueDesc& transmit, const RxQueueDesc& receive) {
  const Values values = read(transmit, receive);
  for (size_t i = 0; i < values.size(); ++i)
    all_[i].value += values[i] >= last_[i] ? values[i] - last_[i] : values[i];
  last_ = values;
}

void Statistics::skip(const TxQueueDesc& transmit, const RxQueueDesc& receive) {
  last_ = read(transmit, receive);
}

uint64_t Statistics::good() const {
  return all_[kUnicast].value + all_[kMulticast].value + all_[kBroadcast].value;
}
uint64_t Statistics::no_buffer() const { return all_[kOutOfBuffers].value; }
uint64_t Statistics::errors() const { return all_[kErrors].value; }

}  // namespace ringcap::vmxnet3
