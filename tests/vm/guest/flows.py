#!/usr/bin/python3
"""Traffic for the cluster's VM test, and what became of it.

    flows.py make FILE COUNT        a pcap file: COUNT frames of 2,000 flows, both directions, and some that are no IP
    flows.py check SENT TAKEN ...   status 1, with the reason, unless the members' files hold what they should

Flows are TCP and UDP over IPv4 and IPv6, UDP in fragments, and TCP in VXLAN. Each frame has a mark
with its flow's number and its own near its end; a fragment, too. Flows to port 9 are refused by every member's filter, frames that
are no IP by the engine's.
"""

import collections
import random
import struct
import sys

import frames

FLOWS, MARK = 2000, b"flow"
REFUSED_PORT = 9
TCP, UDP = 6, 17
MACS = (bytes.fromhex("020000000001"), bytes.fromhex("020000000002"))


# ---- frames ----------------------------------------------------------------------------------------


def checksum(data):
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF


def ipv4(ends, protocol, payload, identification=0, fragment=0):
    def header(check):
        return struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(payload), identification, fragment, 64, protocol, check, *ends)
    return header(checksum(header(0))) + payload


def ipv6(ends, protocol, payload):
    return struct.pack(">IHBB16s16s", 6 << 28, len(payload), protocol, 64, *ends) + payload


def udp(ports, payload):
    return struct.pack(">HHHH", *ports, 8 + len(payload), 0) + payload


def tcp(ports, payload):
    return struct.pack(">HHIIBBHHH", *ports, 1, 1, 0x50, 0x10, 8192, 0, 0) + payload


def ethernet(direction, kind, payload):
    return MACS[1 - direction] + MACS[direction] + struct.pack(">H", kind) + payload


def tail(flow, number, length=0):
    return bytes(length) + struct.pack(">4sII", MARK, flow, number)


class Flow:
    """One of five kinds, by its number."""

    def __init__(self, number, body):
        self.number, self.kind = number, number % 5
        self.v4 = (bytes([10, 0, number >> 8, number & 255]), bytes([10, 1, number % 7, number % 250 + 1]))
        self.v6 = tuple(bytes.fromhex("20010db8") + bytes(8) + address for address in self.v4)
        self.ports = (1024 + body.randrange(60000), REFUSED_PORT if number % 50 == 1 else body.choice((53, 80, 443, 8080)))

    def frames(self, direction, number):
        """What one step of the flow sends: one frame, or the fragments of a datagram."""
        order = (lambda pair: pair) if direction == 0 else (lambda pair: pair[::-1])
        v4, v6, ports = order(self.v4), order(self.v6), order(self.ports)
        if self.kind == 0:
            return [ethernet(direction, 0x0800, ipv4(v4, TCP, tcp(ports, tail(self.number, number))))]
        if self.kind == 1:
            return [ethernet(direction, 0x0800, ipv4(v4, UDP, udp(ports, tail(self.number, number, number % 400))))]
        if self.kind == 2:
            return [ethernet(direction, 0x86DD, ipv6(v6, UDP, udp(ports, tail(self.number, number))))]
        if self.kind == 3:
            return self._fragments(direction, v4, ports, number)
        inner = ethernet(direction, 0x0800, ipv4(v4, TCP, tcp(ports, tail(self.number, number))))
        outer = order((bytes([192, 0, 2, 1]), bytes([192, 0, 2, 2])))
        vxlan = struct.pack(">II", 0x08000000, 42 << 8) + inner
        return [ethernet(direction, 0x0800, ipv4(outer, UDP, udp((50000, 4789), vxlan)))]

    def _fragments(self, direction, v4, ports, number):
        pieces = [udp(ports, bytes(28) + tail(self.number, number)), bytes(36) + tail(self.number, number + 1), tail(self.number, number + 2)]
        sent, offset = [], 0
        for i, piece in enumerate(pieces):
            more = 0x2000 if i + 1 < len(pieces) else 0
            sent.append(ethernet(direction, 0x0800, ipv4(v4, UDP, piece, number & 0xFFFF, more | offset // 8)))
            offset += len(piece)
        return sent


def make(path, count):
    count, body = int(count), random.Random(7)
    flows = [Flow(number, body) for number in range(FLOWS)]
    number = 0
    with open(path, "wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1))
        while number < count:
            if number % 100 == 99:
                step = [ethernet(0, 0x88B5, bytes(46) + tail(0xFFFFFFFF, number))]  # no IP
            else:
                step = body.choice(flows).frames(body.randrange(2), number)
            number += len(step)
            for frame in step:
                frame = frame.ljust(60, b"\0")  # Ethernet's least
                file.write(struct.pack("<IIII", 1, 0, len(frame), len(frame)) + frame)


# ---- what became of them ---------------------------------------------------------------------------


def read(path):
    """The frame's flow and number; a frame without the mark is somebody else's."""
    for frame in frames.frames(path):
        at = frame.rfind(MARK)
        if at >= 0:
            yield struct.unpack(">II", frame[at + 4:at + 12]), frame


def refused(flow):
    return flow % 50 == 1 and flow % 5 == 1


def check(sent_path, *taken_paths):
    expected = collections.Counter(number for (flow, number), _ in read(sent_path) if flow != 0xFFFFFFFF and not refused(flow))
    owner, taken = {}, collections.Counter()
    for member, path in enumerate(taken_paths):
        for (flow, number), _ in read(path):
            if flow == 0xFFFFFFFF or refused(flow):
                sys.exit(f"{path}: frame {number} should have been refused by a filter")
            if owner.setdefault(flow, member) != member:
                sys.exit(f"flow {flow} is in {taken_paths[owner[flow]]} and in {path}")
            taken[number] += 1
    if twice := [number for number, times in taken.items() if times > 1]:
        sys.exit(f"{len(twice)} frames came twice, the first is number {min(twice)}")
    if missing := expected - taken:
        sys.exit(f"{len(missing)} of {len(expected)} frames are missing, the first is number {min(missing)}")
    if more := taken - expected:
        sys.exit(f"{len(more)} frames were never sent")
    shares = collections.Counter(owner.values())
    if len(shares) != len(taken_paths) or max(shares.values()) > 1.3 * len(owner) / len(taken_paths):
        sys.exit(f"the flows are shared unevenly: {dict(shares)}")
    print(f"{sum(taken.values())} frames of {len(owner)} flows, by member {sorted(shares.values())}")


if __name__ == "__main__":
    {"make": make, "check": check}[sys.argv[1]](*sys.argv[2:])
