"""What an engine sends: re-injection into a TAP, `ringcap send` into an interface, and how well it is paced."""

import contextlib
import json
import os
import pathlib
import re
import shutil
import statistics
import struct
import subprocess
import time

from benchlib.engine import CONSUMER_CORE, ENGINE_CORE, NAME, engine, missing
from benchlib.machine import Failure, Others, Program, scratch, wait_until
from benchlib.network import RECEIVER, RECEIVER_IF, SENDER, SENDER_IF, veth
from benchlib.sample import Comparison, Goal, Line

TAP = "rbtap0"
SOURCE = "gen:size=64,flows=100,rate=8M"
FORWARDER_CORE = CONSUMER_CORE  # worker and consumer share the other one
FRAMES = 1000                   # in the file
PACE = 100_000                  # frames a second


def run(context):
    with scratch() as directory:
        frames = make_frames(context, directory)
        for part in (_reinject, _send, _pace):
            yield part(context, directory, frames)


def make_frames(context, directory):
    """A file of generated 64-byte frames."""
    path = directory / "frames.pcap"
    if path.exists():
        return path
    env = {**os.environ, "RINGCAP_RUN_DIR": str(directory)}
    subprocess.run([context.tools / "ringcap", "capture", "gen:size=64,flows=100,full=wait", "--memory", "plain",
                    "--arena", "32M", "-c", str(FRAMES), "-w", path], env=env, check=True, capture_output=True)
    return path


# ---- re-injection ----------------------------------------------------------------------------------


class Reinject:
    """gen: -> forwarder -> TAP, with one consumer that reads everything meanwhile."""

    def __init__(self, context):
        self.context = context

    def __call__(self):
        more = ["--transparent", "both", "--tap", TAP, "--user", ""]
        with veth(), engine(self.context, SOURCE, poll="adaptive", netns=SENDER, more=more) as up:
            _ip_in(SENDER, "link", "set", TAP, "up")
            with _reader(self.context, up) as consumer:
                wait_until(lambda: self._sent(up)[0] > 10_000, "frames to be re-injected")
                _pin(up.pid, "forwarder", FORWARDER_CORE)
                time.sleep(0.2)
                others = Others([FORWARDER_CORE], up, consumer)
                first, started, offered = self._sent(up)
                time.sleep(self.context.seconds)
                last, ended, offered_last = self._sent(up)
                share = others.share_left()
                lost = consumer.result(20)["lost"]
        rate = (last - first) / (ended - started)
        return rate, share, {"lost": lost / max(offered_last - offered, 1)}

    def _sent(self, up):
        said = subprocess.run([self.context.tools / "ringcap", "stat", NAME, "--json"], check=True,
                              capture_output=True, env={**os.environ, **up.env})
        ledger = json.loads(said.stdout)
        return ledger["forwarders"][0]["sent"], time.monotonic(), ledger["workers"][0]["taken"]


class WriteLoop:
    """The loop, with nothing on the other core or with the same engine and consumer there."""

    def __init__(self, context, frames, beside):
        self.context, self.frames, self.beside = context, frames, beside

    def __call__(self):
        with veth(), contextlib.ExitStack() as stack:
            if self.beside:
                up = stack.enter_context(engine(self.context, SOURCE, poll="adaptive", netns=SENDER, more=["--user", ""]))
                stack.enter_context(_reader(self.context, up))
                time.sleep(0.3)
            loop = stack.enter_context(Program(
                [self.context.build / "peer_tap_write", f"--file={self.frames}", f"--tap={TAP}",
                 f"--core={FORWARDER_CORE}", f"--ms={int(self.context.seconds * 1000)}"], netns=SENDER))
            result = loop.result(self.context.seconds + 10)
        return result["frames"] / result["seconds"], result["share"], {}


def _reader(context, up):
    """A consumer that takes everything, sleeping in between, on the worker's core; longer than one sample."""
    return Program([context.build / "consumer", f"--engine={NAME}", f"--core={ENGINE_CORE}",
                    f"--ms={int(context.seconds * 1000) + 1000}", "--wait=100", "--batch=4096", "--read=none"], env=up.env)


