"""The Python module against dpkt, scapy, pcapy, NumPy and a C loop on the same frames."""

import importlib.util
import pathlib

from benchlib.engine import CONSUMER_CORE, NAME, engine, missing
from benchlib.machine import Program, scratch
from benchlib.sample import Comparison, Goal, Line

READER = pathlib.Path(__file__).resolve().parents[1] / "peers/python_read.py"
MODULE = pathlib.Path(__file__).resolve().parents[3] / "libcap/python"
FILTER, PARSE, FRAMES = "filter two columns, sum a third", "addresses and ports parsed", "one memoryview a frame"
WAYS = {FILTER: "filter", PARSE: "parse", FRAMES: "frames"}


def reader(context, way, *source, env=None):
    library = context.build.parent.parent / "libcap/client/libringcap.so.0"
    return Program(["/usr/bin/python3", "-B", READER, way, f"--ms={int(context.seconds * 1000)}", f"--core={CONSUMER_CORE}", *source],
                   env={**(env or {}), "PYTHONPATH": str(MODULE), "RINGCAP_LIBRARY": str(library)})


def live(context, way):
    """gen: on one core, Python on the other; frames that the reader has no time for are lost to it."""
    with engine(context, "gen:size=64") as up, reader(context, way, f"--engine={NAME}", env=up.env) as program:
        result = program.result(context.seconds + 30)
    return result["frames"] / result["seconds"], result["share"], {}


def from_file(context, way, file):
    with reader(context, way, f"--file={file}") as program:
        result = program.result(context.seconds + 60)
    return result["frames"] / result["seconds"], result["share"], {}


def pcap_next_ex(context, file, frames):
    argv = [context.build / "peer_pcap_read", f"--file={file}", "--with=libpcap", f"--core={CONSUMER_CORE}",
            f"--ms={int(context.seconds * 1000)}"]
    with Program(argv) as program:
        result = program.result(60)
    return result["passes"] * frames / result["seconds"], result["share"], {}


def run(context):
    yield _live(context)
    with scratch() as directory:
        yield _file(context, directory)


def _live(context):
    comparison = Comparison(
        "Python, a live engine, 64-byte frames",
        "`gen:size=64` on one core; on the other a loop over `cap.bursts(max_frames=4096)`.",
        [Line(name, "frames/s", ours=True, missing=missing(context)) for name in WAYS],
        [Goal(f"{name}: at least {least} million frames a second", name, [], least * 1e6)
         for name, least in ((FILTER, 15), (PARSE, 8), (FRAMES, 4))])
    context.sampler.take(comparison, {name: lambda way=way: live(context, way) for name, way in WAYS.items()})
    return comparison


def _file(context, directory):
    file = directory / "imix.pcap"
    frames = 20_000 if context.smoke else 500_000
    with Program([context.build / "imix_file", f"--file={file}", f"--frames={frames}"]) as program:
        program.result(120)
    peers = {name: "" if importlib.util.find_spec(name) else f"python3-{name} is not installed"
             for name in ("scapy", "dpkt", "pcapy", "numpy")}
    bursts, c_loop = "bursts, nothing else", "C loop over pcap_next_ex"
    comparison = Comparison(
        f"Python, a file of {frames:,} IMIX frames in the page cache",
        "The file is opened and read again and again. dpkt and scapy parse each frame, pcapy gives its bytes, NumPy indexes "
        "the file in a Python loop and then works on columns.",
        [Line(name, "frames/s", ours=True) for name in (bursts, *WAYS)] + [Line(c_loop, "frames/s")] +
        [Line(name, "frames/s", missing=why) for name, why in peers.items()],
        [Goal("a C loop over pcap_next_ex", bursts, [c_loop], 1)])
    contenders = {name: lambda way=way: from_file(context, way, file) for name, way in {bursts: "bursts", **WAYS}.items()}
    contenders |= {name: lambda way=name: from_file(context, way, file) for name, why in peers.items() if not why}
    contenders[c_loop] = lambda: pcap_next_ex(context, file, frames)
    context.sampler.take(comparison, contenders)
    return comparison
