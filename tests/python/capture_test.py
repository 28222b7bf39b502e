"""Attaching and files: lifetime of views, ends and errors, waiting, threads, processes."""

import asyncio
import ctypes
import gc
import multiprocessing
import os
import pickle
import select
import signal
import subprocess
import sys
import threading
import time
import warnings
import weakref

import lab
import numpy as np
import pytest
import ringcap

GENERATOR = "gen:size=64,count=200000,full=wait", "--wait-consumers", "1"


def frames(tmp_path, count=20_000):
    """A file of `count` different frames."""
    return lab.write_pcap(tmp_path / "frames.pcap", [lab.udp(i.to_bytes(4, "big") * 5, sport=i % 60000) for i in range(count)])


def number(frame):
    return int.from_bytes(frame[42:46], "big")


# ---- lifetime ----

@pytest.fixture(params=["live", "file"])
def cap(request, tmp_path):
    path = frames(tmp_path)
    if request.param == "file":
        with ringcap.open(path) as cap:
            yield cap
    else:
        with lab.engine(f"pcap:{path},speed=max,full=wait", "--wait-consumers", "1"), lab.attach() as cap:
            yield lab.filled(cap)


def test_views_are_read_only_and_cannot_be_made_writable(cap):
    burst = cap.take()
    for array in (burst.descriptors, burst.arena, burst.timestamp, burst.length):
        assert not array.flags.writeable
        with pytest.raises(ValueError):
            array.flags.writeable = True
    frame = burst.frame(0)
    with pytest.raises(TypeError):
        frame[0] = 1
    assert np.shares_memory(burst.timestamp, burst.descriptors)
    assert np.shares_memory(np.frombuffer(frame, np.uint8), burst.arena)


def test_an_old_view_never_shows_another_frames_bytes(cap):
    frame, first = None, None
    seen = 0
    for burst in cap.bursts(max_frames=64):
        if frame is None:
            frame, times = burst.frame(5), burst.timestamp
            first, copy = bytes(frame), times.copy()
        seen += len(burst)
        if seen >= 10_000:
            break
    assert bytes(frame) == first and number(frame) == 5
    assert (times == copy).all()


def test_a_burst_goes_back_when_it_is_over_and_its_last_view_is_gone(cap):
    burst = cap.take(max_frames=100)
    view = burst.timestamp[10:20]
    part = memoryview(burst.frame(3))[2:]
    n = len(burst)
    assert cap.held == n
    other = cap.take(max_frames=100)
    m = len(other)
    assert cap.held == n + m
    del view
    assert cap.held == n + m
    del part
    assert cap.held == m
    with pytest.raises(ValueError, match="given back"):
        burst.timestamp
    cap.take(max_frames=100)
    with pytest.raises(ValueError, match="given back"):
        other.frame(0)


def test_release_raises_buffer_error_while_views_exist(cap):
    burst = cap.take(max_frames=100)
    view = burst.length
    frame = burst.frame(1)
    selected = burst[:5]
    for name in ("view", "frame", "selected"):
        with pytest.raises(BufferError):
            burst.release()
        assert cap.held == len(burst)
        if name == "view":
            del view
        elif name == "frame":
            del frame
        else:
            del selected
    burst.release()
    assert cap.held == 0


def test_keep_copies_and_can_be_pickled(cap):
    burst = cap.take(max_frames=100)
    kept = burst[burst.source_port >= 10].keep()
    expected = [bytes(f) for f in burst.frames()][10:]
    ports = burst.destination_port.tolist()[10:]
    burst.release()
    assert cap.held == 0
    other = pickle.loads(pickle.dumps(kept))
    for b in (kept, other):
        assert [bytes(f) for f in b.frames()] == expected
        assert b.destination_port.tolist() == ports
        assert b.queue.tolist() == [0] * len(b)
    with pytest.raises(TypeError):
        pickle.dumps(cap.take())


def test_views_stay_readable_after_close(tmp_path):
    with lab.engine(*GENERATOR):
        cap = lab.filled(lab.attach())
        burst = cap.take(max_frames=50)
        times, frame = burst.timestamp, burst.frame(49)
        copies = times.copy(), bytes(frame)
        cap.close()
        with pytest.raises(ringcap.UsageError, match="closed"):
            cap.take()
        assert (times == copies[0]).all() and bytes(frame) == copies[1]
        del times, frame, burst


