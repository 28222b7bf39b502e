#!/usr/bin/python3
"""The guest's half of tests/vm/mission_test: the whole of ringcap at once.

    mission.py SHARE

The kernel's driver has the NIC; then `ringcap up --transparent both --adopt --cluster ids`. At the same time stock tcpdump
with a filter through the shim, two members of the cluster, a Python reader, and a TCP transfer of the guest's own through the
TAP, while SHARE/frames.pcap (flows.py) comes from outside. RINGCAP_VM_PYTHON: where the Python module is;
RINGCAP_LIBRARY: libringcap.
"""

import collections
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading

import flows
import transparent
from e1000e import NIC, RINGCAP, expect_status, outside_sends, until

OURS = "ether[6:4] = 0x02000000"  # what comes from flows.py; other frames are the guest's own
MEMBER_FILTER = f"{OURS} and (ip or ip6) and not udp port {flows.REFUSED_PORT}"
TCPDUMP_FILTER = f"{OURS} and ip and udp"
PYTHON_FILTER = f"{OURS} and (ip or ip6)"
MEMBERS = 2


def start_consumers(engine):
    """Each is attached, with its filter in the engine, before the next begins."""
    started = []

    def begin(words, **options):
        process = subprocess.Popen(words, **options)
        started.append(process)
        until(lambda: len(engine.stat()["consumers"]) == len(started) or process.poll() is not None, f"{words[0]} attaches")
        assert process.poll() is None, f"{words} ended with status {process.returncode}"

    begin([RINGCAP, "run", "--", "tcpdump", "-Z", "root", "-B", "1024", "-i", f"ringcap:{transparent.ENGINE}", "-w", "/tmp/tcpdump.pcap",
           TCPDUMP_FILTER])
    until(lambda: os.path.exists("/tmp/tcpdump.pcap"), "tcpdump has set its filter and opened its file")
    for number in range(MEMBERS):
        begin([RINGCAP, "capture", f"{transparent.ENGINE}@ids/m{number}", "-w", f"/tmp/member{number}.pcap", "--consumer-ring", "8192",
               MEMBER_FILTER])
    begin(["/usr/bin/python3", "-B", str(pathlib.Path(__file__).with_name("mission_reader.py")), transparent.ENGINE, PYTHON_FILTER],
          stdout=subprocess.PIPE, text=True)
    return started


def main(share):
    transparent.configure()
    before = transparent.configuration()
    connection = transparent.Talk()
    connection.goes_on("before")
    engine = transparent.Engine("--adopt", "--cluster", "ids,kind=flow5", "--arena", "400M", "--ring", "8192")
    connection.goes_on("through the engine")
    consumers = start_consumers(engine)
    transfer = threading.Thread(target=transparent.iperf)
    transfer.start()
    outside_sends(share)
    transfer.join()
    sent = f"{share}/frames.pcap"
    count = sum(1 for _ in flows.read(sent))
    until(lambda: engine.stat()["ports"][0]["queues"] and taken_from_nic(engine) >= count, "all frames are taken", 150)
    until(lambda: sum(c["in_ring"] for c in engine.stat()["consumers"]) == 0, "all frames are read")
    engine.balances()
    ledger = engine.stat()
    for process in consumers:
        process.send_signal(signal.SIGINT)
    for process, what in zip(consumers, ("tcpdump", "member 0", "member 1", "the Python reader")):
        expect_status(process, 0, what)
    connection.goes_on("after it all")
    engine.end()
    transparent.kernels_again()
    transparent.same_configuration(before, "after the engine")
    connection.end()

    assert all(c["dropped"] == 0 for c in ledger["consumers"]), ledger["consumers"]
    assert all(f["dropped"] == 0 and f["refused"] == 0 for f in ledger["forwarders"]), ledger["forwarders"]
    check_tcpdump(sent)
    flows.check(sent, *(f"/tmp/member{number}.pcap" for number in range(MEMBERS)))
    check_python(sent, json.loads(consumers[-1].stdout.read()))


def taken_from_nic(engine):
    return sum(queue["taken"] for queue in engine.stat()["ports"][0]["queues"])


def by_flow(path):
    """The frames of each flow, each way, in their order: a NIC may give the two ways to different queues."""
    found = collections.defaultdict(list)
    for (flow, _), frame in flows.read(path):
        found[flow, frame[6:12]].append(frame)
    return found


def check_tcpdump(sent):
    subprocess.run(["tcpdump", "-Z", "root", "-r", sent, "-w", "/tmp/wanted.pcap", TCPDUMP_FILTER], check=True, stderr=subprocess.DEVNULL)
    wanted, got = by_flow("/tmp/wanted.pcap"), by_flow("/tmp/tcpdump.pcap")
    assert wanted == got, f"tcpdump's file: {sum(map(len, got.values()))} frames, {sum(map(len, wanted.values()))} wanted"
    print(f"tcpdump: {sum(map(len, got.values()))} frames of {len({flow for flow, _ in got})} flows, byte for byte")


def check_python(sent, said):
    subprocess.run(["tcpdump", "-Z", "root", "-r", sent, "-w", "/tmp/python.pcap", PYTHON_FILTER], check=True, stderr=subprocess.DEVNULL)
    frames = [frame for _, frame in flows.read("/tmp/python.pcap")]
    ipv6 = sum(1 for frame in frames if frame[12:14] == b"\x86\xdd")
    wanted = {"frames": len(frames), "bytes": sum(map(len, frames)), "ipv6": ipv6}
    assert {key: said[key] for key in wanted} == wanted, (said, wanted)
    assert said["differ"] == 0, f"{said['differ']} columns differ from their frames"
    assert said["outside"] == 0, f"{said['outside']} arrays lie outside of the read-only mappings"
    print(f"Python: {said}")


if __name__ == "__main__":
    os.environ["RINGCAP_RUN_DIR"] = "/run/ringcap"
    pathlib.Path("/run/ringcap").mkdir(exist_ok=True)
    try:
        main(sys.argv[1])
    except BaseException:
        if os.path.exists("/tmp/engine.log"):
            print(pathlib.Path("/tmp/engine.log").read_text(), file=sys.stderr)
        subprocess.run([RINGCAP, "stat", transparent.ENGINE], check=False, stdout=sys.stderr)
        raise
    print("passed")
