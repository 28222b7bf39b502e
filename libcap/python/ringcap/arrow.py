"""The Arrow C data interface (https://arrow.apache.org/docs/format/CDataInterface.html) in ctypes: columns as a struct
array, in PyCapsules. Parsed columns are handed over as they are, views of shared memory are copied: who takes an Arrow
array may keep it for long. Masks become validity bitmaps."""

from __future__ import annotations

import ctypes as c
import itertools
import sys
from typing import Any

import numpy as np

from .library import for_ever


class Schema(c.Structure):
    pass


class Array(c.Structure):
    pass


class Stream(c.Structure):
    pass


_RELEASE_SCHEMA = c.CFUNCTYPE(None, c.POINTER(Schema))
_RELEASE_ARRAY = c.CFUNCTYPE(None, c.POINTER(Array))
_RELEASE_STREAM = c.CFUNCTYPE(None, c.POINTER(Stream))
Schema._fields_ = [("format", c.c_char_p), ("name", c.c_char_p), ("metadata", c.c_char_p), ("flags", c.c_int64),
                   ("n_children", c.c_int64), ("children", c.POINTER(c.POINTER(Schema))),
                   ("dictionary", c.POINTER(Schema)), ("release", _RELEASE_SCHEMA), ("private_data", c.c_void_p)]
Array._fields_ = [("length", c.c_int64), ("null_count", c.c_int64), ("offset", c.c_int64), ("n_buffers", c.c_int64),
                  ("n_children", c.c_int64), ("buffers", c.POINTER(c.c_void_p)),
                  ("children", c.POINTER(c.POINTER(Array))), ("dictionary", c.POINTER(Array)),
                  ("release", _RELEASE_ARRAY), ("private_data", c.c_void_p)]
_GET_SCHEMA = c.CFUNCTYPE(c.c_int, c.POINTER(Stream), c.POINTER(Schema))
_GET_NEXT = c.CFUNCTYPE(c.c_int, c.POINTER(Stream), c.POINTER(Array))
_GET_ERROR = c.CFUNCTYPE(c.c_void_p, c.POINTER(Stream))
Stream._fields_ = [("get_schema", _GET_SCHEMA), ("get_next", _GET_NEXT), ("get_last_error", _GET_ERROR),
                   ("release", _RELEASE_STREAM), ("private_data", c.c_void_p)]

_FORMATS = {"|b1": b"b", "<u8": b"L", "<u4": b"I", "<u2": b"S", "|u1": b"C"}
_NULLABLE = 2

# What each structure that is out there needs alive, by its private_data; gone when it is released.
_alive: dict[int, object] = {}
_next_key = itertools.count(1)


def _remember(structure, things) -> None:
    key = next(_next_key)
    structure.private_data = key
    _alive[key] = things


def _releaser(kind: Any) -> Any:
    """A release callback: lets go of what the structure needs, children first. At the interpreter's end that goes by itself; what is
    released is marked so even then, for consumers that look."""

    def release(pointer: Any, at_end: Any = sys.is_finalizing) -> None:
        it = pointer.contents
        if at_end():
            it.release = type(it.release)()
            return
        for i in range(getattr(it, "n_children", 0)):
            child = it.children[i]
            if child.contents.release:
                child.contents.release(child)
        _alive.pop(it.private_data, None)
        it.release = type(it.release)()

    return for_ever(kind(release))


_release_schema, _release_array = _releaser(_RELEASE_SCHEMA), _releaser(_RELEASE_ARRAY)


def _fill_schema(to: Schema, name: str, fmt: bytes, children=()) -> None:
    pointers = (c.POINTER(Schema) * len(children))(*[c.pointer(child) for child in children])
    encoded = name.encode()
    to.format, to.name, to.metadata, to.flags = fmt, encoded, None, _NULLABLE if not children else 0
    to.n_children, to.children, to.dictionary = len(children), pointers, None
    to.release = _release_schema
    _remember(to, (pointers, children, fmt, encoded))


def _format(values: np.ndarray) -> bytes:
    return b"w:%d" % values.shape[1] if values.ndim == 2 else _FORMATS[values.dtype.str]


