#include "tools/system_files.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <filesystem>
#include <thread>

#include "capture/base/fd.h"

namespace ringcap::tools {
namespace fs = std::filesystem;
namespace {

// 0 or errno. O_TRUNC does nothing to a file of sysfs, and what is right to any other.
int try_write(const char* path, const std::string& text) {
  const Fd fd(::open(path, O_WRONLY | O_TRUNC | O_CLOEXEC));
  if (!fd) return errno;
  return ::write(fd.get(), text.data(), text.size()) < 0 ? errno : 0;
}

Result<void> written(const std::string& path, const std::string& text, int number) {
  if (number == 0) return {};
  const bool empty = text.find_first_not_of('\n') == std::string::npos;
  return fail_system(fmt::format("cannot write {} to {}", empty ? "an empty line" : "'" + text + "'", path),
                     number, number == EACCES || number == EPERM ? "it needs root: sudo ringcap ..." : "");
}

}  // namespace

std::optional<std::string> read_text(const std::string& path) {
  // Not by a stream: it throws when reading fails, as it does for files of sysfs that have no answer
  // (EINVAL).
  const Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return std::nullopt;
  std::string text;
  char bytes[4096];
  while (const ssize_t got = ::read(fd.get(), bytes, sizeof bytes)) {
    if (got > 0) text.append(bytes, static_cast<size_t>(got));
    if (got < 0 && errno != EINTR) return std::nullopt;
  }
  if (text.ends_with('\n')) text.pop_back();
  return text;
}

std::optional<uint64_t> read_number(const std::string& path) {
  const auto text = read_text(path);
  if (!text) return std::nullopt;
  const bool hex = text->starts_with("0x");
  uint64_t number = 0;
  const char* begin = text->data() + (hex ? 2 : 0);
  const auto [end, error] = std::from_chars(begin, text->data() + text->size(), number, hex ? 16 : 10);
  if (error != std::errc() || end != text->data() + text->size()) return std::nullopt;
  return number;
}

std::string link_name(const std::string& path) {
  std::error_code error;
  const fs::path target = fs::read_symlink(path, error);
  return error ? "" : target.filename().string();
}

std::vector<std::string> list_directory(const std::string& path) {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator at(path, error); !error && at != fs::directory_iterator();
       at.increment(error)) {
    names.push_back(at->path().filename());
  }
  std::ranges::sort(names);
  return names;
}

bool exists(const std::string& path) {
  std::error_code error;
  return fs::exists(path, error);
}

Result<void> write_text(const std::string& path, const std::string& text) {
  return written(path, text, try_write(path.c_str(), text));
}

Result<void> write_text_until(const std::string& path, const std::string& text,
                              std::chrono::milliseconds patience) {
  const pid_t child = ::fork();
  if (child < 0) return fail_system("cannot start a process");
  if (child == 0) ::_exit(try_write(path.c_str(), text));
  int status = 0;
  const bool ended = wait_until([&] { return ::waitpid(child, &status, WNOHANG) != 0; }, patience);
  if (!ended) {
    return fail(Code::kSystem,
                fmt::format("writing '{}' to {} did not end in {} s", text, path, patience.count() / 1000));
  }
  return written(path, text, WIFEXITED(status) ? WEXITSTATUS(status) : EINTR);
}

bool wait_until(const std::function<bool()>& condition, std::chrono::milliseconds patience) {
  const auto deadline = std::chrono::steady_clock::now() + patience;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return true;
}

std::vector<std::string> holders_of(const Roots& roots, const std::string& path) {
  std::vector<std::string> found;
  for (const std::string& pid : list_directory(roots.proc)) {
    if (pid.find_first_not_of("0123456789") != std::string::npos) continue;
    const std::string process = roots.proc + "/" + pid;
    for (const std::string& fd : list_directory(process + "/fd")) {
      std::error_code gone;
      if (fs::read_symlink(fs::path(process) / "fd" / fd, gone) != path) continue;
      found.push_back(fmt::format("{} (pid {})", read_text(process + "/comm").value_or("?"), pid));
      break;
    }
  }
  return found;
}

}  // namespace ringcap::tools
