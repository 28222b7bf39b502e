#!/usr/bin/python3 -B
"""One contender of the Python table: reads frames for --ms, and prints frames, seconds and its share of the core.

  WAY         what the loop does for a frame, or for a burst
  filter      two columns compared, a third summed (engine, file)
  parse       addresses and ports parsed, compared and summed (engine, file)
  frames      one memoryview a frame (engine, file)
  bursts      nothing: bursts are taken and given back (engine, file)
  scapy, dpkt, pcapy, numpy   the peers, on a file: scapy and dpkt parse each frame, pcapy gives its bytes; NumPy
              indexes the file with a Python loop and then compares and sums columns
"""

import argparse
import collections
import json
import os
import struct
import time

import numpy as np


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("way")
    parser.add_argument("--engine")
    parser.add_argument("--file")
    parser.add_argument("--ms", type=int, default=2000)
    parser.add_argument("--core", type=int)
    return parser.parse_args()


def with_filter(burst):
    flags, length = burst.flags, burst.length
    return burst.captured[(length >= 60) & (flags & 4 == 0)].sum()


def with_parse(burst):
    chosen = (burst.ip_source.data != 1) & (burst.destination_port.data != 2)
    return burst.length[chosen].sum() + burst.ip_destination.data[0] + burst.source_port.data[0]


def with_frames(burst):
    collections.deque(burst.frames(), maxlen=0)
    return 0


OURS = {"filter": with_filter, "parse": with_parse, "frames": with_frames, "bursts": lambda burst: 0}


def ours(asked):
    """Frames, burst by burst."""
    import ringcap
    look = OURS[asked.way]
    while True:
        with (ringcap.attach(asked.engine, wait=10) if asked.engine else ringcap.open(asked.file)) as cap:
            for burst in cap.bursts(max_frames=4096):
                look(burst)
                yield len(burst)


def scapy(asked):
    from scapy.layers.l2 import Ether
    from scapy.utils import RawPcapReader
    while True:
        for data, _ in RawPcapReader(asked.file):
            Ether(data)
            yield 1


def dpkt(asked):
    import dpkt as library
    while True:
        with open(asked.file, "rb") as file:
            for _, data in library.pcap.Reader(file):
                library.ethernet.Ethernet(data)
                yield 1


def pcapy(asked):
    import pcapy as library
    while True:
        reader = library.open_offline(asked.file)
        while reader.next()[0] is not None:
            yield 1


def numpy(asked):
    while True:
        data, at, starts = open(asked.file, "rb").read(), 24, []
        unpack = struct.Struct("<I").unpack_from
        while at < len(data):
            starts.append(at)
            at += 16 + unpack(data, at + 8)[0]
        array, starts = np.frombuffer(data, np.uint8), np.array(starts)
        captured = sum(array[starts + 8 + i].astype(np.uint32) << 8 * i for i in range(4))
        captured[(captured >= 60) & (array[starts + 16 + 12] == 8)].sum()
        yield len(starts)


PEERS = {"scapy": scapy, "dpkt": dpkt, "pcapy": pcapy, "numpy": numpy}


def main():
    asked = arguments()
    if asked.core is not None:
        os.sched_setaffinity(0, {asked.core})
    source = (PEERS.get(asked.way) or ours)(asked)
    next(source)  # everything is imported and open
    frames, looks = 0, 0
    started, cpu = time.monotonic(), time.process_time()
    until = started + asked.ms / 1000
    for count in source:
        frames += count
        looks += 1
        if (count > 1 or looks % 256 == 0) and time.monotonic() >= until:
            break
    seconds = time.monotonic() - started
    print(json.dumps({"frames": frames, "seconds": seconds, "share": (time.process_time() - cpu) / seconds}), flush=True)
    os._exit(0)


main()
