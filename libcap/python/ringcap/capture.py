"""Capture: a running engine that we are attached to, or an open file. See ringcap.attach() and ringcap.open().

Threads may share a Capture: they take bursts in turn. Arrays may be used, and dropped, by any thread. After a fork the
child may read the arrays that it has; it can take nothing, and gives nothing back: the parent still does."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import ctypes
import dataclasses
import math
import operator
import os
import select
import threading
import time
import warnings
import weakref
from collections.abc import AsyncIterator, Iterator
from typing import Any, Literal, NoReturn

import numpy as np

from . import library
from .burst import Burst, Lease
from .errors import EngineGone, Error, UsageError

# How long one wait in C lasts: signals are handled, and what other threads gave back goes back, at least so often.
_WAIT_MS = 20


@dataclasses.dataclass(frozen=True)
class Source:
    """A receive queue that frames came from: burst.source is the index."""

    port: int     # of the engine, from 0
    queue: int    # of that port
    address: str  # of the port: "vfio:0000:03:00.0"
    clock: str    # "host", "kernel", "adapter" or "file"


@dataclasses.dataclass(frozen=True)
class Stats:
    """What became of the frames since we attached, in the ledger's words. considered = not_matched + offered,
    offered = published + dropped, published = released + in_ring. None: not counted."""

    considered: int
    not_matched: int
    offered: int
    published: int
    dropped: int
    released: int
    in_ring: int
    late: int
    missed: int | None

    @property
    def received(self) -> int:
        """Frames that matched and were given to us."""
        return self.published

    @property
    def filtered(self) -> int:
        """Frames that our filter did not match."""
        return self.not_matched


class _Entry:
    """A burst that was taken: who took it, and whether it may go back."""

    __slots__ = ("burst", "done")

    def __init__(self, burst: library.Burst) -> None:
        self.burst, self.done = burst, False


class Capture:
    """The frames of a running engine, or of a file. Made by ringcap.attach() and ringcap.open(); a context manager."""

    _closed = True

    def __init__(self, name: str, handle: ctypes.c_void_p) -> None:
        self.name = name
        self._handle = handle
        self._pid = os.getpid()
        self._lock = threading.Lock()  # one call at a time that takes or gives back
        self._guard = threading.RLock()  # of _closed and _users; reentrant: signal handlers may call stop()
        self._users = 0  # calls that use the handle: the last one of a closed capture detaches
        self._waiters: dict[asyncio.AbstractEventLoop, set[asyncio.Future[None]]] = {}
        self._pending: dict[int, collections.deque[_Entry]] = {}
        self._dirty = False
        self._held = 0
        self._current: weakref.ref[Burst] | None = None
        self._warned = False
        self._broken = False
        self._closed = False
        self._detached = False
        self._library = library.library()
        self.sources: tuple[Source, ...] = ()

    # What a live engine and a file set in their own way.
    clock: str
    link_type: int
    ring_frames: int | None
    _arena_bytes: int

    def _set_sources(self, sources: tuple[Source, ...]) -> None:
        self.sources = sources
        self._ports = np.array([s.port for s in sources], np.uint32)
        self._queues = np.array([s.queue for s in sources], np.uint32)

    # ---- what a live engine and a file do differently ----

    def _take(self, burst: library.Burst, max_frames: int, wait_ms: int) -> int:
        raise NotImplementedError

    def _give(self, burst: library.Burst) -> None:
        raise NotImplementedError

    def _end(self) -> None:
        raise NotImplementedError

    def _error(self) -> Error:
        raise NotImplementedError

    @property
    def stats(self) -> Stats:
        """What became of the frames so far."""
        raise NotImplementedError

    def fileno(self) -> int:
        """For select, poll and asyncio: readable when take(max_wait=0) would give something."""
        raise NotImplementedError

    # ---- taking ----

    def bursts(self, max_frames: int = 4096, max_wait: float | None = None) -> Iterator[Burst]:
        """Bursts, until the source ends, or stop() is called. `max_frames`: 1 to 4096 of a live engine (65,536 of a
        file). `max_wait`, in seconds: if no frame came for so long, an empty burst comes; None, or infinity: it waits; 0
        or less: it does not.

        A burst is the current one until the next is asked for; then it goes back to the engine, unless arrays or frames
        of it are still in use. Raises EngineGone when the engine ends without its sources having ended; UsageError
        where a file is cut or damaged, after all frames before that place."""
        while (burst := self.take(max_frames, max_wait)) is not None:
            yield burst

    def __iter__(self) -> Iterator[Burst]:
        return self.bursts()

    def take(self, max_frames: int = 4096, max_wait: float | None = None) -> Burst | None:
        """One burst, as bursts() gives it; None at the end."""
        deadline = _deadline(max_wait)
        self._retire_current()
        while True:
            burst = self._try(max_frames, _next_wait_ms(deadline))
            if burst is not False:
                return burst
            if deadline is not None and time.monotonic() >= deadline:
                return Burst(self, None, np.empty(0, library.DESCRIPTOR), np.empty(0, np.uint8))

    def _try(self, max_frames: int, wait_ms: int) -> Burst | Literal[False] | None:
        """A burst, None at the end, False if there is nothing yet."""
        self._usable()
        max_frames = operator.index(max_frames)
        if not 1 <= max_frames <= 65536:
            raise UsageError(f"a burst has 1 to 65536 frames, not {max_frames}")
        # The lease is there before the frames are: whatever interrupts us from here on (Ctrl-C, a warning that is an error), they
        # go back. Nor does the exception, which holds this call's names, hold them.
        entry = _Entry(library.Burst())
        lease: Lease | None = Lease(self, entry)
        burst: Burst | None = None
        try:
            count = self._take_into(entry, max_frames, wait_ms)
            if count <= 0:
                return False if count == 0 else None
            self._watch_held(count)
            burst = Burst(self, lease)
            self._current = weakref.ref(burst)
            return burst
        except BaseException:
            burst = lease = None
            raise

    def _take_into(self, entry: _Entry, max_frames: int, wait_ms: int) -> int:
        with self._using():
            with self._locked():
                try:
                    count = self._take(entry.burst, max_frames, wait_ms)
                finally:
                    if entry.burst.count:
                        self._pending.setdefault(entry.burst.ring, collections.deque()).append(entry)
                        self._held += entry.burst.count
            if count < 0 and count not in (library.END, library.BREAK):
                raise self._error()
            return count

    def _usable(self) -> None:
        if self._closed:
            raise UsageError(f"{self.name} was closed")
        if os.getpid() != self._pid:
            raise UsageError(f"{self.name} was attached by another process", "attach again after a fork")

    @contextlib.contextmanager
    def _using(self) -> Iterator[None]:
        """For every call that has the handle: who closes the capture meanwhile leaves it to the last of these to detach."""
        self._usable()
        with self._guard:
            self._usable()
            self._users += 1
        try:
            yield
        finally:
            with self._guard:
                self._users -= 1
            if self._closed:
                self._dirty = True
                self._collect()

    def _retire_current(self) -> None:
        current, self._current = self._current, None
        if current is not None and (burst := current()) is not None:
            burst._retire()

    def _watch_held(self, count: int) -> None:
        """Warns when more than half of the ring is held by views of bursts that are over."""
        over = self.ring_frames is not None and self._held - count > self.ring_frames // 2
        first, self._warned = over and not self._warned, over
        if first:
            warnings.warn(f"{self._held - count} frames of {self.name} are held by arrays or frames of earlier bursts, more than half "
                          f"of the ring ({self.ring_frames}): frames will be lost; keep() what is needed longer",
                          ResourceWarning, stacklevel=5)

    def __aiter__(self) -> AsyncIterator[Burst]:
        return self.async_bursts()

    async def async_bursts(self, max_frames: int = 4096, max_wait: float | None = None) -> AsyncIterator[Burst]:
        """bursts() for asyncio: waits on fileno() without a thread."""
        _deadline(max_wait)
        fd = self.fileno()
        while True:
            self._retire_current()
            burst = self._try(max_frames, 0)
            if burst is None:
                return
            if burst is False and not await self._readable(fd, max_wait):
                burst = Burst(self, None, np.empty(0, library.DESCRIPTOR), np.empty(0, np.uint8))
            if burst is not False:
                yield burst

    async def _readable(self, fd: int, max_wait: float | None) -> bool:
        """Waits until the descriptor is readable; False when the time was over. Several tasks may: all of them look then."""
        loop = asyncio.get_running_loop()
        ready, waiters = loop.create_future(), self._waiters.setdefault(loop, set())
        if not waiters:
            loop.add_reader(fd, _wake, waiters)
        waiters.add(ready)
        try:
            await asyncio.wait_for(ready, max_wait)
            return True
        except asyncio.TimeoutError:
            return False
        finally:
            waiters.discard(ready)
            if not waiters:
                loop.remove_reader(fd)
                self._waiters.pop(loop, None)

    # ---- giving back ----

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """The handle is ours alone; bursts that were dropped meanwhile go back afterwards."""
        with self._lock:
            yield
        self._collect()

    def _give_back(self, entry: _Entry) -> None:
        """Called when a burst's last view is gone, by any thread, also by one that holds the lock."""
        entry.done = True
        self._dirty = True
        self._collect()

    def _collect(self) -> None:
        while self._dirty and os.getpid() == self._pid:
            if not self._lock.acquire(blocking=False):
                return  # whoever has it looks again
            try:
                self._dirty = False
                self._collect_done()
            finally:
                self._lock.release()

    def _collect_done(self) -> None:
        """Gives back, of each ring, what is done up to the first burst that is not: a ring is in order."""
        for pending in self._pending.values():
            last = None
            while pending and pending[0].done:
                last = pending.popleft()
                self._held -= last.burst.count
                if not self._in_order:
                    self._give(last.burst)
            if last is not None and self._in_order:
                self._give(last.burst)
        if self._closed and not self._detached and not self._users and not any(self._pending.values()):
            self._detached = True
            self._end()

    _in_order = True

    @property
    def held(self) -> int:
        """Frames that were taken and not given back, those of the current burst included."""
        return self._held

    # ---- ending ----

    def stop(self) -> None:
        """Makes bursts() end. Any thread, or a signal handler."""
        raise NotImplementedError

    def close(self) -> None:
        """Detaches. Arrays and frames that are in use stay readable; the engine keeps our place until they are gone. Another
        thread that is taking frames gets a UsageError."""
        if self._closed:
            return
        self._retire_current()
        if os.getpid() != self._pid:  # whose threads, and what they had locked, are not here
            self._closed = True
            return
        with self._guard:
            self._closed = True
        self._dirty = True
        self._collect()

    def __enter__(self) -> Capture:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def __reduce__(self) -> NoReturn:
        raise TypeError("a capture cannot be sent to another process: attach there")

    def __repr__(self) -> str:
        return f"<ringcap.{type(self).__name__} {self.name}>"


