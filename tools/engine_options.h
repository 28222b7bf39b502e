// What `up` and `capture PORT` share: the options of an engine, and making one from them. Main thread.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "capture/engine/engine.h"
#include "driver/ports/address.h"
#include "tools/cli.h"

namespace ringcap::tools {

struct EngineWords {
  std::string memory = "memfd";
  Bytes arena{uint64_t{256} << 20};
  Bytes page{};
  int node = -2;  // -2: the first port's
  Count ring{16384};
  std::string poll = "adaptive";
  std::string cores;
};

// Adds the options, which fill in `words`.
void add_engine_options(Cli& cli, EngineWords& words);
// The options that an engine is made with; kUsage names the word that makes no sense.
Result<engine::EngineOptions> engine_options(const EngineWords& words, const std::vector<PortAddress>& ports);
// A filter as the user wrote it, for the engine to evaluate, of Ethernet frames; empty: no filter. kFilter
// says what is wrong with it.
Result<engine::Filter> engine_filter(const std::vector<std::string>& words);
// An engine, and its ports for what they say at their end; they live as long as it does.
struct MadeEngine {
  std::unique_ptr<engine::Engine> engine;
  std::vector<const Port*> ports;

  // Whether a source ended before its end (a file that is cut or damaged). The engine's log says which and
  // why.
  bool source_failed() const;
};
// Opens the ports and makes the engine; `last`, if there is one, is a port more, open already.
Result<MadeEngine> make_engine(engine::EngineOptions options, const std::vector<PortAddress>& ports,
                               std::unique_ptr<Port> last = nullptr);
// A name for an engine of this port that no running engine has.
std::string name_for(const PortAddress& port);

// Frames that were lost before anybody could be offered them, by the engine's ledger.
struct PortLosses {
  uint64_t missed = 0;
  uint64_t no_buffer = 0;
  bool missed_known = true;
};
PortLosses port_losses(const layout::Header& header);

}  // namespace ringcap::tools
