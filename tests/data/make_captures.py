#!/usr/bin/env python3
"""Makes tests/data/captures: the same five frames in every flavour of pcap and pcapng, and files with something wrong.

Run it after a change and commit what it wrote. Frame i (from 0): LENGTHS[i] bytes on the wire, of which
CAPTURED[i] are in the file; byte j is (17 * i + j) % 256; received at FIRST_NS + i * 1.000001002 s (ns; a file in
microseconds rounds down)."""

import pathlib
import struct

FOLDER = pathlib.Path(__file__).resolve().parent / "captures"
LENGTHS = [60, 61, 1514, 64, 9014]
CAPTURED = [60, 61, 96, 64, 128]
FIRST_NS = 1_700_000_000_123_456_789
STEP_NS = 1_000_001_002
ETHERNET, RAW_IP = 1, 101


def frames():
    for i, (length, captured) in enumerate(zip(LENGTHS, CAPTURED)):
        yield FIRST_NS + i * STEP_NS, length, bytes((17 * i + j) % 256 for j in range(captured))


# ---- pcap ----

def pcap_header(order, magic=0xA1B23C4D, major=2, minor=4, link_type=ETHERNET, snaplen=65535):
    return struct.pack(order + "IHHIIII", magic, major, minor, 0, 0, snaplen, link_type)


