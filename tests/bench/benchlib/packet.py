"""Capturing from a kernel interface: `ringcap capture` against tcpdump, on the same veth pair."""

import re
import shutil
import signal
import time

from benchlib.machine import Program, cpu_ns, wait_until
from benchlib.network import RECEIVER, RECEIVER_IF, flood, veth
from benchlib.sample import Comparison, Goal, Line

CORE = 1
OFFERED = 3_000_000  # frames a second, about what the sender can do: sets how many are sent


class Capture:
    """A capturing program at one end while the other sends `frames` frames of `size` bytes as fast as it can."""

    def __init__(self, context, argv, ready, captured, size):
        self.context, self.argv, self.ready, self.captured, self.size = context, argv, ready, captured, size

    def __call__(self):
        frames = int(OFFERED * self.context.seconds)
        with veth(), Program(self.argv, core=CORE, netns=RECEIVER) as program:
            wait_until(lambda: re.search(self.ready, program.output()), f"{program.name} to capture")
            before = sum(cpu_ns(program.pid).values())
            sent, seconds, share = flood(self.context, frames, self.size)
            _at_rest(program)
            used = sum(cpu_ns(program.pid).values()) - before
            program.stop(signal.SIGINT)
            captured = int(re.search(self.captured, program.output()).group(1))
        extra = {"offered": sent / seconds, "lost": 1 - captured / sent, "kept": captured / sent,
                 "cpu": used / max(captured, 1)}
        return captured / seconds, share, extra


def _at_rest(program, quiet_s=0.1):
    """Waits until it has read what lies in its buffers: for a while it uses next to no CPU time."""
    end = time.monotonic() + 3
    used = sum(cpu_ns(program.pid).values())
    while time.monotonic() < end:
        time.sleep(quiet_s)
        before, used = used, sum(cpu_ns(program.pid).values())
        if used - before < quiet_s * 1e9 / 20:
            return


def run(context):
    for size in (64, 1500):
        yield _compare(context, size)


def _compare(context, size):
    tcpdump = Capture(context, ["tcpdump", "-n", "-Z", "root", "-i", RECEIVER_IF, "-w", "/dev/null"], "listening on",
                      r"(\d+) packets? captured", size)
    comparison = Comparison(
        f"Capturing {size}-byte frames from a veth pair into /dev/null",
        "A PACKET_TX_RING sender as fast as it can on one core, the capturing process on the other. CPU time is "
        "that of the whole process, per frame captured.",
        [Line("tcpdump", "frames/s", missing="" if shutil.which("tcpdump") else "not installed (package tcpdump)")],
        [Goal("frames received not fewer than tcpdump's", "ringcap capture", ["tcpdump"], 1, key="kept"),
         Goal("CPU time per frame not more than tcpdump's", "ringcap capture", ["tcpdump"], 1, key="cpu",
              lower_is_better=True)],
        [("offered", "offered", lambda v: f"{v / 1e6:.3g} M frames/s"), ("lost", "lost", lambda v: f"{v:.2%}"),
         ("cpu", "CPU time per frame", lambda v: f"{v:.0f} ns")])
    context.sampler.take(comparison, {"tcpdump": tcpdump})
    return comparison
