// Counts what ringcap's drivers need to receive frames: see instructions.h. A worker's part alone: bursts are
// taken from a queue of a vfio: port, and the buffers are pushed back. tests/bench/run starts it in a guest.
//
//   nic_receive ADDRESS READY BURSTS     e.g. 0000:00:04.0 /tmp/ready 500
#include <unistd.h>

#include <cstring>
#include <memory>
#include <vector>

#include "capture/memory/arena.h"
#include "driver/vfio/port.h"
#include "tests/bench/bench.h"
#include "tests/bench/instructions.h"

namespace ringcap::bench {
namespace {

constexpr uint32_t kDescriptors = 1024, kSpare = 1024;

template <class T>
T or_fail(Result<T> result) {
  if (!result) fail(result.error().message());
  return std::move(*result);
}
void or_fail(const Result<void>& result) {
  if (!result) fail(result.error().message());
}

class VfioNic {
 public:
  explicit VfioNic(const std::string& address)
      : port_(or_fail(open_vfio_port(address, {.descriptors = kDescriptors}))),
        arena_(or_fail(
            memory::Arena::create({.bytes = (kDescriptors + kSpare) * uint64_t{2048}, .engine = "icount"}))),
        region_{.base = arena_.data(), .buffer_bytes = 2048, .count = kDescriptors + kSpare} {
    for (uint32_t i = 0; i < region_.count; ++i) free_.push(i);
    or_fail(port_->prepare({.arena = arena_.data(), .arena_bytes = arena_.bytes()}));
    queue_ = port_->receive_queues().front().get();
    or_fail(queue_->arm(region_, free_));
    or_fail(port_->start());
  }
  ~VfioNic() { port_->stop(); }
  bool linked() { return port_->link().up; }

  uint32_t receive() {
    got_ = queue_->receive(frames_, free_).frames;
    return got_;
  }
  uint64_t look() const {
    uint64_t sum = 0;
    for (uint32_t i = 0; i < got_; ++i) {
      uint64_t bytes = 0;
      std::memcpy(&bytes, frames_[i].data, sizeof bytes);
      sum += frames_[i].length + bytes;
    }
    return sum;
  }
  void give_back() {
    uint32_t* room = free_.room();
    for (uint32_t i = 0; i < got_; ++i) room[i] = frames_[i].buffer;
    free_.grow(got_);
  }

 private:
  std::unique_ptr<Port> port_;
  memory::Arena arena_;
  Region region_;
  FreeBuffers free_{kDescriptors + kSpare};
  ReceiveQueue* queue_ = nullptr;
  Frame frames_[kBurst];
  uint32_t got_ = 0;
};

}  // namespace
}  // namespace ringcap::bench

int main(int argc, char** argv) {
  using namespace ringcap::bench;
  if (argc != 4) fail("nic_receive ADDRESS READY BURSTS");
  VfioNic nic(argv[1]);
  for (int i = 0; i < 1000 && !nic.linked(); ++i) ::usleep(10'000);
  return count_instructions(nic, argv[2], std::strtoul(argv[3], nullptr, 10));
}
