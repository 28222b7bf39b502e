// Who forwards between which ports on this machine, so that nobody makes a circle in which frames would run
// for ever. An engine that forwards writes its pairs into NAME.forwards in the run directory; the file counts
// as long as the engine runs (its lock says that). Main thread, when the engine is made and before it runs.
//
// Seen: ports of engines in the same run directory, and veth pairs within this network namespace. Not seen:
// bridges of the kernel, cables, and what other namespaces do.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "capture/base/error.h"

namespace ringcap::tools {

// A place where frames come and go: "if:NAMESPACE:INDEX" or the port's address.
using Node = std::string;
using Edge = std::pair<Node, Node>;

// The place that a port's address stands for; an interface by its index, in this network namespace.
Node node_of_port(const std::string& address);
// The edges that close a circle with what is before them: those whose ends are joined already.
std::vector<Edge> closing_edges(const std::vector<Edge>& edges);

// Writes the pairs of ports that `engine`, which holds its lock, forwards between (none: forgets what an
// engine of this name had). kUsage: they would close a circle; it is named, and nothing was written.
Result<void> claim_forwards(const std::string& engine,
                            const std::vector<std::pair<std::string, std::string>>& ports);

}  // namespace ringcap::tools
