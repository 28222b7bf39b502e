"""Every frame that the parsers are tried on: those of the corpus (tests/data, and what the fuzzers kept), whole, cut at every
length, and with wrong bytes; and frames made wrong on purpose, field by field."""

import functools
import struct

import lab

CUT_BYTES = 140  # the longest headers of the corpus are shorter
FUZZED = sorted((lab.TOP / "tests/fuzz/corpus/frame_parser_fuzz").iterdir())


def whole():
    paths = [*lab.FRAMES, lab.TOP / "tests/data/filters/frames.pcap"]
    return [frame for path in paths for frame, _ in lab.read_pcap(path)]


def fuzzed():
    """What the fuzzers kept. A file: a key of 16 bytes; then frames, each after its length in two bytes (frame_parser_fuzz.cc)."""
    out = []
    for path in FUZZED:
        data = path.read_bytes()[16:]
        while len(data) > 2:
            size = int.from_bytes(data[:2], "little")
            out.append(data[2:2 + size])
            data = data[2 + size:]
    return out


def cut():
    """Of each file a few frames, of TCP, UDP, IPv6 and fragments, at every length."""
    out = []
    for path in lab.FRAMES:
        frames = [frame for frame, _ in lab.read_pcap(path)]
        for frame in {frames[i] for i in (0, 8, 16) if i < len(frames)}:
            out += [frame[:n] for n in range(1, min(len(frame), CUT_BYTES))]
    return out


def flipped():
    """Of each file a few frames with all bits of one byte turned."""
    out = []
    for path in lab.FRAMES:
        for frame, _ in lab.read_pcap(path)[:8:3]:
            for at in range(12, min(len(frame), 76)):
                out.append(frame[:at] + bytes([frame[at] ^ 0xFF]) + frame[at + 1:])
    return out


# ---- wrong on purpose ----

MACS = bytes(range(12))
PAYLOAD = bytes(range(100, 140))


def tcp(offset=5, payload=PAYLOAD):
    return struct.pack(">HHIIBBHHH", 4000, 80, 7, 9, offset << 4, 0x18, 1000, 0, 0) + payload


def udp(length=None, payload=PAYLOAD):
    return struct.pack(">HHHH", 4000, 53, 8 + len(payload) if length is None else length, 0) + payload


def ipv4(payload, protocol, version=4, ihl=5, length=None, fragment=0, options=b""):
    total = 20 + len(options) + len(payload) if length is None else length
    return struct.pack(">BBHHHBBH4s4s", version << 4 | ihl, 0, total, 77, fragment, 64, protocol, 0, bytes([10, 0, 0, 1]),
                       bytes([192, 168, 0, 2])) + options + payload


def ipv6(payload, next_header, version=6, length=None):
    size = len(payload) if length is None else length
    return struct.pack(">IHBB", version << 28, size, next_header, 64) + bytes(range(16)) + bytes(range(16, 32)) + payload


def ether(payload, kind):
    return MACS + struct.pack(">H", kind) + payload


def tagged(payload, kind, *tags):
    """`tags`: (type, number) from the outermost on."""
    out = b""
    for tag, number in tags:
        out += struct.pack(">H", tag) + struct.pack(">H", number)
    return MACS + out + struct.pack(">H", kind) + payload


def labels(count, bottom=True):
    return b"".join(struct.pack(">I", (16 + i) << 12 | (bottom and i == count - 1) << 8 | 64) for i in range(count))


def extension(next_header, kind, units=0):
    """An IPv6 extension header of `units` times 8 bytes beyond its first 8; options are padding (PadN)."""
    if kind == 44:
        return bytes([next_header, 0, 0, 0, 0, 0, 0, 99])
    if kind == 51:
        return bytes([next_header, 4]) + bytes(22)  # (4 + 2) * 4 = 24 bytes, RFC 4302, 2.2
    if kind == 43:
        return bytes([next_header, units, 253, 0]) + bytes(4 + 8 * units)
    return bytes([next_header, units, 1, (4 + 8 * units) & 255]) + bytes(4 + 8 * units)


def chain(*kinds, last=17, payload=None):
    """An IPv6 packet with extension headers of these kinds."""
    following = [*kinds[1:], last]
    headers = b"".join(extension(after, kind) for kind, after in zip(kinds, following))
    return ipv6(headers + (udp() if payload is None else payload), kinds[0])


def ip_wrong():
    for ihl in range(16):
        yield ether(ipv4(tcp(), 6, ihl=ihl, options=bytes([1]) * max(0, ihl * 4 - 20)), 0x0800)
        yield ether(ipv4(udp(), 17, ihl=ihl), 0x0800)
    for version in range(16):
        yield ether(ipv4(tcp(), 6, version=version), 0x0800)
        yield ether(ipv6(tcp(), 6, version=version), 0x86DD)
    for length in (0, 1, 19, 20, 21, 24, 27, 28, 30, 40, 44, 60, 61, 1500, 65535):
        for transport, protocol in ((tcp(), 6), (udp(), 17)):
            yield ether(ipv4(transport, protocol, length=length), 0x0800)
            yield ether(ipv6(transport, protocol, length=length), 0x86DD)
            yield ether(ipv4(transport, protocol, length=length) + bytes(30), 0x0800)
    for fragment in (0x2000, 0x0001, 0x2001, 0x4000, 0x8000, 0x1FFF, 0x3FFF):
        yield ether(ipv4(tcp(), 6, fragment=fragment), 0x0800)
        yield ether(ipv4(udp(), 17, fragment=fragment), 0x0800)
    for protocol in range(256):
        yield ether(ipv4(tcp(), protocol), 0x0800)
        yield ether(ipv6(tcp(), protocol), 0x86DD)


