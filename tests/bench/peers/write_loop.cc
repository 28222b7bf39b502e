// The least that writing a file can cost: a loop of write()s of one block into a new file. The peer of
// `ringcap capture -w FILE`. The file is removed by whoever asked for it.
#include <unistd.h>

#include <vector>

#include "tests/bench/bench.h"

int main(int argc, char** argv) {
  using namespace ringcap::bench;
  const Options options =
      parse_options(argc, argv, {{"file", ""}, {"bytes", "1073741824"}, {"block", "1048576"}, {"core", "1"}});
  pin_to(static_cast<int>(number(options, "core")));
  const int fd = open(text(options, "file").c_str(), O_WRONLY | O_CREAT | O_EXCL, 0640);
  if (fd < 0) fail_errno("creating " + text(options, "file"));
  const std::vector<char> block(number(options, "block"), 'r');

  const CoreShare measured;
  const uint64_t start = now_ns();
  uint64_t written = 0;
  while (written < number(options, "bytes")) {
    const ssize_t count = write(fd, block.data(), block.size());
    if (count <= 0) fail_errno("writing " + text(options, "file"));
    written += static_cast<uint64_t>(count);
  }
  const double seconds = static_cast<double>(now_ns() - start) / 1e9;
  fmt::print("{{\"bytes\": {}, \"seconds\": {:.6f}, \"share\": {:.3f}}}\n", written, seconds,
             measured.share());
  close(fd);
}
