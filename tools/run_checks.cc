#include "tools/run_checks.h"

#include <elf.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "capture/base/fd.h"

namespace ringcap::tools {
namespace {

namespace fs = std::filesystem;

constexpr const char* kInstead =
    "run it as root, copy the program without these privileges (cp keeps none), or link it with the shim's "
    "pcap-config: see docs/pcap.md";

// An ELF file of this machine's width that names no interpreter: the dynamic linker never sees it.
bool is_static(const std::string& file) {
  const Fd fd(::open(file.c_str(), O_RDONLY | O_CLOEXEC));
  Elf64_Ehdr header{};
  if (!fd || ::read(fd.get(), &header, sizeof header) != sizeof header) return false;
  if (std::string_view(reinterpret_cast<const char*>(header.e_ident), SELFMAG) != ELFMAG ||
      header.e_ident[EI_CLASS] != ELFCLASS64)
    return false;
  for (unsigned i = 0; i < header.e_phnum; ++i) {
    Elf64_Phdr segment{};
    const auto at = static_cast<off_t>(header.e_phoff + uint64_t{i} * header.e_phentsize);
    if (::pread(fd.get(), &segment, sizeof segment, at) != sizeof segment) return false;
    if (segment.p_type == PT_INTERP) return false;
  }
  return true;
}

bool apparmor_enabled() {
  std::ifstream enabled("/sys/module/apparmor/parameters/enabled");
  return enabled.get() == 'Y';
}

}  // namespace

std::vector<std::string> programs_of(const std::string& file) {
  std::vector<std::string> files{file};
  const std::string name = fs::path(file).filename();
  if (name == "tshark" || name == "wireshark") {
    const auto dumpcap = fs::path(file).parent_path() / "dumpcap";
    std::error_code ignored;
    if (fs::exists(dumpcap, ignored)) files.push_back(dumpcap);
  }
  return files;
}

Result<void> check_program(const std::string& file) {
  struct stat status{};
  if (::stat(file.c_str(), &status) != 0) return fail_system("cannot look at " + file);
  const bool other_user = (status.st_mode & S_ISUID) != 0 && status.st_uid != ::getuid();
  const bool other_group = (status.st_mode & S_ISGID) != 0 && status.st_gid != ::getgid();
  if (other_user || other_group)
    return fail(
        Code::kPermission,
        fmt::format("{} is set-{}-ID: the dynamic linker ignores LD_LIBRARY_PATH and LD_PRELOAD, so it "
                    "would get the system's libpcap",
                    file, other_user ? "user" : "group"),
        kInstead);
  if (::getuid() != 0 && ::getxattr(file.c_str(), "security.capability", nullptr, 0) > 0)
    return fail(
        Code::kPermission,
        fmt::format("{} has file capabilities: the dynamic linker ignores LD_LIBRARY_PATH and LD_PRELOAD, "
                    "so it would get the system's libpcap",
                    file),
        kInstead);
  if (is_static(file))
    return fail(
        Code::kUsage, fmt::format("{} is linked statically: no library can be put in libpcap's place", file),
        "use one that is linked dynamically, or build it with the shim's pcap-config: see docs/pcap.md");
  return {};
}

std::string confinement(const std::string& file) {
  if (!apparmor_enabled()) return {};
  std::error_code ignored;
  std::string name = fs::canonical(file, ignored).string();
  if (name.empty()) return {};
  name.erase(0, 1);
  std::ranges::replace(name, '/', '.');
  if (!fs::exists("/etc/apparmor.d/" + name, ignored)) return {};
  return fmt::format(
      "AppArmor has a profile for {0}, which may keep it from the shim and from the engine; if it cannot "
      "open them, "
      "add docs/pcap.md's lines to /etc/apparmor.d/local/{1} and run: apparmor_parser -r /etc/apparmor.d/{1}",
      file, name);
}

}  // namespace ringcap::tools
