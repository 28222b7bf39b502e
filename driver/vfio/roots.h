// Where the kernel's files are. One place, so that what is said about a machine can be tested on a
// directory tree that looks like one.
#pragma once

#include <string>

namespace ringcap::vfio {

struct Roots {
  std::string sysfs = "/sys";
  std::string dev = "/dev";
  std::string proc = "/proc";
};

}  // namespace ringcap::vfio
