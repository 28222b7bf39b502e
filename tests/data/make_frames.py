#!/usr/bin/python3
"""Makes tests/data/frames: a capture file for every encapsulation that the parser knows, and beside each a text that
says what every frame of it is. Needs scapy (Debian's python3-scapy). Run it after a change and commit what it wrote;
with a folder as argument it writes there instead.

NAME.pcap has flows in both directions: of TCP, UDP, SCTP and ICMP, in IPv4 and IPv6; UDP ones in fragments, too, of the
inner packet and (NAME's own IP header, where it has one) of the outer one, the first fragment first.
NAME.txt has a line for each frame, '|' between the fields: the inner flow and the outer one, each as FAMILY NUMBER
SOURCE PORT TARGET PORT (family mac: NUMBER is the EtherType); first and last VLAN identifier; offset of the innermost IP
header, 0 where there is none (fragments of a tunnel) or where it is not IP; words: tunnel, fragment (of the outer)."""

import dataclasses
import pathlib
import sys

from scapy.config import conf
from scapy.contrib.erspan import ERSPAN_II, ERSPAN_III, ERSPAN_PlatformSpecific
from scapy.contrib.geneve import GENEVE, GeneveOptions
from scapy.contrib.gtp import GTPPDUSessionContainer, GTP_U_Header
from scapy.contrib.mpls import MPLS
from scapy.layers.inet import GRE, ICMP, IP, TCP, UDP, IPOption_NOP, fragment
from scapy.layers.inet6 import (ICMPv6EchoReply, ICMPv6EchoRequest, IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment,
                                IPv6ExtHdrHopByHop, IPv6ExtHdrRouting, fragment6)
from scapy.layers.ipsec import AH
from scapy.layers.l2 import ARP, Dot1AD, Dot1Q, Ether
from scapy.layers.ppp import PPP, PPPoE
from scapy.layers.sctp import SCTP
from scapy.layers.vxlan import VXLAN
from scapy.packet import Raw
from scapy.utils import PcapWriter

FOLDER = pathlib.Path(__file__).resolve().parent / "frames"
PAYLOAD = bytes(i * 7 % 256 for i in range(600))
MAC = ["02:00:00:00:00:0a", "02:00:00:00:00:0b"]
INNER_MAC = ["02:00:00:00:01:0a", "02:00:00:00:01:0b"]
OUTER4 = ["172.16.0.1", "172.16.9.2"]
OUTER6 = ["2001:db8:ffff::1", "2001:db8:ffff::9:2"]


# ---- flows -------------------------------------------------------------------------------------------------------

@dataclasses.dataclass
class Flow:
    family: int
    protocol: int
    ends: list  # [(address, port), (address, port)]

    def text(self, direction):
        (source, sport), (target, dport) = self.ends[direction], self.ends[1 - direction]
        return f"{self.family} {self.protocol} {source} {sport} {target} {dport}"

    def packet(self, direction, payload=40, identification=1):
        (source, sport), (target, dport) = self.ends[direction], self.ends[1 - direction]
        if self.family == 4:
            ip = IP(src=source, dst=target, id=identification, ttl=60)
        else:
            ip = IPv6(src=source, dst=target, hlim=60)
        data = Raw(PAYLOAD[:payload])
        if self.protocol == 6:
            return ip / TCP(sport=sport, dport=dport, seq=1, flags="A") / data
        if self.protocol == 17:
            return ip / UDP(sport=sport, dport=dport) / data
        if self.protocol == 132:
            return ip / SCTP(sport=sport, dport=dport, tag=7) / data
        if self.family == 4:
            return ip / ICMP(type=0 if direction else 8, id=77, seq=1) / data
        return ip / (ICMPv6EchoReply if direction else ICMPv6EchoRequest)(id=77, seq=1, data=PAYLOAD[:payload])


