#!/usr/bin/python3
"""Frames for the VM tests, and what became of them.

    frames.py make FILE COUNT      a pcap file: COUNT frames over all lengths from 60 to 9,014
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
    {"make": make, "same": same}[sys.argv[1]](*sys.argv[2:])
