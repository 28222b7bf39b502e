#include "driver/ports/open.h"

#include <fmt/format.h>

#include "driver/gen/port.h"
#include "driver/packet/port.h"
#include "driver/pcap/port.h"
#include "driver/tap/port.h"
#include "driver/vfio/port.h"

namespace ringcap {
namespace {

Result<std::unique_ptr<Port>> not_yet(const PortAddress& address) {
  return fail(Code::kUsage, fmt::format("port '{}': {}: is not supported yet", format_port_address(address),
                                        kind_name(address.kind)));
}

gen::Mix gen_mix(Mix mix) {
  switch (mix) {
    case Mix::kIpv4:
      return gen::Mix::kIpv4;
    case Mix::kIpv6:
      return gen::Mix::kIpv6;
    case Mix::kVlan:
      return gen::Mix::kVlan;
    case Mix::kAll:
      break;
  }
  return gen::Mix::kAll;
}

GenOptions gen_options(const PortAddress& a) {
  return {.address = format_port_address(a),
          .queues = a.queues,
          .mtu = a.mtu,
          .size = a.size == kImix ? 0 : a.size,
          .count = a.count,
          .rate = a.rate,
          .flows = a.flows,
          .mix = gen_mix(a.mix),
          .write = a.write == 0           ? gen::Write::kNothing
                   : a.write == kWriteAll ? gen::Write::kAll
                                          : gen::Write::kHead,
          .seed = a.seed,
          .waits = a.full == WhenFull::kWait};
}

PcapOptions pcap_options(const PortAddress& a) {
  return {.speed = a.speed,
          .loop = a.loop,
          .full_waits = a.full == WhenFull::kWait,
          .queues = a.queues,
          .mtu = a.mtu};
}

}  // namespace

Result<std::unique_ptr<Port>> open_port(const PortAddress& address, const PortUse& use) {
  switch (address.kind) {
    case PortKind::kVfio:
      return open_vfio_port(address.address, {.mtu = address.mtu,
                                              .queues = address.queues,
                                              .descriptors = address.descriptors,
                                              .moderation_us = address.moderation_us,
                                              .bad = address.bad,
                                              .crc = address.crc,
                                              .adapter_time = address.adapter_time,
                                              .transmit = use.sends});
    case PortKind::kTap:
      return open_tap_port(
          {.name = address.address, .queues = address.queues, .mtu = address.mtu, .mac = address.mac});
    case PortKind::kXdp:
      break;
    case PortKind::kPacket:
      return open_packet_port(address.address,
                              {.queues = address.queues, .mtu = address.mtu, .outgoing = address.outgoing});
    case PortKind::kPcap:
      return open_pcap_port(address.address, pcap_options(address));
    case PortKind::kGen:
      return open_gen_port(gen_options(address));
  }
  return not_yet(address);
}

}  // namespace ringcap