class Live(Capture):
    """A running engine that we are attached to."""

    def __init__(self, name: str, handle: ctypes.c_void_p) -> None:
        super().__init__(name, handle)
        lib = self._library
        self.clock: str = lib.ringcap_clock(handle).decode()
        self.link_type: int = lib.ringcap_link_type(handle)
        self.ring_frames: int | None = lib.ringcap_ring_frames(handle) * lib.ringcap_rings(handle)
        self._arena_bytes = lib.ringcap_arena_bytes(handle)
        self._set_sources(tuple(self._sources()))

    def _sources(self) -> Iterator[Source]:
        found = library.Source()
        while self._library.ringcap_source_of(self._handle, index := getattr(self, "_next", 0), ctypes.byref(found)) == 0:
            self._next = index + 1
            yield Source(found.port, found.queue, found.address.decode(), found.clock.decode())

    def _take(self, burst: library.Burst, max_frames: int, wait_ms: int) -> int:
        return self._library.ringcap_take(self._handle, max_frames, wait_ms, ctypes.byref(burst))

    def _give(self, burst: library.Burst) -> None:
        self._library.ringcap_give_back(self._handle, ctypes.byref(burst))

    def _end(self) -> None:
        self._library.ringcap_detach(self._handle)

    def _error(self) -> Error:
        return self._library.ringcap_last_error(self._handle).contents.exception()

    def stop(self) -> None:
        with self._using():
            self._library.ringcap_breakloop(self._handle)

    @property
    def stats(self) -> Stats:
        """What became of the frames so far."""
        counters = library.Counters()
        with self._using():
            self._library.ringcap_stats(self._handle, ctypes.byref(counters))
        values: dict[str, Any] = {name: getattr(counters, name) for name, *_ in counters._fields_}
        if values["missed"] == 2**64 - 1:
            values["missed"] = None
        return Stats(**values)

    def fileno(self) -> int:
        """For select, poll and asyncio: readable when take(max_wait=0) would give something."""
        with self._using(), self._locked():
            return int(self._library.ringcap_fd(self._handle))


