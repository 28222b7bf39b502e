"""Columns through DLPack: where they lie, where the one who takes them can be told that it is read-only; else as copies."""

import ctypes
import gc

import lab
import numpy as np
import pytest
import ringcap
from ringcap import dlpack

TRACE = lab.TOP / "tests/data/frames/plain.pcap"
DESCRIPTORS = "timestamp", "length", "captured", "flags", "hash"  # straight from shared memory

get = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(("PyCapsule_GetPointer", ctypes.pythonapi))
rename = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.c_char_p)(("PyCapsule_SetName", ctypes.pythonapi))
USED = b"used_dltensor_versioned"


class Taken:
    """What a library that knows DLPack 1.0 makes of a column."""

    def __init__(self, column, **options):
        capsule = column.__dlpack__(max_version=(1, 1), **options)
        self.managed = dlpack.Versioned.from_address(get(capsule, b"dltensor_versioned"))
        rename(capsule, USED)
        assert (self.managed.major, self.managed.minor) == (1, 0)

    def values(self):
        tensor = self.managed.tensor
        kind = {1: f"u{tensor.bits // 8}", 6: "?"}[tensor.code]
        size = tensor.bits // 8
        shape, strides = tensor.shape[:tensor.ndim], [stride * size for stride in tensor.strides[:tensor.ndim]]
        reach = (sum((n - 1) * stride for n, stride in zip(shape, strides)) + size) if all(shape) else 0
        memory = (ctypes.c_uint8 * reach).from_address(tensor.data + tensor.byte_offset)
        return np.lib.stride_tricks.as_strided(np.frombuffer(memory, kind, 1), shape, strides)

    def delete(self):
        self.managed.deleter(ctypes.addressof(self.managed))


@pytest.fixture(params=["live", "file"])
def cap(request):
    if request.param == "file":
        with ringcap.open(TRACE) as cap:
            yield cap
    else:
        with lab.engine(*lab.replay(TRACE)), lab.attach() as cap:
            yield cap


def test_dlpack_hands_every_column_over_where_it_lies_and_marked_read_only(cap):
    burst = cap.take()
    for name in (*ringcap.COLUMNS, "valid"):
        column = burst.column(name)
        taken = Taken(column)
        assert taken.managed.tensor.data == column.values.ctypes.data, name
        assert bool(taken.managed.flags & dlpack.READ_ONLY) == (not column.values.flags.writeable)
        assert not taken.managed.flags & dlpack.IS_COPIED
        assert (taken.values() == np.ma.filled(getattr(burst, name), 0)).all() and taken.values().shape == getattr(burst, name).shape
        if name in DESCRIPTORS:
            assert np.shares_memory(column.values, burst.descriptors) and taken.managed.flags & dlpack.READ_ONLY
        taken.delete()
    assert not dlpack._alive


def test_a_tensor_holds_its_burst_until_it_is_deleted(cap):
    burst = cap.take(max_frames=5)
    taken = Taken(burst.column("timestamp"))
    expected = burst.timestamp.copy()
    with pytest.raises(BufferError):
        burst.release()
    del burst
    assert cap.held == 5 and (taken.values() == expected).all()
    taken.delete()
    assert cap.held == 0


def test_a_tensor_that_nobody_takes_goes_with_its_capsule(cap):
    burst = cap.take(max_frames=5)
    capsules = [burst.column(name).__dlpack__(max_version=version) for name in ("length", "ip_source") for version in (None, (1, 0))]
    assert len(dlpack._alive) == len(capsules)
    del capsules
    gc.collect()
    assert not dlpack._alive
    burst.release()


def test_the_older_protocol_gets_a_copy_of_shared_memory_and_parsed_columns_as_they_are(cap):
    burst = cap.take()
    for name in (*ringcap.COLUMNS, "valid"):
        column = burst.column(name)
        address = dlpack.Managed.from_address(get(capsule := column.__dlpack__(), b"dltensor")).tensor.data
        assert (address == column.values.ctypes.data) == column.values.flags.writeable == (name not in DESCRIPTORS), name
        del capsule
        with_numpy = np.from_dlpack(column)
        assert (with_numpy == np.ma.filled(getattr(burst, name), 0)).all(), name
    del with_numpy, column
    gc.collect()
    assert not dlpack._alive
    burst.release()


def test_copies_are_made_where_asked_for_and_refused_where_forbidden():
    with ringcap.open(TRACE) as cap:
        burst = cap.take()
        column = burst.column("length")
        taken = Taken(column, copy=True)
        assert taken.managed.flags == dlpack.IS_COPIED and taken.managed.tensor.data != column.values.ctypes.data
        assert (taken.values() == burst.length).all()
        taken.delete()
        for refused in ({"copy": False}, {"stream": 1}, {"dl_device": (2, 0)}):
            with pytest.raises(BufferError):
                column.__dlpack__(**refused)
        assert column.__dlpack_device__() == (1, 0)
        assert np.shares_memory(np.asarray(column), burst.descriptors)
