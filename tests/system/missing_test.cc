// What is not there (an engine, a port, a device, a file, a key): the message that says so, its exit status,
// and nothing else touched: no engine, no socket, no file, no hugepage.
#include <gtest/gtest.h>

#include <algorithm>

#include "capture/base/run_dir.h"
#include "tests/system/harness.h"

namespace ringcap::test {
namespace {

struct Attempt {
  std::vector<std::string> words;
  int status;
  const char* said;
};

std::string joined(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += word + " ";
  return text;
}

// Runs each, and sees that it says so and leaves nothing in the directory.
void expect_refused(const TestDir& dir, const std::vector<Attempt>& attempts,
                    const ProcessOptions& options = {}) {
  for (const Attempt& attempt : attempts) {
    const Outcome outcome = ringcap(attempt.words, options);
    EXPECT_EQ(outcome.status, attempt.status) << joined(attempt.words) << outcome.err;
    EXPECT_NE(outcome.err.find(attempt.said), std::string::npos) << joined(attempt.words) << outcome.err;
    EXPECT_EQ(outcome.out, "") << joined(attempt.words);
    EXPECT_TRUE(list_engines().empty()) << joined(attempt.words);
    for (const auto& entry : std::filesystem::recursive_directory_iterator(dir.path()))
      EXPECT_TRUE(entry.path() == dir.run_dir() || entry.path().extension() == ".lock")
          << joined(attempt.words) << "left " << entry.path();
  }
}

TEST(Missing, engines_are_named_with_those_that_run) {
  const TestDir dir;
  const std::string out = dir.file("out.pcap").string();
  expect_refused(dir,
                 {{{"capture", "nobody", "-w", out}, 6, "neither a running engine nor an interface"},
                  {{"capture", "nobody@group/1", "-w", out}, 6, "neither a running engine nor an interface"},
                  {{"stat", "nobody"}, 6, "nobody"},
                  {{"down", "nobody"}, 6, "nobody"}});
  Engine engine({"gen:rate=10", "--memory", "plain"});
  for (const char* command : {"stat", "down"}) {
    const Outcome outcome = ringcap({command, "nobody"});
    EXPECT_EQ(outcome.status, 6);
    EXPECT_NE(outcome.err.find(engine.name()), std::string::npos) << outcome.err;
  }
  EXPECT_EQ(engine.down(), 0);
}

TEST(Missing, an_engine_that_does_not_appear_in_time_is_not_found) {
  const TestDir dir;
  expect_refused(dir, {{{"capture", "nobody", "--wait", "50ms", "--count-only"}, 6, "nobody"}});
}

TEST(Missing, ports_and_devices_are_named) {
  const TestDir dir;
  const std::string out = dir.file("out.pcap").string();
  expect_refused(dir, {{{"up", "packet:nothere0", "--name", "a"}, 6, "nothere0"},
                       {{"capture", "packet:nothere0", "-w", out}, 6, "nothere0"},
                       {{"up", "vfio:ffff:ff:1f.7", "--name", "a"}, 6, "there is no PCI device ffff:ff:1f.7"},
                       {{"up", "vfio:eth", "--name", "a"}, 2, "eth"},
                       {{"up", "cable:eth0", "--name", "a"}, 2, "cable"},
                       {{"up", "gen:colour=blue", "--name", "a"}, 2, "rate"},  // the known keys
                       {{"bind", "ffff:ff:1f.7"}, 6, "there is no PCI device ffff:ff:1f.7"}});
}

TEST(Missing, files_are_named_and_those_of_another_kind_say_what_they_are) {
  const TestDir dir;
  const std::string out = dir.file("out.pcap").string();
  const std::string data = RINGCAP_TEST_DATA "/captures/";
  expect_refused(dir, {{{"up", "pcap:/no/where.pcap", "--name", "a"}, 6, "there is no file /no/where.pcap"},
                       {{"capture", "pcap:/no/where.pcap", "-w", out}, 6, "there is no file /no/where.pcap"},
                       {{"capture", "pcap:/", "-w", out}, 1, "directory"},
                       {{"capture", "pcap:/dev/null", "-w", out}, 2, "is empty"},
                       {{"capture", "pcap:" + data + "modified.pcap", "-w", out}, 2, "editcap"},
                       {{"capture", "pcap:" RINGCAP_SOURCE_DIR "/README.md", "-w", out},
                        2,
                        "neither a pcap nor a pcapng file"},
                       {{"capture", "pcap:" + data + "nano_big.pcap,queues=65", "-w", out}, 2, "queues"}});
}

TEST(Missing, permission_to_read_a_file_is_status_5) {
  const TestDir dir;
  const auto secret = dir.file("secret.lock");  // a name that may stay
  write_file(secret, "");
  std::filesystem::permissions(secret, std::filesystem::perms::none);
  expect_refused(dir, {{{"capture", "pcap:" + secret.string(), "--count-only"}, 5, "secret.lock"}},
                 {.uid = 65534});
}

TEST(Missing, hugepages_are_counted_before_anything_is_made) {
  const TestDir dir;
  const uint64_t before = free_hugepages();
  const std::string out = dir.file("out.pcap").string();
  expect_refused(dir, {{{"up", "gen:", "--name", "a", "--arena", "4096G"}, 1, "hugepages: 2097152 needed"},
                       {{"capture", "gen:", "--arena", "4096G", "-w", out}, 1, "hugepages: 2097152 needed"}});
  // Others may take some meanwhile, or give some back; ours would be millions.
  EXPECT_LT(before > free_hugepages() ? before - free_hugepages() : 0, 100'000);
}

TEST(Missing, a_size_of_hugepages_that_the_kernel_does_not_have_is_named) {
  const TestDir dir;
  expect_refused(dir, {{{"up", "gen:", "--name", "a", "--page", "4M"}, 1, "no 4 MiB hugepages"},
                       {{"up", "gen:", "--name", "a", "--page", "3M"}, 2, "there is 2M and 1G"}});
}

}  // namespace
}  // namespace ringcap::test
