// Transparent mode: what of a port's frames the kernel gets while an engine has the NIC, and how what the
// host sends leaves. A TAP stands for the NIC; forwarders carry frames between the two. Used by `up`; main
// thread, but where it says otherwise.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "capture/engine/engine.h"
#include "driver/ports/address.h"
#include "driver/tap/port.h"
#include "tools/engine_options.h"

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
  std::string tap;   // name of the TAP; "": the engine's
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
  // Nothing to do where the mode is off or kernel-first: options() then adds nothing. kUsage: a port that the
  // mode makes no sense for. `mac`: of the NIC that the TAP stands for; "": the kernel draws one.
  static Result<Beside> prepare(const TransparentWords& words, const std::vector<PortAddress>& ports,
                                const std::string& engine_name, const std::string& mac);

  // Opens the TAP, with all privileges; null where there is none. The port goes to the engine as its last.
  Result<std::unique_ptr<Port>> open();
  // Forwards, watches and what happens when a link changes.
  Result<void> add_to(engine::EngineOptions& options);
  // The engine that the watches speak to; before it runs.
  void belongs_to(engine::Engine* engine) { *engine_ = engine; }
  bool has_tap() const { return has_tap_; }
  const std::string& tap() const { return tap_.name; }
  // The host's configuration was put onto the TAP: without it the host has no network, and the engine ends.
  void needed_by_host() { *needed_ = true; }

 private:
  Result<void> add_filter(engine::EngineOptions& options);
  Result<void> follow_addresses(engine::EngineOptions& options);

  bool has_tap_ = false;
  Transparent mode_ = Transparent::kOff;
  std::string pass_;
  TapOptions tap_;
  bool source_sends_ = true;
  TapPort* port_ = nullptr;
  std::shared_ptr<engine::Engine*> engine_ = std::make_shared<engine::Engine*>(nullptr);
  std::shared_ptr<bool> needed_ = std::make_shared<bool>(false);
};

}  // namespace ringcap::tools
