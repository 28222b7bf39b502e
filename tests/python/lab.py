"""What the tests of the Python module share: engines of their own, files, and waiting for a condition."""

import contextlib
import os
import pathlib
import signal
import struct
import subprocess
import tempfile
import time

TOP = pathlib.Path(__file__).resolve().parents[2]
FRAMES = sorted((TOP / "tests/data/frames").glob("*.pcap"))
PROGRAM = os.environ.get("RINGCAP_PROGRAM", str(TOP / "build/release/tools/ringcap"))
KEY = "000102030405060708090a0b0c0d0e0f"


def wait_until(condition, what, seconds=60):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        time.sleep(0.002)
    return found


@contextlib.contextmanager
def run_dir():
    """A run directory of this test's own, in the environment."""
    before = os.environ.get("RINGCAP_RUN_DIR")
    with tempfile.TemporaryDirectory() as directory:
        os.environ["RINGCAP_RUN_DIR"] = directory
        try:
            yield pathlib.Path(directory)
        finally:
            os.environ.pop("RINGCAP_RUN_DIR") if before is None else os.environ.update(RINGCAP_RUN_DIR=before)


class Engine:
    def __init__(self, process, name):
        self.process, self.name = process, name

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(60)


@contextlib.contextmanager
def engine(port, *options, name="lab", directory=None):
    """`ringcap up PORT`, ready to be attached to; ended at the end. `directory`: a run directory that there is already."""
    with contextlib.nullcontext(directory) if directory else run_dir() as directory, tempfile.TemporaryFile() as log:
        process = subprocess.Popen([PROGRAM, "up", port, "--name", name, "--memory", "plain", "--arena", "128M", *options],
                                   stdout=log, stderr=log)

        def up():
            assert process.poll() is None, _text(log)
            return (directory / f"{name}.sock").exists()

        try:
            wait_until(up, "the engine's socket")
            yield Engine(process, name)
        finally:
            if process.poll() is None:
                process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _text(log):
    log.seek(0)
    return log.read().decode()


def replay(path):
    """The port that gives a file's frames once, as soon as somebody is there."""
    return f"pcap:{path},speed=max,full=wait", "--wait-consumers", "1", "--hash-key", KEY


def write_pcap(path, frames, lengths=None):
    """A pcap file with nanoseconds: frame i has the time i."""
    with open(path, "wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 262144, 1))
        for i, frame in enumerate(frames):
            length = lengths[i] if lengths else len(frame)
            file.write(struct.pack("<IIII", 1000 + i // 10**6, i % 10**6, len(frame), length) + frame)
    return path


def read_pcap(path):
    """(bytes, length) of each frame of a little-endian pcap file: a reader of the test's own."""
    data, at, frames = pathlib.Path(path).read_bytes(), 24, []
    while at < len(data):
        captured, length = struct.unpack_from("<II", data, at + 8)
        frames.append((data[at + 16:at + 16 + captured], length))
        at += 16 + captured
    return frames


def udp(payload=b"x" * 20, source="10.0.0.1", target="10.0.0.2", sport=1000, dport=53):
    """An Ethernet frame with IPv4 and UDP."""
    ip = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 28 + len(payload), 1, 0, 64, 17, 0, _ip(source), _ip(target))
    return bytes(range(12)) + b"\x08\x00" + ip + struct.pack(">HHHH", sport, dport, 8 + len(payload), 0) + payload


def _ip(text):
    return bytes(int(part) for part in text.split("."))


def filled(cap, frames=10_000):
    """The capture, once so many frames are in its ring: the next burst is a full one."""
    wait_until(lambda: cap.stats.in_ring >= frames, "frames in the ring")
    return cap


def attach(name="lab", **options):
    """ringcap.attach() that waits for the engine, which may have its socket and not listen yet."""
    import ringcap

    return ringcap.attach(name, wait=10, **options)
