"""libringcap through ctypes: its structures, as ringcap.h and ringcap_columns.h have them, and its functions. The
module's own; a test compares every structure with the C headers.

The library is RINGCAP_LIBRARY, else libringcap.so.0 of the prefix that this package was installed in, else that of the
system. ctypes lets go of the interpreter's lock during every call."""

import ctypes as c
import functools
import os
import pathlib
import sys
from typing import Any

import numpy as np

from . import errors

END, BREAK = -8, -9
ALLOW_SMALLER, MERGE = 1, 2
INNER = 1
ETHERNET = 1  # link type
MERGED = 0xFFFFFFFF
MAX_INSTRUCTIONS = 4096
OFFSET_BITS = 40
OFFSET_MASK = (1 << OFFSET_BITS) - 1

# One frame's descriptor, as it lies in shared memory: struct ringcap_descriptor.
DESCRIPTOR = np.dtype([("timestamp_ns", "<u8"), ("location", "<u8"), ("length", "<u4"), ("hash", "<u4"),
                       ("captured", "<u2"), ("flags", "<u2"), ("l3_half", "u1"), ("l4_half", "u1"),
                       ("source", "u1"), ("reserved", "u1")])


class Error(c.Structure):
    _fields_ = [("code", c.c_int), ("text", c.c_char * 512), ("mend", c.c_char * 512)]

    def exception(self) -> errors.Error:
        kind = errors.BY_CODE.get(self.code, errors.Error)
        return kind(self.text.decode(errors="replace"), self.mend.decode(errors="replace"))


class Instruction(c.Structure):
    _fields_ = [("code", c.c_uint16), ("jt", c.c_uint8), ("jf", c.c_uint8), ("k", c.c_uint32)]


class Options(c.Structure):
    _fields_ = [("size", c.c_size_t), ("program", c.c_char_p), ("ring_frames", c.c_uint32), ("flags", c.c_uint32),
                ("filter", c.POINTER(Instruction)), ("filter_length", c.c_uint32), ("wait_ms", c.c_int32),
                ("merge_wait_ms", c.c_uint32), ("kind", c.c_char_p), ("level", c.c_char_p),
                ("batch_frames", c.c_uint32), ("batch_ms", c.c_uint32)]


class Burst(c.Structure):
    _fields_ = [("frames", c.c_void_p), ("arena", c.c_void_p), ("count", c.c_uint32), ("ring", c.c_uint32),
                ("position", c.c_uint64)]


class Counters(c.Structure):
    _fields_ = [(name, c.c_uint64) for name in ("considered", "not_matched", "offered", "published", "dropped",
                                                "released", "in_ring", "late", "missed")]


class Source(c.Structure):
    _fields_ = [("port", c.c_uint32), ("queue", c.c_uint32), ("address", c.c_char * 96), ("clock", c.c_char * 16)]


class FileOptions(c.Structure):
    _fields_ = [("size", c.c_size_t), ("filter", c.POINTER(Instruction)), ("filter_length", c.c_uint32),
                ("hash_key", c.c_char_p)]


class Columns(c.Structure):
    _fields_ = [("size", c.c_size_t)] + [(name, c.c_void_p) for name in (
        "valid", "ethernet_source", "ethernet_destination", "ethernet_type", "vlan", "ip_version", "protocol",
        "ip_source", "ip_destination", "ipv6_source", "ipv6_destination", "source_port", "destination_port",
        "tcp_flags", "tcp_sequence", "tcp_acknowledgement", "payload_offset", "payload_length")]


