// What system tests are made of: a directory and run directory of their own, network namespaces, real
// processes, a running engine. Called by the test's main thread unless it says otherwise.
//
// Nothing outlives a test: processes die with the thread that started them (PR_SET_PDEATHSIG) and are
// reaped, namespaces have no name and vanish with the last descriptor, directories are removed.
// What cannot be set up is a failure of the test (std::runtime_error, which GoogleTest reports).
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "capture/base/fd.h"

namespace ringcap::test {

// How long a test waits for what must happen soon: far longer than it takes on a busy machine.
inline constexpr std::chrono::milliseconds kPatience{30'000};

// Looks every few milliseconds whether the condition holds. false: it did not within `patience`.
[[nodiscard]] bool wait_until(const std::function<bool()>& condition,
                              std::chrono::milliseconds patience = kPatience);

// ---- files ---------------------------------------------------------------------------------------

// A new directory, removed at the end. While it lives, RINGCAP_RUN_DIR of this process and of those that
// it starts is its run/, so that engines of several tests do not see each other.
class TestDir {
 public:
  TestDir();
  ~TestDir();
  TestDir(const TestDir&) = delete;
  TestDir& operator=(const TestDir&) = delete;

  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path run_dir() const { return path_ / "run"; }
  std::filesystem::path file(std::string_view name) const { return path_ / name; }

 private:
  std::filesystem::path path_;
};

std::string read_file(const std::filesystem::path& path);
void write_file(const std::filesystem::path& path, std::string_view text);

// ---- network namespaces --------------------------------------------------------------------------

// An empty network namespace with its loopback up and IPv6 off: no frame crosses it that no test sent.
class Namespace {
 public:
  Namespace();

  int fd() const { return fd_.get(); }
  // Calls `what` in a thread inside the namespace. Sockets made there stay in it; exceptions come back.
  void within(const std::function<void()>& what) const;
  // Runs ip(8) inside: ns.ip({"link", "set", "a", "up"}).
  void ip(const std::vector<std::string>& arguments) const;
  // A veth pair with both ends in here, up, without offloads that would change or merge frames.
  void add_veth(const std::string& end, const std::string& other_end, int mtu = 1500) const;
  // A raw socket on an interface of the namespace (AF_PACKET, all protocols): a frame a send().
  Fd raw_socket(const std::string& interface) const;

 private:
  Fd fd_;
};

// ---- processes -----------------------------------------------------------------------------------

struct ProcessOptions {
  std::vector<std::pair<std::string, std::string>> environment = {};  // set beside this process's
  const Namespace* network = nullptr;                                 // started inside it
  std::optional<uid_t> uid = {};           // as this user and group, without any capability
  int stdin_fd = -1;                       // -1: /dev/null
  int stdout_fd = -1;                      // -1: kept, see out()
  std::function<void()> before_exec = {};  // in the child, last; async-signal-safe calls only
};

// A started program. Its output is kept in memory. The destructor kills it.
class Process {
 public:
  // arguments[0] is looked for in PATH. Throws if it cannot be started.
  explicit Process(const std::vector<std::string>& arguments, const ProcessOptions& options = {});
  ~Process();
  Process(Process&&) noexcept;
  Process& operator=(Process&&) noexcept;

  pid_t pid() const { return pid_; }
  bool is_running();
  void signal(int number) const;
  // Exit status, or 128 + the signal that ended it. Kills it and throws when it does not end in time.
  int wait(std::chrono::milliseconds patience = kPatience);
  // SIGKILL, and reaped.
  void kill();
  // What it wrote until now.
  std::string out() const;
  std::string err() const;

 private:
  void reap(int status);

  pid_t pid_ = -1;
  std::optional<int> status_;
  Fd out_;
  Fd err_;
};

struct Outcome {
  int status;
  std::string out;
  std::string err;
};
// Runs a program to its end.
Outcome run(const std::vector<std::string>& arguments, const ProcessOptions& options = {},
            std::chrono::milliseconds patience = kPatience);
// The same for the ringcap program of this build: ringcap({"stat", name}).
Outcome ringcap(std::vector<std::string> arguments, const ProcessOptions& options = {});
Process start_ringcap(std::vector<std::string> arguments, const ProcessOptions& options = {});

// A name for an engine that no other test of this machine has.
std::string unique_name(std::string_view start = "engine");

// ---- a running engine ------------------------------------------------------------------------------

// `ringcap up PORT... --name NAME --arena 32M OPTIONS`, in a process of its own, taking connections
// when the constructor returns. The destructor kills it.
class Engine {
 public:
  // With another `command`: `ringcap bridge PORT PORT ...`.
  explicit Engine(std::vector<std::string> port_and_options, const ProcessOptions& options = {},
                  const std::string& command = "up");

  const std::string& name() const { return name_; }
  Process& process() { return process_; }
  // `ringcap stat NAME --json`, read.
  nlohmann::json stat() const;
  // Waits until the verdict is "balanced" (sums with a device's registers hold at rest only).
  // Empty then, else the verdict and the sums that do not add up: EXPECT_EQ(engine.imbalance(), "").
  std::string imbalance(std::chrono::milliseconds patience = kPatience) const;
  // `ringcap down NAME`, and waits. The engine's exit status.
  int down();

 private:
  std::string name_;
  Process process_;
};

// Whether an engine of that name takes connections in the current run directory.
bool takes_connections(const std::string& name);

// ---- what the kernel says about a process -----------------------------------------------------------

struct ProcessMapping {
  uint64_t start;
  uint64_t end;
  std::string permissions;  // "rw-s"
  std::string file;         // "/memfd:arena (deleted)"; may be empty
  uint64_t kernel_page_kb;
  std::string flags;  // of VmFlags: "rd mr me ht"
};
std::vector<ProcessMapping> mappings_of(pid_t pid);  // /proc/PID/smaps
size_t descriptors_of(pid_t pid);                    // how many are open
uint64_t resident_kb(pid_t pid);                     // without hugepages
// Physical page frame behind an address of a process; 0: not present, or we may not know.
uint64_t page_frame(pid_t pid, uint64_t address);
uint64_t free_hugepages();  // of 2 MiB, on the whole machine

}  // namespace ringcap::test
