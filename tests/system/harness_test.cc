#include "tests/system/harness.h"

#include <gtest/gtest.h>
#include <sys/socket.h>

#include <csignal>
#include <stdexcept>

namespace ringcap::test {
namespace {

TEST(Harness, gives_exit_status_and_output) {
  const Outcome outcome =
      run({"sh", "-c", "echo $WORD; echo err >&2; exit 3"}, {.environment = {{"WORD", "said"}}});
  EXPECT_EQ(outcome.status, 3);
  EXPECT_EQ(outcome.out, "said\n");
  EXPECT_EQ(outcome.err, "err\n");
}

TEST(Harness, says_which_program_cannot_be_started) {
  const Outcome outcome = run({"no-such-program"});
  EXPECT_EQ(outcome.status, 127);
  EXPECT_NE(outcome.err.find("cannot start no-such-program"), std::string::npos) << outcome.err;
}

TEST(Harness, kills_and_reaps_what_runs_too_long) {
  Process process({"sleep", "60"});
  EXPECT_TRUE(process.is_running());
  EXPECT_THROW(process.wait(std::chrono::milliseconds(20)), std::runtime_error);
  EXPECT_FALSE(process.is_running());
  EXPECT_NE(::kill(process.pid(), 0), 0);
}

TEST(Harness, tells_the_signal_that_ended_a_process) {
  Process process({"sleep", "60"});
  process.signal(SIGTERM);
  EXPECT_EQ(process.wait(), 128 + SIGTERM);
}

TEST(Harness, starts_as_another_user_without_capabilities) {
  const Outcome outcome = run({"sh", "-c", "id -u; grep CapEff /proc/self/status"}, {.uid = 65534});
  EXPECT_EQ(outcome.out, "65534\nCapEff:\t0000000000000000\n") << outcome.err;
}

TEST(Harness, carries_frames_across_a_veth_pair_and_no_others) {
  const Namespace network;
  network.add_veth("near", "far");
  const Fd near = network.raw_socket("near");
  const Fd far = network.raw_socket("far");
  const std::string frame(60, '\x42');
  ASSERT_EQ(::send(near.get(), frame.data(), frame.size(), 0), 60);
  char received[100] = {};
  ASSERT_TRUE(wait_until([&] { return ::recv(far.get(), received, sizeof received, MSG_DONTWAIT) > 0; }));
  EXPECT_EQ(std::string(received, 60), frame);
  EXPECT_LT(::recv(far.get(), received, sizeof received, MSG_DONTWAIT), 0);
}

TEST(Harness, reads_what_the_kernel_knows_about_a_process) {
  const std::vector<ProcessMapping> mappings = mappings_of(::getpid());
  ASSERT_FALSE(mappings.empty());
  EXPECT_EQ(mappings.front().kernel_page_kb, 4);
  EXPECT_NE(mappings.front().flags.find("rd"), std::string::npos);
  EXPECT_GE(descriptors_of(::getpid()), 3U);
  EXPECT_GT(resident_kb(::getpid()), 100U);
  const int here = 1;
  EXPECT_NE(page_frame(::getpid(), reinterpret_cast<uint64_t>(&here)), 0U);
}

}  // namespace
}  // namespace ringcap::test