_HANDLE, _INT = c.c_void_p, c.c_int
_FUNCTIONS = {
    "ringcap_version": (c.c_char_p,),
    "ringcap_attach": (_INT, c.c_char_p, c.POINTER(Options), c.POINTER(_HANDLE), c.POINTER(Error)),
    "ringcap_take": (_INT, _HANDLE, c.c_uint32, _INT, c.POINTER(Burst)),
    "ringcap_give_back": (_INT, _HANDLE, c.POINTER(Burst)),
    "ringcap_fd": (_INT, _HANDLE),
    "ringcap_breakloop": (None, _HANDLE),
    "ringcap_stats": (_INT, _HANDLE, c.POINTER(Counters)),
    "ringcap_link_type": (_INT, _HANDLE),
    "ringcap_clock": (c.c_char_p, _HANDLE),
    "ringcap_ring_frames": (c.c_uint32, _HANDLE),
    "ringcap_rings": (c.c_uint32, _HANDLE),
    "ringcap_last_error": (c.POINTER(Error), _HANDLE),
    "ringcap_detach": (None, _HANDLE),
    "ringcap_arena_bytes": (c.c_uint64, _HANDLE),
    "ringcap_source_of": (_INT, _HANDLE, c.c_uint32, c.POINTER(Source)),
    "ringcap_columns_parse": (_INT, c.c_void_p, c.c_uint32, c.c_void_p, c.c_uint64, c.c_uint32, c.POINTER(Columns)),
    "ringcap_file_open": (_INT, c.c_char_p, c.POINTER(FileOptions), c.POINTER(_HANDLE), c.POINTER(Error)),
    "ringcap_file_take": (_INT, _HANDLE, c.c_uint32, _INT, c.POINTER(Burst)),
    "ringcap_file_give_back": (_INT, _HANDLE, c.POINTER(Burst)),
    "ringcap_file_filter": (_INT, _HANDLE, c.POINTER(Instruction), c.c_uint32),
    "ringcap_file_arena_bytes": (c.c_uint64, _HANDLE),
    "ringcap_file_link_type": (_INT, _HANDLE),
    "ringcap_file_counts": (None, _HANDLE, c.POINTER(c.c_uint64), c.POINTER(c.c_uint64)),
    "ringcap_file_last_error": (c.POINTER(Error), _HANDLE),
    "ringcap_file_close": (None, _HANDLE),
}
_FILTER_FUNCTIONS = {
    "ringcap_filter_compile": (_INT, c.c_char_p, _INT, c.c_uint32, _INT, c.POINTER(Instruction), c.POINTER(c.c_size_t),
                               c.c_char_p, c.c_size_t),
}


def for_ever(callback: Any) -> Any:
    """C may call it as long as the process lives, also when the interpreter ends and modules are taken down. What is called
    then knows no names but its own, and leaves everything to the end of the process."""
    c.pythonapi.Py_IncRef(c.py_object(callback))
    return callback


def _named() -> pathlib.Path | None:
    """RINGCAP_LIBRARY; not for programs that run with another's rights."""
    if os.getuid() != os.geteuid() or os.getgid() != os.getegid():
        return None
    return pathlib.Path(os.environ["RINGCAP_LIBRARY"]) if os.environ.get("RINGCAP_LIBRARY") else None


def _places(soname: str):
    """Where a library may be, best first."""
    if named := _named():
        if soname == "libringcap.so.0":
            yield named
            return
        yield named.parent / soname
        yield named.parent.parent / "filter" / soname  # a build directory
    for parent in list(pathlib.Path(__file__).resolve().parents)[2:5]:  # PREFIX/lib/python3.11/dist-packages/ringcap
        yield parent / soname
        yield parent / getattr(sys.implementation, "_multiarch", "") / soname
    yield pathlib.Path(soname)


def _load(soname: str, functions: dict) -> c.CDLL:
    wrong = ""
    for place in _places(soname):
        if place.is_absolute() and not place.exists() and place != _named():
            continue
        try:
            library = c.CDLL(str(place))
            break
        except OSError as error:
            wrong = str(error)
    else:
        raise errors.NotFound(f"cannot load {soname}: {wrong}", "install it, or name it: RINGCAP_LIBRARY=DIRECTORY/libringcap.so.0")
    for name, (result, *arguments) in functions.items():
        try:
            function = getattr(library, name)
        except AttributeError:
            raise errors.VersionError(f"{place} is older than this module: it has no {name}()", "install both from one release") from None
        function.restype, function.argtypes = result, arguments
    return library


@functools.cache
def library() -> c.CDLL:
    """libringcap, loaded when first needed."""
    return _load("libringcap.so.0", _FUNCTIONS)


def text(given: str | bytes | os.PathLike[str]) -> bytes:
    """For C, where a zero byte would be the end."""
    encoded = os.fsencode(given)
    if b"\0" in encoded:
        raise errors.UsageError(f"{given!r} has a zero byte")
    return encoded


def compile_filter(expression: str, link_type: int = ETHERNET) -> c.Array[Instruction] | None:
    """A filter's text (pcap-filter(7)) as an array of Instructions; None for one that is empty. Raises FilterError."""
    encoded = text(expression)
    if not encoded.strip():
        return None
    compiler = _load("libringcap-filter.so.0", _FILTER_FUNCTIONS)
    program = (Instruction * MAX_INSTRUCTIONS)()
    count = c.c_size_t(MAX_INSTRUCTIONS)
    wrong = c.create_string_buffer(512)
    status = compiler.ringcap_filter_compile(encoded, link_type, 262144, 1, program, c.byref(count), wrong, 512)
    if status != 0:
        raise errors.FilterError(f"filter '{expression}': {wrong.value.decode(errors='replace')}", "man 7 pcap-filter has the language")
    return (Instruction * count.value).from_buffer_copy(program)
