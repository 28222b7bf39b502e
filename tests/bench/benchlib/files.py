"""Files: reading a pcap file, and writing one, against libpcap and against the bare system call.

The files lie on tmpfs: what is measured is the software, not a disk.
"""

import time

from benchlib.engine import CONSUMER_CORE, ENGINE_CORE, NAME, consumer, engine, missing
from benchlib.machine import Busy, Failure, Others, Program, scratch
from benchlib.sample import Comparison, Goal, Line

GIB = 1 << 30
RECORD_HEADER_BYTES = 16


def run(context):
    with scratch() as directory:
        yield _reading(context, directory)
    with scratch() as directory:
        yield _writing(context, directory)


def _reading(context, directory):
    file = directory / "imix.pcap"
    frames = 100_000 if context.smoke else 2_000_000
    with Program([context.build / "imix_file", f"--file={file}", f"--frames={frames}"]) as program:
        program.result(120)

    def peer(which):
        argv = [context.build / "peer_pcap_read", f"--file={file}", f"--with={which}", f"--core={CONSUMER_CORE}",
                f"--ms={int(context.seconds * 1000)}"]
        with Program(argv) as program:
            result = program.result(60)
        return result["passes"] * frames / result["seconds"], result["share"], {}

    def ringcap():
        loops = max(1, int(context.seconds * 20_000_000 / frames))
        with engine(context, f"pcap:{file},speed=max,loop={loops}") as up:
            others = Others([ENGINE_CORE, CONSUMER_CORE], up)
            with consumer(context, up.env, 60, "--read=none", "--max=4096", "--wait=1000",
                          "--batch=2048") as program:
                result = program.result(90)
            share = others.share_left(result["cpu_ns"])
        if result["lost"] or result["frames"] < loops * frames - 256:
            raise Failure(f"{result['frames']} frames of {loops * frames} came: a file loses nothing")
        return result["frames"] / result["seconds"], share, {}

    libpcap, bare = "libpcap, pcap_next_ex", "read(), looking at nothing"
    comparison = Comparison(
        f"Reading a pcap file of {frames:,} IMIX frames in the page cache",
        "60, 590 and 1,514 bytes at 7 : 4 : 1, 374 bytes a record on average. ringcap: the `pcap:` port, as fast as "
        "it can, into a consumer on the other core that reads the descriptors, and sleeps when there are none: the "
        "port reads ahead with the time that is left of that core.",
        [Line("ringcap", "frames/s", ours=True, missing=missing(context)), Line(libpcap, "frames/s"),
         Line(bare, "frames/s")],
        [Goal("2 times libpcap", "ringcap", [libpcap], 2)])
    context.sampler.take(comparison, {"ringcap": ringcap, libpcap: lambda: peer("libpcap"),
                                      bare: lambda: peer("read")})
    return comparison


def _writing(context, directory):
    size = GIB // 8 if context.smoke else 2 * GIB
    bare, large, small = "write() of 1 MiB in a loop", "ringcap, 1,500 bytes", "ringcap, 64 bytes"
    comparison = Comparison(
        "Writing a capture file to tmpfs",
        f"{size >> 20:,} MiB into a new file, by `ringcap capture NAME -w FILE` from `gen:` that waits for it; from "
        "the file's first byte to the end of the process.",
        [Line(large, "B/s", ours=True, missing=missing(context)), Line(small, "B/s", missing=missing(context)),
         Line(bare, "B/s")],
        [Goal("80 % of the bare loop at 1,500 bytes", large, [bare], 0.8)])
    context.sampler.take(comparison, {
        large: lambda: _capture(context, directory, 1500, size), small: lambda: _capture(context, directory, 64, size),
        bare: lambda: _write_loop(context, directory, size)})
    return comparison


def _write_loop(context, directory, size):
    file = directory / "loop"
    try:
        argv = [context.build / "peer_write_loop", f"--file={file}", f"--bytes={size}", f"--core={CONSUMER_CORE}"]
        with Program(argv) as program:
            result = program.result(60)
    finally:
        file.unlink(missing_ok=True)
    return result["bytes"] / result["seconds"], result["share"], {}


def _capture(context, directory, frame_bytes, size):
    file = directory / "capture.pcap"
    count = size // (frame_bytes + RECORD_HEADER_BYTES)
    argv = [context.tools / "ringcap", "capture", NAME, "-w", file, "-c", count]
    try:
        with engine(context, f"gen:size={frame_bytes},full=wait") as up, \
                Program(argv, core=CONSUMER_CORE, env=up.env) as program:
            rate, share = _watch(file, program, Busy(up, program))
            if program.wait(5) != 0:
                raise Failure(f"capture failed:\n{program.output()}")
    finally:
        file.unlink(missing_ok=True)
    return rate, share, {}


def _watch(file, program, busy):
    """Bytes a second from the file's first byte to the process' end, and the share of the cores till then."""
    started, writing, share = time.monotonic(), False, 0
    end = started + 120
    while program.process.poll() is None:
        if time.monotonic() > end:
            raise Failure("capture did not end within 120 s")
        if not writing and file.exists() and file.stat().st_size > 0:
            started, writing = time.monotonic(), True
        share = busy.share_wanted() or share
        time.sleep(0.002)
    if not file.exists():
        raise Failure(f"capture wrote nothing:\n{program.output()}")
    return file.stat().st_size / (time.monotonic() - started), share
