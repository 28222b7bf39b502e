// Sender: frames out of an engine's port, in C++. ringcap.h is the same thing for C. One thread at a time,
// but stats(), which any thread and signal handlers may call.
//
// Frames are copied into memory that only this sender writes; the engine copies each once more before it
// looks at it, so that what was queued may be overwritten at once.
#pragma once

#include <unistd.h>

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "capture/base/error.h"
#include "capture/base/fd.h"
#include "capture/base/mapping.h"
#include "capture/layout/layout.h"
#include "capture/ledger/ledger.h"
#include "capture/message/message.h"

namespace ringcap::client {

class Client;

struct SenderOptions {
  std::string port;     // address as `ringcap stat` shows it, or its number; "": the first that sends
  uint32_t frames = 0;  // that may wait in the memory, 64 to 4096; 0: the engine's choice
  std::string program;  // "": this program's name
};

class Sender {
 public:
  ~Sender();
  Sender(const Sender&) = delete;
  Sender& operator=(const Sender&) = delete;

  // A connection of its own. Errors: kNotFound, kPermission (--send-group), kUsage (no such port), kSystem.
  static Result<std::unique_ptr<Sender>> open(const std::string& engine, const SenderOptions& options);
  // Over the connection of a consumer, which stays the longer of the two: for programs that gave up their
  // privileges after they attached.
  static Result<std::unique_ptr<Sender>> open(Client& consumer, const SenderOptions& options);

  // Queues as many frames as there is room for; waits at most timeout_ms (-1: for ever) while there is none.
  // Returns how many: fewer than asked for only when the time was over. Errors: kUsage (a frame shorter than
  // 14 bytes or longer than longest(); those before it are queued), kGone.
  Result<uint32_t> send(std::span<const std::span<const std::byte>> frames, int timeout_ms);
  // Waits until the engine is done with all that was queued. False when the time was over. Errors: kGone.
  Result<bool> flush(int timeout_ms);

  ledger::Sender stats() const { return ledger::read_sender(header(), granted_.entry); }
  uint32_t longest() const { return granted_.slot_bytes; }  // bytes of a frame, without CRC
  uint32_t port() const { return granted_.port; }
  // The port's device was removed or deleted: it refuses whatever is sent, and does not come back.
  bool port_is_gone() const;

 private:
  Sender() = default;
  static Result<uint32_t> find_port(const layout::Header& header, const std::string& port);
  Result<void> take(message::Received answer);
  const layout::Header& header() const { return *header_; }
  const layout::SenderEntry& entry() const;
  uint64_t room() const;
  void queue(std::span<const std::byte> frame);
  void publish();
  bool closed() const;
  bool over() const;
  Error gone() const;

  pid_t opened_by_ = ::getpid();
  Fd socket_;  // empty where it is a consumer's
  int watched_ = -1;
  Fd bell_;
  Mapping state_;  // empty where it is a consumer's
  const layout::Header* header_ = nullptr;
  Mapping memory_;
  message::SendGranted granted_;
  uint64_t produced_ = layout::kFirstPosition;
};

}  // namespace ringcap::client
