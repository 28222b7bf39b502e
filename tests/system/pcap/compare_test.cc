// libpcap's man pages as tests: the same program, function by function, with the system's libpcap on one end
// of a veth pair and with the shim on an engine of that end. What it prints is the same.
#include <gtest/gtest.h>

#include <csignal>
#include <nlohmann/json.hpp>

#include "tests/system/pcap/shim.h"

namespace ringcap::test {
namespace {

void expect_the_same(const std::string& what, std::vector<std::string> options = {}) {
  const Lab lab(std::move(options));
  const auto real = lab.real(what);
  ASSERT_EQ(real.status, 0) << real.out << real.err;
  ASSERT_FALSE(real.out.empty());
  const auto own = lab.own(what);
  EXPECT_EQ(own.status, 0) << own.err;
  EXPECT_EQ(own.out, real.out);
}

void expect_of_the_shim(const std::string& what, const std::string& out,
                        std::vector<std::pair<std::string, std::string>> environment = {}) {
  const Lab lab;
  const auto own = lab.own(what, std::move(environment));
  EXPECT_EQ(own.status, 0) << own.err;
  EXPECT_EQ(own.out, out);
}

TEST(PcapCompare, a_handle_that_is_not_activated_answers_as_libpcaps_does) {
  expect_the_same("not_activated");
}
TEST(PcapCompare, an_activated_handle_answers_as_libpcaps_does) { expect_the_same("activated"); }
TEST(PcapCompare, snap_lengths_are_libpcaps_and_0_is_262144) { expect_the_same("snaplens"); }
TEST(PcapCompare, time_stamp_types_and_precisions_are_libpcaps) { expect_the_same("tstamps"); }
TEST(PcapCompare, loop_dispatch_and_next_return_what_libpcaps_do) { expect_the_same("loops"); }
TEST(PcapCompare, a_packet_stays_as_it_is_until_the_next_call) { expect_the_same("lifetimes"); }
TEST(PcapCompare, breakloop_in_a_callback_ends_the_loop_with_libpcaps_code) {
  expect_the_same("breaks_in_callbacks");
}
TEST(PcapCompare, breakloop_from_a_signal_handler_and_another_thread_wakes_a_reader) {
  expect_the_same("breaks_from_elsewhere");
}
TEST(PcapCompare, filters_take_what_libpcaps_take_and_what_was_buffered_is_filtered_too) {
  expect_the_same("filters");
}
TEST(PcapCompare, vlan_filters_take_what_libpcaps_take) { expect_the_same("vlans"); }
TEST(PcapCompare, the_selectable_descriptor_is_level_triggered) { expect_the_same("selectable"); }
TEST(PcapCompare, the_selectable_descriptor_stays_readable_when_a_filter_is_set) {
  expect_the_same("selectable_and_filter");
}
TEST(PcapCompare, an_edge_triggered_program_misses_no_frame) { expect_the_same("edge_triggered"); }
TEST(PcapCompare, a_frame_ends_a_wait_with_any_timeout) { expect_the_same("timeouts"); }
TEST(PcapCompare, a_program_that_closes_our_descriptors_gets_an_error_and_a_text) {
  expect_the_same("closed_by_program");
}
TEST(PcapCompare, two_handles_of_one_program_have_filters_of_their_own) { expect_the_same("two_consumers"); }
TEST(PcapCompare, dump_files_are_libpcaps_in_both_precisions) { expect_the_same("dumps"); }
TEST(PcapCompare, statistics_can_be_asked_for_in_a_signal_handler) {
  expect_the_same("statistics_in_handlers");
}

// The corners (corners.cc).
TEST(PcapCompare, counts_of_0_and_minus_1_are_all_there_is) { expect_the_same("counts"); }
TEST(PcapCompare, non_blocking_mode_is_set_before_and_after_activation) { expect_the_same("nonblock"); }
TEST(PcapCompare, after_an_activation_that_failed_a_handle_is_as_before_it) {
  expect_the_same("after_failure");
}
TEST(PcapCompare, null_pointers_do_what_they_do_in_libpcap) { expect_the_same("nulls"); }
TEST(PcapCompare, a_signal_alone_does_not_end_a_loop) { expect_the_same("interrupted"); }
TEST(PcapCompare, frames_are_sent_and_refused_as_by_libpcap) {
  expect_the_same("sends", {"--send-group", "root"});
}
TEST(PcapCompare, dumps_into_streams_onto_full_disks_and_appended_are_libpcaps) {
  expect_the_same("more_dumps");
}
TEST(PcapCompare, received_is_dropped_and_handed_out) { expect_the_same("overrun"); }
TEST(PcapCompare, a_program_that_captures_gets_no_thread_and_no_signal_handler) {
  expect_the_same("footprint");
}
TEST(PcapCompare, lists_before_activation_and_errors_of_open_live_are_libpcaps) { expect_the_same("lists"); }
TEST(PcapCompare, functions_without_a_handle_get_their_arguments_in_their_places) {
  expect_the_same("forwarded");
}

// Where libpcap 1.10 on Linux does not do what its man pages say, the man page counts.

TEST(PcapShim, breakloop_in_a_callback_ends_a_dispatch_at_that_frame_and_the_rest_comes_later) {
  expect_of_the_shim("breaks_in_dispatch", "dispatch: 3 frames in all, then -2\nthe rest: 7\n");
}

TEST(PcapShim, a_break_at_the_last_frame_of_a_count_is_for_the_next_call) {
  expect_of_the_shim("break_at_the_count", "loop 5, broken at the fifth: 0, 5 frames, then -2\n");
}

TEST(PcapShim, after_an_activation_that_failed_a_handle_can_be_activated_again) {
  expect_of_the_shim("activated_again", "not there: -5 and -5\nrfmon: 0 -6, without it 0 0, loop 0\n");
}

TEST(PcapShim, inbound_outbound_ifindex_and_setdirection_go_by_the_frames_direction) {
  expect_of_the_shim("directions",
                     "inbound: 3\noutbound: 2\nudp and inbound: 3\nnot outbound: 3\nifindex: 5\nifindex: 0\n"
                     "direction 1: 0, 3\ndirection 2: 0, 2\ndirection 0: 0, 5\n");
}

TEST(PcapShim, a_filter_without_vlan_does_not_look_behind_a_tag_as_on_a_file) {
  expect_of_the_shim("tags", "udp port 7: 2\n");
}

TEST(PcapShim, after_fork_either_process_goes_on_when_the_other_has_closed) {
  expect_of_the_shim(
      "forks",
      "child: 5\nparent, after the child has closed: 4 or more\nheir, after its parent has closed: 6\n");
}

TEST(PcapShim, with_descriptors_0_to_2_closed_it_captures_and_takes_none_of_them) {
  expect_of_the_shim("low_descriptors", "descriptor above 2: 1, frames 3\none below 3 taken: 0\n",
                     {{"PROBE_STRICT", "1"}});
}

TEST(PcapShim, a_file_that_took_the_number_of_a_descriptor_of_ours_stays_open) {
  expect_of_the_shim("closed_by_program",
                     "dispatch: -1, with a text: 1\nwhat took the number stays open: 1\n",
                     {{"PROBE_STRICT", "1"}});
}

TEST(PcapShim, a_program_with_the_address_and_undefined_sanitizers_runs_and_they_find_nothing) {
  TestDir dir;
  Engine engine({"gen:rate=50k", "--memory", "plain", "--arena", "32M"});
  const auto outcome = run({PCAP_SANITIZED, "ringcap:" + engine.name(), dir.file("x.pcap")}, with_shim());
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_EQ(outcome.out, "frames 1000, counted 1\n") << outcome.err;
}

TEST(PcapShim, frames_are_read_only_and_RINGCAP_PCAP_COPY_makes_copies) {
  const Lab lab;
  EXPECT_EQ(lab.own("writes_into_frames").status, 128 + SIGSEGV);
  EXPECT_EQ(lab.own("writes_into_frames", {{"RINGCAP_PCAP_COPY", "1"}}).out, "written: 1\n");
}

TEST(PcapShim, RINGCAP_PCAP_MAP_gives_a_name_of_the_systems_to_an_engine) {
  const Lab lab;
  auto options = lab.shimmed();
  options.environment.push_back({"RINGCAP_PCAP_MAP", "x=y,here=" + lab.device()});
  const auto outcome = run({PCAP_PROBE, "tags", "here", "there"}, options);
  EXPECT_EQ(outcome.out, "udp port 7: 2\n") << outcome.err;
  const auto departed = lab.engine->stat()["departed"];
  EXPECT_EQ(departed["count"], 1) << departed.dump();
}

TEST(PcapShim, engines_are_listed_after_the_devices_with_description_addresses_and_flags) {
  const Lab lab;
  lab.network.ip({"address", "add", "192.0.2.7/24", "dev", "here"});
  const auto outcome = run({PCAP_PROBE, "list_devices", lab.device()}, lab.shimmed());
  EXPECT_NE(outcome.out.find("\n" + lab.device() +
                             "|ringcap engine on packet:here|16|192.0.2.7 \nlookupnet 0 0/0\n"),
            std::string::npos)
      << outcome.out;
}

// The probe reads in pcap_loop(); what ends it?
struct Ending {
  Lab lab;
  Process probe{{PCAP_PROBE, "until_the_end", lab.device(), "there"}, lab.shimmed()};
  Ending() {
    EXPECT_TRUE(wait_until([&] { return probe.out().find("reading") != std::string::npos; })) << probe.err();
  }
};

TEST(PcapShim, when_the_engine_is_killed_a_blocked_loop_ends_with_an_error_and_a_text) {
  Ending ending;
  ending.lab.engine->process().kill();
  EXPECT_EQ(ending.probe.wait(), 0);
  EXPECT_NE(ending.probe.out().find("loop -1: engine "), std::string::npos) << ending.probe.out();
  EXPECT_NE(ending.probe.out().find("frames 0, dispatch again -1 and -1"), std::string::npos)
      << ending.probe.out();
}

TEST(PcapShim, a_consumer_that_is_killed_in_a_loop_costs_the_engine_nothing) {
  Ending ending;
  ending.probe.kill();
  EXPECT_EQ(ending.lab.engine->imbalance(), "");
  EXPECT_TRUE(wait_until([&] { return ending.lab.engine->stat()["consumers"].empty(); }));
}

TEST(PcapShim, a_source_that_ends_is_the_end_of_a_file) {
  TestDir dir;
  Engine engine({"gen:count=1000,full=wait", "--wait-consumers", "1", "--memory", "plain"});
  const auto outcome = run({PCAP_PROBE, "until_the_end", "ringcap:" + engine.name()}, with_shim());
  EXPECT_EQ(outcome.out, "reading\nloop 0: \nframes 1000, dispatch again 0 and -2\n") << outcome.err;
}

TEST(PcapShim, activation_says_what_is_wrong_with_libpcaps_codes) {
  const Lab lab;
  const auto open = [&](const std::string& device, std::optional<uid_t> uid = {}) {
    auto options = lab.shimmed();
    options.uid = uid;
    return run({"tcpdump", "-nn", "-c", "1", "-i", device}, options);
  };
  EXPECT_NE(open("ringcap:nobody").err.find("No such device exists"), std::string::npos);
  EXPECT_NE(open("ringcap:nobody").err.find("no engine called nobody runs"), std::string::npos);
  const auto refused = open(lab.device(), 65534);
  EXPECT_EQ(refused.status, 1);
  EXPECT_NE(refused.err.find("You don't have permission"), std::string::npos) << refused.err;
  // As AppArmor keeps a program from the files that say which engines run: that is no engine that does not
  // run.
  fs::permissions(lab.dir.run_dir() / (lab.engine->name() + ".lock"), fs::perms::none);
  const auto confined = open(lab.device(), 65534);
  EXPECT_NE(confined.err.find("You don't have permission"), std::string::npos) << confined.err;
  EXPECT_NE(confined.err.find("cannot look whether engine"), std::string::npos) << confined.err;
}

}  // namespace
}  // namespace ringcap::test
