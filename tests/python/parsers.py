"""Parsers that know nothing of ours: dpkt, scapy, and one of this file's own, straight from the standards, that decides where they
disagree. Each gives the fields of a frame's outer packet, by the names of our columns; a field that is not there is left out."""

import struct

import dpkt
from scapy.contrib.mpls import MPLS
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import (IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment, IPv6ExtHdrHopByHop, IPv6ExtHdrRouting,
                                IPv6ExtHdrSegmentRouting)
from scapy.layers.ipsec import AH
from scapy.layers.l2 import Dot1AD, Dot1Q, Ether
from scapy.layers.ppp import PPP, PPPoE
from scapy.layers.sctp import SCTP
from scapy.packet import NoPayload, Padding

WITH_PORTS = {6, 17, 33, 132, 136}  # TCP, UDP, DCCP, SCTP, UDP-Lite: all begin with two ports
TAGS = {0x8100, 0x88A8, 0x9100}
EXTENSIONS = {0, 43, 60, 135, 139, 140}  # RFC 6564, 4: next header, length in eights
MOST_HEADERS = 32  # of all kinds, that ringcap walks in one frame


# ---- from the standards --------------------------------------------------------------------------------------------------

class Facts:
    """What by_rfc() saw on its way: for the rules of agreement."""

    def __init__(self):
        self.tags, self.labels, self.headers = [], 0, 1
        self.link = self.kind = self.next = self.l3 = self.l4 = self.ihl = self.end = 0
        self.version = self.protocol = None
        self.fragment = self.later = self.cut = False
        self.extensions = []


def by_rfc(frame):
    """The fields, and the Facts."""
    facts, found = Facts(), {}
    if len(frame) < 14:
        return found, facts
    found = {"ethernet_destination": list(frame[:6]), "ethernet_source": list(frame[6:12])}
    kind, at = int.from_bytes(frame[12:14], "big"), 14
    kind, at = _tags(frame, kind, at, facts, found)
    kind, at = _pppoe(frame, kind, at, facts)
    kind, at = _labels(frame, kind, at, facts)
    found["ethernet_type"] = facts.kind = kind
    facts.next = at
    if facts.headers < MOST_HEADERS:
        if kind == 0x0800:
            _ipv4(frame, at, facts, found)
        elif kind == 0x86DD:
            _ipv6(frame, at, facts, found)
    return found, facts


def _tags(frame, kind, at, facts, found):
    """IEEE 802.1Q, clause 9."""
    while kind in TAGS and at + 4 <= len(frame) and facts.headers < MOST_HEADERS:
        facts.tags.append(kind)
        facts.headers += 1
        control, kind = struct.unpack_from(">HH", frame, at)
        found.setdefault("vlan", control & 0xFFF)
        at += 4
    return kind, at


def _pppoe(frame, kind, at, facts):
    """RFC 2516, 4: version and type 1, code 0; RFC 1661, 2: the protocol is IPv4, IPv6 or MPLS."""
    if kind == 0x8864 and at + 8 <= len(frame) and frame[at:at + 2] == b"\x11\x00":
        inside = {0x21: (0x0800, 8), 0x57: (0x86DD, 8), 0x281: (0x8847, 8), 0x283: (0x8848, 8)}
        protocol, size = int.from_bytes(frame[at + 6:at + 8], "big"), 2
        if frame[at + 6] & 1:  # compressed to one byte, RFC 1661, 6.5
            protocol, size = frame[at + 6], 1
        if protocol in inside:
            facts.headers += 1
            return inside[protocol][0], at + 6 + size
    return kind, at


def _labels(frame, kind, at, facts):
    """RFC 3032, 2.1; what is below the stack is told by its first four bits (RFC 4928, 3)."""
    facts.link = kind
    if kind not in (0x8847, 0x8848):
        return kind, at
    while True:
        if at + 4 > len(frame) or facts.headers >= MOST_HEADERS:
            return kind, at
        facts.labels += 1
        facts.headers += 1
        at += 4
        if frame[at - 2] & 1:
            break
    inside = {4: 0x0800, 6: 0x86DD}
    return (inside.get(frame[at] >> 4, kind) if at < len(frame) else kind), at


