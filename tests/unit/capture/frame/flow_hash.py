#!/usr/bin/env python3
"""The flow hash as docs/hash.md describes it, written from that description alone.

flow_hash.py FILE     checks the values in FILE, a line each:
                      KEY KIND FAMILY NUMBER SOURCE SPORT TARGET DPORT VALUE
FAMILY is 4, 6 or mac; NUMBER the protocol or EtherType. KIND source and target are the two values of `ends`. Of kind
vlan only NUMBER counts: the identifier."""
import ipaddress
import sys

MASK = 2**64 - 1
TYPES = {"mac": 0x10000, "4": 0x40000, "6": 0x60000}
WITH_PORTS = (6, 17, 33, 132, 136)


def le(data):
    return int.from_bytes(data, "little")


def mum(a, b):
    return (a * b & MASK) ^ (a * b >> 64)


def mix(one, other, type_, k0, k1):
    low, high = sorted((one, other))
    h = mum(mum(low ^ k0, high ^ k1) ^ type_, 0x9E3779B97F4A7C15)
    return (h ^ h >> 32) & 0xFFFFFFFF


def end(family, text, port, k0, k1):
    if family == "mac":
        return le(bytes.fromhex(text.replace(":", "")))
    address, port = ipaddress.ip_address(text).packed, le(port.to_bytes(2, "big"))
    if family == "6":
        return mum(le(address[:8]) ^ k0, le(address[8:]) ^ k1) ^ port
    return le(address) + (port << 32)


def value(key, kind, family, number, source, sport, target, dport):
    k0, k1 = le(key[:8]), le(key[8:])
    if kind == "vlan":
        return mix(number, number, 0x20000, k0, k1)
    if kind in ("source", "target"):
        one = end(family, source if kind == "source" else target, 0, k0, k1)
        return mix(one, one, TYPES[family], k0, k1)
    ip = family != "mac"
    if kind == "tcp5":
        kind = "flow5" if ip and number == 6 else "flow2"
    if kind == "ip5":
        kind = "flow5" if ip else "flow2"
    if kind == "flow2" or not ip or number not in WITH_PORTS:
        sport = dport = 0
    if kind == "flow5":
        type_ = TYPES[family] + (number if ip or number >= 0x600 else 0)
    else:
        type_ = TYPES[family]
    return mix(end(family, source, sport, k0, k1), end(family, target, dport, k0, k1), type_, k0, k1)


def check(path):
    wrong = lines = 0
    for line in open(path, encoding="ascii"):
        if line.startswith("#") or not line.strip():
            continue
        key, kind, family, number, source, sport, target, dport, expected = line.split()
        got = value(bytes.fromhex(key), kind, family, int(number, 0), source, int(sport), target, int(dport))
        lines += 1
        if f"{got:08x}" != expected:
            print(f"{got:08x} is not {expected}: {line.strip()}")
            wrong += 1
    return wrong if lines else 1


if __name__ == "__main__":
    sys.exit(check(sys.argv[1]) != 0)
