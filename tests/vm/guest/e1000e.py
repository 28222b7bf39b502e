#!/usr/bin/python3
"""The parts of the tests/vm/e1000_*_test, e1000e_*_test, igb_*_test, virtio_*_test and vmxnet3_*_test scripts that run inside the guest.

    e1000e.py receive SHARE     an engine on the NIC, a consumer that writes a file; the file is what was sent
    e1000e.py receive_flows SHARE   the same over several queues: what was sent, each flow in its order
    e1000e.py tcpdump SHARE     stock tcpdump on the NIC's engine, with a filter
    e1000e.py send SHARE        what is sent through the driver
    e1000e.py faults SHARE      the engine killed while it receives, the NIC unbound under another
    e1000e.py not_root SHARE    an engine of an ordinary user
    e1000e.py memory SHARE      pages of 2 MiB and 1 GiB on the NIC's node, or on another; INTx

The outer half sends when SHARE/ready appears, and makes SHARE/sent afterwards (ready-2, sent-2 and so on).
RINGCAP names the program, RINGCAP_NIC_SEND the one that sends.
"""

import json
import os
import pathlib
import re
import shutil
import signal
import struct
import subprocess
import sys
import time

import frames

NIC = os.environ["RINGCAP_VM_NICS"].partition(" ")[0]
DEVICE = pathlib.Path("/sys/bus/pci/devices") / NIC
RINGCAP = os.environ["RINGCAP"]
COUNTS = os.environ.get("RINGCAP_VM_COUNTS") != "nothing"  # whether the NIC counts what it received
LOSES = os.environ.get("RINGCAP_VM_LOSES") == "counted"  # QEMU's NIC drops what its ring has no room for, and counts it
UNBIND = os.environ.get("RINGCAP_VM_UNBIND", "")  # "flowing": while frames come; "removed": off the bus while they come
QUEUES = int(os.environ.get("RINGCAP_VM_QUEUES", "1"))
PARTS = int(os.environ.get("RINGCAP_VM_PARTS", "0"))  # what is sent comes so, each when the one before was taken
PORT = f"vfio:{NIC},mtu=9000,queues={QUEUES}" + os.environ.get("RINGCAP_VM_PORT", "")
SMALL_RING, SMALL_ARENA = (2048, "64M") if QUEUES == 1 else (1024, f"{48 * QUEUES}M")
USER = 4242
HUGE = 2 << 20


# ---- tools -----------------------------------------------------------------------------------------


def until(condition, what, seconds=120):
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited in vain: {what}"
        time.sleep(0.02)
    return value


def bind():
    subprocess.run(["modprobe", "vfio-pci"], check=True)
    (DEVICE / "driver_override").write_text("vfio-pci")
    if (DEVICE / "driver").exists() and (DEVICE / "driver").resolve().name != "vfio-pci":
        (DEVICE / "driver" / "unbind").write_text(NIC)  # virtio's, which the guest has for its disks
    if not (DEVICE / "driver").exists():
        pathlib.Path("/sys/bus/pci/drivers_probe").write_text(NIC)
    assert (DEVICE / "driver").resolve().name == "vfio-pci"


class Engine:
    """`ringcap up` as a process. `before` goes in front of the command: another user."""

    def __init__(self, ring, arena, before=(), environment=None, more=()):
        self.before, self.environment = list(before), {**os.environ, **(environment or {})}
        command = [*before, RINGCAP, "up", PORT, "--name", "nic", "--arena", arena, "--ring", str(ring), *more]
        self.process = subprocess.Popen(command, env=self.environment)
        until(lambda: self.stat(fails=True) or self.process.poll() is not None, "the engine answers", 100)
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
        assert self.process.wait(90) in ((0, 3) if LOSES else (0,)), f"the engine ended with status {self.process.returncode}"


def taken(engine):
    return sum(worker["taken"] for worker in engine.stat()["workers"])


def has_link(engine):
    """A NIC that negotiates has none at first. What is sent before waits outside, and comes all at once."""
    until(lambda: engine.stat()["ports"][0]["link"]["up"], "the link is up")


def outside_sends(share, which=""):
    (pathlib.Path(share) / f"ready{which}").touch()
    until(lambda: (pathlib.Path(share) / f"sent{which}").exists(), "the frames are sent")


