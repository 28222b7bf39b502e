// Process: fork, exec, output into memory, reaped in every exit. And what /proc tells about one.
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <fstream>
#include <iterator>
#include <sstream>
#include <stdexcept>
#include <system_error>

#include "tests/system/harness.h"

namespace ringcap::test {

namespace {

constexpr int kCannotStart = 127;

std::system_error system_error(const std::string& tried) {
  return std::system_error(errno, std::generic_category(), tried);
}

Fd output_memory(const char* name) {
  Fd fd(::memfd_create(name, MFD_CLOEXEC));
  if (!fd) throw system_error("memfd_create");
  return fd;
}

std::string contents(const Fd& memory) {
  std::string text;
  char piece[4096];
  for (ssize_t got; (got = ::pread(memory.get(), piece, sizeof piece, static_cast<off_t>(text.size()))) > 0;)
    text.append(piece, static_cast<size_t>(got));
  return text;
}

// The whole environment of the child: this process's, with what the options set.
std::vector<std::string> environment_for(const ProcessOptions& options) {
  std::vector<std::string> entries;
  const auto is_set = [&](std::string_view entry) {
    for (const auto& [key, value] : options.environment)
      if (entry.starts_with(key + "=")) return true;
    return false;
  };
  for (char** entry = environ; *entry != nullptr; ++entry)
    if (!is_set(*entry)) entries.emplace_back(*entry);
  for (const auto& [key, value] : options.environment) entries.push_back(key + "=" + value);
  return entries;
}

std::vector<char*> pointers(std::vector<std::string>& texts) {
  std::vector<char*> list;
  list.reserve(texts.size() + 1);
  for (std::string& text : texts) list.push_back(text.data());
  list.push_back(nullptr);
  return list;
}

// Everything that the child does before exec; async-signal-safe calls only. Whether all worked.
bool become_child(const ProcessOptions& options, pid_t parent, int in, int out, int err) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) return false;  // it died before it could be watched
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  if (::dup2(in, 0) < 0 || ::dup2(out, 1) < 0 || ::dup2(err, 2) < 0) return false;
  if (options.network != nullptr && ::setns(options.network->fd(), CLONE_NEWNET) != 0) return false;
  if (options.uid) {
    const uid_t uid = *options.uid;
    if (::setgroups(0, nullptr) != 0 || ::setresgid(uid, uid, uid) != 0 || ::setresuid(uid, uid, uid) != 0)
      return false;
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);  // a change of user cleared it
  }
  if (options.before_exec) options.before_exec();
  return true;
}

}  // namespace

Process::Process(const std::vector<std::string>& arguments, const ProcessOptions& options)
    : out_(output_memory("stdout")), err_(output_memory("stderr")) {
  std::vector<std::string> words = arguments;
  std::vector<std::string> variables = environment_for(options);
  const std::vector<char*> argv = pointers(words);
  const std::vector<char*> envp = pointers(variables);
  const Fd null(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  const int in = options.stdin_fd >= 0 ? options.stdin_fd : null.get();
  const int out = options.stdout_fd >= 0 ? options.stdout_fd : out_.get();
  const pid_t parent = ::getpid();
  pid_ = ::fork();
  if (pid_ < 0) throw system_error("fork");
  if (pid_ > 0) return;
  if (become_child(options, parent, in, out, err_.get())) ::execvpe(argv[0], argv.data(), envp.data());
  ::dprintf(2, "cannot start %s: %s\n", argv[0], std::strerror(errno));
  ::_exit(kCannotStart);
}

Process::~Process() { kill(); }

Process::Process(Process&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)),
      status_(other.status_),
      out_(std::move(other.out_)),
      err_(std::move(other.err_)) {}

Process& Process::operator=(Process&& other) noexcept {
  if (this == &other) return *this;
  kill();
  pid_ = std::exchange(other.pid_, -1);
  status_ = other.status_;
  out_ = std::move(other.out_);
  err_ = std::move(other.err_);
  return *this;
}

void Process::reap(int status) {
  status_ = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

bool Process::is_running() {
  if (status_ || pid_ < 0) return false;
  int status = 0;
  if (::waitpid(pid_, &status, WNOHANG) != pid_) return true;
  reap(status);
  return false;
}

void Process::signal(int number) const {
  // A reaped process's number may be another's by now.
  if (!status_ && pid_ > 0) ::kill(pid_, number);
}

int Process::wait(std::chrono::milliseconds patience) {
  if (!wait_until([this] { return !is_running(); }, patience)) {
    kill();
    throw std::runtime_error("a process did not end in time; it wrote: " + out() + err());
  }
  return status_.value_or(-1);
}

void Process::kill() {
  if (status_ || pid_ < 0) return;
  ::kill(pid_, SIGKILL);
  int status = 0;
  while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
  }
  reap(status);
}

std::string Process::out() const { return contents(out_); }
std::string Process::err() const { return contents(err_); }

Outcome run(const std::vector<std::string>& arguments, const ProcessOptions& options,
            std::chrono::milliseconds patience) {
  Process process(arguments, options);
  const int status = process.wait(patience);
  return {status, process.out(), process.err()};
}

// ---- what the kernel says about a process -----------------------------------------------------------

namespace {

std::string proc(pid_t pid, const char* file) { return "/proc/" + std::to_string(pid) + "/" + file; }

// "7f00-7f20 rw-s 00000000 00:01 1234   /memfd:arena (deleted)", or nothing if it is another line.
std::optional<ProcessMapping> mapping_line(const std::string& line) {
  ProcessMapping mapping{};
  char permissions[8] = {};
  int end = 0;
  if (std::sscanf(line.c_str(), "%lx-%lx %7s %*x %*x:%*x %*u %n", &mapping.start, &mapping.end, permissions,
                  &end) < 3)
    return std::nullopt;
  mapping.permissions = permissions;
  mapping.file = line.substr(static_cast<size_t>(end));
  return mapping;
}

}  // namespace

std::vector<ProcessMapping> mappings_of(pid_t pid) {
  std::ifstream file(proc(pid, "smaps"));
  std::vector<ProcessMapping> mappings;
  for (std::string line; std::getline(file, line);) {
    if (auto mapping = mapping_line(line)) {
      mappings.push_back(*std::move(mapping));
    } else if (line.starts_with("KernelPageSize:")) {
      mappings.back().kernel_page_kb = std::stoul(line.substr(15));
    } else if (line.starts_with("VmFlags: ")) {
      mappings.back().flags = line.substr(9);
    }
  }
  return mappings;
}

size_t descriptors_of(pid_t pid) {
  const std::filesystem::directory_iterator files(proc(pid, "fd"));
  return static_cast<size_t>(std::distance(begin(files), end(files)));
}

uint64_t resident_kb(pid_t pid) {
  std::ifstream file(proc(pid, "status"));
  for (std::string line; std::getline(file, line);)
    if (line.starts_with("VmRSS:")) return std::stoul(line.substr(6));
  return 0;
}

uint64_t page_frame(pid_t pid, uint64_t address) {
  const Fd file(::open(proc(pid, "pagemap").c_str(), O_RDONLY | O_CLOEXEC));
  uint64_t entry = 0;
  const auto offset = static_cast<off_t>(address / 4096 * sizeof entry);
  if (!file || ::pread(file.get(), &entry, sizeof entry, offset) != sizeof entry) return 0;
  const bool present = (entry >> 63) != 0;
  return present ? entry & ((uint64_t{1} << 55) - 1) : 0;
}

uint64_t free_hugepages() {
  return std::stoul(read_file("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages"));
}

}  // namespace ringcap::test
