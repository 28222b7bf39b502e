"""Columns: the same live and from a file; of tunnels; and the layout that they are read by."""

import ctypes
import ipaddress
import re
import subprocess

import corpus
import lab
import numpy as np
import ringcap
from ringcap import library


def all_columns(cap):
    """Every column of all frames, with its mask."""
    columns = {name: [] for name in ("frames", *ringcap.COLUMNS, *("inner." + name for name in ringcap.Columns.NAMES))}
    for burst in cap.bursts():
        columns["frames"] += [bytes(frame) for frame in burst.frames()]
        for name, values in burst.columns().items():
            columns[name] += values.tolist()
        for name in ringcap.Columns.NAMES:
            columns["inner." + name] += getattr(burst.inner, name).tolist()
    return columns


def live(path):
    with lab.engine(*lab.replay(path)), lab.attach() as cap:
        return all_columns(cap)


def from_file(path):
    with ringcap.open(path, hash_key=lab.KEY) as cap:
        return all_columns(cap)


def test_live_and_file_give_identical_columns(tmp_path):
    path = lab.write_pcap(tmp_path / "corpus.pcap", corpus.everything())
    ours, theirs = from_file(path), live(path)
    assert len(ours["frames"]) > 20_000
    for name in ours:
        assert ours[name] == theirs[name], name


def test_live_and_file_give_identical_columns_of_every_kind_of_capture_file():
    compared = 0
    for path in sorted((lab.TOP / "tests/data/captures").iterdir()):
        try:
            ours = from_file(path)
        except ringcap.Error:
            continue  # damaged: what then happens is another test's
        assert ours == live(path), path
        compared += 1
    assert compared >= 8


def test_frames_of_a_file_are_its_bytes(tmp_path):
    for path in lab.FRAMES:
        expected = lab.read_pcap(path)
        with ringcap.open(path) as cap:
            got = [(bytes(f), int(n)) for burst in cap.bursts(7) for f, n in zip(burst.frames(), burst.length)]
        assert got == expected, path


# ---- the packets of tunnels

def flow(text):
    """FAMILY NUMBER SOURCE PORT TARGET PORT (tests/data/make_frames.py) by the names of our columns."""
    family, number, source, sport, target, dport = text.split()
    if family == "mac":
        return {"ip_version": None}
    found = {"ip_version": int(family), "protocol": int(number)}
    if int(number) in (6, 17, 33, 132, 136):
        found |= {"source_port": int(sport), "destination_port": int(dport)}
    addresses = [ipaddress.ip_address(address) for address in (source, target)]
    if family == "4":
        return found | {"ip_source": int(addresses[0]), "ip_destination": int(addresses[1])}
    return found | {"ipv6_source": list(addresses[0].packed), "ipv6_destination": list(addresses[1].packed)}


def is_later_fragment(frame, at):
    if frame[at] >> 4 == 4:
        return int.from_bytes(frame[at + 6:at + 8], "big") & 0x1FFF != 0
    return frame[at + 6] == 44 and int.from_bytes(frame[at + 42:at + 44], "big") & 0xFFF8 != 0


def test_packets_in_tunnels_have_the_columns_that_the_corpus_says():
    compared = 0
    for path in lab.FRAMES:
        ours = from_file(path)
        for i, line in enumerate(path.with_suffix(".txt").read_text().splitlines()):
            inner, _, _, offset, words = (part.strip() for part in line.split("|"))
            if "tunnel" not in words:
                assert all(ours["inner." + name][i] in (None, [None] * 6, [None] * 16) for name in ringcap.Columns.NAMES), (path, i)
                continue
            expected = flow(inner)
            if int(offset) and is_later_fragment(ours["frames"][i], int(offset)):
                expected |= {name: None for name in ("source_port", "destination_port") if name in expected}
            for name, value in expected.items():
                assert ours["inner." + name][i] == value, (path, i, name)
            compared += 1
    assert compared > 1500


def test_fields_that_were_not_captured_are_masked(tmp_path):
    frame = next(f for f, _ in lab.read_pcap(lab.TOP / "tests/data/frames/plain.pcap") if f[23] == 6 and f[12:14] == b"\x08\x00")
    path = lab.write_pcap(tmp_path / "cut.pcap", [frame[:n] for n in range(1, len(frame) + 1)])
    ours = from_file(path)
    # The number of bytes from which on each field is there: RFC 791, RFC 9293.
    needed = {"ethernet_type": 14, "ip_source": 34, "source_port": 38, "sequence": 46, "tcp_flags": 48, "payload_offset": 54}
    for name, first in needed.items():
        there = [i + 1 for i, value in enumerate(ours[name]) if value is not None]
        assert there == list(range(first, len(frame) + 1)), name
    assert ours["payload_length"][-1] == len(frame) - 54


def test_padding_is_not_payload(tmp_path):
    path = lab.write_pcap(tmp_path / "short.pcap", [lab.udp(b"abc") + bytes(15)])
    ours = from_file(path)
    assert (ours["payload_offset"], ours["payload_length"]) == ([42], [3])


