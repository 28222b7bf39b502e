#!/usr/bin/python3
"""The parts of the tests/vm/e1000e_*_test scripts that run inside the guest.

    e1000e.py receive SHARE     an engine on the NIC, a consumer that writes a file; the file is what was sent
    e1000e.py send SHARE        what is sent through the driver
    e1000e.py faults SHARE      the engine killed while it receives, the NIC unbound under another
    e1000e.py not_root SHARE    an engine of an ordinary user

The outer half sends when SHARE/ready appears, and makes SHARE/sent afterwards (ready-2, sent-2 and so on).
RINGCAP names the program, RINGCAP_NIC_SEND the one that sends.
"""

import json
import os
import pathlib
import re
import signal
import struct
import subprocess
import sys
import time

import frames

NIC = os.environ["RINGCAP_VM_NICS"].partition(" ")[0]
DEVICE = pathlib.Path("/sys/bus/pci/devices") / NIC
RINGCAP = os.environ["RINGCAP"]
PORT = f"vfio:{NIC},mtu=9000"
USER = 4242
HUGE = 2 << 20


# ---- tools -----------------------------------------------------------------------------------------


def until(condition, what, seconds=60):
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited in vain: {what}"
        time.sleep(0.02)
    return value


def bind():
    subprocess.run(["modprobe", "vfio-pci"], check=True)
    (DEVICE / "driver_override").write_text("vfio-pci")
    if not (DEVICE / "driver").exists():
        pathlib.Path("/sys/bus/pci/drivers_probe").write_text(NIC)
    assert (DEVICE / "driver").resolve().name == "vfio-pci"


class Engine:
    """`ringcap up` as a process. `before` goes in front of the command: another user."""

    def __init__(self, ring, arena, before=(), environment=None):
        self.before, self.environment = list(before), {**os.environ, **(environment or {})}
        command = [*before, RINGCAP, "up", PORT, "--name", "nic", "--arena", arena, "--ring", str(ring)]
        self.process = subprocess.Popen(command, env=self.environment)
        until(lambda: self.stat(fails=True) or self.process.poll() is not None, "the engine answers", 40)
        assert self.process.poll() is None, f"the engine ended with status {self.process.returncode}"

    def run(self, *words, **options):
        return subprocess.run([*self.before, RINGCAP, *words], env=self.environment, **options)

    def stat(self, fails=False):
        result = self.run("stat", "nic", "--json", stdout=subprocess.PIPE, stderr=subprocess.DEVNULL if fails else None)
        return json.loads(result.stdout) if result.stdout else None

    def capture(self, path, count):
        consumer = subprocess.Popen([*self.before, RINGCAP, "capture", "nic", "-w", path, "-c", str(count)], env=self.environment)
        until(lambda: self.stat()["consumers"] or consumer.poll() is not None, "the consumer attaches")
        assert consumer.poll() is None, f"the consumer ended with status {consumer.returncode}"
        return consumer

    def end(self):
        self.process.terminate()
        assert self.process.wait(30) == 0, f"the engine ended with status {self.process.returncode}"


def outside_sends(share, which=""):
    (pathlib.Path(share) / f"ready{which}").touch()
    until(lambda: (pathlib.Path(share) / f"sent{which}").exists(), "the frames are sent")


def expect_status(process, status, what, seconds=60):
    got = process.wait(seconds)
    assert got == status, f"{what} ended with status {got}"


def balanced(engine):
    """The ledger at rest."""
    def at_rest():
        ledger = engine.stat()
        return ledger if ledger["verdict"] == "balanced" else None
    try:
        return until(at_rest, "the ledger balances", 20)
    except AssertionError:
        print(json.dumps(engine.stat(), indent=1), file=sys.stderr)
        raise


# ---- receive ---------------------------------------------------------------------------------------


def receive(share):
    bind()
    sent = f"{share}/frames.pcap"
    count = sum(1 for _ in frames.frames(sent))
    engine = Engine(ring=32768, arena="536M")  # a ring that holds them all: the guest may be slower than the sender
    consumer = engine.capture("/tmp/taken.pcap", count + 1)  # one more than come: it stays until it is told
    outside_sends(share)
    until(lambda: engine.stat()["consumers"][0]["released"] >= count, "all frames are written", 80)
    expect_zero_copy(engine.process.pid, consumer.pid)
    ledger = balanced(engine)
    assert all(worker["copied"] == 0 for worker in ledger["workers"]), "a frame was copied"
    queue = ledger["ports"][0]["queues"][0]
    assert queue["received"] >= count and queue["missed"] == 0 and queue["bad"] == 0, queue
    consumer.send_signal(signal.SIGINT)
    expect_status(consumer, 0, "the consumer")
    engine.end()
    frames.same(sent, "/tmp/taken.pcap")


def expect_zero_copy(engine_pid, consumer_pid):
    """What the consumer reads are the very pages that the NIC writes to, and it cannot write there."""
    engine, consumer = arena(engine_pid), arena(consumer_pid)
    assert consumer["page"] == "2048 kB", consumer
    assert "wr" not in consumer["flags"] and "mw" not in consumer["flags"], consumer
    assert "wr" in engine["flags"], engine
    shared = 0
    for offset in range(0, consumer["bytes"], HUGE):
        seen = frame_number(consumer_pid, consumer["start"] + offset)
        if seen is None:
            continue  # no frame was there
        assert seen == frame_number(engine_pid, engine["start"] + offset), f"another page at offset {offset:#x}"
        shared += 1
    assert shared > 0, "the consumer has no page of the arena"
    print(f"zero copy: {shared} hugepages are the same in both processes")


