#include "capture/memory/shared_memory.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif

namespace ringcap::memory {

Result<SharedMemory> SharedMemory::create(const std::string& name, uint64_t bytes) {
  Fd fd(::memfd_create(name.c_str(), MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL));
  // MFD_NOEXEC_SEAL came with Linux 6.3: older kernels say EINVAL.
  if (!fd && errno == EINVAL) fd = Fd(::memfd_create(name.c_str(), MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd) return fail_system(fmt::format("cannot create shared memory {}", name));
  if (::ftruncate(fd.get(), static_cast<off_t>(bytes)) != 0)
    return fail_system(fmt::format("cannot size shared memory {} to {} bytes", name, bytes));
  auto mapping = Mapping::map(fd.get(), bytes, Mapping::Access::kReadWrite, name);
  if (!mapping) return std::unexpected(mapping.error());
  // Pages now, so that a shortage is an error here and not a SIGBUS on the data path.
  if (::madvise(mapping->data(), bytes, MADV_POPULATE_WRITE) != 0)
    return fail_system(fmt::format("cannot get {} bytes of memory for {}", bytes, name));
  return SharedMemory(std::move(fd), std::move(*mapping));
}

Result<void> SharedMemory::seal_read_only() {
  if (::fcntl(fd_.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL) != 0)
    return fail_system("cannot seal shared memory");
  return {};
}

Result<void> SharedMemory::seal_size() {
  if (::fcntl(fd_.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0)
    return fail_system("cannot seal shared memory");
  return {};
}

}  // namespace ringcap::memory
