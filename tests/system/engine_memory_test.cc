// Where the frames lie: the three kinds of memory, and what is said when there is not enough of it.
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <unistd.h>

#include "capture/base/run_dir.h"
#include "tests/system/harness_consumers.h"

namespace ringcap::test {
namespace {

constexpr uid_t kNobody = 65534;

std::vector<std::string> files_in(const std::filesystem::path& dir) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(dir)) names.push_back(entry.path().filename());
  return names;
}

TEST(EngineMemory, without_enough_hugepages_says_how_many_and_what_to_do_and_touches_nothing) {
  const TestDir dir;
  // 4 TiB: more than any pool that this machine can have.
  const Outcome outcome = ringcap({"up", "gen:", "--name", "short", "--arena", "4096G"});
  EXPECT_EQ(outcome.status, 1);
  EXPECT_NE(outcome.err.find("2 MiB hugepages: 2097152 needed, "), std::string::npos) << outcome.err;
  EXPECT_NE(outcome.err.find(" free of "), std::string::npos) << outcome.err;
  EXPECT_NE(outcome.err.find("as root: echo "), std::string::npos) << outcome.err;
  EXPECT_NE(outcome.err.find("nr_hugepages"), std::string::npos) << outcome.err;
  EXPECT_FALSE(engine_runs(dir.run_dir(), "short"));
  // The lock's file may stay: it is the lock on it that says that an engine runs.
  for (const std::string& name : files_in(dir.run_dir())) EXPECT_EQ(name, "short.lock");
  EXPECT_TRUE(list_engines().empty());
}

TEST(EngineMemory, too_small_for_its_queues_says_how_much_they_need) {
  const TestDir dir;
  const Outcome outcome =
      ringcap({"up", "gen:queues=4", "--memory", "plain", "--arena", "4M", "--name", "small"});
  EXPECT_EQ(outcome.status, 2);
  EXPECT_NE(outcome.err.find("--arena 16M"), std::string::npos) << outcome.err;
  EXPECT_FALSE(engine_runs(dir.run_dir(), "small"));
}

TEST(EngineMemory, plain_works_without_a_hugepage_and_warns) {
  const TestDir dir;
  Engine engine({"gen:count=5000,full=wait", "--memory", "plain", "--wait-consumers", "1"});
  auto consumers = start_followers(1, {.engine = engine.name()});
  EXPECT_EQ(consumers[0].wait(), 0);
  EXPECT_EQ(consumers[0].progress().frames, 5000);
  EXPECT_EQ(consumers[0].progress().unexplained, 0);
  EXPECT_EQ(ledger_of(engine).memory, layout::MemoryKind::kPlain);
  EXPECT_EQ(ledger_of(engine).page_bytes, ::sysconf(_SC_PAGESIZE));
  EXPECT_NE(engine.process().err().find("without hugepages"), std::string::npos) << engine.process().err();
  EXPECT_EQ(engine.imbalance(), "");
}

TEST(EngineMemory, memfd_lies_in_hugepages_and_gives_them_back) {
  const TestDir dir;
  Engine engine({"gen:rate=1000", "--arena", "16M"});
  EXPECT_EQ(ledger_of(engine).memory, layout::MemoryKind::kMemfd);
  EXPECT_EQ(ledger_of(engine).page_bytes, 2 << 20);
  uint64_t bytes = 0;
  for (const ProcessMapping& mapping : mappings_of(engine.process().pid()))
    if (mapping.file.find("ringcap-arena") != std::string::npos && mapping.kernel_page_kb == 2048)
      bytes += mapping.end - mapping.start;
  EXPECT_EQ(bytes, 16 << 20);
  EXPECT_EQ(engine.down(), 0);
}

// A mount of hugetlbfs that only this engine's process sees.
ProcessOptions with_hugetlbfs(const std::string& where) {
  return {.before_exec = [where] {
    if (::unshare(CLONE_NEWNS) != 0 || ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        ::mount("none", where.c_str(), "hugetlbfs", 0, "pagesize=2M") != 0)
      ::_exit(99);
  }};
}

TEST(EngineMemory, hugetlbfs_lets_other_users_read_and_refuses_who_could_write) {
  const TestDir dir;
  const auto where = dir.file("hugepages");
  std::filesystem::create_directory(where);
  Engine engine({"gen:rate=2000", "--memory", "hugetlbfs", "--arena", "16M", "--group", "nogroup"},
                with_hugetlbfs(where.string()));
  EXPECT_EQ(ledger_of(engine).memory, layout::MemoryKind::kHugetlbfs);

  const Outcome root = ringcap({"capture", engine.name(), "--count-only", "-c", "10"});
  EXPECT_EQ(root.status, 5);
  EXPECT_NE(root.err.find("cannot be sealed"), std::string::npos) << root.err;
  EXPECT_NE(root.err.find("--memory memfd"), std::string::npos) << root.err;

  const Outcome nobody = ringcap({"capture", engine.name(), "--count-only", "-c", "100"}, {.uid = kNobody});
  EXPECT_EQ(nobody.status, 0) << nobody.err;
  EXPECT_EQ(nobody.out, "100\n");
  EXPECT_EQ(not_come_back(engine), "");
  EXPECT_EQ(engine.imbalance(), "");
  EXPECT_TRUE(files_in(where).empty());  // and the mount was the engine's alone
}

TEST(EngineMemory, hugetlbfs_without_a_mount_says_how_to_make_one) {
  const TestDir dir;
  // A mount namespace without any hugetlbfs in it.
  const ProcessOptions nothing_mounted{.before_exec = [] {
    if (::unshare(CLONE_NEWNS) != 0 || ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0)
      ::_exit(99);
    while (::umount2("/dev/hugepages", MNT_DETACH) == 0) {
    }
  }};
  const Outcome outcome = ringcap({"up", "gen:", "--memory", "hugetlbfs", "--arena", "16M"}, nothing_mounted);
  EXPECT_EQ(outcome.status, 6) << outcome.err;
  EXPECT_NE(outcome.err.find("no hugetlbfs with 2 MiB pages is mounted"), std::string::npos) << outcome.err;
  EXPECT_NE(outcome.err.find("mount -t hugetlbfs"), std::string::npos) << outcome.err;
}

TEST(EngineMemory, a_user_outside_the_engines_group_is_told_which_permission_is_missing) {
  const TestDir dir;
  Engine engine({"gen:rate=1000", "--memory", "plain"});
  const Outcome outcome = ringcap({"capture", engine.name(), "--count-only", "-c", "1"}, {.uid = kNobody});
  EXPECT_EQ(outcome.status, 5) << outcome.err;
  EXPECT_NE(outcome.err.find("--group"), std::string::npos) << outcome.err;
}

}  // namespace
}  // namespace ringcap::test
