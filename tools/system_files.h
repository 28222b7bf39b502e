// The kernel's files in /sys, /proc and /dev, below roots that tests can point at a tree of their own.
// Called by the commands that look at the machine (devices, bind, unbind, doctor), in their only thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "capture/base/error.h"

namespace ringcap::tools {

struct Roots {
  std::string sysfs = "/sys";
  std::string dev = "/dev";
  std::string proc = "/proc";
  std::string modules = "/lib/modules";
};

// A file's text without the newline at its end; nullopt if it cannot be read (errno).
std::optional<std::string> read_text(const std::string& path);
// The same as a number, decimal or "0x...".
std::optional<uint64_t> read_number(const std::string& path);
// Last part of the link's target: the driver's name of .../driver. "" where there is no link.
std::string link_name(const std::string& path);
// Names in a directory, sorted; empty where there is none.
std::vector<std::string> list_directory(const std::string& path);
bool exists(const std::string& path);

// Writes to a kernel file that is there, in one write().
Result<void> write_text(const std::string& path, const std::string& text);
// The same for a file whose write may block in the kernel, uninterruptibly, as `unbind` does while a process
// holds the device: a child writes, and is left behind (it ends when the kernel lets it) at the deadline.
Result<void> write_text_until(const std::string& path, const std::string& text,
                              std::chrono::milliseconds patience);

// Looks every few milliseconds whether `condition` holds; false: not within `patience`.
bool wait_until(const std::function<bool()>& condition, std::chrono::milliseconds patience);

// "NAME (pid N)" of the processes that have the file open, as far as this process may see.
std::vector<std::string> holders_of(const Roots& roots, const std::string& path);

}  // namespace ringcap::tools
