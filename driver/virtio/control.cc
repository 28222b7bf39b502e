#include "driver/virtio/control.h"

#include <cstring>

#include "driver/pci/access.h"
#include "driver/virtio/packed_ring.h"
#include "driver/virtio/split_ring.h"

namespace ringcap::virtio {
namespace {

constexpr std::chrono::milliseconds kDeadline{1000};
constexpr uint8_t kNoAnswer = 0xff;

template <class Ring>
class ControlQueue final : public Control {
 public:
  ControlQueue(const pci::Function::DmaMemory& ring, uint32_t descriptors,
               const pci::Function::DmaMemory& command)
      : ring_(ring, descriptors), data_(command.data), iova_(static_cast<uint64_t>(command.iova)) {}

  RingAddresses prepare() override {
    ring_.clear();
    return ring_.addresses();
  }
  void offer(const Doorbell& bell) override { bell_ = bell; }

  // The device writes its answer, a byte, behind the command.
  bool command(uint8_t what, uint8_t which, std::span<const uint8_t> data) override {
    if (data.size() + 2 > kMostBytes) return false;
    const auto bytes = static_cast<uint32_t>(data.size() + 2);
    data_[0] = std::byte{what};
    data_[1] = std::byte{which};
    std::memcpy(data_ + 2, data.data(), data.size());
    data_[kMostBytes] = std::byte{kNoAnswer};
    ring_.give(0, {iova_, bytes, false}, {iova_ + kMostBytes, 1, true});
    if (ring_.publish()) bell_.ring();
    Take taken = Take::kNothing;
    pci::wait_for(kDeadline, [&] {
      Used used;
      taken = ring_.take(used);
      return taken != Take::kNothing;
    });
    return taken == Take::kOne && data_[kMostBytes] == std::byte{control::OK};
  }

 private:
  Ring ring_;
  Doorbell bell_;
  std::byte* data_;
  uint64_t iova_;
};

}  // namespace

Result<std::unique_ptr<Control>> make_control(pci::Function& function, uint32_t descriptors, bool packed) {
  auto ring =
      function.dma_allocate(packed ? PackedRing<2>::bytes(descriptors) : SplitRing<2>::bytes(descriptors));
  if (!ring) return std::unexpected(ring.error());
  auto command = function.dma_allocate(Control::kMostBytes + 1);
  if (!command) return std::unexpected(command.error());
  if (packed) return std::make_unique<ControlQueue<PackedRing<2>>>(*ring, descriptors, *command);
  return std::make_unique<ControlQueue<SplitRing<2>>>(*ring, descriptors, *command);
}

}  // namespace ringcap::virtio
