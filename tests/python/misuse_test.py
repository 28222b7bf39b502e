"""Used wrongly on purpose: no crash, no other frame's bytes, no place in a ring that never comes back."""

import asyncio
import copy
import os
import signal
import struct
import subprocess
import sys
import threading
import warnings

import lab
import numpy as np
import pytest
import ringcap

TRACE = lab.TOP / "tests/data/frames/plain.pcap"


@pytest.fixture
def cap():
    with ringcap.open(TRACE) as cap:
        yield cap


# ---- selections ----

def test_only_a_mask_a_slice_or_indices_select_frames(cap):
    """A field's name or a second dimension would leave something that is no descriptor, for the parser in C to read."""
    burst = cap.take()
    for wrong in ("timestamp_ns", ["location"], None, np.True_, np.array([[1, 2], [3, 4]]), 3, 1.5, np.array([1.0]), np.ones(3, bool),
                  np.ones(len(burst) + 1, bool), [len(burst)]):
        with pytest.raises((IndexError, TypeError)):
            burst[wrong]
    backwards = burst[::-1]
    assert [bytes(f) for f in backwards.frames()] == [bytes(f) for f in burst.frames()][::-1]
    assert (backwards.protocol.filled(0) == burst.protocol.filled(0)[::-1]).all()
    for wrong in (len(burst), -len(burst) - 1):
        with pytest.raises(IndexError):
            burst.frame(wrong)
    for wrong in (1.0, None, "length", slice(2)):
        with pytest.raises(TypeError):
            burst.frame(wrong)
    assert bytes(burst.frame(-1)) == bytes(burst.frame(len(burst) - 1))


def test_masked_indices_select_nothing_and_not_the_first_frame(cap):
    burst = cap.take()
    chosen = burst[np.ma.MaskedArray([5, 6, 7], mask=[False, True, False])]
    assert [bytes(f) for f in chosen.frames()] == [bytes(burst.frame(5)), bytes(burst.frame(7))]


def test_a_selection_that_could_not_be_released_still_has_its_own_frames(cap):
    burst = cap.take()
    for which in (slice(5, 8), np.array([5, 6, 7])):
        chosen = burst[which]
        expected = [bytes(f) for f in chosen.frames()]
        with pytest.raises(BufferError):
            chosen.release()
        assert [bytes(f) for f in chosen.frames()] == expected == [bytes(burst.frame(i)) for i in (5, 6, 7)]
    del burst, which
    cap.take()
    assert cap.held == 26
    chosen.release()
    assert cap.held == 0
    chosen.release()  # once more is nothing
    with pytest.raises(ValueError, match="given back"):
        chosen.frame(0)


def test_an_array_that_was_changed_in_place_changes_the_burst_for_nobody_else(cap):
    burst = cap.take()
    n, ports = len(burst), burst.source_port.filled(0).tolist()
    for change in ({"dtype": np.uint8}, {"shape": (n, 1)}, {"strides": (0,)}):
        for array in (burst.descriptors, burst.arena, burst[:].descriptors):
            for name, value in change.items():
                try:
                    setattr(array, name, value)
                except (AttributeError, TypeError, ValueError):
                    pass
    assert burst.descriptors.dtype == ringcap.DESCRIPTOR and burst.descriptors.shape == (n,)
    assert burst[:].source_port.filled(0).tolist() == ports and burst.arena.ndim == 1


def test_a_place_in_a_ring_cannot_be_copied(cap):
    burst = cap.take(max_frames=5)
    view = burst.timestamp
    base = view.base
    while isinstance(base, np.ndarray):
        base = base.base
    for it in (burst, cap, base.lease, burst.inner):
        for copied in (copy.copy, copy.deepcopy):
            with pytest.raises(TypeError):
                made = copied(it)
                copied(made._burst)  # a copy of `inner` alone is harmless, it has the same burst
    assert cap.held == 5
    kept = copy.copy(burst.keep())
    assert bytes(kept.frame(4)) == bytes(burst.frame(4))


# ---- numbers and texts that make no sense ----