def _ipv4(frame, at, facts, found):
    """RFC 791, 3.1: version 4, a header of at least five words."""
    if at + 20 > len(frame) or frame[at] >> 4 != 4 or frame[at] & 15 < 5:
        return
    facts.version, facts.l3, facts.ihl, facts.protocol = 4, at, (frame[at] & 15) * 4, frame[at + 9]
    facts.headers += 1
    length, fragment = int.from_bytes(frame[at + 2:at + 4], "big"), int.from_bytes(frame[at + 6:at + 8], "big")
    facts.end = at + length if length else len(frame)  # 0: segmentation was left to the device
    facts.fragment, facts.later = fragment & 0x3FFF != 0, fragment & 0x1FFF != 0
    found |= {"ip_version": 4, "protocol": frame[at + 9], "ip_source": int.from_bytes(frame[at + 12:at + 16], "big"),
              "ip_destination": int.from_bytes(frame[at + 16:at + 20], "big")}
    if not facts.later:
        _transport(frame, at + facts.ihl, facts, found)


def _ipv6(frame, at, facts, found):
    """RFC 8200, 3 and 4; a fragment header that says offset 0 and no more to come is of a whole datagram (RFC 6946)."""
    if at + 40 > len(frame) or frame[at] >> 4 != 6:
        return
    facts.version, facts.l3 = 6, at
    facts.headers += 1
    length = int.from_bytes(frame[at + 4:at + 6], "big")
    facts.end = at + 40 + length if length else len(frame)  # 0: a jumbogram (RFC 2675), or segmentation was left to the device
    found |= {"ip_version": 6, "ipv6_source": list(frame[at + 8:at + 24]), "ipv6_destination": list(frame[at + 24:at + 40])}
    protocol, at = frame[at + 6], at + 40
    while protocol in EXTENSIONS or protocol in (44, 51):
        if at + 8 > len(frame) or facts.headers >= MOST_HEADERS:
            facts.cut = True
            break
        facts.extensions.append(protocol)
        facts.headers += 1
        fragment = int.from_bytes(frame[at + 2:at + 4], "big") if protocol == 44 else 0
        size = {44: 8, 51: (frame[at + 1] + 2) * 4}.get(protocol, (frame[at + 1] + 1) * 8)
        protocol, at = frame[at], at + size
        facts.fragment |= fragment & 0xFFF9 != 0
        if fragment & 0xFFF8:
            facts.later = True
            break
    facts.protocol = found["protocol"] = protocol
    if not facts.later and not facts.cut and protocol != 59:
        _transport(frame, at, facts, found)


def _transport(frame, at, facts, found):
    """RFC 9293, 3.1; RFC 768. What is captured of it stands, field by field; what is behind the packet's end is padding."""
    end = min(len(frame), facts.end)
    facts.l4 = at
    if at + 4 > end:
        return
    if facts.protocol in WITH_PORTS:
        found["source_port"], found["destination_port"] = struct.unpack_from(">HH", frame, at)
    start = 0
    if facts.protocol in (17, 136) and at + 8 <= end:
        start = at + 8
        length = int.from_bytes(frame[at + 4:at + 6], "big")
        if facts.protocol == 17 and length >= 8:  # less: a jumbogram (RFC 2675), or nonsense; of UDP-Lite it is not a length
            end = min(end, at + length)
    if facts.protocol == 6:
        if at + 12 <= end:
            found["sequence"], found["acknowledgement"] = struct.unpack_from(">II", frame, at + 4)
        if at + 14 <= end:
            found["tcp_flags"] = frame[at + 13]
        if at + 20 <= end and frame[at + 12] >> 4 >= 5 and at + (frame[at + 12] >> 4) * 4 <= end:
            start = at + (frame[at + 12] >> 4) * 4
    if start:
        found["payload_offset"], found["payload_length"] = start, end - start


# ---- dpkt ----------------------------------------------------------------------------------------------------------------

