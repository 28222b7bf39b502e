#!/usr/bin/env python3
"""Makes tests/data/filters/frames.pcap: every payload below in every encapsulation below, for tests of filters.

Run it after a change and commit what it wrote. Frame i is stamped i seconds after FIRST_S, so that a frame is
known by its time. Checksums are 0: no filter looks at them."""

import pathlib
import struct

FILE = pathlib.Path(__file__).resolve().parent / "filters" / "frames.pcap"
FIRST_S = 1_700_000_000
A, B = bytes([10, 0, 0, 1]), bytes([192, 168, 0, 2])
A6, B6 = bytes.fromhex("20010db8" + "00" * 11 + "01"), bytes.fromhex("20010db8" + "00" * 11 + "02")
MACS = bytes([2, 0, 0, 0, 0, 0xB, 2, 0, 0, 0, 0, 0xA])
TCP, UDP, ICMP, ICMP6, FRAGMENT, HOPS = 6, 17, 1, 58, 44, 0
IPV4, ARP, VLAN, IPV6, QINQ, MPLS, PPPOED, PPPOES = 0x0800, 0x0806, 0x8100, 0x86DD, 0x88A8, 0x8847, 0x8863, 0x8864


def tcp(source, target, flags):
    return struct.pack(">HHIIBBHHH", source, target, 1, 2, 0x50, flags, 1024, 0, 0) + b"GET / HTTP"


def udp(source, target, data=b"\xee" * 20):
    return struct.pack(">HHHH", source, target, 8 + len(data), 0) + data


def ipv4(protocol, data, fragment=0, options=b"", source=A, target=B):
    return struct.pack(">BBHHHBBH", 0x45 + len(options) // 4, 0, 20 + len(options) + len(data), 7, fragment, 64,
                       protocol, 0) + source + target + options + data


def ipv6(following, data):
    return struct.pack(">IHBB", 6 << 28, len(data), following, 64) + A6 + B6 + data


def payloads():
    """(EtherType, bytes); EtherType None: an LLC frame, whose type field is its length."""
    yield IPV4, ipv4(TCP, tcp(1000, 80, 2))
    yield IPV4, ipv4(TCP, tcp(443, 2000, 0x12), options=b"\1\1\1\0")
    yield IPV4, ipv4(UDP, udp(5353, 53), source=bytes([10, 0, 0, 2]))
    yield IPV4, ipv4(UDP, udp(53, 1025), fragment=0x2000)
    yield IPV4, ipv4(UDP, b"\x03\xe8\0\x35" * 4, fragment=0x0005)
    yield IPV4, ipv4(ICMP, bytes([8, 0, 0, 0, 0, 77, 0, 1]))
    yield IPV4, ipv4(UDP, udp(9999, 6081, struct.pack(">BBHI", 0, 0, 0x6558, 7 << 8) + MACS + b"\x08\0" +
                                ipv4(TCP, tcp(1, 80, 2))))
    yield IPV6, ipv6(TCP, tcp(1000, 443, 0x10))
    yield IPV6, ipv6(UDP, udp(546, 53))
    yield IPV6, ipv6(ICMP6, bytes([135, 0, 0, 0]) + bytes(20))
    yield IPV6, ipv6(HOPS, bytes([TCP, 0, 1, 4, 0, 0, 0, 0]) + tcp(1000, 80, 2))
    yield IPV6, ipv6(FRAGMENT, bytes([UDP, 0, 0, 1, 0, 0, 0, 9]) + udp(1000, 53))
    yield ARP, struct.pack(">HHBBH", 1, IPV4, 6, 4, 1) + MACS[6:] + A + bytes(6) + B
    yield None, bytes.fromhex("424203" + "00" * 35)  # spanning tree
    yield None, bytes.fromhex("fefe03831b0100140100000000") + bytes(20)  # IS-IS
    yield None, bytes.fromhex("aaaa03000000") + struct.pack(">H", IPV4) + ipv4(UDP, udp(1000, 53))


def typed(kind, data):
    return struct.pack(">H", len(data) if kind is None else kind) + data


def tagged(kind, data, *tags):
    for tpid, vlan in reversed(tags):
        kind, data = tpid, struct.pack(">H", vlan) + typed(kind, data)
    return kind, data


def labelled(data, *labels):
    return MPLS, b"".join(struct.pack(">I", label << 12 | (i + 1 == len(labels)) << 8 | 64)
                          for i, label in enumerate(labels)) + data


def in_pppoe(kind, data, session=1):
    protocol = {IPV4: 0x0021, IPV6: 0x0057}.get(kind, 0xC021)
    return PPPOES, struct.pack(">BBHHH", 0x11, 0, session, 2 + len(data), protocol) + data


ENCAPSULATIONS = [
    lambda kind, data: (kind, data),
    lambda kind, data: tagged(kind, data, (VLAN, 10)),
    lambda kind, data: tagged(kind, data, (VLAN, 0x600A)),
    lambda kind, data: tagged(kind, data, (QINQ, 10), (VLAN, 20)),
    lambda kind, data: tagged(kind, data, (VLAN, 10), (VLAN, 20)),
    lambda kind, data: tagged(kind, data, (0x9100, 1), (VLAN, 10), (VLAN, 20)),
    lambda kind, data: labelled(data, 16),
    lambda kind, data: labelled(data, 16, 17),
    lambda kind, data: tagged(*labelled(data, 16), (VLAN, 10)),
    lambda kind, data: in_pppoe(kind, data),
    lambda kind, data: tagged(*in_pppoe(kind, data, 0x27), (VLAN, 10)),
    lambda kind, data: (PPPOED, struct.pack(">BBHH", 0x11, 9, 0, 4) + bytes.fromhex("01010000") + data),
]


def main():
    frames = [MACS + typed(*wrap(kind, data)) for wrap in ENCAPSULATIONS for kind, data in payloads()]
    frames.append(b"\xff" * 6 + MACS[6:] + typed(ARP, bytes(28)))  # to everybody
    frames.append(bytes.fromhex("01005e000001") + MACS[6:] + typed(IPV4, ipv4(2, bytes([0x16, 0, 0, 0, 224, 0, 0, 1]),
                                                                                 target=bytes([224, 0, 0, 1]))))
    with FILE.open("wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1))
        for i, frame in enumerate(frames):
            frame += bytes(max(0, 60 - len(frame)))
            file.write(struct.pack("<IIII", FIRST_S + i, 0, len(frame), len(frame)) + frame)


if __name__ == "__main__":
    main()
