"""The parsed columns: libringcap reads the headers of a whole burst at once (ringcap_columns_parse), with the parser that
the engine uses. In groups that are computed together, when a column of the group is first asked for. They lie in memory of
their own and keep no burst."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from . import library

ETHERNET, HAS_VLAN, IP, IPV4, IPV6, PORTS, TCP_FLAGS, SEQUENCE, PAYLOAD, INNER = (1 << bit for bit in range(10))

# Column: its name in C, its type, values a frame, the bit of `valid` that says that a frame has it.
_GROUPS: tuple[dict[str, tuple[str, Any, int, int]], ...] = (
    {"ethernet_source": ("ethernet_source", np.uint8, 6, ETHERNET),
     "ethernet_destination": ("ethernet_destination", np.uint8, 6, ETHERNET),
     "ethernet_type": ("ethernet_type", np.uint16, 1, ETHERNET),
     "vlan": ("vlan", np.uint16, 1, HAS_VLAN)},
    {"ip_version": ("ip_version", np.uint8, 1, IP),
     "protocol": ("protocol", np.uint8, 1, IP),
     "ip_source": ("ip_source", np.uint32, 1, IPV4),
     "ip_destination": ("ip_destination", np.uint32, 1, IPV4),
     "source_port": ("source_port", np.uint16, 1, PORTS),
     "destination_port": ("destination_port", np.uint16, 1, PORTS)},
    {"ipv6_source": ("ipv6_source", np.uint8, 16, IPV6),
     "ipv6_destination": ("ipv6_destination", np.uint8, 16, IPV6)},
    {"tcp_flags": ("tcp_flags", np.uint8, 1, TCP_FLAGS),
     "sequence": ("tcp_sequence", np.uint32, 1, SEQUENCE),
     "acknowledgement": ("tcp_acknowledgement", np.uint32, 1, SEQUENCE),
     "payload_offset": ("payload_offset", np.uint16, 1, PAYLOAD),
     "payload_length": ("payload_length", np.uint16, 1, PAYLOAD)},
)


def _property(name: str, text: str) -> property:
    def get(self: ParsedColumns) -> np.ma.MaskedArray:
        return self._column(name)

    return property(get, doc=text)


class ParsedColumns:
    """The parsed columns as attributes: of a burst, and of its tunnels' innermost packets (burst.inner)."""

    def _column(self, name: str) -> np.ma.MaskedArray:
        raise NotImplementedError

    def _valid_bits(self) -> np.ndarray:
        raise NotImplementedError

    ethernet_source = _property("ethernet_source", "(n, 6) uint8: the Ethernet source address.")
    ethernet_destination = _property("ethernet_destination", "(n, 6) uint8: the Ethernet destination address.")
    ethernet_type = _property("ethernet_type", "(n,) uint16: the EtherType behind VLAN tags and PPPoE; below 1536 a length.")
    vlan = _property("vlan", "(n,) uint16: identifier of the first VLAN tag.")
    ip_version = _property("ip_version", "(n,) uint8: 4 or 6.")
    protocol = _property("protocol", "(n,) uint8: IP's protocol number, behind IPv6 extension headers.")
    ip_source = _property("ip_source", "(n,) uint32: the IPv4 source address; 10.0.0.1 is 0x0a000001.")
    ip_destination = _property("ip_destination", "(n,) uint32: the IPv4 destination address.")
    ipv6_source = _property("ipv6_source", "(n, 16) uint8: the IPv6 source address.")
    ipv6_destination = _property("ipv6_destination", "(n, 16) uint8: the IPv6 destination address.")
    source_port = _property("source_port", "(n,) uint16: of TCP, UDP, UDP-Lite, DCCP and SCTP.")
    destination_port = _property("destination_port", "(n,) uint16: the same.")
    tcp_flags = _property("tcp_flags", "(n,) uint8: FIN 1, SYN 2, RST 4, PSH 8, ACK 16, URG 32, ECE 64, CWR 128.")
    sequence = _property("sequence", "(n,) uint32: TCP's sequence number.")
    acknowledgement = _property("acknowledgement", "(n,) uint32: TCP's acknowledgement number.")
    payload_offset = _property("payload_offset", "(n,) uint16: bytes from the frame's start to TCP's or UDP's payload.")
    payload_length = _property("payload_length", "(n,) uint16: bytes of that payload that were captured, without padding.")

    @property
    def valid(self) -> np.ndarray:
        """(n,) uint16: which fields a frame has, bits ringcap.ETHERNET, HAS_VLAN, IP, IPV4, IPV6, PORTS, TCP_FLAGS,
        SEQUENCE, PAYLOAD, INNER."""
        return self._valid_bits()


NAMES = tuple(name for group in _GROUPS for name in group)


class Parsed:
    """What was parsed of one burst's outer or innermost packets so far. Its owner's own: it knows no burst, so that a burst is no
    part of a circle and goes when the last one lets go of it."""

    __slots__ = ("_inner", "_valid", "_everywhere", "_values", "_masks", "_done")

    def __init__(self, inner: bool) -> None:
        self._inner = inner
        self._valid: np.ndarray | None = None
        self._everywhere = 0  # bits that every frame has
        self._values: dict[str, tuple] = {}
        self._masks: dict[int, np.ndarray] = {}
        self._done: dict[str, np.ma.MaskedArray] = {}

    def column(self, burst: Any, name: str) -> np.ma.MaskedArray:
        done = self._done.get(name)
        if done is None:
            if name not in self._values:
                self._compute(burst, next(group for group in _GROUPS if name in group))
            done = self._done[name] = self._masked(*self._values[name])
        return done

    def valid(self, burst: Any) -> np.ndarray:
        if self._valid is None:
            self._compute(burst, {})
        assert self._valid is not None
        return self._valid

    def _compute(self, burst: Any, group: dict) -> None:
        descriptors, arena = burst._source_of_columns()
        n = len(descriptors)
        to = library.Columns(size=ctypes.sizeof(library.Columns))
        valid = np.empty(n, np.uint16)
        to.valid = valid.ctypes.data
        for name, (c_name, kind, width, bit) in group.items():
            values = np.empty(n if width == 1 else (n, width), kind)
            setattr(to, c_name, values.ctypes.data)
            self._values[name] = values, bit
        status = library.library().ringcap_columns_parse(descriptors.ctypes.data, n, arena.ctypes.data, len(arena),
                                                         library.INNER if self._inner else 0, ctypes.byref(to))
        assert status == 0
        if self._valid is None:
            self._valid, self._everywhere = valid, int(np.bitwise_and.reduce(valid))

    def _masked(self, values: np.ndarray, bit: int) -> np.ma.MaskedArray:
        """Most bursts have a field in every frame, or it is cheap to make the mask once for all columns that share it."""
        masked = values.view(np.ma.MaskedArray)
        if not self._everywhere & bit and self._valid is not None:
            mask = self._masks.get(bit)
            if mask is None:
                mask = self._masks[bit] = np.asarray((self._valid & bit) == 0)
            masked.mask = mask if values.ndim == 1 else np.broadcast_to(mask[:, None], values.shape)
        return masked


class Columns(ParsedColumns):
    """Parsed columns of the innermost packets of one burst's tunnels, computed when first asked for. Keeps the burst."""

    NAMES = NAMES

    def __init__(self, burst: Any, parsed: Parsed) -> None:
        self._burst, self._inner = burst, parsed

    def _column(self, name: str) -> np.ma.MaskedArray:
        return self._inner.column(self._burst, name)

    def _valid_bits(self) -> np.ndarray:
        return self._inner.valid(self._burst)
