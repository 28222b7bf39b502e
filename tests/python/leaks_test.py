"""Attaching, detaching, opening and closing, again and again: nothing is left in this process, nor in the engine."""

import gc
import json
import os
import subprocess
import time

import lab
import ringcap

LONG = bool(os.environ.get("RINGCAP_LONG"))
CYCLES = 10_000 if LONG else 300
WARM = 50  # cycles before the first look: what is made once is there then
SECONDS = 10  # on a machine that is busy with other things, the short run ends here


def cycles(count=CYCLES):
    """0, 1, 2 ... at most `count` of them."""
    until = time.monotonic() + SECONDS
    for i in range(count):
        if i > WARM and not LONG and time.monotonic() > until:
            return
        yield i


def holdings(pid="self"):
    """Descriptors, mappings, and bytes of memory of a process's own."""
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/status") as status:
        own = next(int(line.split()[1]) * 1024 for line in status if line.startswith("RssAnon"))
        return len(os.listdir(f"/proc/{pid}/fd")), sum(1 for _ in maps), own


def assert_no_more(before, after):
    assert after[0] <= before[0], f"descriptors: {before[0]}, then {after[0]}"
    assert after[1] <= before[1] + 8, f"mappings: {before[1]}, then {after[1]}"  # an allocator's arenas, not one a cycle
    assert after[2] < before[2] + (2 << 20), f"memory: {before[2]}, then {after[2]}"  # 200 bytes a cycle of 10,000 are seen


def assert_engine_holds_no_more(before, engine):
    """stat() was its last client: it may not have closed that connection yet."""
    lab.wait_until(lambda: holdings(engine.process.pid)[0] <= before[0], "the descriptors that the engine had")
    assert_no_more(before, holdings(engine.process.pid))


def stat():
    return json.loads(subprocess.run([lab.PROGRAM, "stat", "lab", "--json"], check=True, capture_output=True).stdout)


def cycle(i):
    """Takes something every so often, and leaves it to the garbage collector now and then."""
    cap = lab.attach(ring_frames=128, filter="udp" if i % 3 == 0 else "", **({"program": f"reader{i}"} if i % 2 else {}))
    if i % 10 == 0:
        burst = cap.take(max_frames=16, max_wait=0)
        burst.columns()
        memory, frames = burst.timestamp, list(burst.frames())
        cap.close()
        del burst, memory, frames
    elif i % 10 != 5:
        cap.close()


def test_attaching_and_detaching_leaks_nothing():
    with lab.engine("gen:size=64,rate=10k") as engine:
        for i in range(WARM):
            cycle(i)
        gc.collect()
        lab.wait_until(lambda: not stat()["consumers"], "an engine without consumers")
        ours, theirs = holdings(), holdings(engine.process.pid)
        done = WARM + sum(1 for i in cycles() if cycle(i) is None)
        gc.collect()
        assert_no_more(ours, holdings())
        # The engine's table of consumers is empty again, and it counted every one that left.
        after = lab.wait_until(lambda: (now := stat())["departed"]["count"] == done and now, "the last one's departure")
        assert after["consumers"] == [] and after["verdict"] == "balanced"
        buffers = after["buffers"]
        assert buffers["referenced"] == 0 and buffers["total"] == buffers["port"] + buffers["free"] + buffers["in_hand"]
        assert_engine_holds_no_more(theirs, engine)


def test_refused_attachments_leak_nothing():
    with lab.engine("gen:size=64,rate=10k") as engine:
        def refused():
            for wrong in ({"ring_frames": 1 << 23}, {"name": "nobody"}, {"filter": "port and"}, {"name": "lab@ids", "kind": "odd"}):
                try:
                    ringcap.attach(**{"name": "lab"} | wrong)
                    raise AssertionError(f"{wrong} was accepted")
                except ringcap.Error:
                    pass

        lab.attach().close()
        for _ in range(WARM):
            refused()
        ours, theirs = holdings(), holdings(engine.process.pid)
        for _ in cycles(CYCLES // 4):
            refused()
        assert_no_more(ours, holdings())
        assert stat()["consumers"] == []
        assert_engine_holds_no_more(theirs, engine)


def test_opening_and_closing_files_leaks_nothing(tmp_path):
    path = lab.write_pcap(tmp_path / "frames.pcap", [lab.udp(sport=i) for i in range(2000)])

    def read():
        with ringcap.open(path) as cap:
            for burst in cap.bursts():
                burst.columns()

    for _ in range(WARM):
        read()
    before = holdings()
    for _ in cycles(CYCLES // 4):
        read()
    assert_no_more(before, holdings())