def _reinject(context, _, frames):
    alone, beside = "a loop of write(), alone", "a loop of write(), beside them"
    comparison = Comparison(
        "Re-injection into one TAP queue, 64-byte frames",
        f"`ringcap up {SOURCE} --transparent both`: the forwarder on one core, the worker and a consumer that takes every "
        "frame on the other. Beside it a loop of write() on a TAP, of the same frames: while the same worker and consumer have "
        "the other core, and with nothing there (the two cores of the machine may be one core's two threads).",
        [Line("ringcap", "frames/s", ours=True, missing=missing(context)),
         Line(beside, "frames/s", missing=missing(context)), Line(alone, "frames/s")],
        [Goal("0.95 of the bare loop, a consumer capturing at the same time", "ringcap", [beside], 0.95)],
        [("lost", "lost by the consumer", lambda v: f"{v:.2%}")])
    context.sampler.take(comparison, {"ringcap": Reinject(context), beside: WriteLoop(context, frames, True),
                                      alone: WriteLoop(context, frames, False)})
    return comparison


# ---- send ------------------------------------------------------------------------------------------


class FlatOut:
    """A sending program on one core; what it says it sent, and in what time."""

    def __init__(self, context, argv, rate):
        self.context, self.argv, self.rate = context, argv, rate  # rate: a function of the output

    def __call__(self):
        with veth(), scratch() as directory:
            with Program(self.argv, core=FORWARDER_CORE, netns=SENDER,
                         env={"RINGCAP_RUN_DIR": str(directory)}) as program:
                status = program.wait(60)
                output = program.output()
            if status != 0:
                raise Failure(f"status {status}: {output[-400:]}")
        return self.rate(output), None, {}


def _ringcap_rate(output):
    return json.loads(output[output.index("{"):])["frames_per_second"]


def _tcpreplay_rate(output):
    return float(re.search(r"([\d.]+) pps", output).group(1))


def _trafgen_rate(output):
    sent = int(re.search(r"(\d+) packets outgoing", output).group(1))
    seconds, micros = re.search(r"(\d+) sec, (\d+) usec", output).groups()
    return sent / (int(seconds) + int(micros) / 1e6)


def _send(context, directory, frames):
    loops = max(1, int(1_500_000 * context.seconds / FRAMES))
    trafgen = directory / "frames.cfg"
    trafgen.write_text("{ " + ", ".join(f"0x{b:02x}" for b in first_frame(frames)) + " }\n")
    tcpreplay_line, trafgen_line = "tcpreplay", "trafgen"
    comparison = Comparison(
        "Sending 64-byte frames into a veth pair, flat out, one core",
        f"`ringcap send packet: --flat-out`, `tcpreplay --topspeed --preload-pcap`, `trafgen` with one process: {FRAMES} "
        "frames again and again (trafgen: one frame).",
        [Line("ringcap", "frames/s", ours=True, missing=missing(context)),
         Line(tcpreplay_line, "frames/s", missing=_installed("tcpreplay")),
         Line(trafgen_line, "frames/s", missing=_installed("trafgen", "netsniff-ng"))],
        [Goal("the better of both", "ringcap", [tcpreplay_line, trafgen_line], 1)])
    context.sampler.take(comparison, {
        "ringcap": FlatOut(context, [context.tools / "ringcap", "send", f"packet:{SENDER_IF}", frames, "--flat-out",
                                     "--loop", loops, "--json"], _ringcap_rate),
        tcpreplay_line: FlatOut(context, ["tcpreplay", "--topspeed", "--preload-pcap", "--quiet", f"--loop={loops}",
                                          "-i", SENDER_IF, frames], _tcpreplay_rate),
        trafgen_line: FlatOut(context, ["trafgen", "--dev", SENDER_IF, "--conf", trafgen, "--cpus", "1", "--num",
                                        loops * FRAMES, "--no-sock-mem"], _trafgen_rate)})
    return comparison