def test_holding_half_the_ring_warns(tmp_path):
    with lab.engine("gen:size=64,full=drop", "--wait-consumers", "1"), lab.attach(ring_frames=1024) as cap:
        kept = []
        with pytest.warns(ResourceWarning, match="held"):
            while cap.held < 900:
                kept.append(cap.take(max_frames=64).timestamp)
        lab.wait_until(lambda: cap.stats.dropped > 0, "a loss")
        kept.clear()
        taken = (cap.take() for _ in range(1000))
        assert any(burst.lost_before.any() for burst in taken)


def test_selections_hold_the_burst_and_select_its_frames(cap):
    burst = cap.take(max_frames=100)
    chosen = burst[burst.source_port % 7 == 3]
    assert [number(f) % 7 for f in chosen.frames()] == [3] * len(chosen) and len(chosen) > 10
    assert number(burst[np.array([9, 2])].frame(1)) == 2
    assert (chosen.source_port % 7 == 3).all()


# ---- ends and errors ----

def command_line(*arguments):
    run = subprocess.run([lab.PROGRAM, *arguments], capture_output=True, text=True)
    return run.stderr


def says_the_same(error, stderr):
    return all(" ".join(part.split()) in " ".join(stderr.split()) for part in (error.text, error.mend) if part)


def test_attach_to_nothing_says_what_the_command_line_says():
    with lab.run_dir():
        with pytest.raises(ringcap.NotFound) as wrong:
            ringcap.attach("nobody")
        assert isinstance(wrong.value, LookupError) and isinstance(wrong.value, ringcap.Error)
        assert says_the_same(wrong.value, command_line("stat", "nobody"))


def test_a_bad_filter_says_what_the_command_line_says(tmp_path):
    path = frames(tmp_path, 10)
    with pytest.raises(ringcap.FilterError) as wrong:
        ringcap.open(path, filter="port and")
    assert isinstance(wrong.value, ValueError)
    with lab.run_dir():
        assert says_the_same(wrong.value, command_line("filter", "port and"))


def test_a_name_that_cannot_be_is_a_usage_error():
    with lab.run_dir(), pytest.raises(ringcap.UsageError):
        ringcap.attach("a b@c")


def test_a_cut_file_gives_what_is_before_the_cut_and_then_says_where(tmp_path):
    path = frames(tmp_path, 1000)
    data = path.read_bytes()
    path.write_bytes(data[:-30])
    seen = 0
    with ringcap.open(path) as cap, pytest.raises(ringcap.UsageError, match="is cut at byte") as wrong:
        for burst in cap.bursts(max_frames=300):
            seen += len(burst)
    assert seen == 999
    assert says_the_same(wrong.value, command_line("balance", str(path)))


def test_damaged_files_of_the_corpus_raise_and_never_crash():
    raised = 0
    for path in sorted((lab.TOP / "tests/data/captures").iterdir()):
        try:
            with ringcap.open(path) as cap:
                for burst in cap.bursts():
                    burst.columns()
        except ringcap.Error:
            raised += 1
    assert raised > 5


def test_a_file_that_is_not_there_is_not_found():
    with pytest.raises(ringcap.NotFound, match="there is no file"):
        ringcap.open("/nowhere/at/all.pcap")


def test_each_error_of_the_library_has_its_exception():
    from ringcap import library

    kinds = {-1: OSError, -2: ValueError, -3: ValueError, -4: ringcap.EngineGone, -5: PermissionError, -6: LookupError,
             -7: ringcap.VersionError}
    for code, kind in kinds.items():
        error = library.Error(code=code, text=b"what is wrong", mend=b"what mends it").exception()
        assert isinstance(error, kind) and isinstance(error, ringcap.Error)
        assert str(error) == "what is wrong; what mends it"


