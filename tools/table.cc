#include "tools/table.h"

#include <algorithm>

namespace ringcap::tools {
namespace {

std::string shown(const std::string& cell) { return cell.empty() ? "-" : cell; }

}  // namespace

std::string format_table(const std::vector<std::vector<std::string>>& rows) {
  std::vector<size_t> widths;
  for (const auto& row : rows) {
    widths.resize(std::max(widths.size(), row.size()));
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], shown(row[i]).size());
  }
  std::string out;
  for (const auto& row : rows) {
    for (size_t i = 0; i < row.size(); ++i) {
      out += shown(row[i]);
      if (i + 1 < row.size()) out.append(widths[i] - shown(row[i]).size() + 2, ' ');
    }
    out += '\n';
  }
  return out;
}

}  // namespace ringcap::tools
