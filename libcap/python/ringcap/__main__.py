"""python3 -m ringcap: a table of the top talkers and protocols of an engine, or of a file. A demonstration."""

from __future__ import annotations

import argparse
import collections
import importlib.util
import ipaddress
import sys
import time

import numpy as np

import ringcap

PROTOCOLS = {1: "ICMP", 6: "TCP", 17: "UDP", 58: "ICMPv6", 132: "SCTP"}


class Totals:
    """Frames and bytes by address and by protocol, and over time."""

    def __init__(self) -> None:
        self.frames = self.bytes = self.lost = 0
        self.talkers: collections.Counter = collections.Counter()
        self.protocols: collections.Counter = collections.Counter()
        self.seconds: collections.Counter = collections.Counter()
        self.sizes = np.zeros(65536 // 64, np.int64)

    def add(self, burst: ringcap.Burst) -> None:
        length = burst.length.astype(np.int64)
        self.frames += len(burst)
        self.bytes += int(length.sum())
        self.lost += int(burst.lost_before.sum())
        self._sum(self.talkers, burst.ip_source, length, lambda a: str(ipaddress.IPv4Address(a)))
        self._sum(self.protocols, burst.protocol, length, lambda p: PROTOCOLS.get(p, f"IP {p}"))
        self._sum(self.seconds, burst.timestamp // 1_000_000_000, length, int)
        self._add_ipv6(burst, length)
        self.sizes += np.bincount(np.minimum(length // 64, len(self.sizes) - 1), minlength=len(self.sizes))

    @staticmethod
    def _sum(to: collections.Counter, keys: np.ndarray, length: np.ndarray, name) -> None:
        there = ~np.ma.getmaskarray(keys)
        values, index = np.unique(np.ma.getdata(keys)[there], return_inverse=True)
        for value, total in zip(values.tolist(), np.bincount(index, length[there], len(values))):
            to[name(value)] += int(total)

    def _add_ipv6(self, burst: ringcap.Burst, length: np.ndarray) -> None:
        there = (burst.valid & ringcap.IPV6) != 0
        if there.any():
            values, index = np.unique(burst.ipv6_source.data[there], axis=0, return_inverse=True)
            for value, total in zip(values, np.bincount(index.ravel(), length[there], len(values))):
                self.talkers[str(ipaddress.IPv6Address(value.tobytes()))] += int(total)

    def table(self, rows: int) -> str:
        lines = [f"{self.frames:,} frames, {self.bytes:,} bytes, {self.lost:,} lost", "", f"{'source':40} {'bytes':>16} {'share':>6}"]
        for title, counter in (("", self.talkers), ("protocol", self.protocols)):
            if title:
                lines += ["", f"{title:40} {'bytes':>16} {'share':>6}"]
            lines += [f"{name:40} {count:16,} {count / max(self.bytes, 1):6.1%}" for name, count in counter.most_common(rows)]
        return "\n".join(lines)


def plot(totals: Totals, path: str) -> None:
    """Rate over time, size distribution and top talkers as a picture."""
    import matplotlib  # type: ignore[import]
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (rate, sizes, talkers) = pyplot.subplots(3, figsize=(9, 11), constrained_layout=True)
    seconds = sorted(totals.seconds)
    rate.plot([s - seconds[0] for s in seconds] if seconds else [], [totals.seconds[s] * 8 / 1e6 for s in seconds])
    rate.set(title="Rate", xlabel="seconds", ylabel="Mbit/s")
    last = int(np.flatnonzero(totals.sizes)[-1]) + 1 if totals.sizes.any() else 1
    sizes.bar(np.arange(last) * 64, totals.sizes[:last], width=60, align="edge")
    sizes.set(title="Sizes", xlabel="bytes on the wire", ylabel="frames")
    top = totals.talkers.most_common(10)[::-1]
    talkers.barh([name for name, _ in top], [count for _, count in top])
    talkers.set(title="Top talkers", xlabel="bytes")
    figure.savefig(path)


def arguments(words: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python3 -m ringcap", description=__doc__,
                                     epilog="example: python3 -m ringcap eth0 udp port 53")
    parser.add_argument("what", metavar="NAME|FILE", help="a running engine (NAME, NAME@CLUSTER), or a file: -r FILE")
    parser.add_argument("filter", nargs="*", help="pcap-filter(7)")
    parser.add_argument("-r", "--read", action="store_true", help="NAME is a file")
    parser.add_argument("-c", "--count", type=int, default=0, help="end after so many frames")
    parser.add_argument("--rows", type=int, default=10, help="of each table")
    parser.add_argument("--every", type=float, default=1, help="seconds between tables")
    parser.add_argument("--plot", metavar="FILE.png", help="draw rate, sizes and top talkers at the end (needs matplotlib)")
    return parser.parse_args(words)


def watch(cap: ringcap.Capture, totals: Totals, asked: argparse.Namespace) -> None:
    shown = time.monotonic()
    for burst in cap.bursts(max_wait=asked.every):
        totals.add(burst)
        if asked.count and totals.frames >= asked.count:
            return
        if sys.stdout.isatty() and time.monotonic() - shown >= asked.every:
            print("\x1b[H\x1b[2J" + totals.table(asked.rows), flush=True)
            shown = time.monotonic()


def main(words: list[str] | None = None) -> int:
    asked = arguments(words)
    if asked.plot and importlib.util.find_spec("matplotlib") is None:
        return failed("--plot needs matplotlib, which is not there", "install it: apt-get install python3-matplotlib", 2)
    totals = Totals()
    words_of_filter = " ".join(asked.filter)
    try:
        cap: ringcap.Capture
        with ringcap.open(asked.what, words_of_filter) if asked.read else ringcap.attach(asked.what, words_of_filter) as cap:
            watch(cap, totals, asked)
    except KeyboardInterrupt:
        pass
    except ringcap.Error as error:
        return failed(error.text, error.mend)
    print(totals.table(asked.rows))
    if asked.plot:
        try:
            plot(totals, asked.plot)
        except OSError as error:
            return failed(f"cannot write {asked.plot}: {error.strerror}")
    return 0


def failed(text: str, mend: str = "", status: int = 1) -> int:
    print(f"python3 -m ringcap: {text}" + (f"\n  {mend}" if mend else ""), file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
