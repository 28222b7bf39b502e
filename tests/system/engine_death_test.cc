// The engine dies: its consumers read what was published and are told; a new one takes its place.
#include <gtest/gtest.h>
#include <poll.h>

#include <csignal>
#include <nlohmann/json.hpp>
#include <thread>

#include "capture/base/run_dir.h"
#include "tests/system/harness_consumers.h"

namespace ringcap::test {
namespace {

// An engine under a given name, which Engine does not offer: `ringcap up ... --name NAME`.
Process start_named(const std::string& name, std::vector<std::string> words) {
  words.insert(words.begin(), "up");
  words.insert(words.end(), {"--name", name});
  return start_ringcap(words);
}

TEST(EngineDeath, wakes_the_sleeping_consumer_which_reads_what_was_published_and_is_told) {
  const TestDir dir;
  Engine engine({"gen:count=500,full=wait", "--memory", "plain", "--wait-consumers", "1"});
  Attachment attachment(engine.name());
  ASSERT_TRUE(wait_until([&] { return engine.stat()["ports"][0]["queues"][0]["ended"] == true; }));
  ASSERT_EQ(attachment.counters().published, 500);
  engine.process().kill();
  SequenceCheck check;
  ringcap_burst burst;
  int result = 0;
  while ((result = ringcap_take(attachment.get(), 64, -1, &burst)) > 0) {
    check.look(burst);
    ASSERT_EQ(ringcap_give_back(attachment.get(), &burst), RINGCAP_OK);
  }
  EXPECT_EQ(check.frames, 500);
  EXPECT_EQ(check.unexplained + check.backwards, 0);
  // All its sources had ended and everything was read: nothing is missing.
  EXPECT_EQ(result, RINGCAP_END);
}

TEST(EngineDeath, in_the_middle_of_traffic_ends_in_gone_after_every_published_frame) {
  const TestDir dir;
  Engine engine({"gen:rate=10000,full=wait", "--memory", "plain", "--wait-consumers", "3"});
  auto consumers = start_followers(2, {.engine = engine.name()});
  Attachment reader(engine.name());  // it holds what it gets until the engine is dead
  for (Consumer& consumer : consumers) ASSERT_TRUE(took(consumer, 500));
  engine.process().kill();
  for (Consumer& consumer : consumers) {
    EXPECT_EQ(consumer.wait(), 0);
    EXPECT_EQ(consumer.progress().result, RINGCAP_E_GONE);
    EXPECT_NE(std::string(consumer.progress().text).find(engine.name()), std::string::npos);
    EXPECT_EQ(consumer.progress().unexplained + consumer.progress().backwards, 0);
  }
  SequenceCheck check;
  ringcap_burst burst;
  int result = 0;
  while ((result = ringcap_take(reader.get(), 0, -1, &burst)) > 0) check.look(burst);
  EXPECT_EQ(result, RINGCAP_E_GONE);
  EXPECT_EQ(check.unexplained + check.backwards, 0);
  for (Consumer& consumer : consumers) EXPECT_LE(consumer.progress().frames, check.frames);
  EXPECT_GE(check.frames, 500);
}

TEST(EngineDeath, wakes_a_consumer_that_waits_for_ever_with_nothing_to_read) {
  const TestDir dir;
  Engine engine({"gen:", "--memory", "plain", "--wait-consumers", "2"});  // so the generator never starts
  Consumer sleeper([name = engine.name()](Progress& progress) {
    const Attachment attachment(name);
    progress.attached = true;
    ringcap_burst burst;
    progress.result = ringcap_take(attachment.get(), 0, -1, &burst);
    progress.take_over(*ringcap_last_error(attachment.get()));
  });
  ASSERT_TRUE(wait_until([&] { return sleeper.progress().attached.load(); }));
  // Asleep: the kernel says so.
  const std::string wchan = "/proc/" + std::to_string(sleeper.pid()) + "/wchan";
  ASSERT_TRUE(wait_until([&] { return read_file(wchan).find("poll") != std::string::npos; }));
  engine.process().kill();
  EXPECT_EQ(sleeper.wait(), 0);
  EXPECT_EQ(sleeper.progress().result, RINGCAP_E_GONE) << sleeper.progress().text;
}

TEST(EngineDeath, makes_the_selectable_descriptor_readable) {
  const TestDir dir;
  Engine engine({"gen:", "--memory", "plain", "--wait-consumers", "2"});
  const Attachment attachment(engine.name());
  pollfd fd{ringcap_fd(attachment.get()), POLLIN, 0};
  EXPECT_EQ(::poll(&fd, 1, 0), 0);
  engine.process().kill();
  EXPECT_EQ(::poll(&fd, 1, static_cast<int>(kPatience.count())), 1);
  ringcap_burst burst;
  EXPECT_EQ(ringcap_take(attachment.get(), 0, 0, &burst), RINGCAP_E_GONE);
}

TEST(EngineDeath, a_new_one_of_the_same_name_starts_while_a_consumer_still_maps_the_old_arena) {
  const TestDir dir;
  const std::string name = unique_name();
  Process first = start_named(
      name, {"gen:rate=5000,full=wait", "--arena", "16M", "--ring", "1024", "--wait-consumers", "1"});
  ASSERT_TRUE(wait_until([&] { return takes_connections(name); })) << first.err();
  Attachment old(name);
  ringcap_burst held;
  ASSERT_GT(ringcap_take(old.get(), 0, static_cast<int>(kPatience.count()), &held), 0);
  first.kill();
  EXPECT_FALSE(takes_connections(name));

  Process second = start_named(name, {"gen:rate=5000", "--arena", "16M", "--ring", "1024"});
  ASSERT_TRUE(wait_until([&] { return takes_connections(name) || !second.is_running(); }));
  ASSERT_TRUE(second.is_running()) << second.err();
  Consumer fresh(follow({.engine = name, .from_start = false}));
  EXPECT_TRUE(took(fresh, 1000)) << fresh.progress().text;
  // What the old engine's consumer holds is as it was: the first frame of the first engine.
  SequenceCheck check;
  check.look(held);
  EXPECT_EQ(check.unexplained + check.backwards, 0);
  EXPECT_EQ(fresh.stop(), 0);
}

TEST(EngineDeath, a_new_one_without_hugepages_says_which_process_holds_the_old_arena) {
  const TestDir dir;
  const std::string name = unique_name();
  Process first = start_named(name, {"gen:", "--arena", "16M", "--ring", "1024", "--wait-consumers", "2"});
  ASSERT_TRUE(wait_until([&] { return takes_connections(name); })) << first.err();
  Consumer holder(follow({.engine = name}));
  ASSERT_TRUE(wait_until([&] { return holder.progress().attached.load(); }));
  holder.signal(SIGSTOP);  // so that it does not notice and leave
  first.kill();
  // More than this machine can have: the pool is short whatever else runs.
  Process second = start_named(name, {"gen:", "--arena", "4096G", "--ring", "1024"});
  EXPECT_EQ(second.wait(), 1);
  const std::string said = second.err();
  EXPECT_NE(said.find("2 MiB hugepages: 2097152 needed"), std::string::npos) << said;
  std::string program = read_file("/proc/" + std::to_string(holder.pid()) + "/comm");
  program.pop_back();  // its newline
  const std::string holds = "still mapped by pid " + std::to_string(holder.pid()) + " (" + program + ")";
  EXPECT_NE(said.find(holds), std::string::npos) << said;
}

TEST(EngineDeath, a_starting_engine_is_not_hindered_by_those_that_look_for_it) {
  const TestDir dir;
  const std::string name = unique_name();
  std::atomic<bool> stop{false};
  // As `ringcap capture NAME --wait` and `ringcap stat` look.
  std::vector<std::jthread> watchers;
  for (int i = 0; i < 3; ++i)
    watchers.emplace_back([&] {
      while (!stop) EXPECT_LE(list_engines().size(), 1);
    });
  int refused = 0;
  for (int i = 0; i < 3000; ++i) refused += lock_engine(dir.run_dir(), name).has_value() ? 0 : 1;
  stop = true;
  watchers.clear();
  EXPECT_EQ(refused, 0);
}

TEST(EngineDeath, a_second_engine_of_a_name_is_refused_and_the_first_goes_on) {
  const TestDir dir;
  Engine engine({"gen:rate=1000", "--memory", "plain"});
  Process second = start_named(engine.name(), {"gen:", "--memory", "plain"});
  EXPECT_EQ(second.wait(), 2);
  EXPECT_NE(second.err().find("an engine called " + engine.name() + " runs already"), std::string::npos)
      << second.err();
  EXPECT_NE(second.err().find("ringcap down " + engine.name()), std::string::npos);
  Consumer consumer(follow({.engine = engine.name(), .from_start = false}));
  EXPECT_TRUE(took(consumer, 10)) << consumer.progress().text;
  EXPECT_EQ(consumer.stop(), 0);
  EXPECT_EQ(engine.imbalance(), "");
}

}  // namespace
}  // namespace ringcap::test
