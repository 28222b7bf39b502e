#!/usr/bin/env python3
"""The flow hash as capture/frame/hash.h describes it, written from that description alone.

flow_hash.py FILE     checks the vectors in FILE: KEY FAMILY PROTOCOL SOURCE SPORT TARGET DPORT HASH
"""
import ipaddress
import sys

MASK = 2**64 - 1


def le(data):
    return int.from_bytes(data, "little")


def mum(a, b):
    return (a * b & MASK) ^ (a * b >> 64)


def address_bytes(family, text):
    return bytes.fromhex(text.replace(":", "")) if family == "mac" else ipaddress.ip_address(text).packed


def end(address, port, k0, k1):
    port = le(port.to_bytes(2, "big"))
    if len(address) == 16:
        return mum(le(address[:8]) ^ k0, le(address[8:]) ^ k1) ^ port
    return le(address) + (port << 32)


def flow_hash(key, family, number, source, sport, target, dport):
    k0, k1 = le(key[:8]), le(key[8:])
    low, high = sorted((end(source, sport, k0, k1), end(target, dport, k0, k1)))
    h = mum(low ^ k0, high ^ k1)
    h = mum(h ^ ({"mac": 0x10000, "4": 0x40000, "6": 0x60000}[family] + number), 0x9E3779B97F4A7C15)
    return (h ^ h >> 32) & 0xFFFFFFFF


def check(path):
    wrong = 0
    for line in open(path, encoding="ascii"):
        if line.startswith("#") or not line.strip():
            continue
        key, family, number, source, sport, target, dport, expected = line.split()
        got = flow_hash(bytes.fromhex(key), family, int(number, 0), address_bytes(family, source), int(sport),
                        address_bytes(family, target), int(dport))
        if f"{got:08x}" != expected:
            print(f"{got:08x} is not {expected}: {line.strip()}")
            wrong += 1
    return wrong


if __name__ == "__main__":
    sys.exit(check(sys.argv[1]) != 0)
