"""Ways of handing frames to the host through a TAP: why driver/tap writes a frame a system call."""

import os

from benchlib.machine import Program
from benchlib.network import SENDER, veth
from benchlib.sample import Comparison, Line

WRITER_CORE = 1
WRITE, URING, VHOST = "write()", "io_uring", "vhost-net"
BATCHES = (64, 256)


def run(context):
    for size in (64, 1500):
        yield _writing(context, size)


def _writing(context, size):
    unbuilt = "" if (context.build / "tap_ways").exists() else "liburing is not installed (package liburing-dev)"
    ways = {f"{WRITE} a frame": ("write", 64)}
    ways |= {f"{URING}, {batch} frames a system call": ("io_uring", batch) for batch in BATCHES}
    comparison = Comparison(
        f"Frames of {size:,} bytes into one TAP queue, one thread",
        "UDP to another host's address, so that the kernel takes each through its receive path and drops it there. "
        "io_uring: descriptor and memory registered, one thread, no polling thread.",
        [Line(name, "frames/s", ours=how == "write", missing=unbuilt) for name, (how, _) in ways.items()]
        + [Line(VHOST, "frames/s", missing=_no_vhost())])
    context.sampler.take(comparison, {name: _writer(context, size, *way) for name, way in ways.items()})
    return comparison


def _no_vhost():
    there = "is there, and is not measured yet" if os.path.exists("/dev/vhost-net") else "is not there"
    return f"/dev/vhost-net {there}"


def _writer(context, size, how, batch):
    def measure():
        argv = [context.build / "tap_ways", f"--how={how}", f"--batch={batch}", f"--bytes={size}",
                f"--core={WRITER_CORE}", f"--ms={int(context.seconds * 1000)}"]
        with veth(), Program(argv, netns=SENDER) as program:
            result = program.result(context.seconds + 10)
        return result["frames"] / result["seconds"], result["share"], {}

    return measure
