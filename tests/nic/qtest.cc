#include "tests/nic/qtest.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <fstream>
#include <stdexcept>
#include <system_error>

namespace ringcap::nic {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr uint32_t kSlot = 4;  // the NIC's device number
constexpr uint64_t kBarStride = 1 << 20;
constexpr milliseconds kStartDeadline{60000}, kAnswerDeadline{60000};
constexpr uint32_t kCommand = 0x04, kCommandMemory = 2, kCommandBusMaster = 4, kCapabilities = 0x34;
constexpr uint32_t kStatusInterrupt = 1 << 3;
constexpr uint32_t kMsi = 0x05, kMsix = 0x11;

std::string qemu_path() {
  const char* given = std::getenv("RINGCAP_QEMU");
  return given != nullptr && *given ? given : RINGCAP_SOURCE_DIR "/tests/vm/qemu";
}

sockaddr_un socket_address(const std::filesystem::path& path) {
  sockaddr_un address{.sun_family = AF_UNIX, .sun_path = {}};
  std::strncpy(address.sun_path, path.c_str(), sizeof(address.sun_path) - 1);
  return address;
}

bool connect_to(const Fd& socket, const std::filesystem::path& path) {
  const sockaddr_un address = socket_address(path);
  return ::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0;
}

// One line from a stream socket; what follows it stays in `input`.
std::string read_line(const Fd& socket, std::string& input) {
  while (true) {
    if (const size_t end = input.find('\n'); end != std::string::npos) {
      std::string line = input.substr(0, end);
      input.erase(0, end + 1);
      return line;
    }
    pollfd ready{.fd = socket.get(), .events = POLLIN, .revents = 0};
    if (::poll(&ready, 1, static_cast<int>(kAnswerDeadline.count())) != 1)
      throw std::runtime_error("QEMU does not answer");
    char buffer[4096];
    const ssize_t got = ::read(socket.get(), buffer, sizeof(buffer));
    if (got <= 0) throw std::runtime_error("QEMU closed its socket");
    input.append(buffer, static_cast<size_t>(got));
  }
}

void write_all(const Fd& socket, const std::string& text) {
  if (::send(socket.get(), text.data(), text.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(text.size())) {
    throw std::runtime_error("cannot write to QEMU");
  }
}

// QEMU sends to this one, so it must be there first.
Fd bind_outside(const std::filesystem::path& folder) {
  Fd wire(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  const sockaddr_un outside = socket_address(folder / "outside");
  if (::bind(wire.get(), reinterpret_cast<const sockaddr*>(&outside), sizeof(outside)) != 0)
    throw std::runtime_error("cannot bind the wire's end");
  return wire;
}

void check(bool done, const char* what) {
  if (!done) throw std::system_error(errno, std::generic_category(), what);
}

// Makes a tap with `queues` queues in a namespace of the calling thread's. Returns a socket to it.
Fd open_taps(std::vector<Fd>& taps, uint32_t queues) {
  check(::unshare(CLONE_NEWNET) == 0, "a network namespace");
  std::ofstream("/proc/sys/net/ipv6/conf/default/disable_ipv6") << "1";
  ifreq interface{};
  std::strncpy(interface.ifr_name, "wire0", IFNAMSIZ - 1);
  for (uint32_t queue = 0; queue < queues; ++queue) {
    interface.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_MULTI_QUEUE;
    taps.emplace_back(::open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC));
    check(::ioctl(taps.back().get(), TUNSETIFF, &interface) == 0, "a tap");
  }
  const Fd any(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  interface.ifr_flags = IFF_UP;
  check(::ioctl(any.get(), SIOCSIFFLAGS, &interface) == 0, "the tap up");
  check(::ioctl(any.get(), SIOCGIFINDEX, &interface) == 0, "the tap's index");
  Fd wire(::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0));
  const sockaddr_ll address{.sll_family = AF_PACKET,
                            .sll_protocol = htons(ETH_P_ALL),
                            .sll_ifindex = interface.ifr_ifindex,
                            .sll_hatype = 0,
                            .sll_pkttype = 0,
                            .sll_halen = 0,
                            .sll_addr = {}};
  check(::bind(wire.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0, "the wire");
  return wire;
}

std::string text_of(const std::filesystem::path& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

}  // namespace

// ---- the machine ---------------------------------------------------------------------------------

Machine::Machine(const std::string& device, uint32_t tap_queues) {
  std::string name = (std::filesystem::temp_directory_path() / "ringcap-nic-XXXXXX").string();
  if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error("cannot make a directory for QEMU");
  folder_ = name;
  try {
    netdev_ = open_wire(tap_queues);
    start(device);
    connect_all();
  } catch (...) {
    end();
    throw;
  }
}

Machine::~Machine() { end(); }

void Machine::end() {
  if (pid_ > 0) {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
    pid_ = -1;
  }
  std::error_code ignored;
  std::filesystem::remove_all(folder_, ignored);
}

// Sockets belong to the namespace that they were made in: a thread of its own makes them.
std::string Machine::open_wire(uint32_t tap_queues) {
  if (tap_queues == 0) {
    wire_ = bind_outside(folder_);
    return fmt::format(
        "dgram,id=net0,local.type=unix,local.path={0}/inside,remote.type=unix,remote.path={0}/outside",
        folder_.string());
  }
  std::exception_ptr failed;
  std::thread([&] {
    try {
      wire_ = open_taps(taps_, tap_queues);
    } catch (...) {
      failed = std::current_exception();
    }
  }).join();
  if (failed) std::rethrow_exception(failed);
  std::string fds;
  for (const Fd& tap : taps_) fds += fmt::format("{}{}", fds.empty() ? "" : ":", tap.get());
  return fmt::format("tap,id=net0,fds={},vhost=off", fds);
}

void Machine::start(const std::string& device) {
  std::ofstream(folder_ / "halt.rom") << std::string(64 << 10, '\xf4');  // HLT, wherever it begins
  const Fd memory(::open((folder_ / "memory").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (::ftruncate(memory.get(), kMemoryBytes) != 0)
    throw std::runtime_error("cannot make the machine's memory");
  memory_ =
      std::move(Mapping::map(memory.get(), kMemoryBytes, Mapping::Access::kReadWrite, "memory").value());
  const std::string in = folder_.string();
  const std::vector<std::string> words = {
      qemu_path(),
      "-display",
      "none",
      "-nodefaults",
      "-no-user-config",
      "-bios",
      in + "/halt.rom",
      "-machine",
      "q35,accel=tcg,memory-backend=mem",
      "-m",
      fmt::format("{}M", kMemoryBytes >> 20),
      "-object",
      fmt::format("memory-backend-file,id=mem,size={},mem-path={}/memory,share=on", kMemoryBytes, in),
      "-qtest",
      "unix:" + in + "/qtest,server=on,wait=off",
      "-qtest-log",
      "none",
      "-qmp",
      "unix:" + in + "/qmp,server=on,wait=off",
      "-netdev",
      netdev_,
      "-device",
      fmt::format("{},id=nic0,netdev=net0,addr={},mac=52:54:00:12:34:56,romfile=", device, kSlot),
      "-d",
      "guest_errors,unimp,trace:e1000e_wrn*,trace:igb_wrn*",
      "-D",
      in + "/log"};
  std::vector<char*> arguments;
  arguments.reserve(words.size() + 1);
  for (const std::string& word : words) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  const Fd errors(::open((folder_ / "stderr").c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
  const pid_t parent = ::getpid();
  pid_ = ::fork();
  if (pid_ != 0) return;
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) ::_exit(1);
  for (const Fd& tap : taps_) ::fcntl(tap.get(), F_SETFD, 0);
  ::dup2(errors.get(), 1);
  ::dup2(errors.get(), 2);
  ::execv(arguments[0], arguments.data());
  ::_exit(127);
}

void Machine::connect_all() {
  qtest_ = Fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  qmp_ = Fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const auto end = steady_clock::now() + kStartDeadline;
  std::vector<std::pair<Fd*, const char*>> sockets{{&qtest_, "qtest"}, {&qmp_, "qmp"}};
  if (taps_.empty()) sockets.push_back({&wire_, "inside"});
  for (const auto& [socket, name] : sockets) {
    while (!connect_to(*socket, folder_ / name)) {
      check_alive();
      if (steady_clock::now() > end)
        throw std::runtime_error(fmt::format("QEMU does not open its socket {}", name));
      ::usleep(1000);
    }
  }
  read_line(qmp_, qmp_input_);  // its greeting
  qmp("qmp_capabilities");
}

void Machine::check_alive() {
  if (::waitpid(pid_, nullptr, WNOHANG) != pid_) return;
  pid_ = -1;
  throw std::runtime_error(fmt::format("{} ended: {}", qemu_path(), text_of(folder_ / "stderr")));
}

// The answer without its "OK". Lines about interrupt lines come in between; nobody asked for them.
std::string Machine::command(const std::string& line) {
  const std::scoped_lock lock(mutex_);
  write_all(qtest_, line + "\n");
  while (true) {
    const std::string answer = read_line(qtest_, qtest_input_);
    if (answer.starts_with("IRQ")) continue;
    if (!answer.starts_with("OK"))
      throw std::runtime_error(fmt::format("QEMU answers '{}' to '{}'", answer, line));
    return answer.size() > 3 ? answer.substr(3) : "";
  }
}

uint32_t Machine::readl(uint64_t address) {
  return static_cast<uint32_t>(std::stoull(command(fmt::format("readl {:#x}", address)), nullptr, 16));
}
void Machine::writel(uint64_t address, uint32_t value) {
  command(fmt::format("writel {:#x} {:#x}", address, value));
}

uint32_t Machine::read_narrow(uint64_t address, uint32_t bytes) {
  const char* verb = bytes == 1 ? "readb" : "readw";
  return static_cast<uint32_t>(std::stoull(command(fmt::format("{} {:#x}", verb, address)), nullptr, 16));
}
void Machine::write_narrow(uint64_t address, uint32_t bytes, uint32_t value) {
  const char* verb = bytes == 1 ? "writeb" : "writew";
  command(fmt::format("{} {:#x} {:#x}", verb, address, value & ((1u << 8 * bytes) - 1)));
}

// Address and data are two commands: one thread at a time.
uint32_t Machine::config_readl(uint32_t offset) {
  const std::scoped_lock lock(config_mutex_);
  command(fmt::format("outl 0xcf8 {:#x}", 0x8000'0000 | kSlot << 11 | offset));
  return static_cast<uint32_t>(std::stoull(command("inl 0xcfc"), nullptr, 16));
}
void Machine::config_writel(uint32_t offset, uint32_t value) {
  const std::scoped_lock lock(config_mutex_);
  command(fmt::format("outl 0xcf8 {:#x}", 0x8000'0000 | kSlot << 11 | offset));
  command(fmt::format("outl 0xcfc {:#x}", value));
}

nlohmann::json Machine::qmp(const std::string& name, const nlohmann::json& arguments) {
  write_all(qmp_, nlohmann::json{{"execute", name}, {"arguments", arguments}}.dump() + "\n");
  while (true) {
    const nlohmann::json answer = nlohmann::json::parse(read_line(qmp_, qmp_input_));
    if (answer.contains("error")) throw std::runtime_error(answer.dump());
    if (answer.contains("return")) return answer["return"];
  }
}

bool Machine::send(const Frame& frame) {
  return ::send(wire_.get(), frame.data(), frame.size(), MSG_DONTWAIT | MSG_NOSIGNAL) ==
         static_cast<ssize_t>(frame.size());
}

std::optional<Frame> Machine::receive(milliseconds deadline) {
  pollfd ready{.fd = wire_.get(), .events = POLLIN, .revents = 0};
  if (::poll(&ready, 1, static_cast<int>(deadline.count())) != 1) return std::nullopt;
  Frame frame(65536);
  const ssize_t got = ::recv(wire_.get(), frame.data(), frame.size(), MSG_DONTWAIT);
  if (got < 0) return std::nullopt;
  frame.resize(static_cast<size_t>(got));
  return frame;
}

std::vector<std::string> Machine::complaints() const {
  std::vector<std::string> lines;
  std::ifstream file(folder_ / "log");
  for (std::string line; std::getline(file, line);) {
    if (line.find("_trivial") == std::string::npos) lines.push_back(line);
  }
  return lines;
}

std::string Machine::last_words() {
  qmp("quit");
  const auto end = steady_clock::now() + kAnswerDeadline;
  while (::waitpid(pid_, nullptr, WNOHANG) != pid_) {
    if (steady_clock::now() > end) throw std::runtime_error("QEMU does not end");
    ::usleep(1000);
  }
  pid_ = -1;
  std::string words;
  std::ifstream file(folder_ / "stderr");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("[")) words += line + "\n";  // "[vmxnet3][WR]..."
  }
  return words;
}

// ---- the function --------------------------------------------------------------------------------

namespace {

class QtestBar final : public pci::Bar {
 public:
  QtestBar(std::shared_ptr<Machine> machine, uint64_t base, uint64_t bytes)
      : machine_(std::move(machine)), base_(base), bytes_(bytes) {}
  uint32_t read32(uint32_t offset) override { return machine_->readl(base_ + offset); }
  void write32(uint32_t offset, uint32_t value) override { machine_->writel(base_ + offset, value); }
  uint32_t read_narrow(uint32_t offset, uint32_t bytes) override {
    return machine_->read_narrow(base_ + offset, bytes);
  }
  void write_narrow(uint32_t offset, uint32_t bytes, uint32_t value) override {
    machine_->write_narrow(base_ + offset, bytes, value);
  }
  uint64_t bytes() const override { return bytes_; }

 private:
  std::shared_ptr<Machine> machine_;
  uint64_t base_, bytes_;
};

uint64_t bar_base(uint32_t index) { return QtestFunction::kRegisters + index * kBarStride; }
uint32_t bar_register(uint32_t index) { return 0x10 + 4 * index; }

}  // namespace

QtestFunction::QtestFunction(std::shared_ptr<Machine> machine, pci::Interrupt best)
    : machine_(std::move(machine)), best_(best) {
  place_bars();
  machine_->config_writel(kCommand, kCommandMemory);
  doorbells_ = reinterpret_cast<uint32_t*>(allocate(4096, 4096));
}

QtestFunction::~QtestFunction() = default;

// As firmware does it (PCI Local Bus 3.0, 6.2.5.1): ones are written, and what stays 0 is the size.
void QtestFunction::place_bars() {
  for (uint32_t index = 0; index < 6; ++index) {
    machine_->config_writel(bar_register(index), ~0u);
    const uint32_t mask = machine_->config_readl(bar_register(index));
    machine_->config_writel(bar_register(index), 0);
    if (mask == 0 || (mask & 1)) continue;  // none, or for ports
    bar_bytes_[index] = ~(mask & ~0xfu) + 1u;
    machine_->config_writel(bar_register(index), static_cast<uint32_t>(bar_base(index)));
    const bool wide = (mask >> 1 & 3) == 2;
    if (wide) machine_->config_writel(bar_register(++index), 0);
  }
}

std::byte* QtestFunction::allocate(uint64_t bytes, uint64_t alignment) {
  used_ = (used_ + alignment - 1) / alignment * alignment;
  std::byte* data = machine_->memory() + used_;
  used_ += bytes;
  if (used_ > Machine::kMemoryBytes) throw std::runtime_error("the machine's memory is full");
  return data;
}

Result<uint32_t> QtestFunction::config_read(uint32_t offset, uint32_t bytes) {
  const uint32_t word = machine_->config_readl(offset & ~3u) >> (8 * (offset & 3));
  return bytes == 4 ? word : word & ((1u << (8 * bytes)) - 1);
}

Result<void> QtestFunction::config_write(uint32_t offset, uint32_t bytes, uint32_t value) {
  const uint32_t shift = 8 * (offset & 3), mask = (bytes == 4 ? ~0u : (1u << (8 * bytes)) - 1) << shift;
  machine_->config_writel(offset & ~3u,
                          (machine_->config_readl(offset & ~3u) & ~mask) | (value << shift & mask));
  return {};
}

Result<std::unique_ptr<pci::Bar>> QtestFunction::bar(uint32_t index) {
  if (index >= bar_bytes_.size() || bar_bytes_[index] == 0)
    return fail(Code::kSystem, fmt::format("it has no BAR {}", index));
  return std::make_unique<QtestBar>(machine_, bar_base(index), bar_bytes_[index]);
}

Result<pci::Iova> QtestFunction::dma_map(std::byte* data, uint64_t bytes, pci::DmaAccess) {
  if (data < machine_->memory() || data + bytes > machine_->memory() + Machine::kMemoryBytes) {
    return fail(Code::kUsage, "only the machine's own memory can be reached by its NIC");
  }
  return pci::Iova{static_cast<uint64_t>(data - machine_->memory())};
}

Result<pci::Function::DmaMemory> QtestFunction::dma_allocate(uint64_t bytes) {
  std::byte* data = allocate(bytes, 4096);
  std::memset(data, 0, bytes);
  return DmaMemory{data, pci::Iova{static_cast<uint64_t>(data - machine_->memory())}, bytes};
}

Result<void> QtestFunction::set_bus_master(bool on) {
  machine_->config_writel(kCommand, kCommandMemory | (on ? kCommandBusMaster : 0));
  return {};
}

uint32_t QtestFunction::find_capability(uint32_t id) {
  uint32_t at = *config_read(kCapabilities, 1);
  while (at != 0 && *config_read(at, 1) != id) at = *config_read(at + 1, 1);
  return at;
}

Result<pci::Interrupt> QtestFunction::enable_interrupts(uint32_t vectors) {
  vectors_ = best_ == pci::Interrupt::kMsix ? std::min(vectors, kVectors) : 1;
  for (uint32_t vector = 0; vector < vectors_; ++vector)
    eventfds_[vector] = Fd(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
  if (best_ == pci::Interrupt::kMsix) enable_msix();
  if (best_ == pci::Interrupt::kMsi) enable_msi();
  watcher_ = std::jthread([this](const std::stop_token& stop) { watch(stop); });
  return best_;
}

// The message's address is memory: an interrupt is a word that appears there.
void QtestFunction::enable_msix() {
  const uint64_t doorbells =
      static_cast<uint64_t>(reinterpret_cast<std::byte*>(doorbells_) - machine_->memory());
  const uint32_t at = find_capability(kMsix);
  const uint32_t table = *config_read(at + 4, 4);  // the BAR in the lowest three bits
  for (uint32_t vector = 0; vector < vectors_; ++vector) {
    const uint64_t entry = bar_base(table & 7) + (table & ~7u) + 16 * vector;
    machine_->writel(entry, static_cast<uint32_t>(doorbells + 4 * vector));
    machine_->writel(entry + 4, 0);
    machine_->writel(entry + 8, 1);
    machine_->writel(entry + 12, 0);  // not masked
  }
  static_cast<void>(config_write(at + 2, 2, 1u << 15));
}

void QtestFunction::enable_msi() {
  const uint64_t doorbells =
      static_cast<uint64_t>(reinterpret_cast<std::byte*>(doorbells_) - machine_->memory());
  const uint32_t at = find_capability(kMsi);
  static_cast<void>(config_write(at + 4, 4, static_cast<uint32_t>(doorbells)));
  static_cast<void>(config_write(at + 8, 4, 0));
  static_cast<void>(config_write(at + 12, 2, 1));  // 64-bit layout
  static_cast<void>(config_write(at + 2, 2, *config_read(at + 2, 2) | 1));
}

// PCI Local Bus 3.0, 6.2.3: the status register says whether the device asks for an interrupt.
bool QtestFunction::line_raised() { return machine_->config_readl(kCommand) >> 16 & kStatusInterrupt; }

// Stands for the kernel: turns messages into eventfds, and a line that is raised, which it masks.
void QtestFunction::watch(const std::stop_token& stop) {
  while (!stop.stop_requested()) {
    for (uint32_t vector = 0; vector < vectors_; ++vector) {
      if (std::atomic_ref(doorbells_[vector]).exchange(0) != 0) ::eventfd_write(eventfds_[vector].get(), 1);
    }
    if (best_ == pci::Interrupt::kIntx && !line_masked_ && line_raised()) {
      line_masked_ = true;
      ::eventfd_write(eventfds_[0].get(), 1);
    }
    ::usleep(100);
  }
}

bool QtestFunction::consume_interrupt(uint32_t vector) {
  eventfd_t count = 0;
  const bool fired = vector < vectors_ && ::eventfd_read(eventfds_[vector].get(), &count) == 0;
  if (fired) line_masked_ = false;
  return fired;
}

}  // namespace ringcap::nic
