#!/usr/bin/python3
"""Reads an engine with the Python module until SIGINT; prints what it added up: mission_reader.py ENGINE FILTER."""

import json
import os
import signal
import sys

sys.path.insert(0, os.environ["RINGCAP_VM_PYTHON"])

import numpy  # noqa: E402  (the path above comes first)
import ringcap  # noqa: E402


def shared_mappings():
    """Read-only, of shared memory: (start, end) of each."""
    with open("/proc/self/maps", encoding="ascii") as maps:
        for line in maps:
            span, permissions, *_ = line.split()
            if permissions == "r--s" and "memfd:ringcap" in line:
                yield tuple(int(end, 16) for end in span.split("-"))


def address(array):
    return array.__array_interface__["data"][0]


def main(engine, words):
    stopped = []
    signal.signal(signal.SIGINT, lambda *_: stopped.append(True))
    total = {"frames": 0, "bytes": 0, "ipv6": 0, "differ": 0, "outside": 0}
    with ringcap.attach(engine, filter=words) as cap:
        spans = list(shared_mappings())
        for burst in cap.bursts(max_frames=4096, max_wait=0.1):
            if len(burst):
                total["frames"] += len(burst)
                total["bytes"] += int(burst.length.sum(dtype=numpy.uint64))
                first = numpy.frombuffer(burst.frame(0), dtype=numpy.uint8)
                total["outside"] += not any(start <= address(first) < end for start, end in spans)
                ipv6 = burst.ethernet_type == 0x86dd
                total["ipv6"] += int(ipv6.sum())
                total["differ"] += bool(ipv6[0]) != (bytes(burst.frame(0)[12:14]) == b"\x86\xdd")  # from the frame's own bytes
                del first  # a view keeps its burst
            if stopped:
                break
    print(json.dumps(total))


main(sys.argv[1], sys.argv[2])
