"""Handing frames to another core: ringcap's consumers against DPDK, between processes and inside one."""

import contextlib
import shutil
import time

from benchlib.engine import CONSUMER_CORE, ENGINE_CORE, NAME, consumer, engine, missing
from benchlib.machine import Busy, Failure, Program, hugepages, scratch
from benchlib.sample import Comparison, Goal, Line

HUGEPAGES = 64  # for DPDK; both sides together


class Memif:
    """Two dpdk-testpmd processes joined by a memif: one makes frames, the other reads them."""

    def __init__(self, directory, seconds, zero_copy):
        self.directory, self.seconds, self.zero_copy = directory, seconds, zero_copy

    def __call__(self):
        (self.directory / "memif.sock").unlink(missing_ok=True)  # testpmd does not always take its own away
        with hugepages(HUGEPAGES), self._side("server", CONSUMER_CORE, "rxonly") as reader:
            reader.expect("testpmd> $")
            with self._side("client", ENGINE_CORE, "txonly") as writer:
                return self._measure(reader, writer)

    def _measure(self, reader, writer):
        writer.expect("testpmd> $")
        for side in (reader, writer):
            side.say("start")
            side.expect("TX threshold.*testpmd> $")
        self._received(reader, at_least=100_000)
        first, started = self._received(reader), time.monotonic()
        busy = Busy(reader, writer)
        time.sleep(self.seconds)
        share = busy.share()
        last, ended = self._received(reader), time.monotonic()
        for side in (writer, reader):
            side.say("quit")
            side.wait(10)
        return (last - first) / (ended - started), share, {}

    def _received(self, reader, at_least=0):
        for _ in range(100):
            reader.say("show port stats 0")
            frames = int(reader.expect(r"RX-packets:\s+(\d+).*#{20,}\s+testpmd> $").group(1))
            if frames >= at_least:
                return frames
            time.sleep(0.05)
        raise Failure("no frames came through the memif")

    def _side(self, role, core, mode):
        options = f"net_memif0,role={role},socket={self.directory}/memif.sock,socket-abstract=no"
        if role == "client" and self.zero_copy:
            options += ",zero-copy=yes"
        return Program(
            ["dpdk-testpmd", "--in-memory", "--no-pci", "--no-telemetry", "--single-file-segments",
             "--lcores", f"0@{core},1@{core}", f"--file-prefix=ringcap-{role}", "--vdev", options, "--",
             "-i", f"--forward-mode={mode}", "--txpkts=64", "--nb-cores=1", "--total-num-mbufs=16384"],
            env={"RUNTIME_DIRECTORY": str(self.directory)}, terminal=True)


class InOneProcess:
    """DPDK's mbufs and rte_ring between two cores of one process (peers/dpdk_ring.c)."""

    def __init__(self, build, directory, seconds, frame_bytes):
        self.build, self.directory = build, directory
        self.seconds, self.frame_bytes = seconds, frame_bytes

    def __call__(self):
        argv = [self.build / "peer_dpdk_ring", "--in-memory", "--no-pci", "--no-telemetry",
                "--log-level=error", "--lcores", f"0@{ENGINE_CORE},1@{CONSUMER_CORE}", "--",
                int(self.seconds * 1000), self.frame_bytes]
        with hugepages(HUGEPAGES), Program(argv, env={"RUNTIME_DIRECTORY": str(self.directory)}) as program:
            result = program.result(self.seconds + 10)
        return result["frames"] / result["seconds"], result["share"], {}


def no_testpmd():
    return "" if shutil.which("dpdk-testpmd") else "dpdk-testpmd is not installed (package dpdk-dev)"


def no_dpdk_library(build):
    built = (build / "peer_dpdk_ring").exists()
    return "" if built else "DPDK's libraries are not installed (package libdpdk-dev)"