def transport_wrong():
    for offset in range(16):
        for payload in (b"", PAYLOAD):
            yield ether(ipv4(tcp(offset, payload), 6), 0x0800)
            yield ether(ipv6(tcp(offset, payload), 6), 0x86DD)
    for length in (0, 1, 7, 8, 9, 20, 48, 49, 65535):
        yield ether(ipv4(udp(length), 17), 0x0800)
        yield ether(ipv6(udp(length), 17), 0x86DD)


def links_wrong():
    for tag in (0x8100, 0x88A8, 0x9100, 0x9200):
        for count in (1, 2, 3, 8, 31, 32, 40):
            yield tagged(ipv4(udp(), 17), 0x0800, *[(tag, 100 + i) for i in range(count)])
        yield tagged(ipv6(tcp(), 6), 0x86DD, (tag, 0xEFFF), (0x8100, 0))
    for kind in (0x8847, 0x8848):
        for count in (1, 2, 3, 8, 24, 25, 32, 40):
            for bottom in (True, False):
                yield ether(labels(count, bottom) + ipv4(tcp(), 6), kind)
                yield ether(labels(count, bottom) + ipv6(udp(), 17), kind)
    for size in (0, 40, 1499, 1500, 1501, 1535, 1536):
        yield ether(bytes([0xAA, 0xAA, 3, 0, 0, 0, 8, 0]) + ipv4(tcp(), 6), size)
        yield ether(bytes([0xFF, 0xFF]) + ipv4(tcp(), 6), size)
    for session in (b"\x11\x00\x00\x01", b"\x11\x09\x00\x01", b"\x22\x00\x00\x01"):
        for protocol in (b"\x00\x21", b"\x00\x57", b"\xc0\x21"):
            yield ether(session + b"\x00\x40" + protocol + ipv4(udp(), 17), 0x8864)


def extensions_wrong():
    for kinds in ((0,), (43,), (60,), (44,), (51,), (135,), (139,), (140,), (0, 60, 43, 44, 51, 60), (60, 60), (0, 0), (44, 44), (59,),
                  (0, 59), (50,), (44, 60), (60, 44, 51)):
        whole = ether(chain(*kinds), 0x86DD)
        yield from (whole[:n] for n in range(54, len(whole), 3))
        yield ether(chain(*kinds, last=59), 0x86DD)
    for count in (30, 31, 32, 33, 100):
        yield ether(chain(*[60] * count), 0x86DD)
    for units in (1, 5, 6, 255):
        yield ether(ipv6(extension(17, 60, units)[:40] + udp(), 60), 0x86DD)
    for word in (0x0000, 0x0001, 0x0008, 0x0009, 0x0006, 0xFFF8, 0xFFFF):  # offset, two reserved bits, more to come
        yield ether(ipv6(bytes([17, 0]) + struct.pack(">HI", word, 99) + udp(), 44), 0x86DD)
        yield ether(ipv6(extension(44, 60) + bytes([6, 0]) + struct.pack(">HI", word, 99) + tcp(), 60), 0x86DD)


def tunnels_wrong():
    """Tunnels whose inner packet is wrong, and as deep as the walk goes, and deeper."""
    bad = [ipv4(tcp(), 6, ihl=3), ipv4(tcp(), 6, version=5), ipv6(udp(), 17, version=4), ipv4(udp(), 17)[:17], b"", ipv6(tcp(3), 6)]
    for inner in bad:
        yield ether(ipv4(inner, 4), 0x0800)
        yield ether(ipv4(inner, 41), 0x0800)
        yield ether(ipv4(struct.pack(">HH", 0, 0x0800) + inner, 47), 0x0800)
        yield ether(ipv4(struct.pack(">HHHHII", 4000, 4789, 0, 0, 0x08000000, 0) + ether(inner, 0x0800), 17), 0x0800)
    for depth in (1, 2, 10, 29, 30, 31, 32, 40):
        packet = udp()
        for level in range(depth + 1):
            packet = ipv4(packet, 17 if level == 0 else 4)
        yield ether(packet, 0x0800)


@functools.cache
def malformed():
    made = [*ip_wrong(), *transport_wrong(), *links_wrong(), *extensions_wrong(), *tunnels_wrong()]
    return [frame for frame in cut() + flipped() + made if frame]


def everything():
    return [frame for frame in whole() + fuzzed() + malformed() if frame]