def test_a_descriptor_that_points_beyond_the_arena_has_no_fields():
    frame = np.frombuffer(lab.udp(), np.uint8)
    descriptors = np.zeros(3, ringcap.DESCRIPTOR)
    descriptors["captured"] = len(frame)
    descriptors["location"] = 0, 1, 2**40 - 1
    valid = np.full(3, 0xFFFF, np.uint16)
    to = library.Columns(size=ctypes.sizeof(library.Columns), valid=valid.ctypes.data)
    assert library.library().ringcap_columns_parse(descriptors.ctypes.data, 3, frame.ctypes.data, len(frame), 0, ctypes.byref(to)) == 0
    assert valid[0] != 0 and valid[1:].tolist() == [0, 0]


def test_each_column_has_the_shape_and_type_that_its_docstring_says():
    compared = 0
    with ringcap.open(lab.TOP / "tests/data/frames/plain.pcap") as cap:
        burst = cap.take()
        for at in (burst, burst[:3], burst[:0]):
            for name in (*ringcap.COLUMNS, "valid", "offset", "source", "direction"):
                text = getattr(ringcap.Burst, name).__doc__
                shape, dtype = re.match(r"\(n,(?: (\d+))?\) (\w+)", text).groups()
                values = getattr(at, name)
                assert values.shape == ((len(at), int(shape)) if shape else (len(at),)), name
                assert values.dtype == np.dtype(dtype), name
                compared += 1
    assert compared > 80


# ---- layout ----

C_TYPES = {"uint64_t": 8, "uint32_t": 4, "uint16_t": 2, "uint8_t": 1}


def c_struct(header, name):
    """(name, bytes) of each field of a struct in a C header, without pointers."""
    text = (lab.TOP / "libcap/client" / header).read_text()
    body = re.search(rf"struct {name} \{{(.*?)\n\}};", text, re.S)[1]
    return re.findall(r"^\s*(uint\d+_t|size_t|int32_t|const [\w* ]+?\*|uint\d+_t\*|char|int)\s*\*?\s*(\w+)(?:\[(\d+)\])?;", body, re.M)


def test_the_descriptor_is_as_the_c_header_has_it():
    fields = c_struct("ringcap.h", "ringcap_descriptor")
    offset = 0
    for kind, name, _ in fields:
        dtype, at = library.DESCRIPTOR.fields[name][:2]
        assert (dtype.itemsize, at) == (C_TYPES[kind], offset), name
        offset += C_TYPES[kind]
    assert offset == library.DESCRIPTOR.itemsize == 32 and len(fields) == len(library.DESCRIPTOR.names)
    shared = (lab.TOP / "capture/layout/layout.h").read_text()
    assert library.OFFSET_BITS == int(re.search(r"kLocationBits = (\d+)", shared)[1])


def test_the_structures_are_as_the_c_headers_have_them(tmp_path):
    """A C program, compiled with the headers, says where each field is."""
    pairs = {"ringcap_options": library.Options, "ringcap_error": library.Error, "ringcap_burst": library.Burst,
             "ringcap_counters": library.Counters, "ringcap_instruction": library.Instruction,
             "ringcap_columns": library.Columns, "ringcap_source": library.Source, "ringcap_file_options": library.FileOptions}
    lines = [f'printf("{c}.{f[0]} %zu %zu\\n", offsetof(struct {c}, {f[0]}), sizeof(((struct {c}*)0)->{f[0]}));'
             for c, python in pairs.items() for f in python._fields_]
    lines += [f'printf("{c} %zu 0\\n", sizeof(struct {c}));' for c in pairs]
    (tmp_path / "layout.c").write_text('#include <stdio.h>\n#include "ringcap_columns.h"\nint main(void) {' + "\n".join(lines) + "}\n")
    subprocess.run(["cc", "-I", lab.TOP / "libcap/client", tmp_path / "layout.c", "-o", tmp_path / "layout"], check=True)
    said = subprocess.run([tmp_path / "layout"], check=True, capture_output=True, text=True).stdout.split("\n")
    expected = [f"{c}.{f[0]} {getattr(python, f[0]).offset} {getattr(python, f[0]).size}"
                for c, python in pairs.items() for f in python._fields_]
    expected += [f"{c} {ctypes.sizeof(python)} 0" for c, python in pairs.items()]
    assert said[:-1] == expected


def test_the_bits_are_as_the_c_headers_have_them():
    text = "".join((lab.TOP / "libcap/client" / name).read_text() for name in ("ringcap.h", "ringcap_columns.h"))
    bits = {name: 1 << int(bit) for name, bit in re.findall(r"RINGCAP_(\w+) = 1 << (\d+)", text)}
    for name in ("OUTGOING", "TRUNCATED", "BAD_CRC", "BAD_LENGTH", "FRAGMENT", "FIRST_FRAGMENT", "VLAN", "TUNNEL", "HASH_VALID",
                 "ADAPTER_TIME", "COPIED"):
        assert getattr(ringcap, name) == bits[name]
    for name in ("ETHERNET", "IP", "IPV4", "IPV6", "PORTS", "TCP_FLAGS", "SEQUENCE", "PAYLOAD", "INNER"):
        assert getattr(ringcap, name) == bits["HAS_" + name]
    assert ringcap.HAS_VLAN == bits["HAS_VLAN"]