def test_waits_and_sizes_that_make_no_sense_are_refused_in_words():
    with ringcap.open(TRACE) as cap, lab.run_dir():
        for call in (lambda: cap.take(max_wait=float("nan")), lambda: ringcap.attach("nobody", wait=float("nan")),
                     lambda: cap.take(max_frames=0), lambda: cap.take(max_frames=2**32 + 1), lambda: cap.take(max_frames=-1),
                     lambda: ringcap.attach("nobody", ring_frames=2**32 + 64), lambda: ringcap.attach("nobody", ring_frames=-1),
                     lambda: ringcap.open(TRACE, hash_key="zz"), lambda: ringcap.open(TRACE, hash_key="00")):
            with pytest.raises(ringcap.UsageError):
                call()
        with pytest.raises(TypeError):
            cap.take(max_frames=10.5)
        for wait in (float("inf"), -1, -float("inf"), 0, 1e30, None):
            assert len(cap.take(max_frames=np.int64(1), max_wait=wait)) == 1


def test_a_zero_byte_ends_no_text_early():
    """C would take what is before it: another file, another filter."""
    with lab.run_dir():
        for call in (lambda: ringcap.open(f"{TRACE}\0x"), lambda: ringcap.open(TRACE, filter="udp\0 and port 53"),
                     lambda: ringcap.attach("lab\0x"), lambda: ringcap.attach("lab", filter="udp\0x"),
                     lambda: ringcap.attach("lab@ids", kind="flow5\0x"), lambda: ringcap.attach("lab", program="a\0b")):
            with pytest.raises(ringcap.UsageError, match="zero byte"):
                call()


def test_a_filter_is_compiled_for_the_files_link_type(tmp_path):
    """RAW: frames begin with the IP header. Compiled for Ethernet, `udp` finds nothing there."""
    packet = lab.udp()[14:]
    path = tmp_path / "raw.pcap"
    path.write_bytes(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 101) + struct.pack("<IIII", 1, 0, len(packet), len(packet)) + packet)
    for expression, expected in (("udp port 53", 1), ("udp port 54", 0), ("", 1)):
        with ringcap.open(path, filter=expression) as cap:
            assert (cap.link_type, sum(map(len, cap))) == (101, expected), expression
            assert cap.stats.filtered == 1 - expected
    with pytest.raises(ringcap.FilterError):
        ringcap.open(path, filter="ether src 1:2:3:4:5:6 and vlan and")


# ---- interrupted at the worst place ----

def interrupt_after_the_next_take(cap):
    """Ctrl-C when C has the frames and Python does not yet."""
    take = cap._take

    def interrupted(*arguments):
        count = take(*arguments)
        cap._take = take
        signal.raise_signal(signal.SIGINT)
        return count

    cap._take = interrupted


def test_ctrl_c_between_taking_and_having_a_burst_leaves_nothing_held():
    with lab.engine("gen:size=64,count=20000,full=wait", "--wait-consumers", "1"), lab.attach(ring_frames=2048) as cap:
        lab.filled(cap, 1000)
        interrupt_after_the_next_take(cap)
        caught = None
        try:
            cap.take(max_frames=64)
        except KeyboardInterrupt as error:
            caught = error  # as sys.last_traceback keeps it
        assert caught is not None and cap.held == 0
        assert sum(map(len, cap.bursts(max_frames=64))) == 20_000 - 64  # far more than the ring has room for


def test_a_warning_that_is_an_error_leaves_no_place_taken():
    with lab.engine("gen:size=64,count=20000,full=wait", "--wait-consumers", "1"), lab.attach(ring_frames=1024) as cap:
        kept, seen = [], 0
        with warnings.catch_warnings():
            warnings.simplefilter("error", ResourceWarning)
            with pytest.raises(ResourceWarning):
                while True:
                    burst = cap.take(max_frames=64)
                    seen += len(burst)
                    kept.append(burst.timestamp)
            del burst
            kept.clear()
            received = seen + sum(map(len, cap.bursts(max_frames=64)))
        assert cap.held == 0
        assert 20_000 - 64 <= received < 20_000  # the burst that the exception took the place of


# ---- threads, tasks, the interpreter's end ----

def test_closing_while_other_threads_use_the_capture_is_an_error_for_them_and_no_crash():
    def until_closed(call, cap):
        try:
            while True:
                call(cap)
        except ringcap.UsageError as error:
            ended.append(str(error))

    calls = (lambda cap: cap.take(max_wait=0), lambda cap: cap.stats, lambda cap: cap.fileno(), lambda cap: cap.stop())
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with lab.engine("gen:size=64,rate=1k"):
            for _ in range(30):
                ended, cap = [], lab.attach(ring_frames=128)
                threads = [threading.Thread(target=until_closed, args=(call, cap)) for call in calls]
                for thread in threads:
                    thread.start()
                cap.close()
                for thread in threads:
                    thread.join()
                assert ended == ["lab was closed"] * len(calls)
                assert cap._detached
    finally:
        sys.setswitchinterval(before)


