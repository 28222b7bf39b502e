// A cluster as `ringcap up --cluster` declares it. Main thread.
#pragma once

#include <string>

#include "capture/engine/clusters.h"

namespace ringcap::tools {

// NAME[,kind=K][,level=L][,stall=keep|move][,stall_ms=N][,filter=F]; a filter is the last, because it may
// have commas in it. Errors: kUsage, which lists what there is; kFilter.
Result<engine::ClusterOptions> parse_cluster(const std::string& text);

}  // namespace ringcap::tools
