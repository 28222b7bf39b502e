// How a ring that the control thread set up gets to the thread that uses it.
//
// A virtio or vmxnet3 device that was reset begins its rings anew, while the thread may still be at the old
// one: so each queue has memory for two. The control thread clears one that the thread has left, tells the
// device of it, and offers it; the thread goes over when it next looks, and gives the device all its buffers
// there.
//
//   which ring        who may touch it
//   the thread's      the thread (and the device until its reset)
//   offered           nobody but the device, until take()
//   neither           the control thread
#pragma once

#include <atomic>

namespace ringcap::pci {

class Handover {
 public:
  // The thread: whether there is one; then which (0 or 1), or -1 if it was withdrawn.
  bool offered() const { return offered_.load(std::memory_order_relaxed) >= 0; }
  int take() { return offered_.exchange(-1, std::memory_order_acq_rel); }  // pairs with offer(), free_ring()
  // The control thread: withdraws what was offered and not taken. The ring that the thread has left, or will
  // not get.
  int free_ring() {
    const int withdrawn = offered_.exchange(-1, std::memory_order_acq_rel);
    if (withdrawn >= 0) return withdrawn;
    // What take() got, if it got anything, is what was offered last.
    return last_ < 0 ? 0 : 1 - last_;
  }
  void offer(int ring) {
    last_ = ring;
    offered_.store(ring, std::memory_order_release);  // pairs with take()
  }
  // The control thread: the thread is at this one already, nothing is offered.
  void assume(int ring) {
    offered_.store(-1, std::memory_order_relaxed);
    last_ = ring;
  }

 private:
  std::atomic<int> offered_{-1};
  int last_ = -1;  // the control thread's
};

}  // namespace ringcap::pci