def expect_status(process, status, what, seconds=120):
    got = process.wait(seconds)
    assert got == status, f"{what} ended with status {got}"


def balanced(engine):
    """The ledger at rest. Where the NIC counts nothing, one sum cannot be told; the others hold."""
    def at_rest():
        ledger = engine.stat()
        return ledger if ledger["verdict"] == ("balanced" if COUNTS else "cannot be told") else None
    try:
        return until(at_rest, "the ledger balances", 60)
    except AssertionError:
        print(json.dumps(engine.stat(), indent=1), file=sys.stderr)
        raise


# ---- receive ---------------------------------------------------------------------------------------


def receive(share):
    bind()
    sent = f"{share}/frames.pcap"
    count = sum(1 for _ in frames.frames(sent))
    # A ring that holds them all: the guest may be slower than the sender. Of parts, it holds one.
    engine = Engine(ring=32768, arena="536M") if not PARTS else Engine(ring=8192, arena="208M")
    consumer = engine.capture("/tmp/taken.pcap", count + 1)  # one more than come: it stays until it is told
    for part in range(PARTS):
        outside_sends(share, f"-{part + 1}")
        until(lambda: engine.stat()["consumers"][0]["released"] >= count * (part + 1) // PARTS, "a part is written", 180)
    if not PARTS:
        outside_sends(share)
    until(lambda: engine.stat()["consumers"][0]["released"] >= count, "all frames are written", 180)
    expect_zero_copy(engine.process.pid, consumer.pid)
    ledger = balanced(engine)
    assert all(worker["copied"] == 0 for worker in ledger["workers"]), "a frame was copied"
    queue = ledger["ports"][0]["queues"][0]
    if COUNTS:
        assert queue["received"] >= count and queue["missed"] == 0 and queue["bad"] == 0, queue
    else:
        assert queue["received"] is None and queue["missed"] is None and queue["taken"] >= count, queue
    consumer.send_signal(signal.SIGINT)
    expect_status(consumer, 0, "the consumer")
    engine.end()
    frames.same(sent, "/tmp/taken.pcap")


def receive_flows(share):
    """At a pace at which QEMU's igb loses nothing: it does, without counting, when one of several rings is full."""
    bind()
    sent = f"{share}/frames.pcap"
    count = sum(1 for _ in frames.frames(sent))
    engine = Engine(ring=4096, arena="384M")
    has_link(engine)
    consumer = engine.capture("/tmp/taken.pcap", count + 1)  # one more than come: it stays until it is told
    outside_sends(share)
    until(lambda: engine.stat()["consumers"][0]["released"] >= count, "all frames are written", 180)
    expect_zero_copy(engine.process.pid, consumer.pid)
    ledger = balanced(engine)
    assert all(worker["copied"] == 0 for worker in ledger["workers"]), "a frame was copied"
    port = ledger["ports"][0]
    assert port["received"] >= count and port["missed"] == 0 and port["bad"] == 0, port
    shares = [queue["taken"] for queue in port["queues"]]
    assert len(shares) == QUEUES and min(shares) > count / QUEUES / 2, shares
    consumer.send_signal(signal.SIGINT)
    expect_status(consumer, 0, "the consumer")
    engine.end()
    frames.same_flows(sent, "/tmp/taken.pcap")
    print(f"queues: {shares}")


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


# ---- tcpdump ---------------------------------------------------------------------------------------


FILTER = "ether[6:4] = 0x02000000 and ether[14] & 3 = 1 and greater 300"


def in_ring(engine):
    return engine.stat()["consumers"][0]["in_ring"]


def tcpdump(share):
    bind()
    sent = f"{share}/frames.pcap"
    count = sum(1 for _ in frames.frames(sent))
    engine = Engine(ring=32768, arena="536M")
    program = subprocess.Popen([RINGCAP, "run", "--", "tcpdump", "-Z", "root", "-i", "ringcap:nic", "-w", "/tmp/taken.pcap",
                                FILTER], env=engine.environment)
    until(lambda: engine.stat()["consumers"] or program.poll() is not None, "tcpdump attaches")
    # Filtered in the engine: tcpdump's ledger counts what its filter refused.
    until(lambda: os.path.exists("/tmp/taken.pcap"), "tcpdump has set its filter and opened its file")
    outside_sends(share)

    until(lambda: engine.stat()["consumers"][0]["considered"] >= count, "all frames are looked at", 180)
    until(lambda: in_ring(engine) == 0, "tcpdump has them")
    program.send_signal(signal.SIGINT)
    expect_status(program, 0, "tcpdump")
    engine.end()
    subprocess.run(["tcpdump", "-Z", "root", "-r", sent, "-w", "/tmp/wanted.pcap", FILTER], check=True)
    wanted = sum(1 for _ in frames.frames("/tmp/wanted.pcap"))
    assert 0 < wanted < count, f"the filter takes {wanted} of {count}"
    frames.same("/tmp/wanted.pcap", "/tmp/taken.pcap")


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
    engine = Engine(ring=SMALL_RING, arena=SMALL_ARENA)
    consumer = engine.capture("/tmp/killed.pcap", 10**6)
    has_link(engine)
    (pathlib.Path(share) / "ready-1").touch()
    until(lambda: taken(engine) > 1000, "frames come in")
    engine.process.kill()
    engine.process.wait()
    expect_status(consumer, 4, "the consumer of a killed engine")
    assert not (pathlib.Path(share) / "sent-1").exists(), "it was killed too late: all frames had been sent"
    engine = Engine(ring=SMALL_RING, arena=SMALL_ARENA)
    until(lambda: (pathlib.Path(share) / "sent-1").exists(), "the frames are sent")
    until(lambda: taken(engine) > 0, "the next engine receives what was still coming")
    receives(engine, share, "-2")
    engine.end()
    print("killed: the next engine receives")


def receives(engine, share, which):
    """The outer half sends 1,000 frames; they all come, and the ledger balances. What waited in the wire comes too."""
    before = until(lambda: settled(engine), "the wire is quiet")[0]
    outside_sends(share, which)
    until(lambda: taken(engine) >= before + 1000, "1,000 frames come in")
    balanced(engine)


def settled(engine):
    first = taken(engine)
    time.sleep(0.5)  # not for something to happen, but to see that nothing does
    return (first,) if first == taken(engine) else None


def not_root(share):
    """With the group's file given to it and memory that it may lock, an ordinary user can do the same."""
    bind()
    group = (DEVICE / "iommu_group").resolve().name
    run = pathlib.Path("/run/user-test")
    run.mkdir(mode=0o700)
    os.chown(run, USER, USER)
    as_user = ["prlimit", f"--memlock={64 << 10}", "setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups"]
    environment = {"RINGCAP_RUN_DIR": str(run), "LD_LIBRARY_PATH": program_for_everybody()}
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


def program_for_everybody():
    """Puts the program and the libraries of its build where every user can read them: the build may be below a home
    directory that only its owner enters. From now on RINGCAP is the copy. Returns its folder."""
    global RINGCAP
    folder = pathlib.Path("/run/user-program")
    folder.mkdir(mode=0o755)
    linked = subprocess.run(["ldd", RINGCAP], stdout=subprocess.PIPE, text=True, check=True).stdout
    libraries = re.findall(r"^\s*libringcap\S* => (\S+)", linked, re.M)
    for file in (RINGCAP, *libraries):
        shutil.copy(file, folder)
    RINGCAP = str(folder / pathlib.Path(RINGCAP).name)
    return str(folder)


def unbound_while_running(share):
    engine = Engine(ring=SMALL_RING, arena=SMALL_ARENA)
    consumer = engine.capture("/tmp/unbound.pcap", 10**6)
    has_link(engine)
    if QUEUES == 1 and not UNBIND:
        receives(engine, share, "-3")
    else:  # while frames come
        (pathlib.Path(share) / "ready-3").touch()
        until(lambda: taken(engine) > 200, "frames come in")
    started = time.monotonic()
    if UNBIND == "removed":
        (DEVICE / "remove").write_text("1")
    else:
        (DEVICE / "driver_override").write_text("\n")
        pathlib.Path("/sys/bus/pci/drivers/vfio-pci/unbind").write_text(NIC)
    took = time.monotonic() - started
    assert took < 10, f"it took {took:.1f} s"
    assert not (DEVICE / "driver").exists() and (UNBIND != "removed" or not DEVICE.exists())
    link = until(lambda: (l := engine.stat()["ports"][0]["link"]) and not l["up"] and l, "the port is seen to be gone")
    assert consumer.poll() is None and engine.process.poll() is None, "an unbound NIC ended a process"
    consumer.send_signal(signal.SIGINT)
    expect_status(consumer, 0, "the consumer")
    engine.end()
    until(lambda: (pathlib.Path(share) / "sent-3").exists(), "the frames are sent")
    print(f"{UNBIND or 'unbound'}: in {took * 1000:.0f} ms, link {link}")


# ---- memory ------------------------------------------------------------------------------------------


def memory(share):
    """Only node 1 has hugepages. Which node the NIC is of is what sysfs says, and root may say it there."""
    bind()
    for node, page, pool in ((0, "2M", "2048kB"), (0, "1G", "1048576kB")):
        (DEVICE / "numa_node").write_text(str(node))
        refused_for_want_of_pages(node, page, pool)
    (DEVICE / "numa_node").write_text("1")
    for which, page, pool, arena_size in (("-1", "2M", "2048kB", "64M"), ("-2", "1G", "1048576kB", "1G")):
        engine = Engine(ring=2048, arena=arena_size, more=("--page", page, "--poll", "sleep"))
        lies_on_node_1(engine.process.pid, pool)
        receives(engine, share, which)
        interrupts = interrupt_lines()
        assert any(count > 0 and "vfio-intx" in line for count, line in interrupts), interrupts
        assert not any("vfio-msi" in line for _, line in interrupts), interrupts
        engine.end()
        until(lambda: free_pages(1, pool) == total_pages(1, pool), "the engine's pages come back")
    print("memory: on the NIC's node, in pages of 2 MiB and of 1 GiB; woken by INTx")


def pool_folder(node, pool):
    return pathlib.Path(f"/sys/devices/system/node/node{node}/hugepages/hugepages-{pool}")


def free_pages(node, pool):
    return int((pool_folder(node, pool) / "free_hugepages").read_text())


def total_pages(node, pool):
    return int((pool_folder(node, pool) / "nr_hugepages").read_text())


def refused_for_want_of_pages(node, page, pool):
    """The message is about the NIC's node and gives the command for it; the other node keeps its pages."""
    need, size = (32, "2 MiB") if page == "2M" else (1, "1 GiB")
    other = total_pages(1 - node, pool)
    assert total_pages(node, pool) == 0 and free_pages(1 - node, pool) == other >= need
    words = [RINGCAP, "up", PORT, "--name", "nic", "--page", page, "--arena", "64M"]
    result = subprocess.run(words, stderr=subprocess.PIPE, text=True)
    expected = (f"{size} hugepages: {need} needed, 0 free of 0 on node {node}",
                f"echo {need} > {pool_folder(node, pool) / 'nr_hugepages'}")
    assert result.returncode == 1 and all(text in result.stderr for text in expected), (result.returncode, result.stderr)
    assert free_pages(1 - node, pool) == other, "the other node's pages were taken"
    assert (DEVICE / "driver").resolve().name == "vfio-pci"


def lies_on_node_1(pid, pool):
    """All of the arena is there, every page, before a frame came."""
    lines = pathlib.Path(f"/proc/{pid}/numa_maps").read_text().splitlines()
    arena = [line for line in lines if "ringcap-arena" in line]
    kilobytes = int(pool.removesuffix("kB"))
    pages = {"2048kB": 32, "1048576kB": 1}[pool]
    assert arena and all(f"kernelpagesize_kB={kilobytes}" in line and " N0=" not in line for line in arena), arena
    assert sum(int(number) for line in arena for number in re.findall(r" N1=(\d+)", line)) == pages, arena


def interrupt_lines():
    """(how often it came, the line) of every interrupt of VFIO."""
    lines = [line for line in pathlib.Path("/proc/interrupts").read_text().splitlines() if "vfio" in line]
    return [(sum(int(word) for word in line.split()[1:1 + os.cpu_count()]), line) for line in lines]


if __name__ == "__main__":
    what = {"receive": receive, "receive_flows": receive_flows, "tcpdump": tcpdump, "send": send, "faults": faults,
            "not_root": not_root, "memory": memory}
    what[sys.argv[1]](*sys.argv[2:])
