#include "driver/vfio/window.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <thread>

#include "capture/base/fd.h"
#include "capture/base/mapping.h"

namespace ringcap::vfio {
namespace {

constexpr uint64_t kPage = 4096;

// A file that is cut short raises the same signal as a BAR whose device is pulled out.
struct Registers {
  Registers() : fd(::memfd_create("registers", MFD_CLOEXEC)) { resize(4 * kPage); }
  void resize(uint64_t bytes) const { ASSERT_EQ(::ftruncate(fd.get(), static_cast<off_t>(bytes)), 0); }
  std::unique_ptr<Window> map(uint64_t bar_offset = 0) const {
    return std::move(Window::map(fd.get(), 0, bar_offset, 4 * kPage, gone).value());
  }
  Fd fd;
  std::shared_ptr<std::atomic<bool>> gone = std::make_shared<std::atomic<bool>>(false);
};

TEST(Window, reads_and_writes_what_is_mapped) {
  const Registers registers;
  const auto window = registers.map();
  *window->at(kPage + 8) = 0x1234;
  uint32_t value = 0;
  ASSERT_EQ(::pread(registers.fd.get(), &value, sizeof(value), kPage + 8), 4);
  EXPECT_EQ(value, 0x1234u);
  EXPECT_FALSE(*registers.gone);
}

TEST(Window, has_no_register_outside_itself) {
  const auto window = Registers().map(2 * kPage);
  EXPECT_EQ(window->at(2 * kPage - 4), nullptr);
  EXPECT_NE(window->at(2 * kPage), nullptr);
  EXPECT_NE(window->at(6 * kPage - 4), nullptr);
  EXPECT_EQ(window->at(6 * kPage - 2), nullptr);
  EXPECT_EQ(window->at(6 * kPage), nullptr);
}

TEST(Window, reads_as_ones_after_the_device_is_pulled_out_and_says_that_it_is_gone) {
  const Registers registers;
  const auto window = registers.map();
  *window->at(kPage) = 7;
  registers.resize(0);
  EXPECT_EQ(*window->at(kPage), ~0u);
  EXPECT_TRUE(*registers.gone);
  *window->at(3 * kPage) = 1;  // a write into the void
  EXPECT_EQ(*window->at(0), ~0u);
}

TEST(Window, loss_of_one_device_leaves_the_other_alone) {
  const Registers lost, kept;
  const auto lost_window = lost.map();
  const auto kept_window = kept.map();
  *kept_window->at(0) = 5;
  lost.resize(0);
  EXPECT_EQ(*lost_window->at(0), ~0u);
  EXPECT_EQ(*kept_window->at(0), 5u);
  EXPECT_FALSE(*kept.gone);
}

TEST(Window, can_be_retired_while_another_thread_uses_it) {
  const Registers registers;
  const auto window = registers.map();
  *window->at(64) = 3;
  std::atomic<bool> started{false}, wrong{false};
  std::thread user([&] {
    while (true) {
      const uint32_t value = *window->at(64);
      started = true;
      if (value == ~0u) return;
      if (value != 3) wrong = true;
    }
  });
  while (!started) std::this_thread::yield();
  window->retire();
  user.join();
  EXPECT_FALSE(wrong);
  EXPECT_FALSE(*registers.gone);  // retired, not lost
}

// By the signal itself, or by the address sanitizer, whose handler was there before ours: it reports, and
// exits.
bool died_of_sigbus(int status) {
#if defined(__SANITIZE_ADDRESS__)
  return WIFEXITED(status) && WEXITSTATUS(status) != 0;
#else
  return WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS;
#endif
}

TEST(WindowDeathTest, a_fault_elsewhere_still_ends_the_process) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(
      {
        const auto window = Registers().map();
        Registers other;
        void* data = ::mmap(nullptr, kPage, PROT_READ, MAP_SHARED, other.fd.get(), 0);
        other.resize(0);
        static_cast<void>(*static_cast<volatile char*>(data));
      },
      died_of_sigbus, "");
}

}  // namespace
}  // namespace ringcap::vfio
