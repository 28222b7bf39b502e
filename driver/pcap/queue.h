// PcapQueue: one receive queue of a pcap: port. The worker calls it, but for counters(), ended() and
// problem(), which the control thread may call, too.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>

#include "capture/frame/fragments.h"
#include "capture/pcapfile/reader.h"
#include "capture/port/port.h"
#include "driver/pcap/port.h"
#include "driver/pcap/timeline.h"

namespace ringcap::pcap {

// When the first frame is due: common to the queues of a port. Written by the control thread.
struct Start {
  std::atomic<uint64_t> origin_ns = 0;  // CLOCK_MONOTONIC; 0: the port is stopped
};

// Fragmented datagrams that a queue keeps together when it looks which frames are its own.
inline constexpr uint32_t kFragmentedDatagrams = 1024;

class PcapQueue final : public ReceiveQueue {
 public:
  PcapQueue(pcapfile::Reader reader, const PcapOptions& options, uint32_t number, const Start& start);

  uint32_t descriptors() const override { return 0; }
  uint32_t held() const override { return 0; }
  Result<void> arm(const Region& region, FreeBuffers& free) override;
  void disarm(FreeBuffers&) override {}
  Burst receive(std::span<Frame> out, FreeBuffers& free) override;

  layout::Clock clock() const override { return layout::Clock::kFile; }
  QueueCounters counters() override;
  bool ended() const override { return ended_.load(std::memory_order_acquire); }
  bool waits_for_takers() const override { return waits_; }
  int wait_fd() const override;
  uint64_t next_due_ns() const override;

  // Why it ended before the file did; only once ended() is true.
  const std::string& problem() const { return problem_; }

 private:
  bool find_frame();
  bool begin_pass();
  void end(std::string problem);
  bool is_mine();
  void fill(Frame& frame, uint32_t buffer) const;

  pcapfile::Reader reader_;
  const Start& start_;
  const uint32_t number_;
  const uint32_t queues_;
  const bool waits_;
  const bool paced_;
  uint64_t passes_left_;  // after this one; ~0: for ever
  Region region_;
  Timeline timeline_;
  pcapfile::Record record_;
  FragmentTable fragments_{kFragmentedDatagrams};  // every queue sees every frame, so all decide alike
  bool have_frame_ = false;                        // record_ is the next one to give
  uint64_t stamp_ns_ = 0;                          // of it
  uint64_t due_after_ns_ = 0;
  std::string problem_;  // written before ended_
  std::atomic<bool> ended_ = false;
  std::atomic<uint64_t> received_ = 0;
};

}  // namespace ringcap::pcap
