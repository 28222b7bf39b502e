#include "driver/ports/address.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <vector>

#include "capture/base/names.h"
#include "capture/base/units.h"
#include "driver/pci/address.h"
#include "driver/tap/port.h"

namespace ringcap {
namespace {

struct KindEntry {
  PortKind kind;
  std::string_view name;
  std::string_view address;  // what its ADDRESS is; "" where it has none
};

constexpr KindEntry kKinds[] = {
    {PortKind::kVfio, "vfio", "a PCI address, such as 0000:03:00.0"},
    {PortKind::kTap, "tap", "an interface"},
    {PortKind::kPacket, "packet", "an interface"},
    {PortKind::kXdp, "xdp", "an interface"},
    {PortKind::kPcap, "pcap", "a file"},
    {PortKind::kGen, "gen", ""},
};

const KindEntry& entry(PortKind kind) { return *std::ranges::find(kKinds, kind, &KindEntry::kind); }

// ---- values: each reads into its field, false where the text is no such value --------------------

template <typename T>
bool read_number(std::string_view text, uint64_t least, uint64_t most, T* value) {
  const auto number = parse_count(text);
  if (!number || *number < least || *number > most) return false;
  *value = static_cast<T>(*number);
  return true;
}

bool read_switch(std::string_view text, bool* value) {
  *value = text == "1";
  return text == "1" || text == "0";
}

bool read_clock(std::string_view text, bool* adapter) {
  *adapter = text == "adapter";
  return *adapter || text == "host";
}

bool read_full(std::string_view text, WhenFull* value) {
  *value = text == "wait" ? WhenFull::kWait : WhenFull::kDrop;
  return text == "wait" || text == "drop";
}

// "10", "0.5", "100k"; a word stands for 0.
bool read_factor(std::string_view text, double* value) {
  *value = 0;
  if (text == "max") return true;
  const auto [end, error] =
      std::from_chars(text.data(), text.data() + text.size(), *value, std::chars_format::fixed);
  return error == std::errc() && end == text.data() + text.size() && *value > 0 && *value <= 1e6;
}

bool read_moderation(std::string_view text, int64_t* us) {
  if (text == "auto") *us = kModerationAuto;
  if (text == "off") *us = 0;
  return text == "auto" || text == "off" || read_number(text, 1, 10'000, us);
}

constexpr std::string_view kMixes[] = {"ipv4", "ipv6", "vlan", "all"};

bool read_mix(std::string_view text, Mix* value) {
  const auto* found = std::ranges::find(kMixes, text);
  if (found != std::end(kMixes)) *value = static_cast<Mix>(found - std::begin(kMixes));
  return found != std::end(kMixes);
}

bool read_size(std::string_view text, uint32_t* bytes) {
  if (text == "imix") *bytes = kImix;
  return text == "imix" || read_number(text, 60, 16'000, bytes);
}

bool read_write(std::string_view text, uint32_t* bytes) {
  *bytes = text == "all" ? kWriteAll : text == "64" ? 64 : 0;
  return text == "all" || text == "64" || text == "0";
}

bool read_mac(std::string_view text, std::string* mac) {
  *mac = text;
  return is_station_mac(*mac);
}

bool read_rate(std::string_view text, uint64_t* rate) {
  if (text == "max") *rate = 0;
  return text == "max" || read_number(text, 1, 1'000'000'000, rate);
}

std::string show(uint64_t number) { return std::to_string(number); }
std::string show_full(WhenFull full) { return full == WhenFull::kWait ? "wait" : "drop"; }
std::string show_moderation(int64_t us) { return us < 0 ? "auto" : us == 0 ? "off" : std::to_string(us); }

// ---- the keys ------------------------------------------------------------------------------------

constexpr unsigned bit(PortKind kind) { return 1U << static_cast<unsigned>(kind); }
constexpr unsigned kEvery = ~0U;
constexpr uint64_t kAny = ~uint64_t{0};
using enum PortKind;

struct Key {
  std::string_view name;
  unsigned kinds;
  std::string_view values;  // for people
  bool (*read)(std::string_view text, PortAddress& port);
  std::string (*show)(const PortAddress& port);
};

using P = PortAddress;
using S = std::string_view;

// clang-format off
const Key kKeys[] = {
    {"queues", kEvery, "1 to 64",
     [](S t, P& p) { return read_number(t, 1, 64, &p.queues); }, [](const P& p) { return show(p.queues); }},
    {"mtu", kEvery, "68 to 16000",
     [](S t, P& p) { return read_number(t, 68, 16'000, &p.mtu); }, [](const P& p) { return show(p.mtu); }},
    {"descriptors", bit(kVfio), "64 to 32768, a multiple of 8",
     [](S t, P& p) { return read_number(t, 64, 32'768, &p.descriptors) && p.descriptors % 8 == 0; },
     [](const P& p) { return show(p.descriptors); }},
    {"moderation", bit(kVfio), "auto, off, or 1 to 10000 microseconds",
     [](S t, P& p) { return read_moderation(t, &p.moderation_us); },
     [](const P& p) { return show_moderation(p.moderation_us); }},
    {"bad", bit(kVfio), "0 or 1", [](S t, P& p) { return read_switch(t, &p.bad); },
     [](const P& p) { return show(p.bad); }},
    {"crc", bit(kVfio), "0 or 1", [](S t, P& p) { return read_switch(t, &p.crc); },
     [](const P& p) { return show(p.crc); }},
    {"timestamps", bit(kVfio), "host or adapter", [](S t, P& p) { return read_clock(t, &p.adapter_time); },
     [](const P& p) { return std::string(p.adapter_time ? "adapter" : "host"); }},
    {"outgoing", bit(kPacket), "0 or 1", [](S t, P& p) { return read_switch(t, &p.outgoing); },
     [](const P& p) { return show(p.outgoing); }},
    {"mac", bit(kTap), "the address of one station, such as 02:00:00:00:00:01",
     [](S t, P& p) { return read_mac(t, &p.mac); }, [](const P& p) { return p.mac; }},
    {"speed", bit(kPcap), "a factor (1: as recorded), or max", [](S t, P& p) { return read_factor(t, &p.speed); },
     [](const P& p) { return p.speed == 0 ? "max" : fmt::format("{}", p.speed); }},
    {"loop", bit(kPcap), "how often the file is read, 0: for ever",
     [](S t, P& p) { return read_number(t, 0, kAny, &p.loop); }, [](const P& p) { return show(p.loop); }},
    {"size", bit(kGen), "60 to 16000 bytes, or imix", [](S t, P& p) { return read_size(t, &p.size); },
     [](const P& p) { return p.size == kImix ? "imix" : show(p.size); }},
    {"count", bit(kGen), "a number of frames, 0: no end",
     [](S t, P& p) { return read_number(t, 0, kAny, &p.count); }, [](const P& p) { return show(p.count); }},
    {"rate", bit(kGen), "frames per second, or max", [](S t, P& p) { return read_rate(t, &p.rate); },
     [](const P& p) { return p.rate == 0 ? "max" : show(p.rate); }},
    {"flows", bit(kGen), "1 to 16M", [](S t, P& p) { return read_number(t, 1, 16'000'000, &p.flows); },
     [](const P& p) { return show(p.flows); }},
    {"mix", bit(kGen), "ipv4, ipv6, vlan or all", [](S t, P& p) { return read_mix(t, &p.mix); },
     [](const P& p) { return std::string(kMixes[static_cast<size_t>(p.mix)]); }},
    {"write", bit(kGen), "64, 0 or all", [](S t, P& p) { return read_write(t, &p.write); },
     [](const P& p) { return p.write == kWriteAll ? "all" : show(p.write); }},
    {"seed", bit(kGen), "a number", [](S t, P& p) { return read_number(t, 0, kAny, &p.seed); },
     [](const P& p) { return show(p.seed); }},
    {"full", bit(kPcap) | bit(kGen), "wait or drop", [](S t, P& p) { return read_full(t, &p.full); },
     [](const P& p) { return show_full(p.full); }},
};
// clang-format on

PortAddress defaults(PortKind kind) {
  PortAddress port;
  port.kind = kind;
  if (kind == kPcap) port.full = WhenFull::kWait;
  return port;
}

std::string known_keys(PortKind kind) {
  std::string out;
  for (const Key& key : kKeys) {
    if (key.kinds & bit(kind)) out += fmt::format("{}{}", out.empty() ? "" : ", ", key.name);
  }
  return out;
}

std::unexpected<Error> wrong(std::string_view text, std::string what, std::string mend) {
  return fail(Code::kUsage, fmt::format("port '{}': {}", text, what), std::move(mend));
}

// `text` at its commas; "\," is a comma that does not part.
std::vector<std::string> split(std::string_view text) {
  std::vector<std::string> parts(1);
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 1 < text.size() && text[i + 1] == ',') {
      parts.back() += text[++i];
    } else if (text[i] == ',') {
      parts.emplace_back();
    } else {
      parts.back() += text[i];
    }
  }
  return parts;
}

bool valid_interface(std::string_view name) {
  return !name.empty() && name.size() < 16 && name != "." && name != ".." &&
         name.find_first_of("/ \t\n:") == std::string_view::npos;
}

Result<void> check_address(std::string_view text, PortAddress& port) {
  const std::string_view what = entry(port.kind).address;
  if (port.address.empty()) {
    return wrong(text, "the address is missing",
                 fmt::format("after '{}:' comes {}", kind_name(port.kind), what));
  }
  if (port.kind == kPcap) return {};
  if (port.kind == kVfio) {
    auto address = normal_pci_address(port.address);
    if (!address) return context(fmt::format("port '{}'", text), address.error());
    port.address = *address;
  } else if (!valid_interface(port.address)) {
    return wrong(text, fmt::format("'{}' cannot be the name of an interface", port.address),
                 "`ip link` lists them");
  }
  return {};
}

Result<void> read_key(std::string_view text, const std::string& part, PortAddress& port) {
  const size_t equals = std::min(part.find('='), part.size());
  const std::string name = part.substr(0, equals);
  const auto* key = std::ranges::find(kKeys, name, &Key::name);
  const std::string keys = fmt::format("the keys of {}: are {}", kind_name(port.kind), known_keys(port.kind));
  if (key == std::end(kKeys) || !(key->kinds & bit(port.kind))) {
    return wrong(text, fmt::format("no such key: '{}'", name), keys);
  }
  const std::string value = equals < part.size() ? part.substr(equals + 1) : "";
  if (key->read(value, port)) return {};
  return wrong(text, fmt::format("'{}' cannot be {}", value, name),
               fmt::format("{} is {}", name, key->values));
}

std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text) out += c == ',' ? std::string("\\,") : std::string(1, c);
  return out;
}

}  // namespace

std::string_view kind_name(PortKind kind) { return entry(kind).name; }

bool looks_like_port_address(std::string_view text) {
  const size_t colon = text.find(':');
  return colon != std::string_view::npos &&
         std::ranges::find(kKinds, text.substr(0, colon), &KindEntry::name) != std::end(kKinds);
}

Result<std::string> normal_pci_address(std::string_view text) {
  if (auto address = pci::normal_address(text)) return *address;
  return fail(Code::kUsage, fmt::format("'{}' is not a PCI address", text),
              "it looks like 0000:03:00.0; `ringcap devices` lists them");
}

Result<PortAddress> parse_port_address(std::string_view text) {
  if (!looks_like_port_address(text)) {
    return wrong(text, "it begins with no kind of port that there is",
                 "KIND:ADDRESS[,KEY=VALUE]..., KIND one of vfio, tap, packet, xdp, pcap, gen");
  }
  const size_t colon = text.find(':');
  PortAddress port = defaults(std::ranges::find(kKinds, text.substr(0, colon), &KindEntry::name)->kind);
  std::vector<std::string> parts = split(text.substr(colon + 1));
  if (port.kind == kGen && parts.front().empty() && parts.size() == 1) return port;
  if (port.kind != kGen) {
    port.address = parts.front();
    parts.erase(parts.begin());
    if (auto good = check_address(text, port); !good) return std::unexpected(good.error());
  }
  for (const std::string& part : parts) {
    if (auto good = read_key(text, part, port); !good) return std::unexpected(good.error());
  }
  return port;
}

std::string format_port_address(const PortAddress& port) {
  const PortAddress plain = defaults(port.kind);
  std::string text = fmt::format("{}:{}", kind_name(port.kind), escaped(port.address));
  for (const Key& key : kKeys) {
    if (!(key.kinds & bit(port.kind)) || key.show(port) == key.show(plain)) continue;
    text += fmt::format("{}{}={}", text.back() == ':' ? "" : ",", key.name, key.show(port));
  }
  return text;
}

std::string default_engine_name(const PortAddress& port,
                                const std::function<std::string(const std::string&)>& interface_of,
                                const std::function<bool(const std::string&)>& taken) {
  if (port.kind == kVfio) {
    const std::string interface = interface_of(port.address);
    return make_name(interface.empty() ? port.address : interface);
  }
  if (port.kind != kPcap && port.kind != kGen) return make_name(port.address);
  for (uint64_t number = 0;; ++number) {
    std::string name = fmt::format("{}{}", kind_name(port.kind), number);
    if (!taken(name)) return name;
  }
}

}  // namespace ringcap
