"""Capturing from a kernel interface: `ringcap capture` against tcpdump, on the same veth pair."""

import os
import pathlib
import re
import shutil
import signal
import time

from benchlib.engine import missing
from benchlib.machine import Others, Program, cpu_ns, hugepages, scratch, wait_until
from benchlib.network import RECEIVER, RECEIVER_IF, flood, veth
from benchlib.sample import Comparison, Goal, Line

CORE = 1
ARENA_MIB = 256
OFFERED = 3_000_000  # frames a second, about what the sender can do: sets how many are sent


class Capture:
    """A capturing program at one end while the other sends `frames` frames of `size` bytes as fast as it can."""

    def __init__(self, context, argv, ready, captured, size):
        self.context, self.argv, self.size = context, argv, size
        self.ready, self.captured = ready, captured  # a function of the Program; a pattern in its output

    def __call__(self):
        frames = int(OFFERED * self.context.seconds)
        with veth(), hugepages(ARENA_MIB // 2), scratch() as directory, \
                Program(self.argv, core=CORE, netns=RECEIVER, env={"RINGCAP_RUN_DIR": str(directory)}) as program:
            wait_until(lambda: self.ready(program), f"{program.name} to capture")
            before, others = sum(cpu_ns(program.pid).values()), Others([CORE], program)
            sent, seconds, share = flood(self.context, frames, self.size)
            share = min(share, others.share_left())
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
    tcpdump = Capture(context, ["tcpdump", "-n", "-Z", "root", "-i", RECEIVER_IF, "-w", "/dev/null"],
                      lambda program: "listening on" in program.output(), r"(\d+) packets? captured", size)
    ringcap = Capture(context, [context.tools / "ringcap", "capture", f"packet:{RECEIVER_IF}", "-w", "/dev/null",
                                "--force", "--arena", f"{ARENA_MIB}M"],
                      _opened_file, r"(\d+) frames captured", size)
    comparison = Comparison(
        f"Capturing {size:,}-byte frames from a veth pair into /dev/null",
        "A sender as fast as it can on one core, the capturing process with all its threads on the other. CPU "
        "time is that of the whole process, per frame captured.",
        [Line("ringcap", "frames/s", ours=True, missing=missing(context)),
         Line("tcpdump", "frames/s", missing="" if shutil.which("tcpdump") else "not installed (package tcpdump)")],
        [Goal("share of the frames received not less than tcpdump's", "ringcap", ["tcpdump"], 1, key="kept"),
         Goal("CPU time per frame not more than tcpdump's", "ringcap", ["tcpdump"], 1, key="cpu",
              lower_is_better=True)],
        [("offered", "offered", lambda v: f"{v / 1e6:.3g} M frames/s"), ("lost", "lost", lambda v: f"{v:.2%}"),
         ("cpu", "CPU time per frame", lambda v: f"{v:.0f} ns")])
    context.sampler.take(comparison, {"ringcap": ringcap, "tcpdump": tcpdump})
    return comparison


def _opened_file(program):
    """Whether it has opened what it writes to: its port runs then."""
    try:
        return any(os.readlink(fd) == "/dev/null" for fd in pathlib.Path(f"/proc/{program.pid}/fd").iterdir()
                   if int(fd.name) > 2)
    except OSError:
        return False
