// A filter as the user wrote it, compiled to classic BPF by libpcap (through libringcap-filter). Main thread.
#pragma once

#include <string>
#include <vector>

#include "capture/base/error.h"
#include "capture/filter/program.h"

namespace ringcap::tools {

// The words of the command line joined by blanks, or the contents of `file` where that is not "". Empty:
// no filter. kFilter says what libpcap has against it.
Result<std::vector<filter::Instruction>> compile_filter(const std::vector<std::string>& words,
                                                        const std::string& file, uint32_t link_type);

}  // namespace ringcap::tools
