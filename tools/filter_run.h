// A filter over the frames of a file: how many match, and what a frame costs, interpreted and compiled.
// Main thread.
#pragma once

#include <cstdint>
#include <string>

#include "capture/base/error.h"
#include "capture/filter/program.h"
#include "capture/pcapfile/reader.h"

namespace ringcap::tools {

struct FilterRun {
  uint64_t frames = 0;
  uint64_t matched = 0;
  double interpreted_ns = 0;  // per frame, the frames in cache; 0 without any
  double compiled_ns = 0;     // 0 where the program is not compiled
};

// From the reader's place to the file's end. An error of the file, or, a mistake in ringcap, where
// interpreter and compiled code differ.
Result<FilterRun> try_filter(const filter::Program& program, pcapfile::Reader& reader);

}  // namespace ringcap::tools
