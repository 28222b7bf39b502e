// Consumers read the engine's memory where it lies, and cannot change a byte of it: root neither.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>

#include <cstring>

#include "tests/system/harness_consumers.h"

namespace ringcap::test {
namespace {

constexpr size_t kHugePage = 2 << 20;

std::vector<ProcessMapping> arena_mappings(pid_t pid, const std::string& engine) {
  std::vector<ProcessMapping> found;
  for (ProcessMapping& mapping : mappings_of(pid))
    if (mapping.file.find("ringcap-arena-" + engine) != std::string::npos)
      found.push_back(std::move(mapping));
  return found;
}

// " rd sh mr " has no " wr ".
bool has_flag(const ProcessMapping& mapping, const std::string& flag) {
  return (" " + mapping.flags + " ").find(" " + flag + " ") != std::string::npos;
}

TEST(ZeroCopy, the_consumer_maps_the_arena_in_hugepages_and_read_only) {
  const TestDir dir;
  Engine engine({"gen:rate=1000", "--arena", "16M"});
  const Attachment attachment(engine.name());
  const auto mappings = arena_mappings(::getpid(), engine.name());
  ASSERT_EQ(mappings.size(), 1);
  EXPECT_EQ(mappings[0].end - mappings[0].start, 16 << 20);
  EXPECT_EQ(mappings[0].kernel_page_kb, 2048);
  EXPECT_EQ(mappings[0].permissions, "r--s");
  EXPECT_TRUE(has_flag(mappings[0], "rd"));
  EXPECT_FALSE(has_flag(mappings[0], "wr"));
  EXPECT_FALSE(has_flag(mappings[0], "mw"));  // and may not become writable
}

TEST(ZeroCopy, a_frame_lies_in_the_same_physical_page_in_engine_and_consumer) {
  const TestDir dir;
  Engine engine({"gen:rate=20000,full=wait", "--arena", "16M", "--wait-consumers", "1"});
  const Attachment attachment(engine.name());
  SequenceCheck check;  // it reads the frames: a page that was never touched is in no page table
  const auto in_engine = arena_mappings(engine.process().pid(), engine.name());
  ASSERT_EQ(in_engine.size(), 1);
  while (check.frames < 2000) {
    ringcap_burst burst;
    ASSERT_GT(ringcap_take(attachment.get(), 0, static_cast<int>(kPatience.count()), &burst), 0);
    check.look(burst);
    for (uint32_t i = 0; i < burst.count; ++i) {
      const uint64_t offset = RINGCAP_OFFSET(&burst.frames[i]);
      const uint64_t here = page_frame(::getpid(), reinterpret_cast<uint64_t>(burst.arena) + offset);
      ASSERT_NE(here, 0);
      ASSERT_EQ(here, page_frame(engine.process().pid(), in_engine[0].start + offset));
    }
    ringcap_give_back(attachment.get(), &burst);
  }
  EXPECT_EQ(check.backwards + check.unexplained, 0);
  EXPECT_EQ(sum_of(ledger_of(engine), &ledger::Worker::copied), 0);
}

// ---- attempts to write, by root --------------------------------------------------------------------

class Tampering : public ::testing::TestWithParam<const char*> {
 protected:
  static constexpr const char* kNames[] = {"state", "arena", "rings"};

  void SetUp() override {
    client_.attach(asking(1024, "tamper"));
    other_ = start_followers(1, {.engine = engine_.name(), .from_start = false});
  }
  void TearDown() override {
    client_.close();
    EXPECT_TRUE(took(other_[0], other_[0].progress().frames + 500)) << other_[0].progress().text;
    EXPECT_EQ(other_[0].stop(), 0);
    EXPECT_EQ(other_[0].progress().backwards, 0);
    EXPECT_LE(other_[0].progress().unexplained, lost_before_consumers(ledger_of(engine_)));
    EXPECT_EQ(not_come_back(engine_), "");
    EXPECT_EQ(engine_.imbalance(), "");
    EXPECT_TRUE(engine_.process().is_running());
  }

  // Tries with each of the memories that a consumer must not change. Hugepages: all sizes are theirs.
  void for_each_memory(const std::function<void(int fd, size_t bytes)>& attempt) const {
    for (size_t i = 0; i < std::size(kNames); ++i) {
      SCOPED_TRACE(kNames[i]);
      struct stat status{};
      ASSERT_EQ(::fstat(client_.fds().at(i).get(), &status), 0);
      attempt(client_.fds().at(i).get(), static_cast<size_t>(status.st_size));
    }
  }