def test_an_engine_that_ends_is_told_in_the_words_of_the_command_line():
    with lab.engine("gen:size=64,rate=100k") as engine, lab.attach() as cap:
        other = subprocess.Popen([lab.PROGRAM, "capture", "lab", "-w", "-"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert len(other.stdout.read(500)) == 500  # it has frames
        engine.kill()
        with pytest.raises(ringcap.EngineGone) as wrong:
            while cap.take() is not None:
                pass
        assert says_the_same(wrong.value, other.communicate(timeout=60)[1].decode())


def test_an_engine_killed_while_a_burst_is_held_leaves_the_views_readable():
    with lab.engine(*GENERATOR) as engine, lab.attach() as cap:
        burst = lab.filled(cap).take(max_frames=1000)
        frame, times = burst.frame(0), burst.timestamp
        copies = bytes(frame), times.copy()
        engine.kill()
        with pytest.raises(ringcap.EngineGone) as wrong:
            while cap.take() is not None:
                pass
        assert "has ended" in str(wrong.value)
        assert bytes(frame) == copies[0] and (times == copies[1]).all()


READER = """
import sys, ringcap
cap = ringcap.attach("lab", wait=10, program="reader")
held = [cap.take(max_frames=100).timestamp for _ in range(5)]
print("holding", flush=True)
sys.stdin.read()
"""


def test_a_reader_killed_while_it_holds_frames_costs_nobody_anything():
    with lab.engine("gen:size=64,full=wait,count=400000", "--wait-consumers", "2"):
        reader = subprocess.Popen([sys.executable, "-c", READER], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        with lab.attach() as cap:
            assert reader.stdout.readline() == b"holding\n"
            reader.kill()
            reader.wait()
            seen = sum(len(burst) for burst in cap.bursts())
        reader.stdin.close()
        reader.stdout.close()
    assert seen == 400_000


def test_the_end_of_the_sources_ends_the_iteration():
    with lab.engine(*GENERATOR), lab.attach() as cap:
        seen = sum(len(burst) for burst in cap.bursts())
        assert seen == 200_000
        stats = cap.stats
        assert stats.considered == stats.not_matched + stats.offered and stats.offered == stats.published + stats.dropped
        assert (stats.received, stats.dropped) == (200_000, 0)


def test_a_filter_is_counted(tmp_path):
    path = frames(tmp_path, 1000)
    with lab.engine(f"pcap:{path},speed=max", "--wait-consumers", "1"), lab.attach(filter="udp src port 77") as live, \
            ringcap.open(path, filter="udp src port 77") as file:
        for cap in (live, file):
            assert [number(f) for burst in cap.bursts() for f in burst.frames()] == [77]
            lab.wait_until(lambda: cap.stats.filtered == 999, "the ledger")
            assert cap.stats.received == 1


def test_two_members_of_a_cluster_share_the_flows():
    with lab.engine("gen:size=64,count=100000,flows=1000,full=wait", "--wait-consumers", "2"):
        with lab.attach("lab@ids/one") as one, lab.attach("lab@ids/two") as two:
            counts, flows = [0, 0], [set(), set()]

            def read(i, cap):
                for burst in cap.bursts():
                    counts[i] += len(burst)
                    flows[i].update(burst.hash.tolist())

            threads = [threading.Thread(target=read, args=(i, cap)) for i, cap in enumerate((one, two))]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(60)
    assert sum(counts) == 100_000 and min(counts) > 0
    assert not flows[0] & flows[1]


# ---- waiting ----

def test_max_wait_gives_an_empty_burst():
    with lab.engine("gen:size=64,rate=1"), lab.attach() as cap:
        seen = [len(burst) for burst, _ in zip(cap.bursts(max_wait=0.01), range(5))]
        assert 0 in seen
        assert len(cap.take(max_wait=0).timestamp) in (0, 1)


ATTACHER = """
import ringcap
try:
    print("waiting", flush=True)
    ringcap.attach("nobody", wait=None)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""

OPENER = """
import ringcap
try:
    print("waiting", flush=True)
    ringcap.open("-")
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


@pytest.mark.parametrize("program", [ATTACHER, OPENER], ids=["attach", "open"])
def test_ctrl_c_ends_a_wait_for_an_engine_or_a_pipe_at_once(program):
    with lab.run_dir():
        waiter = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert waiter.stdout.readline() == b"waiting\n"
        before = time.monotonic()
        waiter.send_signal(signal.SIGINT)
        assert waiter.stdout.readline() == b"interrupted\n"
        assert time.monotonic() - before < 10  # it never came before
        waiter.wait(60)
        waiter.stdin.close()
        waiter.stdout.close()


def test_attach_waits_for_an_engine_that_appears_and_no_longer_than_told():
    with lab.run_dir():
        before = time.monotonic()
        with pytest.raises(ringcap.NotFound, match="no engine called"):
            ringcap.attach("nobody", wait=0.3)
        assert time.monotonic() - before >= 0.3
    found = []
    with lab.run_dir() as directory:
        waiter = threading.Thread(target=lambda: found.append(ringcap.attach("lab", wait=60)))
        waiter.start()
        with lab.engine("gen:size=64,rate=100", directory=directory):
            waiter.join(60)
            found.pop().close()


WAITER = """
import signal, sys, time, ringcap
cap = ringcap.attach("lab", wait=10)
try:
    print("waiting", flush=True)
    for burst in cap.bursts():
        pass
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


def test_ctrl_c_ends_a_wait_at_once():
    with lab.engine("gen:size=64,count=1", "--wait-consumers", "2"):
        waiter = subprocess.Popen([sys.executable, "-c", WAITER], stdout=subprocess.PIPE)
        assert waiter.stdout.readline() == b"waiting\n"
        before = time.monotonic()
        waiter.send_signal(signal.SIGINT)
        assert waiter.stdout.readline() == b"interrupted\n"
        waited = time.monotonic() - before
        waiter.wait(60)
        waiter.stdout.close()
    assert waited < 1


def test_the_interpreters_lock_is_free_while_waiting():
    with lab.engine("gen:size=64,count=1", "--wait-consumers", "2"), lab.attach() as cap:
        waiting = threading.Thread(target=lambda: list(cap.bursts()))
        waiting.start()
        turns, until = 0, time.monotonic() + 0.2
        while time.monotonic() < until:
            turns += 1
        cap.stop()
        waiting.join(10)
        assert not waiting.is_alive() and turns > 1000
        assert type(cap._library) is ctypes.CDLL  # which lets go of the lock during every call, PyDLL does not


def test_select_and_asyncio_wait_on_fileno():
    with lab.engine("gen:size=64,count=5000,full=wait", "--wait-consumers", "1"), lab.attach() as cap:
        assert select.select([cap], [], [], 10)[0] == [cap]

        async def count():
            return sum([len(burst) async for burst in cap])

        assert asyncio.run(asyncio.wait_for(count(), 60)) == 5000


def test_async_for_reads_a_file(tmp_path):
    async def count():
        with ringcap.open(frames(tmp_path, 500)) as cap:
            return sum([len(burst) async for burst in cap])

    assert asyncio.run(count()) == 500


# ---- threads and processes ----

def test_views_may_be_dropped_by_another_thread_while_one_waits():
    with lab.engine("gen:size=64,full=drop", "--wait-consumers", "1"), lab.attach(ring_frames=2048) as cap:
        views, go = [], threading.Semaphore(0)

        def drop():
            while go.acquire():
                if not views:
                    return
                views.pop()

        dropper = threading.Thread(target=drop)
        dropper.start()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            for _ in range(2000):
                views.append(cap.take(max_frames=64).timestamp)
                go.release()
        while views:
            go.release()
        go.release()
        dropper.join(30)
        cap.take(max_frames=1).release()
        assert cap.held == 0


def member(queue, name):
    """A process of multiprocessing's: attaches by itself, and sends what it kept."""
    with ringcap.attach(f"lab@ids/{name}", wait=60) as cap:
        queue.put([burst.keep() for burst in cap.bursts()])


def test_processes_of_multiprocessing_share_the_flows_and_send_what_they_kept():
    context = multiprocessing.get_context("spawn")
    with lab.engine("gen:size=64,count=20000,flows=200,full=wait", "--wait-consumers", "2"):
        queue = context.Queue()
        members = [context.Process(target=member, args=(queue, name)) for name in ("one", "two")]
        for process in members:
            process.start()
        kept = [queue.get(timeout=60) for _ in members]
        for process in members:
            process.join(60)
    flows = [{value for burst in bursts for value in burst.hash.tolist()} for bursts in kept]
    assert sum(len(burst) for bursts in kept for burst in bursts) == 20_000
    assert not flows[0] & flows[1] and len(flows[0] | flows[1]) == 200


def test_a_forked_child_reads_its_views_and_can_take_nothing():
    with lab.engine(*GENERATOR), lab.attach() as cap:
        burst = lab.filled(cap).take(max_frames=10)
        frame = burst.frame(0)
        expected = bytes(frame)
        child = os.fork()
        if child == 0:
            try:
                ok = bytes(frame) == expected
                try:
                    cap.take()
                    ok = False
                except ringcap.UsageError:
                    pass
                del burst, frame
                cap.close()
            finally:
                os._exit(0 if ok else 1)
        assert os.waitpid(child, 0)[1] == 0
        del frame
        assert sum(len(b) for b in cap.bursts()) == 200_000 - 10
        with pytest.raises(TypeError, match="attach there"):
            pickle.dumps(cap)


def test_a_burst_goes_without_the_garbage_collector_whatever_was_asked_of_it(cap):
    """A burst that waited for the collector would hold its place in the ring until then."""
    gc.disable()
    try:
        burst = cap.take(max_frames=50)
        inner = burst.inner
        assert len(burst.columns()) > 20 and inner.ip_source.count() == 0 and len(burst[:5].source_port) == 5
        chosen = burst[burst.source_port >= 0]
        cap.take(max_frames=1)
        gone = weakref.ref(burst)
        del burst, inner
        assert gone() is None and cap.held == 51  # the selection holds the burst's place
        del chosen
        assert cap.held == 0
    finally:
        gc.enable()
