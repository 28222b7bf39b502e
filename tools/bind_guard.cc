#include "tools/bind_guard.h"

#include <thread>

#include "tools/bind_record.h"
#include "tools/guard.h"

namespace ringcap::tools {
namespace {

void guard(const BindPlace& place, const std::string& address, std::chrono::milliseconds patience) {
  const auto deadline = std::chrono::steady_clock::now() + patience;
  while (std::chrono::steady_clock::now() < deadline) {
    if (!confirmation_pending(place.run_dir, address)) return;
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  if (take_back(place.run_dir, address)) give_back(place, address, "was not confirmed");
}

}  // namespace

Result<void> start_guard(const BindPlace& place, const std::string& address,
                         std::chrono::milliseconds patience) {
  if (auto made = make_confirmation(place.run_dir, address); !made) return made;
  return run_as_guard({}, [&] { guard(place, address, patience); });
}

}  // namespace ringcap::tools
