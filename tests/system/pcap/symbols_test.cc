// The pcap shim's file: what it exports and needs, and what it does when it is only loaded.
#include <gtest/gtest.h>

#include <map>
#include <set>
#include <sstream>

#include "tests/system/pcap/shim.h"

namespace ringcap::test {
namespace {

// "T pcap_open 1f" by name: kind and size of each exported symbol.
std::map<std::string, std::string> symbols(const std::string& library) {
  const auto listed = run({"nm", "-D", "-S", "--defined-only", library});
  std::map<std::string, std::string> found;
  std::istringstream lines(listed.out);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string address, size, kind, name;
    words >> address >> size >> kind >> name;
    found[name] = kind == "T" ? kind : kind + size;
  }
  return found;
}

// libpcap's public functions that are compiled into some builds only: its remote capture.
const std::set<std::string> kRemote = {"pcap_open",
                                       "pcap_createsrcstr",
                                       "pcap_parsesrcstr",
                                       "pcap_findalldevs_ex",
                                       "pcap_setsampling",
                                       "pcap_remoteact_accept",
                                       "pcap_remoteact_accept_ex",
                                       "pcap_remoteact_list",
                                       "pcap_remoteact_close",
                                       "pcap_remoteact_cleanup"};

// Those of its main branch that no release has yet.
const std::set<std::string> kNewer = {"pcap_alloc_option",      "pcap_free_option",
                                      "pcap_set_option_string", "pcap_set_option_int",
                                      "pcap_get_option_string", "pcap_get_option_int"};

TEST(PcapSymbols, the_shim_exports_all_of_the_installed_libpcap_and_nothing_outside_libpcaps_own) {
  const auto real = symbols(real_libpcap());
  auto shim = symbols(shim_library());
  ASSERT_GE(real.size(), 96u);
  for (const auto& [name, kind] : real) {
    EXPECT_EQ(shim[name], kind) << name;
    shim.erase(name);
  }
  for (const auto& [name, kind] : shim)
    EXPECT_TRUE(kRemote.contains(name) || kNewer.contains(name)) << name << " is not libpcap's";
  EXPECT_EQ(shim.size(), kRemote.size() + kNewer.size());
}

TEST(PcapSymbols, the_shim_has_libpcaps_soname_and_needs_the_c_library_alone) {
  const auto dynamic = run({"readelf", "-d", shim_library()}).out;
  EXPECT_NE(dynamic.find("soname: [libpcap.so.0.8]"), std::string::npos) << dynamic;
  std::istringstream lines(dynamic);
  for (std::string line; std::getline(lines, line);)
    if (line.find("(NEEDED)") != std::string::npos) {
      const auto is = [&](const char* library) { return line.find(library) != std::string::npos; };
      EXPECT_TRUE(is("[libc.so") || is("[libm.so") || is("[ld-linux")) << line;
    }
}

TEST(PcapSymbols, loading_the_shim_opens_nothing_until_a_function_needs_the_real_library) {
  const auto outcome = run({PCAP_PROBE, "loaded"}, with_shim());
  const auto stock = run({PCAP_PROBE, "loaded"});  // with what this test's own caller left open
  const auto descriptors = stock.out.substr(0, stock.out.find(','));
  EXPECT_TRUE(descriptors.starts_with("before: ")) << stock.out;
  EXPECT_EQ(outcome.out, descriptors + ", real library mapped: no\nafter: real library mapped: yes\n")
      << outcome.err;
}

TEST(PcapSymbols, a_function_that_the_real_library_lacks_says_so) {
  const auto outcome = run({PCAP_PROBE, "lacking"}, with_shim());
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_NE(outcome.out.find("pcap_findalldevs_ex: not in this libpcap"), std::string::npos) << outcome.out;
}

TEST(PcapSymbols, functions_that_only_newer_libpcaps_have_go_to_one_that_has_them) {
  const auto lacking = run({PCAP_PROBE, "newer"}, with_shim());
  EXPECT_EQ(lacking.out, "alloc 0, set int -1, string -1, get int -1, string (null)\n") << lacking.err;
  TestDir dir;
  write_file(
      dir.file("x.c"),
      "#include <string.h>\nstatic int number; static const char* text; static int freed;\n"
      "void* pcap_alloc_option(void) { return &number; }\n"
      "void pcap_free_option(void* o) { freed = o == &number; }\n"
      "int pcap_set_option_int(void* o, int n, int v) { number = v; return o == &number && n == 1 ? 0 : -7; "
      "}\n"
      "int pcap_set_option_string(void* o, int n, const char* v) { text = v; return o == &number && n == 2 ? "
      "0 : -7; }\n"
      "const char* pcap_get_option_string(void* o, int n) { return o == &number && n == 2 ? text : 0; }\n"
      "int pcap_get_option_int(void* o, int n) { return n == 4711 ? freed : number; }\n");
  ASSERT_EQ(run({"cc", "-shared", "-fPIC", dir.file("x.c"), "-o", dir.file("x.so")}).status, 0);
  auto options = with_shim();
  options.environment.push_back({"RINGCAP_PCAP_REAL", dir.file("x.so")});
  const auto newer = run({PCAP_PROBE, "newer"}, options);
  EXPECT_EQ(newer.out, "alloc 1, set int 0, string 0, get int 9, string plug\nfreed 1\n") << newer.err;
}

TEST(PcapSymbols, without_a_real_library_every_call_fails_with_words_that_say_how_to_name_one) {
  auto options = with_shim();
  options.environment.push_back({"RINGCAP_PCAP_REAL", "/nowhere/libpcap.so"});
  const auto outcome = run({PCAP_PROBE, "no_real"}, options);
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_NE(outcome.out.find("RINGCAP_PCAP_REAL"), std::string::npos) << outcome.out;
}

TEST(PcapSymbols, the_shim_never_takes_a_copy_of_itself_for_the_real_library) {
  TestDir dir;
  fs::copy_file(shim_library(), dir.file("libpcap.so.0.8"));
  auto options = with_shim();
  options.environment.push_back({"RINGCAP_PCAP_REAL", dir.file("libpcap.so.0.8")});
  const auto outcome = run({PCAP_PROBE, "no_real"}, options);
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_NE(outcome.out.find("RINGCAP_PCAP_REAL"), std::string::npos) << outcome.out;
}

}  // namespace
}  // namespace ringcap::test