class File(Capture):
    """An open pcap or pcapng file."""

    clock = "file"
    ring_frames: int | None = None
    _in_order = False

    def __init__(self, name: str, handle: ctypes.c_void_p) -> None:
        super().__init__(name, handle)
        self.link_type: int = self._library.ringcap_file_link_type(handle)
        self._arena_bytes = self._library.ringcap_file_arena_bytes(handle)
        self._set_sources((Source(0, 0, f"pcap:{name}", "file"),))

    def _take(self, burst: library.Burst, max_frames: int, wait_ms: int) -> int:
        if self._broken:
            return library.BREAK
        return self._library.ringcap_file_take(self._handle, max_frames, wait_ms, ctypes.byref(burst))

    def _give(self, burst: library.Burst) -> None:
        self._library.ringcap_file_give_back(self._handle, ctypes.byref(burst))

    def _end(self) -> None:
        self._library.ringcap_file_close(self._handle)

    def _error(self) -> Error:
        return self._library.ringcap_file_last_error(self._handle).contents.exception()

    def stop(self) -> None:
        self._broken = True

    @property
    def stats(self) -> Stats:
        """What became of the frames so far."""
        considered, not_matched = ctypes.c_uint64(), ctypes.c_uint64()
        with self._using():
            self._library.ringcap_file_counts(self._handle, ctypes.byref(considered), ctypes.byref(not_matched))
        offered = considered.value - not_matched.value
        return Stats(considered.value, not_matched.value, offered, offered, 0, offered - self._held, self._held, 0, None)

    def fileno(self) -> int:
        """Files have none: they are always ready."""
        raise UsageError(f"{self.name} is a file: there is nothing to wait for")

    async def async_bursts(self, max_frames: int = 4096, max_wait: float | None = None) -> AsyncIterator[Burst]:
        """bursts() for asyncio: lets other tasks run between bursts."""
        for burst in self.bursts(max_frames, max_wait):
            yield burst
            await asyncio.sleep(0)


