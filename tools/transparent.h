// Transparent mode: what of a port's frames the kernel gets while an engine has the NIC, and how what the
// host sends leaves. A TAP stands for the NIC; forwarders carry frames between the two. Used by `up`; main
// thread, but where it says otherwise.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "capture/base/fd.h"
#include "capture/engine/engine.h"
#include "driver/ports/address.h"
#include "driver/tap/port.h"
#include "tools/engine_options.h"
#include "tools/interface_state.h"

namespace ringcap::tools {

enum class Transparent {
  kOff,          // consumers only
  kKernelFirst,  // packet: ports: the kernel keeps the NIC, the engine gets a copy
  kBoth,         // every frame to the consumers and to the kernel
  kFilter        // the kernel gets what a filter matches
};
// "off", "kernel-first", "both", "filter", or PF_RING's 2, 0 and 1.
Result<Transparent> parse_transparent(const std::string& word);

struct TransparentWords {
  std::string mode = "off";
  std::string pass;  // filter; "": what a remote login needs
  std::string tap;   // name of the TAP; "": the engine's, or that of the interface whose place it takes
  bool adopt = false;
  uint64_t confirm_ns = 0;  // 0: nobody has to confirm
};

// What `filter` passes unless --pass says otherwise: ARP, ICMP, ICMPv6 (neighbour discovery, router
// advertisements), DHCP, and traffic of these addresses of the host, with one VLAN tag or none.
std::string login_filter(const std::vector<std::string>& addresses);
// The addresses of all interfaces of this network namespace but loopback's and link-local IPv6's scope,
// sorted.
std::vector<std::string> host_addresses();

// The TAP beside an engine's only port, and what the engine has to do with it.
class Beside {
 public:
  // Nothing to do where the mode is off or kernel-first: the functions below then add nothing. kUsage: a port
  // that the mode makes no sense for. Changes nothing yet.
  static Result<Beside> prepare(const TransparentWords& words, const std::vector<PortAddress>& ports);

  // With --adopt: binds the NIC if the kernel still has it, and starts the guard that gives it back when this
  // process ends; the port gets the interface's mtu. While there is one thread.
  Result<void> take_nic(PortAddress& port);
  // Opens the TAP, with all privileges; null where there is none. The port goes to the engine as its last.
  // The TAP has the engine's name unless it was given one.
  Result<std::unique_ptr<Port>> open(const std::string& engine_name);
  // With --adopt: the TAP gets what the NIC's interface had. Problems are said, a line each.
  void configure() const;
  // Forwards, watches and what happens when a link changes.
  Result<void> add_to(engine::EngineOptions& options);
  // The engine that the watches speak to; before it runs.
  void belongs_to(engine::Engine* engine) { *engine_ = engine; }
  bool has_tap() const { return has_tap_; }
  const std::string& tap() const { return tap_.name; }

 private:
  Result<void> add_filter(engine::EngineOptions& options);
  Result<void> follow_addresses(engine::EngineOptions& options);
  void follow_guard(engine::EngineOptions& options) const;

  bool has_tap_ = false;
  bool adopts_ = false;
  std::optional<std::chrono::milliseconds> confirm_;
  std::optional<InterfaceState> adopted_;
  std::string nic_;
  std::shared_ptr<Fd> guard_;  // readable when the guard was ended
  Transparent mode_ = Transparent::kOff;
  engine::Filter pass_;  // of --pass; empty: what a remote login needs
  TapOptions tap_;
  bool source_sends_ = true;
  TapPort* port_ = nullptr;
  std::shared_ptr<engine::Engine*> engine_ = std::make_shared<engine::Engine*>(nullptr);
};

}  // namespace ringcap::tools
