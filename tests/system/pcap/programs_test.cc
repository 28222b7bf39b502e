// Programs as Debian ships them, on an engine through the shim: they start, give up their privileges, filter,
// count, end on Ctrl-C, and what they write is right.
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/statvfs.h>

#include <algorithm>
#include <csignal>
#include <nlohmann/json.hpp>
#include <regex>

#include "tests/system/pcap/shim.h"

namespace ringcap::test {
namespace {

constexpr const char* kPython = "/usr/bin/python3";  // Debian's, which has Debian's modules

bool has(const char* program) { return run({"sh", "-c", std::string("command -v ") + program}).status == 0; }

#define NEEDS(program) \
  if (!has(program)) GTEST_SKIP() << program << " is not installed (tests/packages.txt)"

// A lab whose probe sends a UDP frame to port 7 and one to port 9, every 10 ms, until the end.
struct Busy : Lab {
  Process sender{{PCAP_PROBE, "send_for_ever", device(), "there"}, {.network = &network}};

  Busy() { fs::permissions(dir.path(), fs::perms::all); }  // programs that change user write there
  std::string file(const char* name) const { return dir.file(name); }
  Process start(const std::vector<std::string>& arguments) const { return Process(arguments, shimmed()); }
};

bool says(const Process& process, const std::string& what) {
  return wait_until([&] { return (process.out() + process.err()).find(what) != std::string::npos; });
}

// How many frames of a file tcpdump, with the system's libpcap, prints with a filter.
size_t frames_in(const std::string& file, const std::string& filter = "") {
  const auto printed = run({"tcpdump", "-nn", "-r", file, filter}).out;
  return static_cast<size_t>(std::ranges::count(printed, '\n'));
}

size_t number_before(const std::string& text, const std::string& words) {
  std::smatch found;
  const bool there = std::regex_search(text, found, std::regex("(\\d+) " + words));
  EXPECT_TRUE(there) << words << " in: " << text;
  return there ? std::stoul(found[1]) : 0;
}

TEST(PcapPrograms, tcpdump_filters_counts_gives_up_root_and_ends_on_ctrl_c_with_right_statistics) {
  const Busy lab;
  Process tcpdump =
      lab.start({"tcpdump", "-nn", "-U", "-i", lab.device(), "-w", lab.file("x.pcap"), "udp dst port 7"});
  ASSERT_TRUE(says(tcpdump, "listening on")) << tcpdump.err();
  ASSERT_TRUE(
      wait_until([&] { return fs::exists(lab.file("x.pcap")) && fs::file_size(lab.file("x.pcap")) > 5000; }));
  tcpdump.signal(SIGINT);
  EXPECT_EQ(tcpdump.wait(), 0);
  const auto captured = number_before(tcpdump.err(), "packets? captured");
  EXPECT_GE(captured, 40u);
  EXPECT_EQ(frames_in(lab.file("x.pcap")), captured);
  EXPECT_EQ(frames_in(lab.file("x.pcap"), "not udp dst port 7"), 0u);
  EXPECT_GE(number_before(tcpdump.err(), "packets? received by filter"), captured);
  EXPECT_EQ(number_before(tcpdump.err(), "packets? dropped by kernel"), 0u);
}

TEST(PcapPrograms, a_filter_of_tcpdump_is_evaluated_in_the_engine) {
  const Busy lab;
  Process tcpdump = lab.start({"tcpdump", "-nn", "-i", lab.device(), "udp dst port 7"});
  ASSERT_TRUE(says(tcpdump, "listening on")) << tcpdump.err();
  EXPECT_TRUE(wait_until([&] {
    const auto consumers = lab.engine->stat()["consumers"];
    return consumers.size() == 1 && consumers[0]["not_matched"] > 20;
  })) << lab.engine->stat().dump();
}

// The lab's sender is at the other end: of what `here` sees, nothing goes out.
TEST(PcapPrograms, directions_are_evaluated_in_the_engine) {
  const std::vector<std::vector<std::string>> choices{{"-Q", "out"}, {"outbound"}, {"ifindex", "4711"}};
  for (const auto& choice : choices) {
    const Busy lab;
    std::vector<std::string> words{"tcpdump", "-nn", "-i", lab.device()};
    words.insert(words.end(), choice.begin(), choice.end());
    Process tcpdump = lab.start(words);
    ASSERT_TRUE(says(tcpdump, "listening on")) << tcpdump.err();
    EXPECT_TRUE(wait_until([&] {
      const auto consumers = lab.engine->stat()["consumers"];
      return consumers.size() == 1 && consumers[0]["filter"] == "engine" && consumers[0]["not_matched"] > 20;
    })) << choice[0]
        << lab.engine->stat().dump();
    const auto before = lab.engine->stat()["consumers"][0];
    EXPECT_TRUE(wait_until([&] {
      const auto after = lab.engine->stat()["consumers"][0];
      return after["not_matched"] > 20 + before["not_matched"].get<uint64_t>() &&
             after["published"] == before["published"];
    })) << lab.engine->stat().dump();
  }
}

TEST(PcapPrograms, tshark_and_dumpcap_capture_and_write_right_files) {
  NEEDS("tshark");
  const Busy lab;
  Process tshark =
      lab.start({"tshark", "-i", lab.device(), "-f", "udp port 7", "-c", "20", "-w", lab.file("t.pcapng")});
  EXPECT_EQ(tshark.wait(), 0) << tshark.err();
  EXPECT_EQ(frames_in(lab.file("t.pcapng"), "udp dst port 7"), 20u);
  Process dumpcap =
      lab.start({"dumpcap", "-i", lab.device(), "-f", "udp port 9", "-w", lab.file("d.pcapng")});
  ASSERT_TRUE(wait_until([&] {
    const auto consumers = lab.engine->stat()["consumers"];
    return std::any_of(consumers.begin(), consumers.end(), [&](const nlohmann::json& consumer) {
      return consumer["pid"] == dumpcap.pid() && consumer["released"] > 10;
    });
  })) << dumpcap.err()
      << lab.engine->stat().dump() << lab.sender.err();
  dumpcap.signal(SIGINT);
  EXPECT_EQ(dumpcap.wait(), 0) << dumpcap.err();
  std::smatch counts;
  const std::string said = dumpcap.err();
  ASSERT_TRUE(
      std::regex_search(said, counts, std::regex("received/dropped on interface '[^']*': (\\d+)/(\\d+)")))
      << said;
  EXPECT_EQ(frames_in(lab.file("d.pcapng"), "udp dst port 9"), std::stoul(counts[1]));
  EXPECT_EQ(counts[2], "0");
}

TEST(PcapPrograms, ngrep_matches_after_giving_up_root) {
  NEEDS("ngrep");
  const Busy lab;
  const auto outcome =
      run({"ngrep", "-q", "-l", "-d", lab.device(), "-n", "3", "hello", "udp dst port 7"}, lab.shimmed());
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_NE(outcome.out.find("10.0.0.1:0 -> 10.0.0.2:7"), std::string::npos) << outcome.out;
  EXPECT_EQ(outcome.out.find("10.0.0.2:9"), std::string::npos) << outcome.out;
}

TEST(PcapPrograms, darkstat_counts_in_its_own_root_directory_as_another_user) {
  NEEDS("darkstat");
  const Busy lab;
  fs::create_directory(lab.file("root"));
  Process darkstat =
      lab.start({"darkstat", "-i", lab.device(), "--no-daemon", "--no-dns", "--chroot", lab.file("root"),
                 "--user", "nobody", "-b", "127.0.0.1", "-p", "6667", "-l", "10.0.0.0/255.0.0.0"});
  const auto page = [&] {
    return run({kPython, "-c",
                "import urllib.request as u; print(u.urlopen('http://127.0.0.1:6667/hosts/').read())"},
               {.network = &lab.network})
        .out;
  };
  EXPECT_TRUE(wait_until([&] { return page().find("10.0.0.2") != std::string::npos; }))
      << darkstat.err() << page();
  darkstat.signal(SIGINT);
  EXPECT_EQ(darkstat.wait(), 0) << darkstat.err();
}

TEST(PcapPrograms, iftop_shows_the_hosts) {
  NEEDS("iftop");
  const Busy lab;
  const auto outcome = run({"iftop", "-t", "-s", "2", "-n", "-p", "-i", lab.device()}, lab.shimmed());
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_NE(outcome.out.find("10.0.0.1"), std::string::npos) << outcome.out << outcome.err;
}

TEST(PcapPrograms, nmap_gets_its_answers_through_an_engine_that_stands_for_its_interface) {
  NEEDS("nmap");
  const Busy lab;
  lab.network.ip({"address", "add", "192.0.2.1/24", "dev", "here"});
  auto options = lab.shimmed();
  options.environment.push_back({"RINGCAP_PCAP_MAP", "here=" + lab.device()});
  const auto outcome = run({"nmap", "--packet-trace", "-sn", "-n", "-e", "here", "192.0.2.9"}, options);
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_NE(outcome.out.find("ARP reply 192.0.2.9 is-at"), std::string::npos) << outcome.out << outcome.err;
  EXPECT_NE(outcome.out.find("Host is up"), std::string::npos) << outcome.out;
}

TEST(PcapPrograms, python3_pcapy_reads_and_counts) {
  if (run({kPython, "-c", "import pcapy"}).status != 0) GTEST_SKIP() << "python3-pcapy is not installed";
  const Busy lab;
  const auto outcome = run({kPython, "-c",
                            "import pcapy, sys\n"
                            "r = pcapy.open_live(sys.argv[1], 65535, 1, 100)\n"
                            "r.setfilter('udp dst port 7')\n"
                            "got = []\n"
                            "while len(got) < 5:\n"
                            "  h, d = r.next()\n"
                            "  if h: got.append((h.getlen(), d[37]))\n"
                            "print(got, r.stats()[0] >= 5, r.datalink())\n",
                            lab.device()},
                           lab.shimmed());
  EXPECT_EQ(outcome.out, "[(100, 7), (100, 7), (100, 7), (100, 7), (100, 7)] True 1\n") << outcome.err;
}

TEST(PcapPrograms, scapy_sniffs_with_use_pcap) {
  if (run({kPython, "-c", "import scapy"}).status != 0) GTEST_SKIP() << "python3-scapy is not installed";
  const Busy lab;
  const auto outcome = run({kPython, "-c",
                            "import sys\n"
                            "from scapy.all import conf, sniff, UDP\n"
                            "conf.use_pcap = True\n"
                            "found = sniff(iface=sys.argv[1], count=5, filter='udp dst port 7', timeout=60)\n"
                            "print([p[UDP].dport for p in found])\n",
                            lab.device()},
                           lab.shimmed());
  EXPECT_EQ(outcome.out, "[7, 7, 7, 7, 7]\n") << outcome.err;
}

// ---- command lines that do without an engine: the shim changes nothing
// --------------------------------------

struct Both {
  Outcome real, own;
};
Both both(const std::vector<std::string>& words) { return {run(words), run(words, with_shim())}; }

TEST(PcapPrograms, command_lines_that_read_write_and_fail_say_and_do_the_same_with_the_shim) {
  TestDir dir;
  const std::string data = RINGCAP_TEST_DATA "/captures/", to = dir.file("out.pcap");
  const std::vector<std::vector<std::string>> lines = {
      {"tcpdump", "-nn", "-r", data + "micro_little.pcap"},
      {"tcpdump", "-nn", "-r", data + "nano_big.pcap", "--nano"},
      {"tcpdump", "-nn", "-r", data + "simple.pcapng", "udp"},
      {"tcpdump", "-nn", "-r", data + "huge_frame.pcap"},
      {"tcpdump", "-nn", "-r", data + "bad_order.pcapng"},
      {"tcpdump", "-nn", "-r", "/nowhere.pcap"},
      {"tcpdump", "-Z", "root", "-r", data + "micro_big.pcap", "-w", to},
      {"tcpdump", "-Z", "root", "-r", data + "micro_big.pcap", "-w", "/nowhere/x"},
      {"tcpdump", "-d", "ip and tcp port 80"},
      {"tcpdump", "-dd", "-y", "RAW", "vlan 3 or ip6 host ::1"},
      {"tcpdump", "-d", "tcp port port"},
      {"tcpdump", "-i", "is-not-there"},
      {"tcpdump", "-L", "-i", "lo"},
      {"tcpdump", "-J", "-i", "lo"},
      {"tcpdump", "-y", "NO_SUCH_TYPE", "-i", "lo"},
      {"tcpdump", "--version"},
  };
  for (const auto& line : lines) {
    const auto [real, own] = both(line);
    std::string words;
    for (const auto& word : line) words += word + " ";
    EXPECT_EQ(own.status, real.status) << words;
    EXPECT_EQ(own.out, real.out) << words;
    EXPECT_EQ(own.err, real.err) << words;
    EXPECT_FALSE((real.out + real.err).empty()) << words;
  }
  const auto written = read_file(to);
  EXPECT_EQ(run({"tcpdump", "-Z", "root", "-r", data + "micro_big.pcap", "-w", to}).status, 0);
  EXPECT_EQ(written, read_file(to));
  EXPECT_GT(written.size(), 24u);
}

TEST(PcapPrograms, listings_differ_by_the_engines_at_the_end_alone) {
  const Lab lab;
  const auto real = run({"tcpdump", "-D"}, {.network = &lab.network});
  const auto own = run({"tcpdump", "-D"}, lab.shimmed());
  ASSERT_FALSE(real.out.empty());
  EXPECT_TRUE(own.out.starts_with(real.out)) << own.out;
  EXPECT_NE(own.out.find("." + lab.device() + " (ringcap engine on packet:here)", real.out.size()),
            std::string::npos)
      << own.out;
}

// ---- ringcap run
// --------------------------------------------------------------------------------------------

TEST(RingcapRun, starts_a_program_with_the_shim_and_gives_its_status) {
  const Busy lab;
  const ProcessOptions options{.network = &lab.network};
  const auto outcome =
      ringcap({"run", "--", "tcpdump", "-nn", "-c", "3", "-i", lab.device(), "udp dst port 9"}, options);
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_EQ(std::ranges::count(outcome.out, '\n'), 3) << outcome.out;
  const auto preloaded =
      ringcap({"run", "--preload", "tcpdump", "-nn", "-c", "2", "-i", lab.device()}, options);
  EXPECT_EQ(std::ranges::count(preloaded.out, '\n'), 2) << preloaded.err;
  const auto mapped =
      ringcap({"run", "--map", "x=" + lab.device(), "tcpdump", "-nn", "-c", "2", "-i", "x"}, options);
  EXPECT_EQ(std::ranges::count(mapped.out, '\n'), 2) << mapped.err;
  EXPECT_EQ(ringcap({"run", "sh", "-c", "exit 42"}).status, 42);
  EXPECT_EQ(ringcap({"run", "sh", "-c", "echo -$RINGCAP_PCAP_COPY-"}).out, "--\n");
  EXPECT_EQ(ringcap({"run", "--copy", "sh", "-c", "echo -$RINGCAP_PCAP_COPY-"}).out, "-1-\n");
}

TEST(RingcapRun, says_when_a_program_cannot_have_the_shim_and_what_to_do) {
  TestDir dir;
  fs::permissions(dir.path(), fs::perms::all);
  const std::string copy = dir.file("tcpdump");
  fs::copy_file("/usr/bin/tcpdump", copy);
  fs::permissions(copy, fs::perms::set_uid | fs::perms(0755));
  struct statvfs mount{};
  ASSERT_EQ(::statvfs(copy.c_str(), &mount), 0);
  if ((mount.f_flag & ST_NOSUID) == 0) {
    const auto other = ringcap({"run", copy, "-D"}, {.uid = 65534});
    EXPECT_EQ(other.status, 5) << other.err;
    EXPECT_NE(other.err.find("is set-user-ID"), std::string::npos) << other.err;
  }
  EXPECT_EQ(ringcap({"run", copy, "--version"}).status, 0)
      << "root's own set-user-ID program is no other user's";
  const auto ignored =
      run({"setpriv", "--no-new-privs", RINGCAP_PROGRAM, "run", copy, "--version"}, {.uid = 65534});
  EXPECT_EQ(ignored.status, 0) << "the kernel takes no notice of it there: " << ignored.err;
  fs::permissions(copy, fs::perms(0755));
  if (run({"setcap", "cap_net_raw+ep", copy}).status == 0) {
    const auto capable = ringcap({"run", copy, "-D"}, {.uid = 65534});
    EXPECT_EQ(capable.status, 5) << capable.err;
    EXPECT_NE(capable.err.find("has file capabilities"), std::string::npos) << capable.err;
  }
  write_file(dir.file("x.c"), "int main(void) { return 0; }\n");
  ASSERT_EQ(run({"cc", "-static", dir.file("x.c"), "-o", dir.file("static")}).status, 0);
  const auto fixed = ringcap({"run", dir.file("static")});
  EXPECT_EQ(fixed.status, 2) << fixed.err;
  EXPECT_NE(fixed.err.find("linked statically"), std::string::npos) << fixed.err;
  EXPECT_EQ(ringcap({"run", "no-such-program-anywhere"}).status, 6);
  EXPECT_EQ(ringcap({"run"}).status, 2);
}

// ---- linked against the shim
// ------------------------------------------------------------------------------------

TEST(PcapInstalled,
     a_program_linked_with_its_pcap_config_or_pkg_config_has_the_shim_with_an_empty_environment) {
  TestDir dir;
  const std::string prefix = dir.file("usr");
  const auto installed =
      run({"cmake", "--install", RINGCAP_BINARY_DIR, "--component", "pcap", "--prefix", prefix});
  ASSERT_EQ(installed.status, 0) << installed.err;
  const std::string home = run({"find", prefix, "-path", "*/ringcap/pcap"}).out;
  const std::string shim = home.substr(0, home.find('\n'));
  ASSERT_TRUE(fs::exists(shim + "/libpcap.so.0.8")) << home;
  EXPECT_EQ(read_file(shim + "/ld.so.conf"), shim + "\n");
  EXPECT_EQ(fs::read_symlink(shim + "/libpcap.so.1"), "libpcap.so.0.8");
  EXPECT_EQ(fs::read_symlink(shim + "/libpcap.so"), "libpcap.so.0.8");
  write_file(
      dir.file("x.c"),
      "#include <pcap/pcap.h>\n#include <stdio.h>\nint main(void) { puts(pcap_lib_version()); return 0; }\n");
  const std::string compile = "cc " + dir.file("x.c").string() + " -o " + dir.file("x").string() + " ";
  for (const std::string& flags :
       {"$(" + shim + "/bin/pcap-config --cflags --libs)",
        "$(PKG_CONFIG_PATH=" + shim + "/pkgconfig pkg-config --cflags --libs libpcap)"}) {
    const auto built = run({"sh", "-c", compile + flags});
    ASSERT_EQ(built.status, 0) << built.err;
    const auto libraries = run({"env", "-i", "/usr/bin/ldd", dir.file("x")}).out;
    EXPECT_NE(libraries.find("ringcap/pcap"), std::string::npos) << libraries;
    EXPECT_NE(run({"env", "-i", dir.file("x")}).out.find("libpcap version"), std::string::npos);
  }
}

// docs/pcap.md's "In the system's libpcap's place", in a copy of the root directory that is gone afterwards.
// $1: a directory for it, $2: the build, $3: the engine's run directory, $4: the device.
constexpr const char* kInPlace = R"sh(
set -e
mount --make-rprivate /
mount -t tmpfs tmpfs $1
mkdir $1/upper $1/work $1/root
mount -t overlay -o lowerdir=/,upperdir=$1/upper,workdir=$1/work overlay $1/root || exit 77
mkdir -p $1/root$2 $1/root/run/ringcap
for place in /proc /dev $2; do mount --rbind $place $1/root$place; done
mount --bind $3 $1/root/run/ringcap
exec chroot $1/root sh -c '
  set -e
  cmake --install $2 --component pcap --prefix /usr/local >/dev/null
  D=$(dirname $(find /usr/local -path "*/ringcap/pcap/ld.so.conf"))
  cp /usr/bin/tcpdump /usr/local/bin/raised && chmod 4755 /usr/local/bin/raised
  shows() { ldd /usr/local/bin/raised | grep -c "$D/libpcap.so.0.8" || true; }
  update-alternatives --install /etc/ld.so.conf.d/00-libpcap.conf libpcap.conf $D/ld.so.conf 20
  update-alternatives --install /etc/ld.so.conf.d/00-libpcap.conf libpcap.conf /dev/null 10
  ldconfig
  echo "in its place: $(shows)"
  ldconfig  # as any package runs it
  echo "still: $(shows)"
  setpriv --reuid 65534 --clear-groups /usr/local/bin/raised -nn -c 1 -i $4
  update-alternatives --set libpcap.conf /dev/null
  ldconfig
  echo "chosen away: $(shows)"' sh "$@"
)sh";

TEST(PcapInstalled, the_dynamic_linkers_cache_gives_the_shim_to_set_user_ID_programs_too) {
  const Busy lab;
  fs::create_directory(lab.file("place"));
  const auto outcome = run({"unshare", "--mount", "sh", "-c", kInPlace, "sh", lab.file("place"),
                            RINGCAP_BINARY_DIR, lab.dir.run_dir(), lab.device()},
                           {.network = &lab.network});
  if (outcome.status == 77) GTEST_SKIP() << "no overlay on this root directory: " << outcome.err;
  EXPECT_EQ(outcome.status, 0) << outcome.out << outcome.err;
  for (const std::string said : {"in its place: 1\n", "still: 1\n", "chosen away: 0\n"})
    EXPECT_NE(outcome.out.find(said), std::string::npos) << said << outcome.out << outcome.err;
  EXPECT_NE(outcome.err.find("1 packet captured"), std::string::npos) << outcome.err;
}

TEST(PcapInstalled, counters_of_64_bits_come_through_an_inline_function_on_any_handle) {
  const Lab lab;
  const auto own = lab.own("counters");
  EXPECT_EQ(own.out, "published 5 of 5, released all: 1\nan offline handle: -2\n") << own.err;
}

}  // namespace
}  // namespace ringcap::test