  static Fd reopen(int fd, int flags) {
    return Fd(::open(("/proc/self/fd/" + std::to_string(fd)).c_str(), flags | O_CLOEXEC));
  }

  static void expect_unwritable(int fd, size_t bytes) {
    void* writable = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    EXPECT_EQ(writable, MAP_FAILED);
    if (writable != MAP_FAILED) ::munmap(writable, bytes);
    EXPECT_LT(::pwrite(fd, "x", 1, 0), 0);
    Fd source(::memfd_create("source", MFD_CLOEXEC));
    ASSERT_EQ(::pwrite(source.get(), "evil", 4, 0), 4);
    off_t start = 0;
    EXPECT_LT(::sendfile(fd, source.get(), &start, 4), 0);
    loff_t in = 0, out = 0;
    EXPECT_LT(::copy_file_range(source.get(), &in, fd, &out, 4, 0), 0);
  }

  TestDir dir_;
  Engine engine_{{"gen:rate=5000", "--arena", "16M", "--memory", GetParam()}};
  RawClient client_{engine_.name()};
  std::vector<Consumer> other_;
};

TEST_P(Tampering, by_writing_and_mapping_writable_is_refused) {
  for_each_memory([](int fd, size_t bytes) { expect_unwritable(fd, bytes); });
}

TEST_P(Tampering, by_making_a_mapping_writable_later_is_refused) {
  for_each_memory([](int fd, size_t bytes) {
    void* data = ::mmap(nullptr, bytes, PROT_READ, MAP_SHARED, fd, 0);
    ASSERT_NE(data, MAP_FAILED);
    EXPECT_LT(::mprotect(data, bytes, PROT_READ | PROT_WRITE), 0);
    EXPECT_LT(::madvise(data, bytes, MADV_REMOVE), 0);  // a hole, by way of the mapping
    // What a debugger does to read-only pages.
    const Fd memory(::open("/proc/self/mem", O_RDWR | O_CLOEXEC));
    EXPECT_LT(::pwrite(memory.get(), "x", 1, static_cast<off_t>(reinterpret_cast<uintptr_t>(data))), 0);
    ::munmap(data, bytes);
  });
}

TEST_P(Tampering, by_opening_the_memory_anew_is_refused) {
  for_each_memory([](int fd, size_t bytes) {
    const Fd again = reopen(fd, O_RDWR);
    if (again) expect_unwritable(again.get(), bytes);
    EXPECT_FALSE(reopen(fd, O_RDWR | O_TRUNC));
    struct stat status{};
    ASSERT_EQ(::fstat(fd, &status), 0);
    EXPECT_EQ(static_cast<size_t>(status.st_size), bytes);
  });
}

TEST_P(Tampering, by_punching_holes_and_changing_the_size_is_refused) {
  for_each_memory([](int fd, size_t bytes) {
    const auto length = static_cast<off_t>(bytes);
    EXPECT_LT(::fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, length), 0);
    EXPECT_LT(::fallocate(fd, 0, length, static_cast<off_t>(kHugePage)), 0);
    EXPECT_LT(::ftruncate(fd, 0), 0);
    EXPECT_LT(::ftruncate(fd, length + static_cast<off_t>(kHugePage)), 0);
  });
}

TEST_P(Tampering, with_the_seals_is_refused) {
  for_each_memory([](int fd, size_t) {
    const int seals = ::fcntl(fd, F_GET_SEALS);
    EXPECT_EQ(seals & (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL),
              F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL);
    for (const int seal : {F_SEAL_WRITE, F_SEAL_SHRINK, F_SEAL_SEAL})
      EXPECT_LT(::fcntl(fd, F_ADD_SEALS, seal), 0);
  });
}

TEST_P(Tampering, with_the_size_of_its_control_area_is_refused_and_a_hole_in_it_detaches_it) {
  const int control = client_.fds().at(3).get();
  EXPECT_LT(::ftruncate(control, 0), 0);
  EXPECT_LT(::ftruncate(control, 1 << 20), 0);
  EXPECT_LT(::fcntl(control, F_ADD_SEALS, F_SEAL_WRITE), 0);
  ASSERT_EQ(::fallocate(control, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096), 0) << strerror(errno);
  EXPECT_EQ(client_.hear_error().code, Code::kGone);
}

INSTANTIATE_TEST_SUITE_P(Memory, Tampering, ::testing::Values("memfd", "plain"));

}  // namespace
}  // namespace ringcap::test
