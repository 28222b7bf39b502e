#include "driver/vfio/window.h"

#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <mutex>

namespace ringcap::vfio {
namespace {

// What the signal handler looks at: no locks, no memory of its own. `begin` is stored last when an entry
// is taken (pairs with the handler's acquire) and cleared first when it is given back.
struct Watched {
  std::atomic<uintptr_t> begin{0};
  std::atomic<size_t> bytes{0};
  std::atomic<std::atomic<bool>*> gone{nullptr};
  std::atomic<bool> taken{false};
};
Watched watched[Window::kMaxWindows];
struct sigaction previous_action;
uintptr_t page_bytes;

// Puts memory of ones over [address, address + bytes). mremap() exchanges it at once: a thread that reads
// meanwhile sees the old or the new. Only system calls and memset: allowed in a signal handler.
bool replace_with_ones(void* address, size_t bytes) {
  void* ones = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (ones == MAP_FAILED) return false;
  std::memset(ones, 0xff, bytes);
  return ::mremap(ones, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, address) != MAP_FAILED;
}

bool handle_fault(std::byte* at) {
  const auto address = reinterpret_cast<uintptr_t>(at);
  for (Watched& entry : watched) {
    const uintptr_t begin = entry.begin.load(std::memory_order_acquire);  // pairs with Window::watch()
    if (begin == 0 || address < begin || address - begin >= entry.bytes.load(std::memory_order_relaxed))
      continue;
    if (!replace_with_ones(at - (address & (page_bytes - 1)), page_bytes)) return false;
    entry.gone.load(std::memory_order_relaxed)->store(true, std::memory_order_release);
    return true;
  }
  return false;
}

void call_previous(int signal, siginfo_t* info, void* context) {
  if (previous_action.sa_flags & SA_SIGINFO) {
    previous_action.sa_sigaction(signal, info, context);
  } else if (previous_action.sa_handler != SIG_DFL && previous_action.sa_handler != SIG_IGN) {
    previous_action.sa_handler(signal);
  } else {
    ::signal(SIGBUS, SIG_DFL);  // the access faults again, and ends the process as it should
  }
}

void on_sigbus(int signal, siginfo_t* info, void* context) {
  const int saved = errno;
  if (!handle_fault(static_cast<std::byte*>(info->si_addr))) call_previous(signal, info, context);
  errno = saved;
}

void install_handler() {
  static std::once_flag once;
  std::call_once(once, [] {
    page_bytes = static_cast<uintptr_t>(::sysconf(_SC_PAGESIZE));
    struct sigaction action{};
    action.sa_sigaction = on_sigbus;
    action.sa_flags = SA_SIGINFO | SA_NODEFER;
    ::sigemptyset(&action.sa_mask);
    ::sigaction(SIGBUS, &action, &previous_action);
  });
}

}  // namespace

Result<std::unique_ptr<Window>> Window::map(int fd, uint64_t file_offset, uint64_t bar_offset, uint64_t bytes,
                                            std::shared_ptr<std::atomic<bool>> gone) {
  install_handler();
  void* data =
      ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, static_cast<off_t>(file_offset));
  if (data == MAP_FAILED) return fail_system(fmt::format("cannot map {} bytes of registers", bytes));
  std::unique_ptr<Window> window(
      new Window(static_cast<std::byte*>(data), bar_offset, bytes, std::move(gone)));
  if (!window->watch()) return fail(Code::kSystem, fmt::format("more than {} register windows", kMaxWindows));
  return window;
}

bool Window::watch() {
  for (Watched& entry : watched) {
    if (entry.taken.exchange(true)) continue;
    entry.bytes.store(bytes_, std::memory_order_relaxed);
    entry.gone.store(gone_.get(), std::memory_order_relaxed);
    entry.begin.store(reinterpret_cast<uintptr_t>(data_),
                      std::memory_order_release);  // pairs with handle_fault()
    return true;
  }
  return false;
}

void Window::retire() { replace_with_ones(data_, bytes_); }

Window::~Window() {
  for (Watched& entry : watched) {
    if (entry.begin.load(std::memory_order_relaxed) != reinterpret_cast<uintptr_t>(data_)) continue;
    entry.begin.store(0, std::memory_order_release);
    entry.taken.store(false);
  }
  ::munmap(data_, bytes_);
}

}  // namespace ringcap::vfio