# ---- pacing ----------------------------------------------------------------------------------------


class Paced:
    """The distances at which frames arrive at the far end, by the kernel's clock."""

    def __init__(self, context, argv):
        self.context, self.argv = context, argv

    def __call__(self):
        count = int(PACE * self.context.seconds / FRAMES) * FRAMES
        argv = [str(a).replace("LOOPS", str(count // FRAMES)) for a in self.argv]
        with veth(), scratch() as directory:
            taken = directory / "taken.pcap"
            with Program(["tcpdump", "-n", "-Z", "root", "--time-stamp-precision=nano", "-B", "65536", "-i",
                          RECEIVER_IF, "-w", taken], core=ENGINE_CORE, netns=RECEIVER) as tcpdump:
                wait_until(lambda: "listening on" in tcpdump.output(), "tcpdump to capture")
                with Program(argv, core=FORWARDER_CORE, netns=SENDER,
                             env={"RINGCAP_RUN_DIR": str(directory)}) as program:
                    status = program.wait(60)
                time.sleep(0.3)
                tcpdump.stop()
            times = _times(taken)
        if status != 0 or len(times) < count * 0.98:  # tcpdump starts and ends a little late and early
            raise Failure(f"status {status}, {len(times)} of {count} frames arrived")
        errors = sorted(abs((b - a) - 1e9 / PACE) for a, b in zip(times, times[1:]))
        rate = (len(times) - 1) / ((times[-1] - times[0]) / 1e9)
        return statistics.median(errors), None, {"p99": errors[int(len(errors) * 0.99)], "rate": rate}


def _pace(context, _, frames):
    comparison = Comparison(
        f"Pacing: {PACE:,} frames a second into a veth pair",
        "How far the distance between two frames, as the far end's kernel saw them, is from 10 microseconds: the "
        "median, and what 99 of 100 do not exceed.",
        [Line("ringcap", "ns", ours=True, missing=missing(context)),
         Line("tcpreplay", "ns", missing=_installed("tcpreplay"))],
        [Goal("median not more than tcpreplay's", "ringcap", ["tcpreplay"], 1, lower_is_better=True),
         Goal("99th percentile not more than tcpreplay's", "ringcap", ["tcpreplay"], 1, key="p99",
              required=False, lower_is_better=True)],
        [("p99", "99 of 100", lambda v: f"{v / 1000:.2f} us"), ("rate", "achieved", lambda v: f"{v:.0f} frames/s")],
        lower_is_better=True)
    context.sampler.take(comparison, {
        "ringcap": Paced(context, [context.tools / "ringcap", "send", f"packet:{SENDER_IF}", frames, "--rate", PACE,
                                   "--loop", "LOOPS"]),
        "tcpreplay": Paced(context, ["tcpreplay", "--preload-pcap", "--quiet", f"--pps={PACE}", "--loop=LOOPS", "-i",
                                     SENDER_IF, frames])})
    return comparison


# ---- tools -----------------------------------------------------------------------------------------


def _installed(program, package=None):
    return "" if shutil.which(program) else f"not installed (package {package or program})"


def _pin(pid, name, core):
    """Puts the threads of a process whose name begins so on one core."""
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):
            if (task / "comm").read_text().startswith(name):
                os.sched_setaffinity(int(task.name), [core])


def _ip_in(namespace, *words):
    subprocess.run(["ip", "-n", namespace, *words], check=True)


def first_frame(path):
    data = path.read_bytes()
    length = struct.unpack_from("<I", data, 24 + 8)[0]
    return data[40:40 + length]


def _times(path):
    """Of a pcap file with nanoseconds, in the machine's byte order."""
    data, at, times = path.read_bytes(), 24, []
    while at + 16 <= len(data):
        seconds, nanos, captured, _ = struct.unpack_from("<IIII", data, at)
        times.append(seconds * 1_000_000_000 + nanos)
        at += 16 + captured
    return times
