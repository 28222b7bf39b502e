"""Handing frames to another core: ringcap's consumers against DPDK, between processes and inside one."""

import shutil
import time

from benchlib.machine import Busy, Failure, Program, hugepages, scratch
from benchlib.sample import Comparison, Goal, Line

HUGEPAGES = 64  # for DPDK; both sides together
ENGINE_CORE, CONSUMER_CORE = 0, 1


class Memif:
    """Two dpdk-testpmd processes joined by a memif: one makes frames, the other reads them."""

    def __init__(self, directory, seconds, zero_copy):
        self.directory, self.seconds, self.zero_copy = directory, seconds, zero_copy

    def __call__(self):
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


def run(context):
    with scratch() as directory:
        yield from _small(context, directory)


def _small(context, directory):
    zero_copy, copied, inside = "DPDK memif, zero copy", "DPDK memif, copied", "DPDK inside one process"
    comparison = Comparison(
        "Hand-over to another process, 64-byte frames",
        "A frame is made, 64 bytes of it written; on the other core its descriptor and first cache line are "
        "read, and it is given back.",
        [Line(zero_copy, "frames/s", missing=no_testpmd()), Line(copied, "frames/s", missing=no_testpmd()),
         Line(inside, "frames/s", missing=no_dpdk_library(context.build))],
        [Goal("2 times memif", "ringcap", [zero_copy, copied], 2),
         Goal("DPDK inside one process", "ringcap", [inside], 1, required=False)])
    context.sampler.take(comparison, {
        zero_copy: Memif(directory, context.seconds, True), copied: Memif(directory, context.seconds, False),
        inside: InOneProcess(context.build, directory, context.seconds, 64)})
    yield comparison
