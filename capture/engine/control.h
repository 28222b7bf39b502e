// Control: the one thread of an engine that does everything that may block or allocate: the control
// socket, consumers, plans, port counters, timers, the log. It never touches a frame.
//
// Plans go out one at a time: the next is published when every worker has seen the last, so each ring
// that a plan names is seen before it can leave again. Attaches and departures in between share a plan.
#pragma once

#include <sys/socket.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "capture/base/fd.h"
#include "capture/engine/consumers.h"
#include "capture/engine/forwarders.h"
#include "capture/engine/plan.h"
#include "capture/engine/port_readings.h"
#include "capture/engine/state.h"
#include "capture/engine/worker.h"
#include "capture/port/port.h"

namespace ringcap::engine {

// A descriptor that the control thread watches for somebody else.
struct Watch {
  int fd = -1;
  std::function<void()> on_readable;
};

struct ControlSetup {
  State* state = nullptr;
  std::vector<Worker*> workers;
  std::vector<Port*> ports;
  std::vector<ReceiveQueue*> queues;  // by source
  ConsumerLimits limits;
  Filter filter;
  std::vector<ClusterOptions> clusters;
  std::string name;
  Fd listener;  // may be empty: no socket
  const memory::Arena* arena = nullptr;
  int events_fd = -1;                // eventfd that workers write
  uint32_t wait_consumers = 0;       // the sources start when so many have attached
  bool until_end = false;            // end when the sources have ended and all consumers left
  Forwarders* forwarders = nullptr;  // may be none
  std::vector<Watch> watches;
  OnLink on_link;  // may be empty
};

class Control {
 public:
  static Result<std::unique_ptr<Control>> create(ControlSetup setup);

  // The thread's body; returns after request_stop(), with all ports stopped. The error is that of
  // starting the ports.
  Result<void> run();
  // After the workers have ended: the last counters, and everybody is told.
  void finish();
  // Any thread, also in a signal handler.
  void request_stop();
  // Control thread.
  void set_forward_filter(uint32_t forward, Filter filter);
  // Before run(): a socket whose other end is a client inside this process.
  Result<Fd> connect_inside();

 private:
  struct Connection {
    Fd socket;
    uint64_t number = 0;
    uint64_t deadline_ns = 0;  // for the hello
    uint64_t consumer = 0;     // id, once admitted (the socket is the consumer's then)
    bool inside = false;
    uint64_t filter_with_plan = 0;  // an operator's: the plan that brings its filter; it waits for that
    std::string sender;             // the name of a client that may ask to send, without being a consumer
    std::vector<uint64_t> senders;  // what it was granted
    // Neither a consumer nor granted anything: it has a deadline, and there are few of them.
    bool silent() const { return consumer == 0 && senders.empty(); }
  };

  explicit Control(ControlSetup setup);
  Result<void> open();
  Result<void> watch(int fd, uint64_t tag, uint32_t events = 1 /* EPOLLIN */);

  void accept_some();
  void add_connection(Fd socket, bool inside);
  void make_room_for_descriptors();
  void forget_oldest_silent();
  void on_connection(uint64_t number);
  void on_hello(Connection& connection, std::span<const std::byte> packet);
  void on_operator(Connection& connection, const message::Hello& hello, const ucred& peer);
  void on_set_filter(Consumer& consumer, std::span<const std::byte> packet);
  void refuse(Connection& connection, const Error& error);
  void answer_observer(Connection& connection);
  void on_sender_socket(Connection& connection);
  void on_send_open(Connection& connection, const std::string& name, std::span<const std::byte> packet);
  void on_send_close(Connection& connection, std::span<const std::byte> packet);
  void on_consumer_socket(Connection& connection);
  void detach(Consumer& consumer, layout::Detached why, const Error* reason);
  void close_connection(uint64_t number);

  void on_events();
  void on_event(const Event& event);
  void advance_plan();
  void publish_plan();
  bool all_seen() const;
  void answer_joined();
  void answer_filters();
  void tell_filter_set(int socket, layout::FilterPlace place);
  void check_stalls();
  void send_attached(Consumer& consumer);

  void tick();
  void start_sources_when_ready();
  void log_losses(bool all);
  void sources_ended();
  void wake_everybody();
  void stop_everything();

  ControlSetup setup_;
  Consumers consumers_;
  PortReadings readings_;
  Fd epoll_, stop_fd_, timer_;
  std::map<uint64_t, Connection> connections_;
  uint64_t next_connection_ = 1;
  std::shared_ptr<Plan> plan_, previous_plan_;
  bool plan_dirty_ = true;
  bool sources_started_ = false;
  bool listening_ = true;  // false: out of descriptors, until the next tick
  long tick_ns_ = 0;
  Result<void> start_result_;
  uint32_t workers_ended_ = 0;
  uint64_t attached_ever_ = 0;
  uint64_t silent_ = 0;  // connections without a hello
  std::atomic<bool> stop_{false};
};

}  // namespace ringcap::engine
