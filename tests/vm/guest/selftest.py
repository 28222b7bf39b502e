#!/usr/bin/python3
"""The part of tests/vm/selftest_test that runs inside the guest: `ringcap selftest` behind VFIO.

    selftest.py        on an e1000e, an igb and a virtio-net-pci
    selftest.py amd    on an e1000e, behind AMD's IOMMU; by hand

RINGCAP names the program, RINGCAP_VM_NICS the NICs' addresses.
"""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

RINGCAP = os.environ["RINGCAP"]
E1000E, IGB, VIRTIO = (os.environ["RINGCAP_VM_NICS"].split() + [None, None])[:3]
PARTS = ["reset", "registers", "loopback", "patterns", "jumbo", "arena", "counters", "queues", "interrupts", "link"]
NEED_LOOPBACK = ["loopback", "patterns", "jumbo", "arena", "counters"]


def until(condition, what, seconds=60):
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited in vain: {what}"
        time.sleep(0.02)
    return value


def bind(nic):
    device = pathlib.Path("/sys/bus/pci/devices") / nic
    (device / "driver_override").write_text("vfio-pci")
    if (device / "driver").exists():
        (device / "driver" / "unbind").write_text(nic)  # virtio's, which the guest has for its disks
    pathlib.Path("/sys/bus/pci/drivers_probe").write_text(nic)
    assert (device / "driver").resolve().name == "vfio-pci"


def selftest(nic, *options):
    return subprocess.run([RINGCAP, "selftest", "--arena", "8M", *options, nic], capture_output=True, text=True)


def report_of(nic, status):
    result = selftest(nic, "--json", "--link-wait", "60s")
    assert result.returncode == status, (result.returncode, result.stdout, result.stderr)
    report = json.loads(result.stdout)
    assert report["schema"] == "ringcap.selftest/1" and report["address"] == nic
    assert [check["id"] for check in report["checks"]] == PARTS, report["checks"]
    return report, {check["id"]: check for check in report["checks"]}


def refused(nic, *words):
    result = selftest(nic)
    assert result.returncode == 1 and result.stdout == "", result
    for word in words:
        assert word in result.stderr, (word, result.stderr)


def refused_while_it_is_not_bound():
    refused(E1000E, "not to vfio-pci", f"ringcap bind {E1000E}")


def refused_while_an_engine_has_it():
    engine = subprocess.Popen([RINGCAP, "up", f"vfio:{E1000E}", "--name", "busy", "--arena", "16M", "--ring", "1024"])
    until(lambda: subprocess.run([RINGCAP, "stat", "busy"], capture_output=True).returncode == 0, "the engine answers")
    refused(E1000E, "the engine busy", "ringcap down busy")
    # Nothing comes, so its interrupts are as for the shortest latency.
    until(lambda: "\n  interrupts at least 10 us apart\n" in subprocess.run([RINGCAP, "stat", "busy"], capture_output=True,
                                                                           text=True).stdout, "what keeps its interrupts apart")
    engine.terminate()
    assert engine.wait(90) == 0


def passes(nic, chip, interrupt, iommu="Intel VT-d"):
    report, checks = report_of(nic, 0)
    for part in PARTS:
        assert checks[part]["outcome"] == "passed", checks[part]
    assert report["verdict"] == "passed" and chip in report["chip"], report
    assert report["iommu"].startswith(iommu), report
    assert report["mac"].startswith("52:54:00:xx"), report
    assert interrupt in checks["interrupts"]["text"], checks["interrupts"]
    for part in PARTS:
        print(f"{chip}: {part}: {checks[part]['text']}")


def says_what_it_cannot(nic):
    report, checks = report_of(nic, 0)
    for part in PARTS:
        possible = part not in [*NEED_LOOPBACK, "queues", "interrupts"]
        assert checks[part]["outcome"] == ("passed" if possible else "not possible"), checks[part]
    assert "no loopback" in checks["patterns"]["text"]
    assert report["verdict"] == "passed"


def shows_its_registers(nic, *names):
    shown = subprocess.run([RINGCAP, "devices", "--registers", "--json", nic], capture_output=True, text=True)
    assert shown.returncode == 0, shown
    registers = {each["name"]: each["value"] for each in json.loads(shown.stdout)["registers"]}
    for name in names:
        assert registers[name] not in (0, 0xffffffff), (name, registers)
    assert subprocess.run([RINGCAP, "devices", "--registers", nic], capture_output=True, text=True).stdout.count(names[0]) >= 1


def ends_by_a_signal_and_leaves_the_nic(nic):
    # An arena that keeps it busy long after the signal.
    test = subprocess.Popen([RINGCAP, "selftest", "--arena", "96M", nic], stdout=subprocess.PIPE, text=True)
    lines = [test.stdout.readline()]
    while "passed        loopback" not in lines[-1]:
        lines.append(test.stdout.readline())
        assert lines[-1], lines
    test.send_signal(signal.SIGINT)  # while frames of all lengths come back
    rest = test.stdout.read()
    assert test.wait(90) == 1 and "Stopped before the end" in rest, (test.returncode, lines, rest)


if sys.argv[1:] == ["amd"]:
    subprocess.run(["modprobe", "vfio_iommu_type1", "allow_unsafe_interrupts=1"], check=True)
subprocess.run(["modprobe", "vfio-pci"], check=True)
if sys.argv[1:] == ["amd"]:
    bind(E1000E)
    passes(E1000E, "82574L", "MSI-X: 2 of receive queues", "AMD-Vi")
    sys.exit(0)
refused_while_it_is_not_bound()
for each in (E1000E, IGB, VIRTIO):
    bind(each)
refused_while_an_engine_has_it()
shows_its_registers(E1000E, "STATUS", "RAL")
shows_its_registers(IGB, "STATUS", "RAL")
shows_its_registers(VIRTIO, "device_feature[1]", "mac[0..3]")
ends_by_a_signal_and_leaves_the_nic(E1000E)
passes(E1000E, "82574L", "MSI-X: 2 of receive queues")
passes(IGB, "82576", "MSI-X: 9 of receive queues")
says_what_it_cannot(VIRTIO)
sys.exit(0)