FLOWS = [Flow(4, 6, [("10.0.0.1", 40000), ("192.168.0.2", 80)]),
         Flow(4, 17, [("10.0.0.1", 40001), ("192.168.0.2", 5353)]),
         Flow(4, 1, [("10.0.0.3", 0), ("192.168.0.4", 0)]),
         Flow(4, 132, [("10.0.0.5", 2905), ("10.0.0.6", 2906)]),
         Flow(6, 6, [("2001:db8::1", 40002), ("2001:db8:1::2", 443)]),
         Flow(6, 17, [("2001:db8::1", 40003), ("2001:db8:1::2", 443)]),
         Flow(6, 58, [("2001:db8::3", 0), ("2001:db8:1::4", 0)])]
FRAGMENTED = [FLOWS[1], FLOWS[5]]


def inner_fragments(flow, direction, identification):
    whole = flow.packet(direction, 300, identification)
    if flow.family == 4:
        return fragment(whole, fragsize=136)
    head = IPv6(src=whole.src, dst=whole.dst, hlim=60) / IPv6ExtHdrFragment(id=identification)
    return fragment6(head / whole.payload, 200)


# ---- encapsulations ----------------------------------------------------------------------------------------------

@dataclasses.dataclass
class Encapsulation:
    """wrap(packet, direction) makes the frame's part behind the outer Ethernet header, or, with `outer`, behind the
    outer IP header; outer is that tunnel's protocol and its ports in direction 0."""
    name: str
    wrap: object
    outer: tuple = None      # (protocol, source port, target port of both directions) of a tunnel over IP
    vlans: tuple = (0, 0)
    link: bool = False       # the frame's own Ethernet is the tunnel's outer packet (a pseudowire): its type
    families: tuple = (4, 6)  # of inner packets
    own: bool = True          # fragments too


def ether(direction, type_=None, macs=None):
    macs = macs or MAC
    layer = Ether(src=macs[direction], dst=macs[1 - direction])
    if type_ is not None:
        layer.type = type_
    return layer


def inside(direction, packet):
    """As an Ethernet frame in a tunnel."""
    return ether(direction, 0x0800 if packet.version == 4 else 0x86DD, INNER_MAC) / packet


def ip_type(packet):
    return 0x0800 if packet.version == 4 else 0x86DD


def label(packet, *labels):
    for i, value in reversed(list(enumerate(labels))):
        packet = Raw(bytes(MPLS(label=value, s=int(i == len(labels) - 1), ttl=64))) / packet
    return packet


def pppoe(packet):
    ppp = bytes.fromhex("0021" if packet.version == 4 else "0057") + bytes(packet)
    return PPPoE(sessionid=5, len=len(ppp)) / Raw(ppp)


def ppp_bytes(packet, header="ff03", compressed=False):
    protocol = "0021" if packet.version == 4 else "0057"
    return bytes.fromhex(header + (protocol[2:] if compressed else protocol)) + bytes(packet)


def with_extensions(packet, direction):
    if packet.version == 4:
        packet = packet.copy()
        packet.options = [IPOption_NOP()] * 6
        del packet.ihl, packet.len, packet.chksum
        return packet
    if IPv6ExtHdrFragment in packet:
        return packet
    rest = packet.payload
    head = IPv6(src=packet.src, dst=packet.dst, hlim=60)
    ah = AH(nh=packet.nh, payloadlen=4, spi=1, seq=1, icv=b"x" * 12)
    return head / IPv6ExtHdrHopByHop() / IPv6ExtHdrRouting() / IPv6ExtHdrDestOpt() / ah / rest


def gre(proto, payload, **fields):
    return GRE(proto=proto, **fields) / payload


def pptp(packet, direction):
    payload = ppp_bytes(packet)
    return Raw(bytes.fromhex("3081880b") + len(payload).to_bytes(2, "big") + bytes.fromhex("0007" "00000001" "00000002")
               + payload)


def erspan1(packet, direction):
    return gre(0x88BE, Raw(bytes(inside(direction, packet))))


def erspan2(packet, direction):
    return gre(0x88BE, ERSPAN_II(session_id=9) / Raw(bytes(inside(direction, packet))), seqnum_present=1,
               sequence_number=3)


