"""Burst: the frames that were taken in one call, as arrays.

Who holds what. A Lease stands for the burst's place in the engine's ring (or the file's block) and gives it back when it
is collected. Arrays over shared memory have a Memory as their base, which holds the Lease; memoryviews of frames hold such
an array. A Burst holds its Lease while it is the current one, and a selection (`burst[mask]`) always does. So the place
goes back when the burst is no longer current and nobody has a view of it, and no view ever shows another frame's bytes.
All of it is read-only: the memory itself is, and NumPy knows."""

from __future__ import annotations

import operator
import weakref
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from . import arrow, dlpack
from .columns import NAMES, Columns, Parsed, ParsedColumns
from .library import DESCRIPTOR, OFFSET_BITS, OFFSET_MASK

if TYPE_CHECKING:
    import pandas  # type: ignore[import]

    from .capture import Capture, Source

OUTGOING, TRUNCATED, BAD_CRC, BAD_LENGTH, FRAGMENT, FIRST_FRAGMENT, VLAN, TUNNEL, HASH_VALID, ADAPTER_TIME, COPIED = (
    1 << bit for bit in range(11))


class Lease:
    """A burst's place. Given back, once, when it is collected."""

    __slots__ = ("capture", "entry", "__weakref__")

    def __init__(self, capture: Capture, entry: Any) -> None:
        self.capture, self.entry = capture, entry

    def __del__(self) -> None:
        self.capture._give_back(self.entry)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a burst's place in a ring cannot be copied: two would give it back")


class Memory:
    """Read-only memory for NumPy, which keeps the lease."""

    __slots__ = ("lease", "__array_interface__")

    def __init__(self, lease: Lease, address: int, size: int) -> None:
        self.lease = lease
        self.__array_interface__ = {"data": (address, True), "shape": (size,), "typestr": "|u1", "version": 3}


def _bytes_at(lease: Lease, address: int, size: int) -> np.ndarray:
    return np.asarray(Memory(lease, address, size))


