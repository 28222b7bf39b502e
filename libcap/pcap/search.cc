#include "libcap/pcap/search.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "capture/base/fd.h"

#ifndef RINGCAP_MULTIARCH
#define RINGCAP_MULTIARCH ""
#endif

namespace ringcap::shim {
namespace {

namespace fs = std::filesystem;

// In every copy of this library's file, whatever its path: how a copy knows another.
__attribute__((used)) const char kMark[] = "ringcap-pcap-shim:this-is-not-the-real-libpcap";
constexpr size_t kMarkBytes = sizeof kMark - 1;

std::string contents(const char* path) {
  std::string bytes;
  const Fd fd(::open(path, O_RDONLY | O_CLOEXEC));
  struct stat status{};
  if (!fd || ::fstat(fd.get(), &status) != 0 || !S_ISREG(status.st_mode)) return bytes;
  bytes.resize(static_cast<size_t>(status.st_size));
  size_t have = 0;
  while (have < bytes.size()) {
    const ssize_t got = ::read(fd.get(), bytes.data() + have, bytes.size() - have);
    if (got <= 0) break;
    have += static_cast<size_t>(got);
  }
  bytes.resize(have);
  return bytes;
}

// libpcap's files in a directory: by their sonames, then by full versions, the highest first.
std::vector<std::string> in_directory(const std::string& directory) {
  std::vector<std::string> versions;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(directory, ignored)) {
    const std::string name = entry.path().filename();
    if (name.starts_with("libpcap.so.")) versions.push_back(name);
  }
  std::ranges::sort(versions, [](const std::string& a, const std::string& b) {
    const auto rank = [](const std::string& name) {
      return name == "libpcap.so.0.8" ? 0 : name == "libpcap.so.1" ? 1 : 2;
    };
    if (rank(a) != rank(b)) return rank(a) < rank(b);
    return ::strverscmp(a.c_str(), b.c_str()) > 0;
  });
  for (auto& name : versions) name.insert(0, directory + "/");
  return versions;
}

std::string given_path() {
  const char* given = ::secure_getenv("RINGCAP_PCAP_REAL");
  return given == nullptr ? "" : given;
}

template <typename T>
T number_at(std::string_view bytes, size_t offset) {
  T value{};
  std::memcpy(&value, bytes.data() + offset, sizeof value);
  return value;
}

std::string_view string_at(std::string_view bytes, size_t offset) {
  if (offset >= bytes.size()) return {};
  const auto end = bytes.find('\0', offset);
  return end == std::string_view::npos ? std::string_view{} : bytes.substr(offset, end - offset);
}

}  // namespace

// The format "glibc-ld.so.cache1.1" (glibc's sysdeps/generic/dl-cache.h): a header of 48 bytes, entries of
// 24 bytes (flags, name, path, then what does not matter here); names and paths are offsets from the header.
// Older files have another table before it.
std::vector<std::string> cached_paths(std::string_view cache, std::string_view name) {
  constexpr std::string_view kMagic = "glibc-ld.so.cache1.1";
  constexpr size_t kHeaderBytes = 48, kEntryBytes = 24;
  std::vector<std::string> paths;
  const auto start = cache.find(kMagic);
  if (start == std::string_view::npos) return paths;
  const auto table = cache.substr(start);
  if (table.size() < kHeaderBytes) return paths;
  const size_t count = number_at<uint32_t>(table, kMagic.size());
  for (size_t i = 0; i < count; ++i) {
    const size_t entry = kHeaderBytes + i * kEntryBytes;
    if (entry + kEntryBytes > table.size()) break;
    if (string_at(table, number_at<uint32_t>(table, entry + 4)) != name) continue;
    const auto path = string_at(table, number_at<uint32_t>(table, entry + 8));
    if (path.starts_with("/")) paths.emplace_back(path);
  }
  return paths;
}

bool is_real(const std::string& path) {
  const std::string bytes = contents(path.c_str());
  return bytes.starts_with("\177ELF") && ::memmem(bytes.data(), bytes.size(), kMark, kMarkBytes) == nullptr;
}

std::vector<std::string> known_candidates() {
  if (const auto given = given_path(); !given.empty()) return {given};
  std::vector<std::string> paths;
  const std::string cache = contents("/etc/ld.so.cache");
  for (const char* name : {"libpcap.so.0.8", "libpcap.so.1"})
    for (auto& path : cached_paths(cache, name)) paths.push_back(std::move(path));
  return paths;
}

std::vector<std::string> other_candidates() {
  std::vector<std::string> paths;
  if (!given_path().empty()) return paths;
  for (const char* directory : {"/usr/lib/" RINGCAP_MULTIARCH, "/lib/" RINGCAP_MULTIARCH, "/usr/lib64",
                                "/lib64", "/usr/lib", "/lib", "/usr/local/lib"})
    for (auto& path : in_directory(directory)) paths.push_back(std::move(path));
  return paths;
}

}  // namespace ringcap::shim
