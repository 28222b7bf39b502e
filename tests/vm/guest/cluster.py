#!/usr/bin/python3
"""The guest's half of tests/vm/cluster_test: four members of one cluster on one NIC of several queues.

    cluster.py QUEUES SHARE

RINGCAP names the program. What is sent outside is SHARE/frames.pcap (flows.py).
"""

import os
import signal
import subprocess
import sys

import e1000e
import flows

MEMBERS = 4


def member(engine, number):
    """Each has a filter of its own; all of them refuse one port."""
    words = [e1000e.RINGCAP, "capture", f"nic@pool/m{number}", "-w", f"/tmp/member{number}.pcap",
             f"not (udp port {flows.REFUSED_PORT}) and not ether src 02:00:00:00:01:{number:02x}"]
    process = subprocess.Popen(words)
    e1000e.until(lambda: len(engine.stat()["consumers"]) > number or process.poll() is not None, "a member attaches")
    assert process.poll() is None, f"member {number} ended with status {process.returncode}"
    return process


def main(queues, share):
    e1000e.bind()
    e1000e.PORT = f"vfio:{e1000e.NIC},queues={queues}"
    sent = f"{share}/frames.pcap"
    engine = e1000e.Engine(ring=4096, arena="256M", more=["--filter", "ip or ip6", "--cluster", "pool,kind=flow5"])
    members = [member(engine, number) for number in range(MEMBERS)]
    count = sum(1 for _ in flows.read(sent))
    e1000e.outside_sends(share)
    e1000e.until(lambda: sum(w["taken"] for w in engine.stat()["workers"]) >= count, "all frames are taken", 180)
    e1000e.until(lambda: sum(c["in_ring"] for c in engine.stat()["consumers"]) == 0, "all frames are written")
    ledger = e1000e.balanced(engine)
    for process in members:
        process.send_signal(signal.SIGINT)
        e1000e.expect_status(process, 0, "a member")
    engine.end()
    flows.check(sent, *(f"/tmp/member{number}.pcap" for number in range(MEMBERS)))
    busy = [queue["taken"] for queue in ledger["ports"][0]["queues"]]
    assert len(busy) == queues and all(busy), f"frames by queue: {busy}"
    assert all(worker["copied"] == 0 for worker in ledger["workers"]), "a frame was copied"
    print(f"frames by queue: {busy}")


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
