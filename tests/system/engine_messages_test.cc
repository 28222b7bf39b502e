// What strangers say on the control socket: refused in words, one by one, and nobody else notices.
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <cstring>
#include <random>

#include "libcap/filter/ringcap_filter.h"
#include "tests/system/harness_consumers.h"

namespace ringcap::test {
namespace {

using Bytes = std::vector<std::byte>;

Bytes hello_bytes(const message::Hello& hello = {}) { return message::encode(hello); }

// The same hello from a program with another version of the layout.
Bytes hello_of_major(uint16_t major) {
  Bytes packet = hello_bytes();
  std::memcpy(packet.data() + offsetof(message::Header, major), &major, sizeof major);
  return packet;
}

class Messages : public ::testing::Test {
 protected:
  Error refusal_of(std::span<const std::byte> packet) const {
    const RawClient client(engine_.name());
    client.say(packet);
    const Error error = client.hear_error();
    EXPECT_TRUE(client.hear().bytes.empty());
    return error;
  }

  void expect_engine_well() {
    Consumer proper(follow({.engine = engine_.name(), .from_start = false}));
    EXPECT_TRUE(took(proper, 100)) << proper.progress().text;
    EXPECT_EQ(proper.stop(), 0);
    EXPECT_EQ(not_come_back(engine_), "");
    EXPECT_EQ(engine_.imbalance(), "");
  }