def arena(pid):
    """The largest mapping of hugepages that the process has."""
    found, current = [], None
    for line in pathlib.Path(f"/proc/{pid}/smaps").read_text().splitlines():
        if match := re.match(r"([0-9a-f]+)-([0-9a-f]+) (\S+) \S+ \S+ \S+ *(.*)", line):
            start, end = int(match[1], 16), int(match[2], 16)
            current = {"start": start, "bytes": end - start, "rights": match[3], "name": match[4]}
            found.append(current)
        elif line.startswith("KernelPageSize:"):
            current["page"] = line.split(None, 1)[1]
        elif line.startswith("VmFlags:"):
            current["flags"] = line.split()[1:]
    huge = [mapping for mapping in found if mapping["page"] == "2048 kB"]
    assert huge, f"process {pid} has no hugepages mapped"
    return max(huge, key=lambda mapping: mapping["bytes"])


def frame_number(pid, address):
    with open(f"/proc/{pid}/pagemap", "rb", buffering=0) as pagemap:
        entry = struct.unpack("<Q", os.pread(pagemap.fileno(), 8, address // 4096 * 8))[0]
    if not entry >> 63:
        return None
    assert entry & (1 << 55) - 1, "page frame numbers need CAP_SYS_ADMIN"
    return entry & (1 << 55) - 1


# ---- send --------------------------------------------------------------------------------------------


def send(share):
    bind()
    subprocess.run([os.environ["RINGCAP_NIC_SEND"], NIC, f"{share}/frames.pcap"], check=True)


# ---- faults ------------------------------------------------------------------------------------------


def faults(share):
    bind()
    killed_while_receiving(share)
    unbound_while_running(share)


def killed_while_receiving(share):
    engine = Engine(ring=2048, arena="64M")
    consumer = engine.capture("/tmp/killed.pcap", 10**6)
    (pathlib.Path(share) / "ready-1").touch()
    until(lambda: engine.stat()["workers"][0]["taken"] > 1000, "frames come in")
    engine.process.kill()
    engine.process.wait()
    expect_status(consumer, 4, "the consumer of a killed engine")
    assert not (pathlib.Path(share) / "sent-1").exists(), "it was killed too late: all frames had been sent"
    engine = Engine(ring=2048, arena="64M")
    until(lambda: (pathlib.Path(share) / "sent-1").exists(), "the frames are sent")
    assert engine.stat()["workers"][0]["taken"] > 0, "the next engine received nothing of what was still coming"
    receives(engine, share, "-2")
    engine.end()
    print("killed: the next engine receives")


def receives(engine, share, which):
    """The outer half sends 1,000 frames; they all come, and the ledger balances. What waited in the wire comes too."""
    before = until(lambda: settled(engine), "the wire is quiet")[0]
    outside_sends(share, which)
    until(lambda: engine.stat()["workers"][0]["taken"] >= before + 1000, "1,000 frames come in")
    balanced(engine)


def settled(engine):
    first = engine.stat()["workers"][0]["taken"]
    time.sleep(0.5)  # not for something to happen, but to see that nothing does
    return (first,) if first == engine.stat()["workers"][0]["taken"] else None


def not_root(share):
    """With the group's file given to it and memory that it may lock, an ordinary user can do the same."""
    bind()
    group = (DEVICE / "iommu_group").resolve().name
    run = pathlib.Path("/run/user-test")
    run.mkdir(mode=0o700)
    os.chown(run, USER, USER)
    as_user = ["prlimit", f"--memlock={64 << 10}", "setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups"]
    environment = {"RINGCAP_RUN_DIR": str(run)}
    refused = Engine.__new__(Engine)
    refused.before, refused.environment = as_user, {**os.environ, **environment}
    words = ["up", PORT, "--name", "nic", "--arena", "64M", "--ring", "2048"]
    result = refused.run(*words, stderr=subprocess.PIPE, text=True)
    assert result.returncode == 5 and f"chown {USER} /dev/vfio/{group}" in result.stderr, (result.returncode, result.stderr)
    os.chown(f"/dev/vfio/{group}", USER, USER)
    result = refused.run(*words, stderr=subprocess.PIPE, text=True)
    assert result.returncode == 1 and "RLIMIT_MEMLOCK" in result.stderr, (result.returncode, result.stderr)
    as_user[1] = f"--memlock={256 << 20}"
    engine = Engine(ring=2048, arena="64M", before=as_user, environment=environment)
    status = pathlib.Path(f"/proc/{engine.process.pid}/status").read_text()
    assert re.search(rf"^Uid:\s+{USER}\s+{USER}\s", status, re.M) and re.search(r"^CapEff:\s+0+$", status, re.M), status
    receives(engine, share, "")
    engine.end()
    print("not root: refused with the reason, then receives")


def unbound_while_running(share):
    engine = Engine(ring=2048, arena="64M")
    consumer = engine.capture("/tmp/unbound.pcap", 10**6)
    receives(engine, share, "-3")
    started = time.monotonic()
    (DEVICE / "driver_override").write_text("\n")
    pathlib.Path("/sys/bus/pci/drivers/vfio-pci/unbind").write_text(NIC)
    took = time.monotonic() - started
    assert took < 10, f"unbinding took {took:.1f} s"
    assert not (DEVICE / "driver").exists()
    link = until(lambda: (l := engine.stat()["ports"][0]["link"]) and not l["up"] and l, "the port is seen to be gone")
    assert consumer.poll() is None and engine.process.poll() is None, "an unbound NIC ended a process"
    consumer.send_signal(signal.SIGINT)
    expect_status(consumer, 0, "the consumer")
    engine.end()
    print(f"unbound: in {took * 1000:.0f} ms, link {link}")


if __name__ == "__main__":
    {"receive": receive, "send": send, "faults": faults, "not_root": not_root}[sys.argv[1]](*sys.argv[2:])
