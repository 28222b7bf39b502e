"""Files: reading a pcap file, and writing one, against libpcap and against the bare system call.

The files lie on tmpfs: what is measured is the software, not a disk.
"""

from benchlib.machine import Program, scratch
from benchlib.sample import Comparison, Goal, Line

CORE = 1
GIB = 1 << 30


def run(context):
    with scratch() as directory:
        yield from _reading(context, directory)
        yield from _writing(context, directory)


def _reading(context, directory):
    file = directory / "imix.pcap"
    frames = 100_000 if context.smoke else 2_000_000
    with Program([context.build / "imix_file", f"--file={file}", f"--frames={frames}"]) as program:
        program.result(120)

    def peer(which):
        argv = [context.build / "peer_pcap_read", f"--file={file}", f"--with={which}", f"--core={CORE}",
                f"--ms={int(context.seconds * 1000)}"]
        with Program(argv) as program:
            result = program.result(60)
        return result["passes"] * frames / result["seconds"], result["share"], {}

    libpcap, bare = "libpcap, pcap_next_ex", "read(), looking at nothing"
    comparison = Comparison(
        f"Reading a pcap file of {frames:,} IMIX frames in the page cache",
        "60, 590 and 1,514 bytes at 7 : 4 : 1, 374 bytes a record on average.",
        [Line(libpcap, "frames/s"), Line(bare, "frames/s")],
        [Goal("2 times libpcap", "ringcap", [libpcap], 2)])
    context.sampler.take(comparison, {libpcap: lambda: peer("libpcap"), bare: lambda: peer("read")})
    file.unlink()
    yield comparison


def write_loop(context, directory, size):
    """A loop of 1 MiB write()s into a new file on tmpfs."""
    file = directory / "loop"
    try:
        argv = [context.build / "peer_write_loop", f"--file={file}", f"--bytes={size}", f"--core={CORE}"]
        with Program(argv) as program:
            result = program.result(60)
    finally:
        file.unlink(missing_ok=True)
    return result["bytes"] / result["seconds"], result["share"], {}


def _writing(context, directory):
    size = GIB // 8 if context.smoke else 2 * GIB
    bare = "write() of 1 MiB in a loop"
    comparison = Comparison(
        "Writing a capture file to tmpfs",
        f"{size >> 20:,} MiB into a new file.",
        [Line(bare, "B/s")],
        [Goal("80 % of the bare loop at 1,500 bytes", "ringcap, 1,500 bytes", [bare], 0.8)])
    context.sampler.take(comparison, {bare: lambda: write_loop(context, directory, size)})
    yield comparison
