// Control messages: what goes in comes out, and what is no message is refused with its reason.
#include "capture/message/message.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>

namespace ringcap::message {
namespace {

Hello some_hello() {
  return {.role = Role::kConsumer,
          .ring_slots = 4096,
          .allow_smaller = true,
          .program = "tcpdump",
          .cluster = "dns",
          .member = "a",
          .filter = {{0x28, 0, 0, 12}, {0x6, 0, 0, 1}}};
}

TEST(Message, a_hello_comes_out_as_it_went_in) {
  const auto parsed = parse_hello(encode(some_hello()));
  ASSERT_TRUE(parsed) << parsed.error().message();
  EXPECT_EQ(parsed->ring_slots, 4096u);
  EXPECT_TRUE(parsed->allow_smaller);
  EXPECT_EQ(parsed->program, "tcpdump");
  EXPECT_EQ(parsed->cluster, "dns");
  EXPECT_EQ(parsed->member, "a");
  ASSERT_EQ(parsed->filter.size(), 2u);
  EXPECT_EQ(parsed->filter[0].k, 12u);
}

TEST(Message, every_truncation_of_a_hello_is_refused) {
  const auto packet = encode(some_hello());
  for (size_t bytes = 0; bytes < packet.size(); ++bytes)
    EXPECT_FALSE(parse_hello(std::span(packet).first(bytes))) << bytes;
}

TEST(Message, a_hello_with_bytes_behind_it_is_refused) {
  auto packet = encode(some_hello());
  packet.push_back(std::byte{0});
  EXPECT_FALSE(parse_hello(packet));
}

TEST(Message, a_filter_length_that_is_a_lie_is_refused) {
  auto packet = encode(some_hello());
  for (const uint32_t lie : {0u, 1u, 3u, 4096u, 4097u, ~0u}) {
    std::memcpy(packet.data() + sizeof(Header) + 12, &lie, sizeof lie);
    EXPECT_FALSE(parse_hello(packet)) << lie;
  }
}

TEST(Message, a_filter_of_one_program_or_of_two_comes_out_as_it_went_in) {
  const std::vector<filter::Instruction> in{{0x28, 0, 0, 12}, {0x6, 0, 0, 1}}, out{{0x6, 0, 0, 0}};
  for (const SetFilter& set : {SetFilter{}, SetFilter{.filter = in}, SetFilter{.filter = in, .outgoing = out},
                               SetFilter{.filter = {}, .outgoing = out}, SetFilter{in, std::vector{in[0]}},
                               SetFilter{.filter = in, .outgoing = std::vector<filter::Instruction>{}}}) {
    const auto parsed = parse_set_filter(encode(set));
    ASSERT_TRUE(parsed) << parsed.error().message();
    EXPECT_EQ(parsed->filter, set.filter);
    EXPECT_EQ(parsed->outgoing, set.outgoing);
  }
}

TEST(Message, a_second_programs_length_that_is_a_lie_is_refused) {
  auto packet = encode(SetFilter{.filter = {{0x6, 0, 0, 1}}, .outgoing = std::vector{filter::Instruction{}}});
  for (const uint32_t lie : {0u, 1u, 3u, 4096u, 4097u, ~0u}) {
    std::memcpy(packet.data() + sizeof(Header) + 4, &lie, sizeof lie);
    EXPECT_FALSE(parse_set_filter(packet)) << lie;
  }
}

TEST(Message, another_major_version_is_refused_naming_the_older_side) {
  auto packet = encode(some_hello());
  Header header;
  std::memcpy(&header, packet.data(), sizeof header);
  for (const uint16_t major : {uint16_t{0}, uint16_t{7}}) {
    header.major = major;
    std::memcpy(packet.data(), &header, sizeof header);
    const auto parsed = parse_hello(packet);
    ASSERT_FALSE(parsed);
    EXPECT_EQ(parsed.error().code, Code::kVersion);
    EXPECT_NE(parsed.error().text.find(major == 0 ? "the other side is older" : "this side is older"),
              std::string::npos)
        << parsed.error().text;
  }
}

TEST(Message, a_newer_minor_version_is_understood) {
  auto packet = encode(some_hello());
  Header header;
  std::memcpy(&header, packet.data(), sizeof header);
  header.minor = 9;
  std::memcpy(packet.data(), &header, sizeof header);
  EXPECT_TRUE(parse_hello(packet));
}

TEST(Message, control_characters_in_names_become_question_marks) {
  auto hello = some_hello();
  hello.program = "evil\n\x1b[2J";
  const auto parsed = parse_hello(encode(hello));
  ASSERT_TRUE(parsed);
  EXPECT_EQ(parsed->program, "evil??[2J");
}

TEST(Message, an_error_keeps_its_code_text_and_mend) {
  const Error error{Code::kPermission, "not you", "ask root"};
  const Error parsed = parse_error(encode_error(Type::kRefused, error));
  EXPECT_EQ(parsed.code, Code::kPermission);
  EXPECT_EQ(parsed.message(), "not you; ask root");
}

TEST(Message, descriptors_travel_with_a_packet_and_are_closed_when_nobody_wants_them) {
  int pair[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
  const Fd one(pair[0]), two(pair[1]);
  const int fds[] = {STDIN_FILENO, STDOUT_FILENO};
  ASSERT_TRUE(send(one.get(), encode_observing(7), fds));
  int first = -1;
  {
    const auto received = receive(two.get(), true);
    ASSERT_TRUE(received);
    ASSERT_EQ(received->fds.size(), 2u);
    first = received->fds[0].get();
    EXPECT_EQ(*parse_observing(received->bytes), 7u);
  }
  EXPECT_EQ(::fcntl(first, F_GETFD), -1);
}

TEST(Message, a_packet_that_is_too_long_is_refused) {
  int pair[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
  const Fd one(pair[0]), two(pair[1]);
  const std::vector<std::byte> long_packet(kMaxBytes + 1);
  ASSERT_EQ(::send(one.get(), long_packet.data(), long_packet.size(), 0),
            static_cast<ssize_t>(long_packet.size()));
  const auto received = receive(two.get(), true);
  ASSERT_FALSE(received);
  EXPECT_EQ(received.error().code, Code::kUsage);
}

// The kernel says ECONNRESET, and not the end, where what we sent was never read: an engine that was killed
// while somebody attached.
TEST(Message, the_other_side_killed_with_our_packet_unread_reads_as_closed) {
  int pair[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
  const Fd ours(pair[0]);
  const Header detach = plain(Type::kDetach);
  ASSERT_TRUE(send(ours.get(), std::as_bytes(std::span(&detach, 1))));
  ::close(pair[1]);
  const auto received = receive(ours.get(), true);
  ASSERT_TRUE(received) << received.error().message();
  EXPECT_TRUE(received->bytes.empty());
}

TEST(Message, a_wake_up_to_a_full_socket_is_no_error_and_to_a_closed_one_is) {
  int pair[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
  const Fd one(pair[0]);
  Fd two(pair[1]);
  for (int i = 0; i < 100'000; ++i) ASSERT_TRUE(send_wake(one.get()));
  two.reset();
  EXPECT_FALSE(send_wake(one.get()));
}

}  // namespace
}  // namespace ringcap::message