def _make_schema(to: Schema, columns: dict) -> None:
    children = []
    for name, values in columns.items():
        children.append(Schema())
        _fill_schema(children[-1], name, _format(values))
    _fill_schema(to, "", b"+s", children)


def _fill_array(to: Array, length: int, null_count: int, buffers: list, children=()) -> None:
    addresses = (c.c_void_p * len(buffers))(*[None if b is None else b.ctypes.data for b in buffers])
    pointers = (c.POINTER(Array) * len(children))(*[c.pointer(child) for child in children])
    to.length, to.null_count, to.offset = length, null_count, 0
    to.n_buffers, to.buffers = len(buffers), addresses
    to.n_children, to.children, to.dictionary = len(children), pointers, None
    to.release = _release_array
    _remember(to, (addresses, pointers, buffers, children))


def _fill_column(to: Array, values: np.ndarray) -> None:
    validity, nulls = None, 0
    if isinstance(values, np.ma.MaskedArray):
        if values.mask is not np.ma.nomask:
            mask = np.ma.getmaskarray(values)
            absent = mask if values.ndim == 1 else mask[:, 0]
            nulls = int(absent.sum())
            validity = np.packbits(~absent, bitorder="little")
        data = np.ascontiguousarray(values.data)
    else:
        data = np.array(values)
    if data.dtype == np.bool_:
        data = np.packbits(data, bitorder="little")
    _fill_array(to, len(values), nulls, [validity, data])


def _make_array(to: Array, columns: dict, length: int) -> None:
    children = []
    for values in columns.values():
        children.append(Array())
        _fill_column(children[-1], values)
    _fill_array(to, length, 0, [None], children)


# ---- capsules ----

_new = c.PYFUNCTYPE(c.py_object, c.c_void_p, c.c_char_p, c.c_void_p)(("PyCapsule_New", c.pythonapi))
# Of a capsule that is being destroyed: by address, nobody may hold it again.
_get = c.PYFUNCTYPE(c.c_void_p, c.c_void_p, c.c_char_p)(("PyCapsule_GetPointer", c.pythonapi))
_DESTRUCTOR = c.PYFUNCTYPE(None, c.c_void_p)


def _destructor(kind, name: bytes):
    """What nobody took is released; then the structure itself goes."""

    def destroy(capsule: int, at_end: Any = sys.is_finalizing) -> None:
        if at_end():
            return
        address = _get(capsule, name)
        it = kind.from_address(address)
        if it.release:
            it.release(c.pointer(it))
        _alive.pop(-address, None)

    return for_ever(_DESTRUCTOR(destroy))


_destroy = {Schema: (b"arrow_schema", _destructor(Schema, b"arrow_schema")),
            Array: (b"arrow_array", _destructor(Array, b"arrow_array")),
            Stream: (b"arrow_array_stream", _destructor(Stream, b"arrow_array_stream"))}


def _capsule(structure):
    name, destructor = _destroy[type(structure)]
    address = c.addressof(structure)
    _alive[-address] = structure
    return _new(address, name, c.cast(destructor, c.c_void_p))


def schema_capsule(columns: dict):
    schema = Schema()
    _make_schema(schema, columns)
    return _capsule(schema)


def array_capsule(columns: dict, length: int):
    array = Array()
    _make_array(array, columns, length)
    return _capsule(array)


@for_ever
@_GET_SCHEMA
def _get_schema(stream, to):
    columns, _, _ = _alive[stream.contents.private_data]
    _make_schema(to.contents, columns)
    return 0


@for_ever
@_GET_NEXT
def _get_next(stream, to):
    columns, length, left = _alive[stream.contents.private_data]
    if left:
        left.pop()
        _make_array(to.contents, columns, length)
    else:
        to.contents.release = _RELEASE_ARRAY()
    return 0


@for_ever
@_GET_ERROR
def _get_last_error(stream):
    return None


_release_stream = _releaser(_RELEASE_STREAM)


def stream_capsule(columns: dict, length: int):
    stream = Stream(_get_schema, _get_next, _get_last_error, _release_stream, None)
    _remember(stream, (columns, length, [True]))
    return _capsule(stream)
