// ringcap filter, and filters over tagged frames: beside the real tcpdump, over the same files.
#include <gtest/gtest.h>
#include <sys/prctl.h>

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>

#include "capture/pcapfile/reader.h"
#include "tests/system/harness.h"

namespace ringcap::test {
namespace {

const std::string kFrames = RINGCAP_TEST_DATA "/filters/frames.pcap";

// The times of a file's frames; each frame of kFrames has one of its own.
std::vector<uint64_t> times_in(const std::string& file) {
  auto reader = pcapfile::Reader::open(file);
  if (!reader) throw std::runtime_error(reader.error().message());
  std::vector<uint64_t> times;
  pcapfile::Record record;
  while (reader->next(record) == pcapfile::Reader::Status::kRecord) times.push_back(record.timestamp_ns);
  return times;
}

std::vector<uint64_t> matches_of_tcpdump(const TestDir& dir, const std::string& filter) {
  const std::string file = dir.file("tcpdump.pcap");
  const Outcome outcome = run({"tcpdump", "-r", kFrames, "-w", file, "--", filter});
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  return times_in(file);
}

nlohmann::json filter_json(std::vector<std::string> words) {
  words.insert(words.begin(), {"filter", "--json"});
  const Outcome outcome = ringcap(words);
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  return nlohmann::json::parse(outcome.out);
}

std::vector<std::string> expressions() {
  std::ifstream file(RINGCAP_TEST_DATA "/filters/expressions.txt");
  std::vector<std::string> lines;
  for (std::string line; std::getline(file, line);)
    if (!line.empty() && line[0] != '#') lines.push_back(line);
  return lines;
}

const char* const kOfTags[] = {
    "vlan",
    "vlan 10",
    "vlan 20",
    "vlan and tcp",
    "vlan 10 and tcp",
    "vlan 10 and vlan 20",
    "vlan 10 and vlan 20 and tcp port 80",
    "vlan and vlan and vlan",
    "tcp",
    "tcp or (vlan and tcp)",
    "not vlan",
    "vlan and ip6",
    "vlan and host 10.0.0.1",
    "mpls",
    "mpls 16 and ip",
    "mpls and mpls 17 and tcp port 80",
    "vlan and mpls and udp",
    "pppoes",
    "pppoes and ip6",
    "pppoes 1 and tcp port 80",
    "vlan 10 and pppoes 0x27 and udp port 53",
    "pppoed",
};

TEST(FilterOfTags, takes_the_frames_that_tcpdump_takes_through_an_engine) {
  const TestDir dir;
  for (const std::string filter : kOfTags) {
    const std::string file = dir.file("ringcap.pcap");
    const Outcome outcome = ringcap(
        {"capture", "pcap:" + kFrames + ",speed=max", "--memory", "plain", "--force", "-w", file, filter});
    ASSERT_EQ(outcome.status, 0) << outcome.err;
    const auto expected = matches_of_tcpdump(dir, filter);
    EXPECT_EQ(times_in(file), expected) << filter;
    // The inner tag of two is reached through the outer one only.
    EXPECT_EQ(expected.empty(), filter == "vlan 20") << filter;
  }
}

TEST(FilterCommand, counts_the_frames_that_tcpdump_takes) {
  const TestDir dir;
  size_t with_both = 0;
  const size_t frames = times_in(kFrames).size();
  const auto all = expressions();
  for (size_t i = 0; i < all.size(); i += 5) {  // a fifth: each takes three processes
    const auto run = filter_json({"--run", kFrames, "--", all[i]})["run"];
    const size_t expected = matches_of_tcpdump(dir, all[i]).size();
    EXPECT_EQ(run["matched"], expected) << all[i];
    EXPECT_EQ(run["frames"], frames);
    with_both += expected != 0 && expected != frames;
  }
  EXPECT_GT(with_both, all.size() / 10);
}

TEST(FilterCommand, a_file_that_cannot_be_read_is_named_with_the_reason) {
  for (const auto& [file, reason] : {std::pair{"/", "Is a directory"}, {"/nowhere", "No such file"}}) {
    const Outcome outcome = ringcap({"filter", "-F", file});
    EXPECT_EQ(outcome.status, 1);
    EXPECT_NE(outcome.err.find(std::string("cannot read the filter from ") + file), std::string::npos);
    EXPECT_NE(outcome.err.find(reason), std::string::npos) << outcome.err;
  }
}

TEST(FilterCommand, shows_the_program_as_tcpdump_does) {
  for (const char* filter : {"ip", "tcp port 80", "vlan 10 and tcp", "ip[2:2] * 3 > 100", "host 10.0.0.1"}) {
    const Outcome theirs = run({"tcpdump", "-d", "-y", "EN10MB", filter});
    EXPECT_EQ(ringcap({"filter", "--dump", "bpf", filter}).out, theirs.out) << filter;
  }
}

#ifdef __x86_64__
TEST(FilterCommand, shows_machine_code_under_the_instructions_that_it_stands_for) {
  const Outcome outcome = ringcap({"filter", "ip", "--dump", "asm"});
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  for (const char* part :
       {"; (000) ldh      [12]\n", "movzx eax, word ptr", "\n; (001) jeq      #0x800", "ret\n"})
    EXPECT_NE(outcome.out.find(part), std::string::npos) << part << "\n" << outcome.out;
  EXPECT_EQ(outcome.out.find("  db "), std::string::npos) << "bytes that are no instruction:\n"
                                                          << outcome.out;
}

TEST(FilterCommand, measures_interpreter_and_compiled_code_side_by_side) {
  const auto run = filter_json({"tcp port 80", "--run", kFrames})["run"];
  EXPECT_GT(run["interpreted_ns"].get<double>(), 0);
  EXPECT_GT(run["compiled_ns"].get<double>(), 0);
  const Outcome table = ringcap({"filter", "tcp port 80", "--run", kFrames});
  EXPECT_NE(table.out.find("frames match\ninterpreted "), std::string::npos) << table.out;
  EXPECT_NE(table.out.find("\ncompiled "), std::string::npos) << table.out;
}

// The kernel's MemoryDenyWriteExecute: nothing becomes executable that was not so when it was mapped.
void refuse_executable_memory() { ::prctl(65 /* PR_SET_MDWE */, 1 /* REFUSE_EXEC_GAIN */, 0, 0, 0); }

bool can_refuse_executable_memory() {
  return run({"true"}, {.before_exec =
                            [] {
                              if (::prctl(65, 1, 0, 0, 0) != 0) ::_exit(1);
                            }})
             .status == 0;
}

TEST(FilterWithoutExecutableMemory, is_interpreted_with_the_same_result_and_says_so) {
  if (!can_refuse_executable_memory()) GTEST_SKIP() << "the kernel has no PR_SET_MDWE (Linux 6.3)";
  const Outcome outcome =
      ringcap({"filter", "tcp", "--json", "--run", kFrames}, {.before_exec = refuse_executable_memory});
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  const auto json = nlohmann::json::parse(outcome.out);
  EXPECT_TRUE(json["code_bytes"].is_null());
  EXPECT_NE(json["not_compiled"].get<std::string>().find("refuses executable memory"), std::string::npos);
  EXPECT_EQ(json["run"]["matched"], filter_json({"tcp", "--run", kFrames})["run"]["matched"]);
  EXPECT_TRUE(json["run"]["compiled_ns"].is_null());
  EXPECT_EQ(ringcap({"filter", "tcp", "--dump", "asm"}, {.before_exec = refuse_executable_memory}).status, 1);
}

TEST(FilterWithoutExecutableMemory, is_said_once_by_an_engine_that_works) {
  if (!can_refuse_executable_memory()) GTEST_SKIP() << "the kernel has no PR_SET_MDWE (Linux 6.3)";
  const TestDir dir;
  const std::string file = dir.file("ringcap.pcap");
  Engine engine({"pcap:" + kFrames + ",speed=max", "--memory", "plain", "--filter", "vlan or ip",
                 "--wait-consumers", "1", "--until-end"},
                {.before_exec = refuse_executable_memory});
  EXPECT_EQ(ringcap({"capture", engine.name(), "-w", file, "vlan 10 and tcp"}).status, 0);
  EXPECT_EQ(engine.process().wait(), 0);
  EXPECT_EQ(times_in(file), matches_of_tcpdump(dir, "vlan 10 and tcp"));
  const std::string log = engine.process().err();
  const size_t first = log.find("refuses executable memory");
  EXPECT_NE(first, std::string::npos) << log;
  EXPECT_EQ(log.find("refuses executable memory", first + 1), std::string::npos) << log;
}
#endif

TEST(FilterCommand, takes_the_link_type_of_the_file_unless_told) {
  const TestDir dir;
  EXPECT_EQ(filter_json({"ip", "--run", kFrames})["link_type"], 1);
  EXPECT_EQ(filter_json({"ip", "--link-type", "101"})["instructions"][0]["text"], "ldb      [0]");
  EXPECT_EQ(filter_json({"ip"})["instructions"][0]["text"], "ldh      [12]");
}

TEST(FilterCommand, without_a_filter_takes_every_frame) {
  const auto run = filter_json({"--run", kFrames})["run"];
  EXPECT_EQ(run["matched"], run["frames"]);
}

TEST(FilterCommand, refuses_what_is_not_valid_in_words) {
  const auto refused = [](const std::vector<std::string>& words, const char* text) {
    std::vector<std::string> all{"filter"};
    all.insert(all.end(), words.begin(), words.end());
    const Outcome outcome = ringcap(all);
    EXPECT_EQ(outcome.out, "");
    EXPECT_NE(outcome.err.find(text), std::string::npos) << outcome.err;
    return outcome.status;
  };
  EXPECT_EQ(refused({"tcp", "prot"}, "filter 'tcp prot':"), 2);
  EXPECT_EQ(refused({"ip6 protochain 6"}, "protochain"), 2);
  EXPECT_EQ(refused({"tcp", "--dump", "hex"}, "forms: bpf"), 2);
  EXPECT_EQ(refused({"tcp", "--link-type", "70000"}, "at most 65535"), 2);
  EXPECT_EQ(refused({"tcp", "--run", "/nowhere.pcap"}, "/nowhere.pcap"), 6);
}

}  // namespace
}  // namespace ringcap::test
