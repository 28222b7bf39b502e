// The columns of ringcap_columns.h: each frame's headers, found by the parser of capture/frame, stored field
// by field. Called by ringcap_columns_parse() from any thread; keeps nothing.
#pragma once

#include <cstdint>
#include <span>

#include "capture/layout/layout.h"
#include "libcap/client/ringcap_columns.h"

namespace ringcap::client {

// Stores the columns of `frames`. What lies outside of `arena` counts as a frame of no bytes.
void parse_columns(std::span<const layout::Descriptor> frames, std::span<const std::byte> arena, bool inner,
                   const ringcap_columns& to);

}  // namespace ringcap::client
