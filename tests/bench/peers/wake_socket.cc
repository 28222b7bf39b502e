// The least that waking another process can cost: one process looks at the clock and sends a datagram
// over a Unix socket a thousand times a second, the other sleeps in poll() until it comes. The peer of
// ringcap's wake-up latency: there, too, a consumer sleeps on its control socket.
#include <poll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/bench/bench.h"
#include "tests/bench/latency.h"

namespace {

using namespace ringcap::bench;

void send_all(int socket, uint64_t count, uint64_t rate) {
  const uint64_t start = now_ns();
  for (uint64_t i = 0; i < count; ++i) {
    while (now_ns() < start + i * 1'000'000'000 / rate) {
    }
    const uint64_t stamp = clock_ns(CLOCK_REALTIME);
    if (send(socket, &stamp, sizeof stamp, 0) != sizeof stamp) fail_errno("sending");
  }
}

Latencies receive_all(int socket) {
  Latencies latencies;
  pollfd waiting{socket, POLLIN, 0};
  for (;;) {
    if (poll(&waiting, 1, -1) != 1) fail_errno("waiting");
    uint64_t stamp = 0;
    if (recv(socket, &stamp, sizeof stamp, 0) != sizeof stamp) return latencies;
    latencies.add(clock_ns(CLOCK_REALTIME) - stamp);
  }
}

}  // namespace

int main(int argc, char** argv) {
  const Options options = parse_options(argc, argv, {{"frames", "1000"}, {"rate", "1000"}});
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends) != 0) fail_errno("making a pair of sockets");
  const pid_t sender = fork();
  if (sender < 0) fail_errno("starting the sender");
  if (sender == 0) {
    close(ends[1]);
    pin_to(0);
    send_all(ends[0], number(options, "frames"), number(options, "rate"));
    _exit(0);
  }
  close(ends[0]);
  pin_to(1);
  const CoreShare measured;
  Latencies latencies = receive_all(ends[1]);
  latencies.print(measured.share_wanted());
  waitpid(sender, nullptr, 0);
}