def by_dpkt(frame):
    try:
        ether = dpkt.ethernet.Ethernet(frame)
    except dpkt.Error:
        return {}
    found = {"ethernet_source": list(ether.src), "ethernet_destination": list(ether.dst)}
    if getattr(ether, "vlan_tags", None) and isinstance(ether.vlan_tags[0], dpkt.ethernet.VLANtag8021Q):
        found["vlan"] = ether.vlan_tags[0].id
    ip = ether.data
    if isinstance(ip, dpkt.pppoe.PPPoE):
        ip = ip.data.data if isinstance(ip.data, dpkt.ppp.PPP) else ip.data
    if isinstance(ip, dpkt.ip.IP):
        found |= {"ip_source": int.from_bytes(ip.src, "big"), "ip_destination": int.from_bytes(ip.dst, "big"),
                  "ip_version": ip.v, "protocol": ip.p}
    elif isinstance(ip, dpkt.ip6.IP6):
        found |= {"ipv6_source": list(ip.src), "ipv6_destination": list(ip.dst), "ip_version": ip.v}
        if hasattr(ip, "p"):
            found["protocol"] = ip.p
    else:
        return found
    transport = ip.data
    if isinstance(transport, (dpkt.tcp.TCP, dpkt.udp.UDP, dpkt.sctp.SCTP)):
        found |= {"source_port": transport.sport, "destination_port": transport.dport}
    if isinstance(transport, dpkt.tcp.TCP):
        found |= {"tcp_flags": transport.flags & 0xFF, "sequence": transport.seq, "acknowledgement": transport.ack,
                  "payload_length": len(transport.data)}
    if isinstance(transport, dpkt.udp.UDP):
        found["payload_length"] = len(transport.data)
    return found


# ---- scapy ---------------------------------------------------------------------------------------------------------------

SCAPY_EXTENSIONS = (IPv6ExtHdrHopByHop, IPv6ExtHdrDestOpt, IPv6ExtHdrRouting, IPv6ExtHdrSegmentRouting, IPv6ExtHdrFragment, AH)


def by_scapy(frame):
    layer = Ether(frame)
    if not isinstance(layer, Ether):
        return {}
    found = {"ethernet_source": _mac(layer.src), "ethernet_destination": _mac(layer.dst)}
    while isinstance(layer, (Ether, Dot1Q, Dot1AD, PPPoE, PPP, MPLS)):
        if isinstance(layer, (Dot1Q, Dot1AD)):
            found.setdefault("vlan", layer.vlan)
        layer = layer.payload
        if isinstance(layer, Ether):
            return found  # a pseudowire's: not the outer packet
    if isinstance(layer, IP):
        found |= {"ip_version": layer.version, "protocol": layer.proto, "ip_source": _number(layer.src), "ip_destination": _number(layer.dst)}
        if layer.frag:
            return found
    elif isinstance(layer, IPv6):
        found |= {"ip_version": layer.version, "ipv6_source": _ipv6_bytes(layer.src), "ipv6_destination": _ipv6_bytes(layer.dst),
                  "protocol": layer.nh}
    else:
        return found
    while isinstance(layer.payload, SCAPY_EXTENSIONS) and "ip_source" not in found:
        layer = layer.payload
        found["protocol"] = layer.nh
        if isinstance(layer, IPv6ExtHdrFragment) and layer.offset:
            return found
    return found | _scapy_transport(layer.payload)


def _scapy_transport(transport):
    found = {}
    if isinstance(transport, (TCP, UDP, SCTP)):
        found |= {"source_port": transport.sport, "destination_port": transport.dport}
    if isinstance(transport, TCP):
        found |= {"tcp_flags": int(transport.flags) & 0xFF, "sequence": transport.seq, "acknowledgement": transport.ack}
    if isinstance(transport, (TCP, UDP)):
        found["payload_length"] = 0 if isinstance(transport.payload, (NoPayload, Padding)) else len(transport.payload.original)
    return found


def _mac(text):
    return list(bytes.fromhex(text.replace(":", "")))


def _number(text):
    return int.from_bytes(bytes(int(part) for part in text.split(".")), "big")


def _ipv6_bytes(text):
    import socket
    return list(socket.inet_pton(socket.AF_INET6, text))
