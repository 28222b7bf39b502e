"""DLPack 1.0 (https://dmlc.github.io/dlpack/latest/) in ctypes: one column, handed over where it lies. NumPy's own __dlpack__
refuses read-only arrays up to 2.0: the older protocol cannot say that memory is read-only, and who writes to an engine's memory
dies. So who asks for version 1.0 gets shared memory, marked read-only; who asks for the older one gets a copy of it. Parsed
columns lie in memory of their own and go to both as they are."""

from __future__ import annotations

import ctypes as c
import sys
from typing import Any

import numpy as np

from .library import for_ever

CPU = 1
READ_ONLY, IS_COPIED = 1, 2
_CODES = {"i": 0, "u": 1, "f": 2, "b": 6}
VERSION = 1, 0


class Tensor(c.Structure):
    _fields_ = [("data", c.c_void_p), ("device_type", c.c_int32), ("device_id", c.c_int32), ("ndim", c.c_int32), ("code", c.c_uint8),
                ("bits", c.c_uint8), ("lanes", c.c_uint16), ("shape", c.POINTER(c.c_int64)), ("strides", c.POINTER(c.c_int64)),
                ("byte_offset", c.c_uint64)]


_DELETER = c.CFUNCTYPE(None, c.c_void_p)


class Managed(c.Structure):
    """DLManagedTensor: before 1.0."""

    _fields_ = [("tensor", Tensor), ("context", c.c_void_p), ("deleter", _DELETER)]


class Versioned(c.Structure):
    """DLManagedTensorVersioned."""

    _fields_ = [("major", c.c_uint32), ("minor", c.c_uint32), ("context", c.c_void_p), ("deleter", _DELETER), ("flags", c.c_uint64),
                ("tensor", Tensor)]


# What each tensor that is out there needs alive, by its address; gone when its deleter is called.
_alive: dict[int, object] = {}


@for_ever
@_DELETER
def _delete(address: int, at_end: Any = sys.is_finalizing) -> None:
    if not at_end():
        _alive.pop(address, None)


_new = c.PYFUNCTYPE(c.py_object, c.c_void_p, c.c_char_p, c.c_void_p)(("PyCapsule_New", c.pythonapi))
# Of a capsule that is being destroyed: by address, nobody may hold it again.
_is_valid = c.PYFUNCTYPE(c.c_int, c.c_void_p, c.c_char_p)(("PyCapsule_IsValid", c.pythonapi))
_get = c.PYFUNCTYPE(c.c_void_p, c.c_void_p, c.c_char_p)(("PyCapsule_GetPointer", c.pythonapi))
_NAMES = {Managed: b"dltensor", Versioned: b"dltensor_versioned"}


@for_ever
@c.PYFUNCTYPE(None, c.c_void_p)
def _destroy(capsule: int, at_end: Any = sys.is_finalizing) -> None:
    """Who took the tensor renamed the capsule, and calls the deleter; what nobody took goes with the capsule."""
    if at_end():
        return
    for name in _NAMES.values():
        if _is_valid(capsule, name):
            _delete(_get(capsule, name))


def _fill(tensor: Tensor, values: np.ndarray) -> tuple:
    """Describes `values`; what it returns must live as long as the tensor."""
    size = values.dtype.itemsize
    shape = (c.c_int64 * values.ndim)(*values.shape)
    strides = (c.c_int64 * values.ndim)(*[stride // size for stride in values.strides])
    tensor.data, tensor.device_type, tensor.device_id, tensor.ndim = values.ctypes.data, CPU, 0, values.ndim
    tensor.code, tensor.bits, tensor.lanes = _CODES[values.dtype.kind], size * 8, 1
    tensor.shape, tensor.strides, tensor.byte_offset = shape, strides, 0
    return values, shape, strides


def _capsule(values: np.ndarray, versioned: bool, copied: bool):
    managed = Versioned() if versioned else Managed()
    managed.deleter = _delete
    if versioned:
        managed.major, managed.minor = VERSION
        managed.flags = (0 if values.flags.writeable else READ_ONLY) | (IS_COPIED if copied else 0)
    address = c.addressof(managed)
    _alive[address] = managed, _fill(managed.tensor, values)
    return _new(address, _NAMES[type(managed)], c.cast(_destroy, c.c_void_p))


class Column:
    """A column of a burst for from_dlpack() of NumPy, PyTorch, JAX and others. As long as what they make of it lives, the burst is
    held, unless it is a copy. Where a frame has no such field the value is 0: `burst.valid` says which."""

    def __init__(self, values: np.ndarray) -> None:
        self.values = values

    def __dlpack_device__(self) -> tuple[int, int]:
        return CPU, 0

    def __dlpack__(self, *, stream: Any = None, max_version: tuple[int, int] | None = None, dl_device: tuple[int, int] | None = None,
                   copy: bool | None = None):
        """A PyCapsule with a tensor. `max_version` (1, 0) or more: the memory as it is, marked read-only if it is an engine's; else
        a copy of such memory. Raises BufferError where `copy=False` forbids that, or for another device than the processor."""
        if stream is not None or (dl_device is not None and tuple(dl_device) != (CPU, 0)):
            raise BufferError("these columns are in the memory of the processor (device 1, 0) and have no stream")
        versioned = max_version is not None and max_version[0] >= 1
        must_copy = not versioned and not self.values.flags.writeable
        if must_copy and copy is False:
            raise BufferError("this column is read-only memory, which DLPack can say from version 1.0 on only: max_version=(1, 0)")
        values = self.values
        if not versioned and values.dtype == np.bool_:  # which came with 1.0
            values = values.view(np.uint8)
        return _capsule(values.copy() if copy or must_copy else values, versioned, bool(copy or must_copy))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.values, dtype) if copy else np.asarray(self.values, dtype)

    def __len__(self) -> int:
        return len(self.values)

    def __repr__(self) -> str:
        return f"<ringcap column of {len(self)} {self.values.dtype}>"