def _deadline(seconds: float | None) -> float | None:
    """By time.monotonic(), when a wait of so many seconds is over; None: never."""
    if seconds is None or seconds == math.inf:
        return None
    if math.isnan(seconds):
        raise UsageError("a wait of nan seconds has no end that could be told", "None waits for ever, 0 not at all")
    return time.monotonic() + max(0.0, seconds)


def _next_wait_ms(deadline: float | None) -> int:
    """How long the next call in C may wait."""
    return _WAIT_MS if deadline is None else max(0, min(round((deadline - time.monotonic()) * 1000), _WAIT_MS))


def _wake(waiters: set[asyncio.Future[None]]) -> None:
    for ready in waiters:
        if not ready.done():
            ready.set_result(None)


def attach(name: str, filter: str = "", *, ring_frames: int = 0, allow_smaller: bool = False, merge: bool = False,
           wait: float | None = 0, program: str = "", kind: str = "", level: str = "") -> Live:
    """Attaches to a running engine: NAME, NAME@CLUSTER or NAME@CLUSTER/MEMBER.

    `filter`: pcap-filter(7) text. `ring_frames`: per worker of the engine, 0: its default; `allow_smaller`: take what
    fits. `merge`: the frames of all workers in order of time. `wait`: seconds for the engine to appear, None: for ever.
    `kind`, `level`: of a cluster. Raises NotFound, PermissionError, VersionError, UsageError, FilterError, Error."""
    lib = library.library()
    if not 0 <= ring_frames < 2**32:
        raise UsageError(f"a ring of {ring_frames} frames is not possible", "0 is the engine's default")
    options = library.Options(size=ctypes.sizeof(library.Options), program=library.text(program or _program()), ring_frames=ring_frames,
                              flags=(library.ALLOW_SMALLER if allow_smaller else 0) | (library.MERGE if merge else 0),
                              kind=library.text(kind) or None, level=library.text(level) or None)
    encoded = library.text(name)
    if compiled := library.compile_filter(filter):
        options.filter, options.filter_length = compiled, len(compiled)
    handle, error = ctypes.c_void_p(), library.Error()
    deadline = _deadline(wait)
    while True:  # in short waits, so that signals are handled
        options.wait_ms = _next_wait_ms(deadline)
        if lib.ringcap_attach(encoded, ctypes.byref(options), ctypes.byref(handle), ctypes.byref(error)) == 0:
            return _filter_fits(Live(name, handle), compiled is not None)
        if options.wait_ms == 0 or not error.text.startswith(_NO_ENGINE_YET):
            raise error.exception()


