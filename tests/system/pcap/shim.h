// What tests of the pcap shim share: where the two libraries are, and programs started with the shim.
// Called by a test's main thread.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "tests/system/harness.h"

namespace ringcap::test {

namespace fs = std::filesystem;

inline std::string shim_directory() { return RINGCAP_PCAP_DIRECTORY; }
inline std::string shim_library() { return shim_directory() + "/libpcap.so.0.8"; }
inline std::string real_libpcap() { return RINGCAP_PCAP_SYSTEM "/libpcap.so.0.8"; }

// A program is started with the shim in libpcap's place.
inline ProcessOptions with_shim(ProcessOptions options = {}) {
  options.environment.push_back({"LD_LIBRARY_PATH", shim_directory()});
  return options;
}

// The end "here" is captured, pcap_probe sends by "there".
struct Lab {
  TestDir dir;
  Namespace network;
  std::unique_ptr<Engine> engine;

  explicit Lab(std::vector<std::string> options = {}) {
    network.add_veth("there", "here");
    std::vector<std::string> words{"packet:here", "--memory", "plain"};
    words.insert(words.end(), options.begin(), options.end());
    engine = std::make_unique<Engine>(words, ProcessOptions{.network = &network});
  }
  std::string device() const { return "ringcap:" + engine->name(); }
  ProcessOptions shimmed() const { return with_shim({.network = &network}); }

  Outcome real(const std::string& what) const {
    return run({PCAP_PROBE, what, "here", "there"}, {.network = &network});
  }
  Outcome own(const std::string& what,
              std::vector<std::pair<std::string, std::string>> environment = {}) const {
    auto options = shimmed();
    for (auto& one : environment) options.environment.push_back(one);
    return run({PCAP_PROBE, what, device(), "there"}, options);
  }
};

}  // namespace ringcap::test
