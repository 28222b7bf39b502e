// What `ringcap selftest` prints: which NIC in which machine, and what came of each part. Nothing secret: the
// NIC's own address is cut after its maker's half unless it is asked for. Reads sysfs, changes nothing.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "driver/selftest/selftest.h"
#include "tools/nic.h"

namespace ringcap::tools {

// What is known before anything is tried.
struct Bench {
  std::string address = {};
  std::string chip = {}, driver = {};       // "Intel 82574L", "e1000e"; "" where ringcap has none
  std::string proof = {};                   // whether the driver ever ran on the real chip
  std::string id = {}, subsystem = {};      // "8086:10d3"
  std::string revision = {};                // "01"
  std::string link = {};                    // of PCI Express: "2.5 GT/s PCIe x1"; "" where it is none
  std::string kernel = {}, processor = {};  // "6.1.0-9-amd64", "x86_64"
  std::string iommu = {};                   // "Intel VT-d (dmar0)"; "" where it is not known
  std::string group = {};
  int node = -1;
  std::string memory = {};  // the arena, in words
};

Bench examine_bench(const Roots& roots, const Nic& nic);

// "00:1b:21:xx:xx:xx"
std::string cut_mac(const std::string& mac);

std::string bench_text(const Bench& bench);
std::string check_text(const selftest::Check& check);
// The last lines. `complete`: it was not stopped.
std::string verdict_text(const selftest::Report& report, bool complete, bool whole_mac);
// The schema ringcap.selftest/1.
nlohmann::ordered_json selftest_json(const Bench& bench, const selftest::Report& report, bool complete,
                                     bool whole_mac);
bool has_failed(const selftest::Report& report);

}  // namespace ringcap::tools