def _filter_fits(live: Live, filtered: bool) -> Live:
    """Filters are compiled before we know what an engine has; they are for Ethernet."""
    if filtered and live.link_type != library.ETHERNET:
        live.close()
        raise UsageError(f"the frames of {live.name} are not Ethernet (link type {live.link_type}): a filter is not possible")
    return live


# How the errors begin that an engine which is to appear, or is starting, makes (capture/base/run_dir.cc). Others are its answer.
_NO_ENGINE_YET = b"no engine called", b"cannot connect to engine"


def open(path: str | bytes | os.PathLike[str], filter: str = "", *, hash_key: str | bytes = b"") -> File:  # noqa: A001
    """Opens a pcap or pcapng file; "-" is standard input. The frames come as a live engine's do, at full speed.

    `hash_key`: 16 bytes or 32 hexadecimal digits, as `ringcap up --hash-key` has it, for the same flow hashes. Raises
    NotFound, PermissionError, UsageError, FilterError, Error."""
    lib = library.library()
    encoded = library.text(path)
    key = _key(hash_key)
    options = library.FileOptions(size=ctypes.sizeof(library.FileOptions))
    buffer = ctypes.create_string_buffer(key, 16) if key else None
    options.hash_key = ctypes.cast(buffer, ctypes.c_char_p) if buffer else None
    library.text(filter)
    if os.fspath(path) in ("-", b"-") and not os.isatty(0):
        while not select.select([0], [], [], _WAIT_MS / 1000)[0]:  # in C, signals would wait for the first frame
            pass
    handle, error = ctypes.c_void_p(), library.Error()
    if lib.ringcap_file_open(encoded, ctypes.byref(options), ctypes.byref(handle), ctypes.byref(error)) != 0:
        raise error.exception()
    file = File(os.fsdecode(path), handle)
    try:
        if compiled := library.compile_filter(filter, file.link_type):
            if lib.ringcap_file_filter(handle, compiled, len(compiled)) != 0:
                raise file._error()
    except BaseException:
        file.close()
        raise
    return file


def _key(given: str | bytes) -> bytes:
    try:
        key = bytes.fromhex(given) if isinstance(given, str) else bytes(given)
    except ValueError:
        raise UsageError(f"a hash key has 32 hexadecimal digits, not '{given!s}'") from None
    if key and len(key) != 16:
        raise UsageError(f"a hash key has 16 bytes, not {len(key)}")
    return key


def _program() -> str:
    import __main__

    return os.path.basename(getattr(__main__, "__file__", None) or "python3")[:31]


# EngineGone is raised from here, by its code.
__all__ = ["Capture", "EngineGone", "File", "Live", "Source", "Stats", "attach", "open"]
