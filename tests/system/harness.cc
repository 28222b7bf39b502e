#include "tests/system/harness.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <stdexcept>
#include <system_error>
#include <thread>

#include "libcap/client/client.h"

namespace ringcap::test {

bool wait_until(const std::function<bool()>& condition, std::chrono::milliseconds patience) {
  const auto stop = std::chrono::steady_clock::now() + patience;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > stop) return condition();
    std::this_thread::sleep_for(std::chrono::milliseconds(3));
  }
  return true;
}

// ---- files ---------------------------------------------------------------------------------------

TestDir::TestDir() {
  std::string name = (std::filesystem::temp_directory_path() / "ringcap-test.XXXXXX").string();
  if (::mkdtemp(name.data()) == nullptr) throw std::system_error(errno, std::generic_category(), "mkdtemp");
  path_ = name;
  // Users other than root must reach the sockets in it; the sockets have permissions of their own.
  std::filesystem::permissions(path_, std::filesystem::perms(0755));
  std::filesystem::create_directory(run_dir());
  ::setenv("RINGCAP_RUN_DIR", run_dir().c_str(), 1);
}

TestDir::~TestDir() {
  ::unsetenv("RINGCAP_RUN_DIR");
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

std::string read_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

void write_file(const std::filesystem::path& path, std::string_view text) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file << text;
  if (!file.flush()) throw std::runtime_error("cannot write " + path.string());
}

// ---- a running engine ------------------------------------------------------------------------------

std::string unique_name(std::string_view start) {
  static std::atomic<int> count;
  return std::string(start) + "-" + std::to_string(::getpid()) + "-" + std::to_string(++count);
}

namespace {

// The program and its library where every user can read them: the build may be below a home directory that
// only its owner enters. Removed with this process.
class ProgramForEverybody {
 public:
  ProgramForEverybody() {
    for (const char* file : {RINGCAP_PROGRAM, RINGCAP_FILTER_LIBRARY_FILE})
      std::filesystem::copy(file, path() / std::filesystem::path(file).filename());
  }
  std::string program() const {
    return (path() / std::filesystem::path(RINGCAP_PROGRAM).filename()).string();
  }
  const std::filesystem::path& path() const { return folder_.path; }

 private:
  struct Folder {
    Folder() : path(std::filesystem::temp_directory_path() / unique_name("ringcap-program")) {
      std::filesystem::create_directory(path);
      std::filesystem::permissions(path, std::filesystem::perms(0755));
    }
    ~Folder() {
      std::error_code ignored;
      std::filesystem::remove_all(path, ignored);
    }
    std::filesystem::path path;
  };
  Folder folder_;
};

// Starts the program with `start`(arguments, options).
auto with_program(std::vector<std::string> arguments, ProcessOptions options, const auto& start) {
  if (options.uid) {
    static const ProgramForEverybody copy;
    arguments.insert(arguments.begin(), copy.program());
    options.environment.emplace_back("LD_LIBRARY_PATH", copy.path().string());
  } else {
    arguments.insert(arguments.begin(), RINGCAP_PROGRAM);
  }
  return start(arguments, options);
}

std::vector<std::string> up_arguments(const std::string& command, std::vector<std::string> port_and_options,
                                      const std::string& name) {
  std::vector<std::string> arguments{command};
  arguments.insert(arguments.end(), port_and_options.begin(), port_and_options.end());
  arguments.insert(arguments.end(), {"--name", name});
  for (const std::string& given : port_and_options)
    if (given.starts_with("--arena")) return arguments;
  arguments.insert(arguments.end(), {"--arena", "32M"});
  return arguments;
}

}  // namespace

Outcome ringcap(std::vector<std::string> arguments, const ProcessOptions& options) {
  return with_program(std::move(arguments), options,
                      [](const auto& words, const ProcessOptions& given) { return run(words, given); });
}

Process start_ringcap(std::vector<std::string> arguments, const ProcessOptions& options) {
  return with_program(std::move(arguments), options,
                      [](const auto& words, const ProcessOptions& given) { return Process(words, given); });
}

bool takes_connections(const std::string& name) {
  const char* run_dir = ::getenv("RINGCAP_RUN_DIR");
  sockaddr_un address{.sun_family = AF_UNIX, .sun_path = {}};
  const std::string path = std::string(run_dir ? run_dir : "/run/ringcap") + "/" + name + ".sock";
  if (path.size() >= sizeof address.sun_path) throw std::runtime_error(path + " is too long for a socket");
  path.copy(address.sun_path, path.size());
  const Fd socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  return ::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
}

Engine::Engine(std::vector<std::string> port_and_options, const ProcessOptions& options,
               const std::string& command)
    : name_(unique_name()),
      process_(start_ringcap(up_arguments(command, std::move(port_and_options), name_), options)) {
  // Its socket is there before it has opened everything: it is up when it answers.
  const bool up = wait_until(
      [this] { return (takes_connections(name_) && client::observe(name_)) || !process_.is_running(); });
  if (!up || !process_.is_running())
    throw std::runtime_error("the engine did not come up: " + process_.out() + process_.err());
}

nlohmann::json Engine::stat() const {
  const Outcome outcome = ringcap({"stat", name_, "--json"});
  const nlohmann::json table = nlohmann::json::parse(outcome.out, nullptr, false);
  if (table.is_discarded())
    throw std::runtime_error("ringcap stat " + name_ + " printed no JSON: " + outcome.out + outcome.err);
  return table;
}

std::string Engine::imbalance(std::chrono::milliseconds patience) const {
  nlohmann::json table;
  const bool balanced = wait_until([&] { return (table = stat()).at("verdict") == "balanced"; }, patience);
  return balanced ? "" : table.at("verdict").get<std::string>() + " " + table.at("unbalanced").dump();
}

int Engine::down() {
  const Outcome outcome = ringcap({"down", name_});
  if (outcome.status != 0) throw std::runtime_error("ringcap down " + name_ + ": " + outcome.err);
  return process_.wait();
}

}  // namespace ringcap::test
