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
        return self._parsed().get(name)

    return property(get, doc=text)


class ParsedColumns:
    """The parsed columns as attributes: of a burst, and of its tunnels' innermost packets (burst.inner)."""

    def _parsed(self) -> Columns:
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
        return self._parsed().valid_bits()


class Columns(ParsedColumns):
    """Parsed columns of one burst, computed when first asked for."""

    NAMES = tuple(name for group in _GROUPS for name in group)

    def __init__(self, burst: Any, inner: bool = False) -> None:
        self._burst, self._inner = burst, inner
        self._valid: np.ndarray | None = None
        self._done: dict[str, np.ma.MaskedArray] = {}

    def _parsed(self) -> Columns:
        return self

    def get(self, name: str) -> np.ma.MaskedArray:
        if name not in self._done:
            self._compute(next(group for group in _GROUPS if name in group))
        return self._done[name]

    def valid_bits(self) -> np.ndarray:
        if self._valid is None:
            self._compute({})
        return self._valid

    def _compute(self, group: dict) -> None:
        descriptors, arena = self._burst._source_of_columns()
        n = len(descriptors)
        to = library.Columns(size=ctypes.sizeof(library.Columns))
        valid = np.empty(n, np.uint16)
        to.valid = valid.ctypes.data
        arrays = {}
        for name, (c_name, kind, width, _) in group.items():
            arrays[name] = np.empty(n if width == 1 else (n, width), kind)
            setattr(to, c_name, arrays[name].ctypes.data)
        status = library.library().ringcap_columns_parse(descriptors.ctypes.data, n, arena.ctypes.data, len(arena),
                                                         library.INNER if self._inner else 0, ctypes.byref(to))
        assert status == 0
        self._valid = valid
        masks: dict[int, Any] = {}
        for name, (_, _, width, bit) in group.items():
            if bit not in masks:
                absent = (valid & bit) == 0
                masks[bit] = absent if absent.any() else np.ma.nomask
            mask = masks[bit]
            if width > 1 and mask is not np.ma.nomask:
                mask = np.repeat(mask, width).reshape(n, width)
            self._done[name] = np.ma.MaskedArray(arrays[name], mask=mask, copy=False)
