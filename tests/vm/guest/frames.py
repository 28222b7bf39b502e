#!/usr/bin/python3
"""Frames for the VM tests, and what became of them.

    frames.py make FILE COUNT      a pcap file: COUNT frames over all lengths from 60 to 9,014
    frames.py parts FILE COUNT     the file in COUNT parts: FILE-1, FILE-2 ...
    frames.py flows FILE COUNT     the same of 400 UDP flows
    frames.py same SENT TAKEN      status 1, with the first difference, unless both hold the same frames in the same order
"""

import random
import struct
import sys

SHORTEST, LONGEST = 60, 9014
HEAD = bytes.fromhex("020000000001 020000000002 88b5")  # no protocol in use
MAGICS = {0xA1B2C3D4, 0xA1B23C4D}


def make(path, count):
    count, body = int(count), random.Random(1).randbytes(2 * LONGEST)
    with open(path, "wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1))
        for number in range(count):
            length = SHORTEST + number % (LONGEST - SHORTEST + 1)
            start = number * 31 % LONGEST
            frame = HEAD + struct.pack("<I", number) + body[start:start + length - len(HEAD) - 4]
            file.write(struct.pack("<IIII", 1, 0, length, length) + frame)


def parts(path, count):
    whole, count = list(frames(path)), int(count)
    for part in range(count):
        with open(f"{path}-{part + 1}", "wb") as file:
            file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1))
            for frame in whole[len(whole) * part // count:len(whole) * (part + 1) // count]:
                file.write(struct.pack("<IIII", 1, 0, len(frame), len(frame)) + frame)


def flow_head(number, length):
    """Ethernet, IPv4 and UDP of one of 400 flows."""
    flow = number * 7919 % 400
    addresses = bytes([10, 0, 0, flow % 20, 10, 1, flow // 20, 7])
    head = struct.pack(">BBHHHBBH", 0x45, 0, length - 14, 0, 0, 64, 17, 0) + addresses
    return HEAD[:12] + b"\x08\x00" + head + struct.pack(">HHHH", 1000 + flow, 53, length - 34, 0)


def flows(path, count):
    count, body = int(count), random.Random(1).randbytes(2 * LONGEST)
    with open(path, "wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1))
        for number in range(count):
            length = SHORTEST + number * 13 % (LONGEST - SHORTEST + 1)
            start = number * 31 % LONGEST
            frame = flow_head(number, length) + struct.pack("<I", number)
            frame += body[start:start + length - len(frame)]
            file.write(struct.pack("<IIII", 1, 0, length, length) + frame)


def same_flows(sent_path, taken_path):
    """Each flow in its order; flows of different queues may overtake each other."""
    def by_flow(path):
        found = {}
        for frame in frames(path):
            if frame.startswith(HEAD[:12] + b"\x08\x00"):
                found.setdefault(frame[26:38], []).append(frame)
        return found
    sent, taken = by_flow(sent_path), by_flow(taken_path)
    for flow, expected in sent.items():
        got = taken.pop(flow, [])
        if got != expected:
            sys.exit(f"{taken_path}: flow {flow.hex()}: {len(got)} of {len(expected)} frames, or others")
    if taken:
        sys.exit(f"{taken_path}: {len(taken)} flows that nobody sent")
    print(f"{sum(map(len, sent.values()))} frames of {len(sent)} flows, the same")


def frames(path):
    with open(path, "rb") as file:
        magic = struct.unpack("<IHHiIII", file.read(24))[0]
        assert magic in MAGICS, f"{path} is not a pcap file"
        while header := file.read(16):
            captured, length = struct.unpack("<8xII", header)
            frame = file.read(captured)
            assert captured == length == len(frame), f"{path}: a frame of {length} bytes is cut to {len(frame)}"
            yield frame


def same(sent_path, taken_path):
    """Frames of other protocols do not count: kernels talk about neighbours when nobody asked them."""
    taken = (frame for frame in frames(taken_path) if frame.startswith(HEAD))
    count = 0
    for sent in frames(sent_path):
        got = next(taken, None)
        if got is None:
            sys.exit(f"{taken_path}: ends after {count} frames")
        if got != sent:
            which = struct.unpack("<I", got[14:18])[0]
            sys.exit(f"{taken_path}: frame {count} ({len(sent)} bytes) differs: {len(got)} bytes, number {which}")
        count += 1
    if next(taken, None) is not None:
        sys.exit(f"{taken_path}: more than the {count} frames that were sent")
    print(f"{count} frames, the same")


if __name__ == "__main__":
    {"make": make, "parts": parts, "flows": flows, "same": same}[sys.argv[1]](*sys.argv[2:])