def erspan3(packet, direction, platform=False):
    middle = ERSPAN_III(session_id=9, timestamp=5)
    middle.o = int(platform)
    if platform:
        middle = middle / ERSPAN_PlatformSpecific(platf_id=0)
    return gre(0x22EB, Raw(bytes(middle) + bytes(inside(direction, packet))), seqnum_present=1, sequence_number=3)


def vxlan(packet, direction):
    return VXLAN(vni=42, flags=8) / inside(direction, packet)


def gpe(packet, direction, next_protocol):
    header = bytes([0x0C, 0, 0, next_protocol, 0, 0, 42, 0])
    return Raw(header + bytes(inside(direction, packet) if next_protocol == 3 else packet))


def geneve(packet, direction, options=0, ethernet=True):
    payload = inside(direction, packet) if ethernet else packet
    proto = 0x6558 if ethernet else ip_type(packet)
    head = GENEVE(vni=42, proto=proto, options=[GeneveOptions(classid=0x0102, type=i, data=b"abcd" * (i + 1))
                                                for i in range(options)])
    return Raw(bytes(head) + bytes(payload))


def gtp(packet, direction, extensions=()):
    payload = bytes(packet)
    optional = b""
    if extensions:
        optional = b"\x00\x01\x00" + extensions[0][0].to_bytes(1, "big")
        for i, (_, body) in enumerate(extensions):
            following = extensions[i + 1][0] if i + 1 < len(extensions) else 0
            optional += bytes([(len(body) + 2) // 4]) + body + bytes([following])
    flags = 0x34 if extensions else 0x30
    return Raw(bytes([flags, 0xFF]) + (len(optional) + len(payload)).to_bytes(2, "big") + b"\x00\x00\x00\x2a" + optional
               + payload)


def gtp_sequence(packet, direction):
    payload = bytes(packet)
    return Raw(bytes([0x32, 0xFF]) + (4 + len(payload)).to_bytes(2, "big") + bytes.fromhex("0000002a" "00070000") + payload)


def l2tpv2(packet, direction, everything=False):
    payload = ppp_bytes(packet, "" if everything else "ff03", everything)
    if not everything:
        return Raw(bytes.fromhex("0002" "0001" "0002") + payload)
    length = 2 + 2 + 4 + 4 + 2 + 3 + len(payload)
    return Raw(bytes.fromhex("4a02") + length.to_bytes(2, "big") + bytes.fromhex("0001" "0002" "00030004" "0003" "ffffff")
               + payload)


def l2tpv3(packet, direction, cookie=b"", sublayer=False, over_udp=False):
    head = bytes.fromhex("00030000") if over_udp else b""
    return Raw(head + b"\x00\x00\x00\x09" + cookie + (b"\x40\x00\x00\x01" if sublayer else b"")
               + bytes(inside(direction, packet)))


def over_gre(packet, direction):
    """VXLAN in IPv4 in GRE."""
    udp = IP(src=OUTER4[direction], dst=OUTER4[1 - direction], id=9, ttl=60) / UDP(sport=50000, dport=4789, chksum=0)
    return gre(0x0800, udp / vxlan(packet, direction))


UDP_EITHER = {"vxlan": 4789, "vxlan_old": 8472, "gpe": 4790, "geneve": 6081, "gtp": 2152, "l2tp": 1701}


def udp_port(name):
    return (17, 50000, UDP_EITHER[name])


ENCAPSULATIONS = [
    Encapsulation("plain", lambda p, d: p),
    Encapsulation("vlan", lambda p, d: Dot1Q(vlan=100, type=ip_type(p)) / p, vlans=(100, 100)),
    Encapsulation("qinq", lambda p, d: Dot1AD(vlan=200, type=0x8100) / Dot1Q(vlan=300, type=ip_type(p)) / p,
                  vlans=(200, 300)),
    Encapsulation("mpls", lambda p, d: label(p, 1000, 16)),
    Encapsulation("vlan_mpls", lambda p, d: Dot1Q(vlan=7, type=0x8847) / label(p, 16), vlans=(7, 7)),
    Encapsulation("pseudowire", lambda p, d: label(Raw(bytes(4) + bytes(inside(d, p))), 1000, 16), link=0x8847),
    Encapsulation("pseudowire_bare", lambda p, d: label(inside(d, p), 16), link=0x8847),
    Encapsulation("pppoe", lambda p, d: pppoe(p)),
    Encapsulation("vlan_pppoe", lambda p, d: Dot1Q(vlan=9, type=0x8864) / pppoe(p), vlans=(9, 9)),
    Encapsulation("extensions", with_extensions),
    Encapsulation("ip_in_ip", lambda p, d: p, outer=(0, 0, 0)),  # ipip, 6in4, 4in6, 6in6
    Encapsulation("gre", lambda p, d: gre(ip_type(p), p), outer=(47, 0, 0)),
    Encapsulation("gre_all", lambda p, d: gre(ip_type(p), p, chksum_present=1, key_present=1, key=7, seqnum_present=1,
                                              sequence_number=3), outer=(47, 0, 0)),
    Encapsulation("gre_mpls", lambda p, d: gre(0x8847, label(p, 16)), outer=(47, 0, 0)),
    Encapsulation("nvgre", lambda p, d: gre(0x6558, inside(d, p), key_present=1, key=0x2A00), outer=(47, 0, 0)),
    Encapsulation("erspan1", erspan1, outer=(47, 0, 0)),
    Encapsulation("erspan2", erspan2, outer=(47, 0, 0)),
    Encapsulation("erspan3", erspan3, outer=(47, 0, 0)),
    Encapsulation("erspan3_platform", lambda p, d: erspan3(p, d, True), outer=(47, 0, 0)),
    Encapsulation("pptp", pptp, outer=(47, 0, 0)),
    Encapsulation("vxlan", vxlan, outer=udp_port("vxlan")),
    Encapsulation("vxlan_old", vxlan, outer=udp_port("vxlan_old")),
    Encapsulation("vxlan_vlan", lambda p, d: VXLAN(vni=42, flags=8) / ether(d, 0x8100, INNER_MAC)
                  / Dot1Q(vlan=55, type=ip_type(p)) / p, outer=udp_port("vxlan"), vlans=(0, 55)),
    Encapsulation("vxlan_gpe", lambda p, d: gpe(p, d, 3), outer=udp_port("gpe")),
    Encapsulation("vxlan_gpe_ip", lambda p, d: gpe(p, d, 1 if p.version == 4 else 2), outer=udp_port("gpe")),
    Encapsulation("geneve", geneve, outer=udp_port("geneve")),
    Encapsulation("geneve_options", lambda p, d: geneve(p, d, 3), outer=udp_port("geneve")),
    Encapsulation("geneve_ip", lambda p, d: geneve(p, d, 1, False), outer=udp_port("geneve")),
    Encapsulation("gtpu", gtp, outer=udp_port("gtp")),
    Encapsulation("gtpu_sequence", gtp_sequence, outer=udp_port("gtp")),
    Encapsulation("gtpu_extensions", lambda p, d: gtp(p, d, [(0xC0, b"\x00\x01"), (0x85, b"\x00\x09" + bytes(4))]),
                  outer=udp_port("gtp")),
    Encapsulation("l2tpv2", l2tpv2, outer=udp_port("l2tp")),
    Encapsulation("l2tpv2_all", lambda p, d: l2tpv2(p, d, True), outer=udp_port("l2tp")),
    Encapsulation("l2tpv3", l2tpv3, outer=(115, 0, 0)),
    Encapsulation("l2tpv3_cookie", lambda p, d: l2tpv3(p, d, b"\xaa" * 8, True), outer=(115, 0, 0)),
    Encapsulation("l2tpv3_udp", lambda p, d: l2tpv3(p, d, b"\xaa" * 4, False, True), outer=udp_port("l2tp")),
    Encapsulation("vxlan_in_gre", over_gre, outer=(47, 0, 0)),
]


# ---- frames ------------------------------------------------------------------------------------------------------

class File:
    """Collects the frames of one capture file and the lines that say what they are."""

    def __init__(self, encapsulation):
        self.encapsulation = encapsulation
        self.frames, self.lines = [], []
        self.identification = 100

    def next_identification(self):
        self.identification += 1
        return self.identification

    def add(self, frame, inner, outer, l3, *words):
        data = bytes(frame)
        first, last = self.encapsulation.vlans
        self.frames.append(data)
        self.lines.append(f"{inner} | {outer} | {first} {last} | {len(data) - l3 if l3 else 0} | {' '.join(words)}".strip())

    def add_linked(self, flow, direction, packet, *words):
        """Straight on Ethernet, without an IP header of its own."""
        e = self.encapsulation
        wrapped = e.wrap(packet, direction)
        first = bytes(wrapped)[:1]
        types = {"vlan": 0x8100, "qinq": 0x88A8, "mpls": 0x8847, "vlan_mpls": 0x8100, "pseudowire": 0x8847,
                 "pseudowire_bare": 0x8847, "pppoe": 0x8864, "vlan_pppoe": 0x8100}
        type_ = types.get(e.name, 0x0800 if first[0] >> 4 == 4 else 0x86DD)
        l3_from_end = len(packet) if e.name != "extensions" else len(wrapped)
        outer = flow.text(direction)
        if e.link:
            outer = f"mac {e.link:#06x} {MAC[direction]} 0 {MAC[1 - direction]} 0"
            words = ("tunnel",)
        self.add(ether(direction, type_) / wrapped, flow.text(direction), outer, l3_from_end, *words)

    def outer_ip(self, family, direction, protocol):
        addresses = OUTER4 if family == 4 else OUTER6
        source, target = addresses[direction], addresses[1 - direction]
        if family == 4:
            return IP(src=source, dst=target, proto=protocol, id=self.next_identification(), ttl=60)
        return IPv6(src=source, dst=target, nh=protocol, hlim=60)

    def tunnelled(self, family, direction, packet):
        """The outer IP packet, and the text of its flow."""
        protocol, sport, dport = self.encapsulation.outer
        if protocol == 0:
            protocol = 4 if packet.version == 4 else 41
        addresses = OUTER4 if family == 4 else OUTER6
        text = f"{family} {protocol} {addresses[direction]} {sport} {addresses[1 - direction]} {dport}"
        payload = self.encapsulation.wrap(packet, direction)
        ip = self.outer_ip(family, direction, protocol)
        if protocol == 17:
            return ip / UDP(sport=sport, dport=dport, chksum=0 if family == 4 else None) / payload, text
        return ip / payload, text

    def add_tunnelled(self, family, flow, direction, packet):
        outer, text = self.tunnelled(family, direction, packet)
        self.add(ether(direction, 0x0800 if family == 4 else 0x86DD) / outer, flow.text(direction), text, len(packet),
                 "tunnel")

    def add_outer_fragments(self, family, flow, direction):
        packet = flow.packet(direction, 500)
        outer, text = self.tunnelled(family, direction, packet)
        if family == 4:
            pieces = fragment(outer, fragsize=240)
        else:
            head = IPv6(src=outer.src, dst=outer.dst, hlim=60) / IPv6ExtHdrFragment(id=self.next_identification())
            head[IPv6ExtHdrFragment].nh = outer.nh
            pieces = fragment6(head / outer.payload, 320)
        total = len(bytes(outer)) - len(packet)
        for i, piece in enumerate(pieces):
            data = bytes(piece)
            # In the first piece the inner header is as far from the start as in the whole, and a fragment header more.
            start = total + (8 if family == 6 else 0)
            words = ("tunnel", "fragment") if i == 0 else ("fragment",)
            self.add(ether(direction, 0x0800 if family == 4 else 0x86DD) / Raw(data), flow.text(direction), text,
                     len(data) - start if i == 0 else 0, *words)

    def write(self, folder):
        writer = PcapWriter(str(folder / f"{self.encapsulation.name}.pcap"), linktype=1, nano=True, sync=True)
        writer.write_header(None)
        for i, data in enumerate(self.frames):
            writer.write_packet(data, sec=1_700_000_000, usec=i * 1000)
        writer.close()
        (folder / f"{self.encapsulation.name}.txt").write_text("\n".join(self.lines) + "\n")


def make(encapsulation):
    file = File(encapsulation)
    if encapsulation.outer is None:
        for flow in FLOWS:
            for direction in (0, 1):
                file.add_linked(flow, direction, flow.packet(direction))
        for flow in FRAGMENTED:
            for direction in (0, 1):
                for piece in inner_fragments(flow, direction, file.next_identification()):
                    file.add_linked(flow, direction, piece, "fragment")
        return file
    for family in (4, 6):
        for flow in FLOWS:
            for direction in (0, 1):
                file.add_tunnelled(family, flow, direction, flow.packet(direction))
        for flow in FRAGMENTED:
            for direction in (0, 1):
                for piece in inner_fragments(flow, direction, file.next_identification()):
                    file.add_tunnelled(family, flow, direction, piece)
                file.add_outer_fragments(family, flow, direction)
    return file


def others():
    """Frames without IP, or without ports, alone and in VXLAN."""
    file = File(Encapsulation("others", None))

    def both(build, text):
        for d in (0, 1):
            file.add(build(d), text(d), text(d), 0)

    def macs(type_, pair=None):
        pair = pair or MAC
        return lambda d: f"mac {type_:#06x} {pair[d]} 0 {pair[1 - d]} 0"

    arp = [ARP(op=1 + d, hwsrc=MAC[d], hwdst=MAC[1 - d], psrc=f"10.0.0.{1 + d}", pdst=f"10.0.0.{2 - d}") for d in (0, 1)]
    both(lambda d: ether(d) / arp[d], macs(0x0806))
    both(lambda d: ether(d, 0x88CC) / Raw(PAYLOAD[:50]), macs(0x88CC))
    both(lambda d: ether(d, 38) / Raw(bytes.fromhex("424203") + PAYLOAD[:35]), macs(0x0000))
    both(lambda d: ether(d, 0x8863) / PPPoE(code=9, len=4) / Raw(PAYLOAD[:46]), macs(0x8863))
    both(lambda d: ether(d, 0x8864) / PPPoE(sessionid=5, len=10) / PPP(proto=0xC021) / Raw(PAYLOAD[:44]), macs(0x8864))
    for protocol in (50, 89, 2, 51):
        for d in (0, 1):
            ends = ("10.0.0.1", "10.0.0.2")
            ip = IP(src=ends[d], dst=ends[1 - d], proto=protocol, id=1) / Raw(PAYLOAD[:40])
            text = f"4 {protocol} {ends[d]} 0 {ends[1 - d]} 0"
            file.add(ether(d) / ip, text, text, len(ip))
    for d in (0, 1):
        outer, text = IP(src=OUTER4[d], dst=OUTER4[1 - d], id=1, ttl=60), f"4 17 {OUTER4[d]} 50000 {OUTER4[1 - d]} 4789"
        frame = ether(d) / outer / UDP(sport=50000, dport=4789, chksum=0) / VXLAN(vni=42, flags=8) / Raw(
            bytes(ether(d, 0x0806, INNER_MAC) / arp[d]))
        file.add(frame, macs(0x0806, INNER_MAC)(d), text, 0, "tunnel")
    for d in (0, 1):  # to a tunnel's port, but no tunnel
        for port in UDP_EITHER.values():
            flow = Flow(4, 17, [("10.0.0.1", 50001), ("10.0.0.2", port)])
            packet = flow.packet(d)
            file.add(ether(d) / packet, flow.text(d), flow.text(d), len(packet))
    return file


def main():
    folder = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    folder.mkdir(exist_ok=True)
    conf.verb = 0
    for encapsulation in ENCAPSULATIONS:
        make(encapsulation).write(folder)
    others().write(folder)


if __name__ == "__main__":
    main()