class Ringcap:
    """An engine fed by gen: and consumers that read all it publishes (tests/bench/consumer.cc)."""

    def __init__(self, context, port, read="line", consumers=1, ring=0, members=0):
        self.context, self.port, self.read, self.consumers, self.ring = context, port, read, consumers, ring
        self.members = members  # of one cluster, in one process; 0: no cluster

    def __call__(self):
        with engine(self.context, self.port, consumers=self.members or self.consumers) as up, contextlib.ExitStack() as stack:
            busy = Busy(up)
            started = [stack.enter_context(consumer(self.context, up.env, self.context.seconds,
                                                    f"--read={self.read}", f"--ring={self.ring}",
                                                    *self._cluster()))
                       for _ in range(self.consumers)]
            results = [program.result(self.context.seconds + 20) for program in started]
            share = busy.share()
        if self.consumers == 1:
            share = min(share, results[0]["share"])
        read, lost = sum(r["frames"] for r in results), sum(r["lost"] for r in results)
        rate = sum(r["frames"] / r["seconds"] for r in results)
        burst = sum(r["burst"] for r in results) / len(results)
        return rate, share, {"lost": lost / max(read + lost, 1), "burst": burst}

    def _cluster(self):
        return (f"--engine={NAME}@members", f"--handles={self.members}") if self.members else ()


def run(context):
    with scratch() as directory:
        yield _small(context, directory)
        yield _large(context, directory)
    yield _many(context)
    yield _cluster(context)


COLUMNS = [("lost", "lost", lambda v: f"{v:.2%}"), ("burst", "frames a burst", lambda v: f"{v:.0f}")]


def _small(context, directory):
    zero_copy, copied, inside = "DPDK memif, zero copy", "DPDK memif, copied", "DPDK inside one process"
    comparison = Comparison(
        "Hand-over to another process, 64-byte frames",
        "A frame is made, 64 bytes of it written; on the other core its descriptor and first cache line are "
        "read, and it is given back.",
        [Line("ringcap", "frames/s", ours=True, missing=missing(context)),
         Line(zero_copy, "frames/s", missing=no_testpmd()), Line(copied, "frames/s", missing=no_testpmd()),
         Line(inside, "frames/s", missing=no_dpdk_library(context.build))],
        [Goal("2 times memif", "ringcap", [zero_copy, copied], 2),
         Goal("DPDK inside one process", "ringcap", [inside], 1, required=False)], COLUMNS)
    context.sampler.take(comparison, {
        "ringcap": Ringcap(context, "gen:size=64"),
        zero_copy: Memif(directory, context.seconds, True), copied: Memif(directory, context.seconds, False),
        inside: InOneProcess(context.build, directory, context.seconds, 64)})
    return comparison


def _large(context, directory):
    inside = "DPDK inside one process"
    comparison = Comparison(
        "Hand-over to another process, 1,500-byte frames, every byte written and read",
        "`gen:size=1500,write=all` and a consumer that adds up all the words of each frame.",
        [Line("ringcap", "frames/s", ours=True, missing=missing(context)),
         Line(inside, "frames/s", missing=no_dpdk_library(context.build))], columns=COLUMNS)
    context.sampler.take(comparison, {
        "ringcap": Ringcap(context, "gen:size=1500,write=all", read="all"),
        inside: InOneProcess(context.build, directory, context.seconds, 1500)})
    return comparison


def _many(context):
    counts = (1, 4, 64) if context.smoke else (1, 2, 4, 16, 64)
    names = {n: f"{n} consumer{'s' if n > 1 else ''}" for n in counts}
    comparison = Comparison(
        "One engine, many consumers, 64-byte frames",
        "All consumers want every frame and share one core, each with a ring of 1,024 frames. Frames read a "
        "second are those of all consumers together; what a consumer has no time for is lost to it alone.",
        [Line(name, "frames/s", missing=missing(context)) for name in names.values()], columns=COLUMNS)
    context.sampler.take(comparison, {name: Ringcap(context, "gen:size=64", consumers=n, ring=1024)
                                      for n, name in names.items()})
    return comparison


def _cluster(context):
    unread, one_reads = "4 members, released unread", "4 members, one reads its frames"
    comparison = Comparison(
        "One cluster, four members, 64-byte frames of 10,000 flows",
        "`gen:flows=10000`: one worker parses, hashes, looks up the slot and hands each frame to one of four "
        "members, which one process on the other core serves in turn.",
        [Line("one consumer, no cluster", "frames/s", missing=missing(context)),
         Line(unread, "frames/s", ours=True, missing=missing(context)),
         Line(one_reads, "frames/s", missing=missing(context))], columns=COLUMNS)
    port = "gen:size=64,flows=10000"
    context.sampler.take(comparison, {
        "one consumer, no cluster": Ringcap(context, port, read="none"),
        unread: Ringcap(context, port, read="none", members=4),
        one_reads: Ringcap(context, port, read="one", members=4)})
    return comparison
