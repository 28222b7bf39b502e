// ringcap filter: compiles a filter, shows it, tries it on the frames of a file, or gives it to a running
// engine.
#include <nlohmann/json.hpp>

#include "capture/base/names.h"
#include "capture/filter/machine_code.h"
#include "capture/filter/opcodes.h"
#include "libcap/client/client.h"
#include "tools/cli.h"
#include "tools/disassembly.h"
#include "tools/filter_run.h"
#include "tools/filter_text.h"

namespace ringcap::tools {
namespace po = boost::program_options;
using nlohmann::ordered_json;

namespace {

struct FilterWords {
  std::string dump, run, filter_file, set;
  std::vector<std::string> filter;
  Count link_type{1};
  bool json = false;
};

struct Examined {
  filter::Program program;
  uint32_t link_type;
  std::string why_not_compiled;  // "" where it is
  std::optional<FilterRun> run;
};

Result<void> check_words(const FilterWords& words) {
  if (!words.dump.empty() && words.dump != "bpf" && words.dump != "asm")
    return fail(Code::kUsage, fmt::format("--dump {}: there is no such form", words.dump),
                "forms: bpf (as tcpdump -d), asm (the machine code)");
  if (words.link_type.value > UINT16_MAX)
    return fail(Code::kUsage, fmt::format("--link-type {}: at most 65535", words.link_type.value),
                "1 is Ethernet; https://www.tcpdump.org/linktypes.html lists them");
  return {};
}

// A filter of nothing takes every frame.
Result<filter::Program> compile_words(const FilterWords& words, uint32_t link_type) {
  auto instructions = compile_filter(words.filter, words.filter_file, link_type);
  if (!instructions) return std::unexpected(instructions.error());
  constexpr filter::Instruction kTakeAll{0x06, 0, 0, 262144};  // ret #262144
  if (instructions->empty()) instructions->push_back(kTakeAll);
  return filter::validate(*instructions);
}

Result<Examined> examine(const FilterWords& words, bool link_type_given) {
  if (auto checked = check_words(words); !checked) return std::unexpected(checked.error());
  std::optional<pcapfile::Reader> reader;
  if (!words.run.empty()) {
    auto opened = pcapfile::Reader::open(words.run);
    if (!opened) return std::unexpected(opened.error());
    reader.emplace(std::move(*opened));
  }
  auto link_type = static_cast<uint32_t>(words.link_type.value);
  if (reader && !link_type_given) link_type = reader->link_type();
  auto program = compile_words(words, link_type);
  if (!program) return std::unexpected(program.error());
  Examined examined{
      .program = std::move(*program), .link_type = link_type, .why_not_compiled = {}, .run = {}};
  if (auto compiled = examined.program.compile(); !compiled)
    examined.why_not_compiled = compiled.error().message();
  if (!reader) return examined;
  auto run = try_filter(examined.program, *reader);
  if (!run) return std::unexpected(run.error());
  examined.run = *run;
  return examined;
}

ordered_json instructions_json(const filter::Program& program) {
  ordered_json list = ordered_json::array();
  for (size_t i = 0; i < program.instructions().size(); ++i) {
    const auto& instruction = program.instructions()[i];
    list.push_back({{"code", instruction.code},
                    {"jt", instruction.jt},
                    {"jf", instruction.jf},
                    {"k", instruction.k},
                    {"text", filter::describe(instruction, i)}});
  }
  return list;
}

ordered_json to_json(const Examined& e, const FilterWords& words) {
  const auto* code = e.program.code();
  const auto number_or_null = [](double ns) { return ns == 0 ? ordered_json(nullptr) : ordered_json(ns); };
  ordered_json out = {
      {"schema", "ringcap.filter/1"},
      {"link_type", e.link_type},
      {"instructions", instructions_json(e.program)},
      {"code_bytes", code == nullptr ? ordered_json(nullptr) : ordered_json(code->bytes().size())}};
  if (code == nullptr) out["not_compiled"] = e.why_not_compiled;
  if (words.dump == "asm" && code != nullptr) out["asm"] = disassemble(e.program);
  if (e.run)
    out["run"] = {{"file", words.run},
                  {"frames", e.run->frames},
                  {"matched", e.run->matched},
                  {"interpreted_ns", number_or_null(e.run->interpreted_ns)},
                  {"compiled_ns", number_or_null(e.run->compiled_ns)}};
  return out;
}

void print_run(const FilterRun& run, const std::string& file) {
  print("{}: {} of {} frames match\n", file, run.matched, run.frames);
  if (run.frames == 0) return;
  print("interpreted {:8.2f} ns a frame\n", run.interpreted_ns);
  if (run.compiled_ns != 0) print("compiled    {:8.2f} ns a frame\n", run.compiled_ns);
}

void print_examined(const Examined& e, const FilterWords& words) {
  const auto* code = e.program.code();
  if (words.dump == "bpf") print("{}", e.program.dump());
  if (words.dump == "asm" && code != nullptr) print("{}", disassemble(e.program));
  if (words.dump.empty() && code != nullptr)
    print("{} instructions, {} bytes of machine code\n", e.program.cost(), code->bytes().size());
  if (words.dump.empty() && code == nullptr) print("{} instructions, interpreted\n", e.program.cost());
  if (code == nullptr) say("not compiled: " + e.why_not_compiled);
  if (e.run) print_run(*e.run, words.run);
}

// Replaces a running engine's filter, or a cluster's, between two bursts.
int set_filter(const FilterWords& words) {
  auto target = parse_consumed(words.set);
  if (!target) return report(target.error());
  auto program =
      compile_filter(words.filter, words.filter_file, static_cast<uint32_t>(words.link_type.value));
  if (!program) return report(program.error());
  if (auto set = client::replace_filter(target->engine, target->cluster, *program); !set)
    return report(set.error());
  say(program->empty() ? fmt::format("{} takes every frame now", words.set)
                       : fmt::format("{} goes by the new filter", words.set));
  return finish(kExitOk);
}

}  // namespace

int run_filter(const Words& words) {
  FilterWords filter;
  Cli cli({.command = "filter",
           .usage = "[OPTION]... [FILTER]...",
           .summary = "Compiles a FILTER (pcap-filter(7)), shows it, and tries it on the frames of a file.",
           .example = "ringcap filter 'tcp port 80' --dump asm"});
  cli.options()("dump", po::value(&filter.dump)->value_name("FORM"),
                "show the program: bpf (as tcpdump -d), asm (the machine code)");
  cli.options()("run", po::value(&filter.run)->value_name("FILE"),
                "count the matches in a pcap or pcapng file, and measure");
  cli.options()("link-type", po::value(&filter.link_type)->value_name("N"),
                "of the frames (LINKTYPE_ value); FILE's if not given, else 1: Ethernet");
  cli.options()("set", po::value(&filter.set)->value_name("NAME[@CLUSTER]"),
                "make it the filter of a running engine, or of one of its clusters; no FILTER: every frame");
  cli.options()("filter-file,F", po::value(&filter.filter_file)->value_name("FILE"), "read FILTER from FILE");
  cli.json(&filter.json);
  cli.take_rest(&filter.filter, "FILTER");
  if (auto status = cli.parse(words)) return *status;
  if (!filter.set.empty()) return set_filter(filter);
  auto examined = examine(filter, cli.given("link-type"));
  if (!examined) return report(examined.error());
  if (filter.json)
    print("{}\n", to_json(*examined, filter).dump(1, ' ', false, ordered_json::error_handler_t::replace));
  else
    print_examined(*examined, filter);
  const bool wanted_code = filter.dump == "asm" && examined->program.code() == nullptr;
  return finish(wanted_code ? 1 : kExitOk);
}

}  // namespace ringcap::tools