def test_a_capture_closed_during_a_call_is_detached_by_that_call():
    with lab.engine("gen:size=64,rate=1k"):
        cap = lab.attach(ring_frames=128)
        with cap._using():  # as any call is, between its look at "closed" and its use of the handle
            cap.close()
            assert not cap._detached
        assert cap._detached


def test_two_tasks_of_asyncio_may_wait_for_one_capture():
    with lab.engine("gen:size=64,count=5000,full=wait", "--wait-consumers", "2"), lab.attach() as cap:

        async def count():
            return sum([len(burst) async for burst in cap.async_bursts(max_frames=16)])

        async def both():
            tasks = [asyncio.create_task(count()) for _ in range(2)]
            while len([w for waiters in cap._waiters.values() for w in waiters]) < 2:  # both wait
                await asyncio.sleep(0)
            other = await asyncio.to_thread(lab.attach)
            drained = asyncio.to_thread(lambda: sum(map(len, other.bursts())))
            counts = await asyncio.gather(*tasks, drained)
            other.close()
            return counts

        one, two, other = asyncio.run(asyncio.wait_for(both(), 60))
        assert one + two == other == 5000
        assert not cap._waiters


LEFT_OVER = """(burst.timestamp, burst.frame(0), burst, cap, cap.bursts(),
    burst.__arrow_c_schema__(), burst.__arrow_c_array__(), burst.__arrow_c_stream__(),
    [burst.column(n).__dlpack__(max_version=v) for n in ringcap.COLUMNS for v in (None, (1, 0))],
    [np.from_dlpack(burst.column(n)) for n in ringcap.COLUMNS])"""


@pytest.mark.parametrize("where", ["sys", "builtins", "np", "ringcap"])
def test_what_is_left_over_at_the_interpreters_end_does_not_crash_it(where):
    """Modules go one after the other; these hold something until theirs goes, which may be after ours."""
    code = f"import sys, builtins, ringcap, numpy as np\ncap = ringcap.open({str(TRACE)!r})\nburst = cap.take()\n{where}.x = {LEFT_OVER}"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (0, "")


AS_PYARROW = """
import ctypes, os
from ringcap import arrow
get = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(("PyCapsule_GetPointer", ctypes.pythonapi))

class Taken:
    def __init__(self, capsule):
        theirs = arrow.Array.from_address(get(capsule, b"arrow_array"))
        self.array = arrow.Array()
        ctypes.memmove(ctypes.byref(self.array), ctypes.byref(theirs), ctypes.sizeof(theirs))
        theirs.release = type(theirs.release)()

    def __del__(self, pointer=ctypes.POINTER(arrow.Array), abort=os.abort):
        self.array.release(pointer(self.array))
        if self.array.release:
            abort()
"""


@pytest.mark.parametrize("where", ["sys", "builtins", "ctypes", "arrow"])
def test_an_arrow_array_that_is_released_at_the_interpreters_end_is_marked_released(where):
    """Arrow's own library aborts the process where it is not."""
    code = (f"import sys, builtins, ringcap\n{AS_PYARROW}\nburst = ringcap.open({str(TRACE)!r}).take()\n"
            f"{where}.x = Taken(burst.__arrow_c_array__()[1])")
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (0, "")


def test_a_forked_child_may_use_and_drop_everything_while_the_parent_reads_on():
    """Also when another thread had the capture's locks at the moment of the fork: here, this one."""
    with lab.engine("gen:size=64,count=20000,full=wait", "--wait-consumers", "1"), lab.attach() as cap:
        burst = lab.filled(cap, 1000).take(max_frames=10)
        release, has = threading.Event(), threading.Event()

        def hold():
            with cap._guard, cap._lock:
                has.set()
                release.wait()

        holder = threading.Thread(target=hold)
        holder.start()
        has.wait()
        child = os.fork()
        if child == 0:
            try:
                ok = len(burst.columns()) > 20
                for call in (cap.take, cap.stop, cap.fileno, lambda: cap.stats):
                    try:
                        call()
                        ok = False
                    except ringcap.UsageError:
                        pass
                del burst
                cap.close()
                ok = ok and not cap._detached
            finally:
                os._exit(0 if ok else 1)
        assert os.waitpid(child, 0)[1] == 0
        release.set()
        holder.join()
        del burst
        assert sum(map(len, cap.bursts())) == 20_000 - 10