class Burst(ParsedColumns):
    """n frames. len() is n; burst[mask], burst[1:9] and burst[array of indices] select frames without copying them.

    Columns are arrays of n values. Those of the descriptor are views of shared memory; those that are parsed are
    computed for the whole burst when first asked for, and are masked where a frame has no such field."""

    def __init__(self, capture: Capture | Kept, lease: Lease | None, descriptors: np.ndarray | None = None,
                 arena: np.ndarray | None = None) -> None:
        self._capture = capture
        self._lease = lease
        self._weak = weakref.ref(lease) if lease is not None else None
        self._descriptors, self._arena = descriptors, arena
        self._selected = descriptors is not None
        self._count = len(descriptors) if descriptors is not None else lease.entry.burst.count if lease else 0
        self._outer, self._innermost = Parsed(inner=False), Parsed(inner=True)

    # ---- what it lies on ----

    def _lent(self) -> Lease:
        lease = self._lease or (self._weak() if self._weak else None)
        if lease is None:
            raise ValueError("this burst was given back to the engine: use keep() for what is needed longer than its turn")
        return lease

    @property
    def descriptors(self) -> np.ndarray:
        """(n,) read-only structured array (ringcap.DESCRIPTOR): the descriptors as they lie in shared memory."""
        return self._all_descriptors().view()

    def _all_descriptors(self) -> np.ndarray:
        """What `descriptors` shows; that is a view of its own, because an array's type and shape can be changed in place."""
        if self._descriptors is not None:
            return self._descriptors
        lease = self._lent()
        array = _bytes_at(lease, lease.entry.burst.frames, self._count * DESCRIPTOR.itemsize).view(DESCRIPTOR)
        if self._lease is not None:
            self._descriptors = array
        return array

    @property
    def arena(self) -> np.ndarray:
        """(bytes,) read-only uint8: the memory that the frames lie in. Frame i begins at offset[i]."""
        return self._whole_arena().view()

    def _whole_arena(self) -> np.ndarray:
        if self._arena is not None:
            return self._arena
        lease = self._lent()
        array = _bytes_at(lease, lease.entry.burst.arena, self._capture._arena_bytes)
        if self._lease is not None:
            self._arena = array
        return array

    def _retire(self) -> None:
        """Another burst is the current one: only views keep this one's place now."""
        if self._lease is not None:
            self._descriptors = self._arena = self._lease = None

    def release(self) -> None:
        """Gives the burst back now. Raises BufferError while arrays, memoryviews or selections of it exist."""
        held = self._lease is not None
        selected = self._descriptors.copy() if self._selected and self._descriptors is not None else None
        self._descriptors = self._arena = self._lease = None
        lease = self._weak() if self._weak else None
        if lease is None:  # nobody else held it: it was given back this moment, or before
            return
        if held:
            self._lease, self._descriptors = lease, selected
        del lease  # the exception keeps this call's names
        raise BufferError("views of this burst exist: delete them first, or keep() a copy")

    def keep(self) -> Burst:
        """A copy in memory of its own, which holds nothing of the engine's. It can be pickled."""
        descriptors = self.descriptors.copy()
        data = np.frombuffer(b"".join(self.frames()), np.uint8)
        starts = np.zeros(len(descriptors), np.uint64)
        np.cumsum(descriptors["captured"][:-1], out=starts[1:])
        rest = descriptors["location"] >> np.uint64(OFFSET_BITS) << np.uint64(OFFSET_BITS)
        descriptors["location"] = rest | starts
        descriptors.flags.writeable = False
        return Burst(self._capture, None, descriptors, data)

    def __reduce__(self) -> tuple[Any, ...]:
        if self._weak is not None:
            raise TypeError("a burst in shared memory cannot be pickled; burst.keep() can")
        return _unpickled, (self._capture.sources, self._capture.link_type, self.descriptors.tobytes(), self.arena.tobytes())

    # ---- frames ----

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, which: Any) -> Burst:
        if isinstance(which, (int, np.integer)):
            raise TypeError("burst[...] selects frames by mask, slice or array of indices; one frame is burst.frame(i)")
        if isinstance(which, np.ma.MaskedArray):  # what a frame does not have, does not match
            which = which.filled(False) if which.dtype == np.bool_ else which.compressed()
        descriptors = self._all_descriptors()[which]
        if descriptors.dtype != DESCRIPTOR or descriptors.ndim != 1:
            raise IndexError("frames are selected by one mask, slice or one-dimensional array of indices; columns are attributes")
        if not isinstance(which, slice):
            descriptors.flags.writeable = False
        return Burst(self._capture, self._lent() if self._weak else None, descriptors, self._whole_arena())

    def frame(self, i: int) -> memoryview:
        """Frame i: a read-only memoryview of its captured bytes, not copied."""
        d = self._all_descriptors()[operator.index(i)]
        start = int(d["location"]) & OFFSET_MASK
        return memoryview(self._whole_arena())[start:start + int(d["captured"])]  # type: ignore[arg-type]

    def frames(self) -> Iterator[memoryview]:
        """All frames in turn, as frame() gives them; quicker than calling it for each."""
        whole = memoryview(self._whole_arena())  # type: ignore[arg-type]
        starts: Any = self.offset.tolist()
        ends: Any = (self.offset + self.captured).tolist()
        return (whole[start:end] for start, end in zip(starts, ends))

    # ---- columns of the descriptor ----

    @property
    def timestamp(self) -> np.ndarray:
        """(n,) uint64: nanoseconds since the epoch, by the clock that cap.clock names."""
        return self.descriptors["timestamp_ns"]

    @property
    def length(self) -> np.ndarray:
        """(n,) uint32: bytes on the wire, without the frame check sequence."""
        return self.descriptors["length"]

    @property
    def captured(self) -> np.ndarray:
        """(n,) uint16: bytes that can be read here."""
        return self.descriptors["captured"]

    @property
    def flags(self) -> np.ndarray:
        """(n,) uint16: bits ringcap.OUTGOING, TRUNCATED, BAD_CRC ... COPIED."""
        return self.descriptors["flags"]

    @property
    def hash(self) -> np.ma.MaskedArray:
        """(n,) uint32: the flow's hash, the same in both directions (docs/hash.md); masked where there is none."""
        return _masked(self.descriptors["hash"], (self.flags & HASH_VALID) == 0)

    @property
    def outgoing(self) -> np.ndarray:
        """(n,) bool: sent by this host, not received."""
        return (self.flags & OUTGOING) != 0

    direction = outgoing

    @property
    def offset(self) -> np.ndarray:
        """(n,) uint64: where each frame begins in `arena`."""
        return self.descriptors["location"] & np.uint64(OFFSET_MASK)

    @property
    def lost_before(self) -> np.ndarray:
        """(n,) uint16: frames lost for this consumer just before each frame; 65535: at least as many."""
        return (self.descriptors["location"] >> np.uint64(48)).astype(np.uint16)

    @property
    def source(self) -> np.ndarray:
        """(n,) uint8: index into cap.sources."""
        return self.descriptors["source"]

    @property
    def port(self) -> np.ndarray:
        """(n,) uint32: the engine's port, from 0."""
        return self._capture._ports[self.source]

    @property
    def queue(self) -> np.ndarray:
        """(n,) uint32: the receive queue of that port."""
        return self._capture._queues[self.source]

    @property
    def network_offset(self) -> np.ma.MaskedArray:
        """(n,) uint16: bytes from the frame's start to its outer IP header; masked without one, or beyond 510."""
        return _masked(self.descriptors["l3_half"].astype(np.uint16) * 2, self.descriptors["l3_half"] == 0)

    @property
    def transport_offset(self) -> np.ma.MaskedArray:
        """(n,) uint16: the same for the outer transport header."""
        return _masked(self.descriptors["l4_half"].astype(np.uint16) * 2, self.descriptors["l4_half"] == 0)

    # ---- parsed ----

    def _column(self, name: str) -> np.ma.MaskedArray:
        return self._outer.column(self, name)

    def _valid_bits(self) -> np.ndarray:
        return self._outer.valid(self)

    def _source_of_columns(self) -> tuple[np.ndarray, np.ndarray]:
        """Only Ethernet frames have parsed columns: of others, nothing is looked at."""
        arena = self._whole_arena()
        return np.ascontiguousarray(self._all_descriptors()), arena if self._capture.link_type == 1 else arena[:0]

    @property
    def inner(self) -> Columns:
        """The same parsed columns of the innermost packet of tunnels; masked for frames that are no tunnel."""
        return Columns(self, self._innermost)

    # ---- for others ----

    def column(self, name: str) -> dlpack.Column:
        """The column `name`, or "valid", for DLPack: np.from_dlpack(burst.column("timestamp")), torch.from_dlpack(...). Not copied,
        but for shared memory if who takes it knows no DLPack 1.0, which alone can say "read-only". Of masked columns the values,
        0 where there is none."""
        if name not in COLUMNS and name != "valid":
            raise KeyError(name)
        values = getattr(self, name)
        return dlpack.Column(values.data if isinstance(values, np.ma.MaskedArray) else values)

    def columns(self, names: Iterable[str] | None = None) -> dict[str, np.ndarray]:
        """Columns by name; all of COLUMNS if no names are given."""
        return {name: getattr(self, name) for name in (COLUMNS if names is None else names)}

    def to_pandas(self, names: Iterable[str] | None = None) -> pandas.DataFrame:
        """A pandas.DataFrame: one-dimensional columns; integers that may be missing have pandas' nullable types."""
        import pandas

        series = {}
        for name, values in self.columns(names).items():
            if values.ndim != 1:
                continue
            if isinstance(values, np.ma.MaskedArray):
                array = pandas.arrays.IntegerArray(values.data.copy(), np.array(np.ma.getmaskarray(values)))
                series[name] = pandas.Series(array)
            else:
                series[name] = np.array(values)
        return pandas.DataFrame(series)

    def __arrow_c_schema__(self) -> object:
        """PyCapsule of an ArrowSchema: a struct of all columns."""
        return arrow.schema_capsule(self.columns())

    def __arrow_c_array__(self, requested_schema: object = None) -> tuple[object, object]:
        """PyCapsules of an ArrowSchema and an ArrowArray: a struct of all columns (a record batch)."""
        columns = self.columns()
        return arrow.schema_capsule(columns), arrow.array_capsule(columns, len(self))

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """PyCapsule of an ArrowArrayStream of one batch: what pyarrow.table(burst) and polars.DataFrame(burst) use."""
        return arrow.stream_capsule(self.columns(), len(self))

    def __repr__(self) -> str:
        return f"<ringcap.Burst of {len(self)} frames>"


DESCRIPTOR_COLUMNS = ("timestamp", "length", "captured", "flags", "hash", "outgoing", "lost_before", "port", "queue",
                      "network_offset", "transport_offset")
COLUMNS = DESCRIPTOR_COLUMNS + NAMES


def _masked(values: np.ndarray, absent: np.ndarray) -> np.ma.MaskedArray:
    return np.ma.MaskedArray(values, mask=absent if absent.any() else np.ma.nomask, copy=False)


class Kept:
    """What a kept burst that came out of a pickle knows of its capture."""

    def __init__(self, sources: tuple[Source, ...], link_type: int) -> None:
        self.sources, self.link_type, self._arena_bytes = sources, link_type, 0
        self._ports = np.array([s.port for s in sources] or [0], np.uint32)
        self._queues = np.array([s.queue for s in sources] or [0], np.uint32)


def _unpickled(sources: tuple[Source, ...], link_type: int, descriptors: bytes, arena: bytes) -> Burst:
    return Burst(Kept(sources, link_type), None, np.frombuffer(descriptors, DESCRIPTOR), np.frombuffer(arena, np.uint8))