  TestDir dir_;
  Engine engine_{{"gen:rate=5000", "--memory", "plain"}};
};

TEST_F(Messages, of_a_newer_layout_are_refused_naming_the_engine_as_the_older_side) {
  const Error error = refusal_of(hello_of_major(layout::kMajor + 1));
  EXPECT_EQ(error.code, Code::kVersion);
  EXPECT_NE(error.text.find("this side is older"), std::string::npos) << error.text;
  EXPECT_NE(error.mend.find("same version"), std::string::npos) << error.mend;
  expect_engine_well();
}

TEST_F(Messages, of_an_older_layout_are_refused_naming_the_client_as_the_older_side) {
  const Error error = refusal_of(hello_of_major(0));
  EXPECT_EQ(error.code, Code::kVersion);
  EXPECT_NE(error.text.find("other side is older"), std::string::npos) << error.text;
  expect_engine_well();
}

TEST_F(Messages, cut_at_any_byte_are_refused) {
  const Bytes whole = hello_bytes(asking(128, "", {{0x06, 0, 0, 0xffff}}));
  for (size_t bytes = 1; bytes < whole.size(); bytes += 1 + bytes / 16)
    EXPECT_EQ(refusal_of(std::span(whole).first(bytes)).code, Code::kUsage) << bytes << " bytes";
  expect_engine_well();
}

TEST_F(Messages, larger_than_64_kib_are_refused) {
  Bytes packet = hello_bytes();
  packet.resize(100'000);
  const Error error = refusal_of(packet);
  EXPECT_EQ(error.code, Code::kUsage);
  EXPECT_NE(error.text.find("more than 65536 bytes"), std::string::npos) << error.text;
  expect_engine_well();
}

TEST_F(Messages, of_random_bytes_are_refused) {
  std::mt19937 random(7);
  for (int i = 0; i < 200; ++i) {
    Bytes packet(1 + random() % 300);
    for (auto& byte : packet) byte = static_cast<std::byte>(random());
    EXPECT_EQ(refusal_of(packet).code, Code::kUsage);
  }
  expect_engine_well();
}

TEST_F(Messages, with_random_fields_behind_a_proper_header_harm_nobody) {
  std::mt19937 random(11);
  for (int i = 0; i < 300; ++i) {
    Bytes packet = hello_bytes(asking(128));
    const size_t at = sizeof(message::Header) + random() % (packet.size() - sizeof(message::Header));
    packet[at] = static_cast<std::byte>(random());
    // 3 is the order to stop, which root may give: not what is asked here.
    const uint32_t role = std::to_integer<uint32_t>(packet[sizeof(message::Header)]);
    if (role == static_cast<uint32_t>(message::Role::kStop)) continue;
    const RawClient client(engine_.name());
    client.say(packet);
    EXPECT_FALSE(client.hear().bytes.empty());  // whatever the answer is, it comes
  }
  expect_engine_well();
}

TEST_F(Messages, with_descriptors_nobody_asked_for_leave_none_open) {
  const Belongings before = belongings_of(engine_.process().pid());
  for (int i = 0; i < 50; ++i) {
    const RawClient client(engine_.name());
    const std::vector<int> fds(message::kMaxFds, client.socket());
    message::Hello observer;
    observer.role = message::Role::kObserver;
    ASSERT_TRUE(message::send(client.socket(), hello_bytes(observer), fds));
    EXPECT_FALSE(client.hear().bytes.empty());
  }
  EXPECT_EQ(leaked(engine_.process().pid(), before), "");
  expect_engine_well();
}

TEST_F(Messages, from_an_attached_consumer_that_make_no_sense_detach_it_with_the_reason) {
  RawClient client(engine_.name());
  client.attach(asking(128));
  client.say(Bytes(40));
  const Error reason = client.hear_error();
  EXPECT_NE(reason.text.find("not a control message"), std::string::npos) << reason.text;
  expect_engine_well();
}

TEST_F(Messages, ten_thousand_connections_that_say_nothing_keep_no_proper_consumer_out) {
  const Belongings before = belongings_of(engine_.process().pid());
  std::vector<Fd> silent;
  Consumer early(follow({.engine = engine_.name(), .from_start = false}));
  ASSERT_TRUE(took(early, 10));
  for (int i = 0; i < 10'000; ++i) {
    RawClient client(engine_.name());
    silent.emplace_back(::dup(client.socket()));
    if (i % 2000 == 1000) {
      Consumer proper(follow({.engine = engine_.name(), .ring_frames = 1024, .from_start = false}));
      EXPECT_TRUE(took(proper, 10)) << proper.progress().text;
      EXPECT_EQ(proper.stop(), 0);
    }
  }
  EXPECT_LE(descriptors_of(engine_.process().pid()), before.descriptors + 256 + 10);
  // The oldest gave way: the engine closed them.
  pollfd first{silent.front().get(), POLLIN, 0};
  EXPECT_EQ(::poll(&first, 1, static_cast<int>(kPatience.count())), 1);
  EXPECT_TRUE(took(early, early.progress().frames + 100));
  silent.clear();
  EXPECT_EQ(early.stop(), 0);
  EXPECT_EQ(leaked(engine_.process().pid(), before), "");
  expect_engine_well();
}

TEST_F(Messages, a_connection_that_says_nothing_for_five_seconds_is_closed) {
  const RawClient silent(engine_.name());
  EXPECT_TRUE(silent.hear().bytes.empty());
  expect_engine_well();
}

TEST_F(Messages, filters_that_are_no_valid_bpf_are_refused_saying_which_instruction) {
  const std::vector<std::pair<const char*, std::vector<filter::Instruction>>> filters{
      {"has no return", {{0x00, 0, 0, 1}}},
      {"jumps out of the program", {{0x15, 5, 9, 0}, {0x06, 0, 0, 1}}},
      {"has an unknown code", {{0xffff, 0, 0, 0}, {0x06, 0, 0, 1}}},
      {"writes beyond its scratch memory", {{0x02, 0, 0, 16}, {0x06, 0, 0, 1}}},
      {"divides by zero", {{0x34, 0, 0, 0}, {0x06, 0, 0, 1}}},
  };
  for (const auto& [what, program] : filters) {
    const Error error = refusal_of(hello_bytes(asking(0, "", program)));
    EXPECT_EQ(error.code, Code::kFilter) << what;
    EXPECT_NE(error.text.find("instruction"), std::string::npos) << what << ": " << error.text;
  }
  expect_engine_well();
}

TEST_F(Messages, a_filter_of_more_than_4096_instructions_is_refused) {
  Bytes packet = hello_bytes(asking(0, "", std::vector<filter::Instruction>(4097, {0x06, 0, 0, 1})));
  const Error error = refusal_of(packet);
  EXPECT_EQ(error.code, Code::kFilter);
  EXPECT_NE(error.text.find("4096"), std::string::npos) << error.text;
  ringcap_options options = RINGCAP_OPTIONS_INIT;
  const std::vector<ringcap_instruction> program(4097, {0x06, 0, 0, 1});
  options.filter = program.data();
  options.filter_length = 4097;
  ringcap_t* handle = nullptr;
  ringcap_error own{};
  EXPECT_EQ(ringcap_attach(engine_.name().c_str(), &options, &handle, &own), RINGCAP_E_FILTER);
  EXPECT_NE(std::string(own.text).find("4096"), std::string::npos) << own.text;
  expect_engine_well();
}

TEST_F(Messages, a_program_name_that_is_no_text_does_not_break_the_ledgers_table) {
  RawClient client(engine_.name());
  client.attach(asking(128, "\xff\xfe\x80\n\"name"));
  // Cut within a character: 19 letters and one of two bytes.
  RawClient other(engine_.name());
  other.attach(asking(128, "aaaaaaaaaaaaaaaaaaa\xc3\xa4"));
  for (const auto& ledger = ledger_of(engine_); const auto& consumer : ledger.consumers)
    EXPECT_EQ(consumer.name.find('\n'), std::string::npos);
  EXPECT_EQ(ringcap({"stat", engine_.name()}).status, 0);
  const Outcome json = ringcap({"stat", engine_.name(), "--json"});
  EXPECT_EQ(json.status, 0) << json.err;
  EXPECT_NE(json.out.find("\"verdict\": \"balanced\""), std::string::npos) << json.out;
}

TEST_F(Messages, a_ring_larger_than_the_arena_is_refused_in_words_that_name_what_mends_it) {
  const Error error = refusal_of(hello_bytes(asking(1 << 20)));
  EXPECT_NE(error.text.find("room for a ring of"), std::string::npos) << error.text;
  EXPECT_NE(error.mend.find("--ring "), std::string::npos) << error.mend;
  EXPECT_NE(error.mend.find("--arena"), std::string::npos) << error.mend;
  const Error larger = refusal_of(hello_bytes(asking(~uint32_t{0})));
  EXPECT_EQ(larger.code, Code::kUsage);
  EXPECT_NE(larger.text.find("at most 16777216"), std::string::npos) << larger.text;
  expect_engine_well();
}

TEST_F(Messages, a_ring_larger_than_the_arena_is_granted_smaller_to_who_allows_it) {
  ringcap_options options = RINGCAP_OPTIONS_INIT;
  options.ring_frames = 1 << 20;
  options.flags = RINGCAP_ALLOW_SMALLER;
  const Attachment attachment(engine_.name(), options);
  // 32 MiB are 16,384 buffers: without the port's 1,024 a ring of 8,192 fits and none of 16,384.
  EXPECT_EQ(ringcap_ring_frames(attachment.get()), 8192);
  ringcap_burst burst;
  EXPECT_GT(ringcap_take(attachment.get(), 0, static_cast<int>(kPatience.count()), &burst), 0);
  EXPECT_EQ(engine_.imbalance(), "");
}

TEST_F(Messages, what_the_capture_command_says_of_a_ring_that_does_not_fit_works_as_it_stands) {
  const Outcome refused =
      ringcap({"capture", engine_.name(), "--count-only", "--consumer-ring", "1000000", "-c", "10"});
  EXPECT_EQ(refused.status, 1);
  EXPECT_NE(refused.err.find("--consumer-ring 8192"), std::string::npos) << refused.err;
  const Outcome granted =
      ringcap({"capture", engine_.name(), "--count-only", "--consumer-ring", "8192", "-c", "10"});
  EXPECT_EQ(granted.status, 0) << granted.err;
}

// With the 1,024 descriptors that a shell or a service gives a program.
TEST(ManyConsumers, are_256_and_the_next_one_is_refused_clearly) {
  const TestDir dir;
  const auto few_descriptors = [] {
    rlimit limit{};
    ::getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = std::min<rlim_t>(1024, limit.rlim_max);
    ::setrlimit(RLIMIT_NOFILE, &limit);
  };
  Engine engine({"gen:rate=1000", "--memory", "plain", "--arena", "80M"}, {.before_exec = few_descriptors});
  const Belongings before = belongings_of(engine.process().pid());
  std::vector<std::unique_ptr<RawClient>> consumers;
  for (uint32_t i = 0; i < layout::kMaxConsumers; ++i) {
    consumers.push_back(std::make_unique<RawClient>(engine.name()));
    ASSERT_NO_THROW(consumers.back()->attach(asking(128))) << "consumer " << i + 1;
  }
  RawClient one_more(engine.name());
  one_more.say(asking(128));
  const Error error = one_more.hear_error();
  EXPECT_NE(error.text.find("has 256 consumers already"), std::string::npos) << error.text;
  // Each of them sees frames, and the ledger has a line for each.
  for (const auto& consumer : consumers)
    EXPECT_TRUE(wait_until([&] { return consumer->head() > layout::kFirstPosition; }));
  EXPECT_EQ(ledger_of(engine).consumers.size(), 256);
  consumers.pop_back();
  ASSERT_TRUE(wait_until([&] { return ledger_of(engine).consumers.size() == 255; }));
  RawClient again(engine.name());
  EXPECT_NO_THROW(again.attach(asking(128)));
  again.close();
  consumers.clear();
  EXPECT_EQ(not_come_back(engine), "");
  EXPECT_EQ(engine.imbalance(), "");
  EXPECT_EQ(leaked(engine.process().pid(), before, 8192), "");
}

}  // namespace
}  // namespace ringcap::test