def pcap_frame(order, ns, length, data, nano=True, swap_lengths=False):
    lengths = (length, len(data)) if swap_lengths else (len(data), length)
    return struct.pack(order + "IIII", ns // 10**9, ns % 10**9 // (1 if nano else 1000), *lengths) + data


def pcap(order, nano):
    return pcap_header(order, 0xA1B23C4D if nano else 0xA1B2C3D4) + b"".join(
        pcap_frame(order, ns, length, data, nano) for ns, length, data in frames())


def old_pcap():
    return pcap_header("<", 0xA1B2C3D4, minor=3) + b"".join(
        pcap_frame("<", ns, length, data, nano=False, swap_lengths=True) for ns, length, data in frames())


def modified_pcap():
    return pcap_header("<", 0xA1B2CD34) + b"".join(
        struct.pack("<IIIIIHBB", ns // 10**9, ns % 10**9 // 1000, len(data), length, 2, 0x0800, 0, 0) + data
        for ns, length, data in frames())


# ---- pcapng ----

def pad(data):
    return data + bytes(-len(data) % 4)


def block(order, kind, body):
    length = 12 + len(pad(body))
    return struct.pack(order + "II", kind, length) + pad(body) + struct.pack(order + "I", length)


def option(order, code, value):
    return struct.pack(order + "HH", code, len(value)) + pad(value)


def section(order, length=-1):
    body = struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, length) + option(order, 4, b"make_captures")
    return block(order, 0x0A0D0D0A, body + option(order, 0, b""))


def interface(order, link_type=ETHERNET, snaplen=0, resolution=None, offset_s=None):
    options = option(order, 2, b"eth0")
    if resolution is not None:
        options += option(order, 9, bytes([resolution]))
    if offset_s is not None:
        options += option(order, 14, struct.pack(order + "q", offset_s))
    return block(order, 1, struct.pack(order + "HHI", link_type, 0, snaplen) + options + option(order, 0, b""))


def enhanced(order, number, ticks, length, data):
    body = struct.pack(order + "IIIII", number, ticks >> 32, ticks & 0xFFFFFFFF, len(data), length) + pad(data)
    return block(order, 6, body + option(order, 1, b"a comment") + option(order, 0, b""))


def obsolete(order, number, ticks, length, data):
    return block(order, 2, struct.pack(order + "HHIIII", number, 0, ticks >> 32, ticks & 0xFFFFFFFF, len(data),
                                       length) + pad(data))


def simple(order, length, data):
    return block(order, 3, struct.pack(order + "I", length) + data)


def other(order):
    return block(order, 4, struct.pack(order + "HH", 0, 0)) + block(order, 0x0BAD, b"nobody knows")


def pcapng(order):
    """Nanoseconds; every kind of packet block but the simple one, with blocks of other kinds between them."""
    parts = [section(order), interface(order, resolution=9)]
    for i, (ns, length, data) in enumerate(frames()):
        parts += [other(order), (obsolete if i == 1 else enhanced)(order, 0, ns, length, data)]
    return b"".join(parts)


def simple_pcapng():
    """One enhanced packet, then simple ones, cut by the interface's snapshot length."""
    (ns, length, data), *rest = list(frames())
    parts = [section("<"), interface("<", snaplen=96, resolution=9), enhanced("<", 0, ns, length, data)]
    return b"".join(parts + [simple("<", length, data[:96]) for _, length, data in rest])


def many_pcapng():
    """Two sections of different byte orders; interfaces of four resolutions and offsets, one never used."""
    first, second = list(frames())[:3], list(frames())[3:]
    offset_s = 1_600_000_000
    parts = [section("<"), interface("<", RAW_IP), interface("<"), interface("<", resolution=9, offset_s=offset_s),
             interface("<", resolution=10)]
    parts += [enhanced("<", 1, first[0][0] // 1000, *first[0][1:]),
              enhanced("<", 2, first[1][0] - offset_s * 10**9, *first[1][1:]),
              enhanced("<", 3, first[2][0] * 10 + 9, *first[2][1:])]
    parts += [section(">"), interface(">", resolution=0x80 | 33), interface(">", resolution=9)]
    ticks = (second[0][0] * 2**33 + 10**9 - 1) // 10**9
    parts += [enhanced(">", 0, ticks, *second[0][1:]), enhanced(">", 1, *second[1])]
    return b"".join(parts)


def mixed_pcapng():
    (ns, length, data), (ns2, length2, data2), *_ = frames()
    return b"".join([section("<"), interface("<", resolution=9), interface("<", RAW_IP, resolution=9),
                     enhanced("<", 0, ns, length, data), enhanced("<", 1, ns2, length2, data2)])


def with_nonsense():
    """Files in which something cannot be, each with one good frame before it."""
    ns, length, data = next(frames())
    good = pcap_header("<") + pcap_frame("<", ns, length, data)
    yield "huge_frame.pcap", good + struct.pack("<IIII", 1, 0, 0xFFFFFFF0, 0xFFFFFFF0)
    good = section("<") + interface("<", resolution=9) + enhanced("<", 0, ns, length, data)
    header = struct.pack("<IIIII", 0, 0, 0, 0xFFFFFFF0, 60)
    yield "huge_frame.pcapng", good + block("<", 6, header + bytes(60))
    yield "huge_block.pcapng", good + struct.pack("<II", 6, 0xFFFFFFFC) + struct.pack("<IIIII", 0, 0, 0, 60, 60)
    yield "huge_unknown_block.pcapng", good + struct.pack("<II", 0x0BAD, 0xFFFFFFFC) + bytes(64)
    yield "tiny_block.pcapng", good + struct.pack("<III", 6, 8, 8)
    yield "odd_block.pcapng", good + struct.pack("<II", 6, 33) + bytes(40)
    yield "other_end.pcapng", good[:-4] + struct.pack("<I", 4) + good[-60:]
    yield "no_interface.pcapng", good + enhanced("<", 7, ns, length, data)
    yield "beyond_block.pcapng", good + block("<", 6, struct.pack("<IIIII", 0, 0, 0, 61, 61) + bytes(60))
    yield "bad_option.pcapng", good + block("<", 1, struct.pack("<HHI", 1, 0, 0) + struct.pack("<HH", 9, 60000))
    yield "bad_order.pcapng", good + struct.pack("<III", 0x0A0D0D0A, 28, 0x12345678) + bytes(16)
    yield "version_2.pcapng", good + block("<", 0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 2, 0, -1))


def main():
    FOLDER.mkdir(exist_ok=True)
    files = {f"{scale}_{name}.pcap": pcap(order, scale == "nano")
             for scale in ("micro", "nano") for name, order in (("little", "<"), ("big", ">"))}
    files |= {f"{name}.pcapng": pcapng(order) for name, order in (("little", "<"), ("big", ">"))}
    files |= {"old.pcap": old_pcap(), "modified.pcap": modified_pcap(), "simple.pcapng": simple_pcapng(),
              "many.pcapng": many_pcapng(), "mixed.pcapng": mixed_pcapng()}
    files |= dict(with_nonsense())
    for name, data in files.items():
        (FOLDER / name).write_bytes(data)


if __name__ == "__main__":
    main()
