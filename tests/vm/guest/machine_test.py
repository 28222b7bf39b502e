#!/usr/bin/python3
"""The parts of tests/vm/machine_test that run inside the guest (vfio, fault), and its echo server outside."""

import fcntl
import os
import pathlib
import socket
import struct
import subprocess
import sys

NIC = os.environ.get("RINGCAP_VM_NICS", "").partition(" ")[0]
DEVICE = pathlib.Path("/sys/bus/pci/devices") / NIC
OUTSIDE, INSIDE, PORT = "10.99.0.1", "10.99.0.2/24", 7
LONGEST = 8972  # a datagram in one frame of 9,014 bytes

# linux/vfio.h: _IO(';', 100 + n)
GET_API_VERSION, CHECK_EXTENSION, SET_IOMMU = 0x3B64, 0x3B65, 0x3B66
GROUP_GET_STATUS, GROUP_SET_CONTAINER, GROUP_GET_DEVICE_FD = 0x3B67, 0x3B68, 0x3B6A
DEVICE_GET_REGION_INFO, IOMMU_GET_INFO = 0x3B6C, 0x3B70
TYPE1V2 = 3
BAR0, CONFIG = 0, 7


def vfio(bits, share):
    """VFIO takes the NIC, and the IOMMU has the address bits asked for; then the kernel's driver moves frames."""
    assert any(pathlib.Path("/sys/kernel/iommu_groups").iterdir()), "no IOMMU groups"
    assert (DEVICE / "vendor").read_text() + (DEVICE / "device").read_text() == "0x8086\n0x10d3\n"
    assert free_hugepages() == 8, free_hugepages()
    container, group, device = open_device()
    assert last_address(container) == (1 << int(bits)) - 1, hex(last_address(container))
    for descriptor in (device, group, container):
        os.close(descriptor)
    bind("e1000e")
    exchange_datagrams()
    pathlib.Path(share, "written").write_text(f"by the guest with {bits} bits\n")
    pathlib.Path("/etc/ringcap-vm-machine-test").write_text("in the overlay")


def fault():
    """Has the NIC read a transmit descriptor at an address that nothing is mapped to; ends in a way to recognise."""
    _, _, device = open_device()
    config, bar0 = region(device, CONFIG), region(device, BAR0)
    command = struct.unpack("<H", os.pread(device, 2, config + 4))[0]
    os.pwrite(device, struct.pack("<H", command | 4), config + 4)  # bus master

    def write(register, value):
        os.pwrite(device, struct.pack("<I", value), bar0 + register)

    write(0x3800, 0x123000)  # TDBAL
    write(0x3808, 128)  # TDLEN
    write(0x0400, 1 << 1)  # TCTL.EN
    write(0x3818, 1)  # TDT: one descriptor to fetch
    print("one two")
    print("three", file=sys.stderr)
    sys.exit(42)


def bind(driver):
    subprocess.run(["modprobe", driver], check=True)
    (DEVICE / "driver_override").write_text(driver)
    if (DEVICE / "driver").exists():
        (DEVICE / "driver" / "unbind").write_text(NIC)
    pathlib.Path("/sys/bus/pci/drivers_probe").write_text(NIC)
    assert (DEVICE / "driver").resolve().name == driver, f"{driver} did not take {NIC}"


def open_device():
    bind("vfio-pci")
    container = os.open("/dev/vfio/vfio", os.O_RDWR)
    assert fcntl.ioctl(container, GET_API_VERSION) == 0
    assert fcntl.ioctl(container, CHECK_EXTENSION, TYPE1V2) == 1, "no type1v2 IOMMU"
    group = os.open(f"/dev/vfio/{(DEVICE / 'iommu_group').resolve().name}", os.O_RDWR)
    status = fcntl.ioctl(group, GROUP_GET_STATUS, struct.pack("II", 8, 0))
    assert struct.unpack("II", status)[1] & 1, "the group is not viable"
    fcntl.ioctl(group, GROUP_SET_CONTAINER, struct.pack("i", container))
    fcntl.ioctl(container, SET_IOMMU, TYPE1V2)
    return container, group, fcntl.ioctl(group, GROUP_GET_DEVICE_FD, bytearray(NIC.encode() + b"\0"))


def region(device, index):
    """The offset of a region in the device's descriptor."""
    info = fcntl.ioctl(device, DEVICE_GET_REGION_INFO, struct.pack("IIIIQQ", 32, 0, index, 0, 0, 0))
    return struct.unpack("IIIIQQ", info)[5]


def last_address(container):
    """The end of the last IOVA range, from the chain of capabilities behind vfio_iommu_type1_info."""
    info = fcntl.ioctl(container, IOMMU_GET_INFO, struct.pack("IIQI", 1024, 0, 0, 0).ljust(1024, b"\0"))
    at = struct.unpack_from("IIQI", info)[3]
    while at:
        kind, _, following = struct.unpack_from("HHI", info, at)
        if kind == 1:
            count = struct.unpack_from("I", info, at + 8)[0]
            return struct.unpack_from("QQ", info, at + 16 * count)[1]
        at = following
    raise AssertionError("no IOVA ranges reported")


def free_hugepages():
    return int(pathlib.Path("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages").read_text())


def exchange_datagrams():
    """Datagrams of all sizes go out through the NIC and come back whole."""
    interface = next((DEVICE / "net").iterdir()).name
    subprocess.run(["ip", "link", "set", interface, "mtu", "9000", "up"], check=True)
    subprocess.run(["ip", "addr", "add", INSIDE, "dev", interface], check=True)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as channel:
        channel.connect((OUTSIDE, PORT))
        channel.settimeout(2)
        for size in (0, 1, 18, 1472, 1473, LONGEST):
            sent = bytes(i * 7 % 251 for i in range(size))
            assert answer(channel, sent) == sent, f"{size} bytes came back changed"


def answer(channel, sent):
    """The first ones may be lost: the link takes its time."""
    for _ in range(10):
        try:
            channel.send(sent)
            return channel.recv(65536)
        except (TimeoutError, ConnectionError):
            continue
    raise AssertionError(f"no answer to {len(sent)} bytes")


def echo():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as channel:
        channel.bind((OUTSIDE, PORT))
        while True:
            data, sender = channel.recvfrom(65536)
            channel.sendto(data, sender)


if __name__ == "__main__":
    {"vfio": vfio, "fault": fault, "echo": echo}[sys.argv[1]](*sys.argv[2:])
