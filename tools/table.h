// A table for people: columns as wide as their widest cell, two spaces between, no trailing blanks.
#pragma once

#include <string>
#include <vector>

namespace ringcap::tools {

// The first row is the heading. An empty cell is shown as "-".
std::string format_table(const std::vector<std::vector<std::string>>& rows);

}  // namespace ringcap::tools
