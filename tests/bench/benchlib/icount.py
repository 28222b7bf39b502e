"""Instructions that receiving a frame takes, by ringcap's driver and by DPDK's for the same NIC, in one virtual machine.

The guest's clock counts the instructions of its one processor, so that the machine under it may be as busy as it likes: the
figures of two runs are the same.
"""

import contextlib
import dataclasses
import json
import pathlib
import socket
import subprocess
import sys
import threading
import time

from benchlib.machine import Failure, scratch

TESTS = pathlib.Path(__file__).resolve().parent.parent.parent
CORE = 1
DEADLINE_S = 280
AIM = 60
# Name for people, QEMU's device, whether fewer instructions than DPDK's are required (or only shown).
NICS = (("e1000e (82574L)", "e1000e", True), ("igb (82576)", "igb", True), ("e1000 (82540EM)", "e1000", False),
        ("virtio, split ring", "virtio-net-pci", False), ("virtio, packed ring", "virtio-net-pci,packed=on", False),
        ("vmxnet3", "vmxnet3", False))
COLUMNS = (("both", "received and given back"), ("alone", "receive call alone"),
           ("looked", "both, and length and 8 bytes of each read"), ("empty", "an empty poll"))


@dataclasses.dataclass
class Counted:
    """The table: for each NIC what ringcap's and DPDK's program found."""

    found: dict = dataclasses.field(default_factory=dict)    # NIC: (ours, DPDK's)
    missing: dict = dataclasses.field(default_factory=dict)  # NIC: why

    def markdown(self):
        text = ["### Instructions to receive a frame of 64 bytes, bursts of 32", "",
                "Medians per burst, divided by 32 (an empty poll: of one call), in a guest whose clock is the count of "
                "instructions. 1,024 descriptors, always a full burst there; DPDK with its defaults. ringcap : DPDK in brackets.", "",
                "| NIC | driver | " + " | ".join(heading for _, heading in COLUMNS) + " |", "| --- | --- |" + " ---: |" * len(COLUMNS)]
        for nic, (ours, peer) in self.found.items():
            text.append(f"| {nic} | ringcap | " + " | ".join(f"{ours[k]:.1f} ({ours[k] / peer[k]:.2f})" for k, _ in COLUMNS) + " |")
            text.append(f"| {nic} | DPDK | " + " | ".join(f"{peer[k]:.1f}" for k, _ in COLUMNS) + " |")
        text += ["", *(f"- left out: {nic}: {why}" for nic, why in self.missing.items()), *map(self._verdict, NICS)]
        return "\n".join(text) + "\n"

    def _verdict(self, nic):
        name, _, required = nic
        word = "required" if required else "shown"
        if name not in self.found:
            return f"- {word}: fewer than DPDK's, {name}: not measured"
        ours, peer = self.found[name]
        fewer = ours["both"] < peer["both"] and ours["empty"] < peer["empty"]
        return (f"- {word}: fewer than DPDK's, received and given back and for an empty poll, {name}: {'met' if fewer else 'NOT met'}; "
                f"aim: {AIM} a frame: {'met' if ours['both'] <= AIM else 'NOT met'}")


def run(context):
    if not (context.build / "peer_dpdk_receive").exists():
        raise Failure("DPDK's program is not built: libdpdk-dev is not installed")
    counted = Counted()
    for name, device, _ in NICS[:1] if context.smoke else NICS:
        try:
            counted.found[name] = _count(context, device)
            context.sampler.say(f"  {name}: " + ", DPDK: ".join(json.dumps(found) for found in counted.found[name]))
        except Failure as failure:
            counted.missing[name] = " ".join(str(failure).split())
            context.sampler.say(f"  {name}: {failure}")
    yield counted


def _count(context, device):
    """One boot: ringcap's driver and then DPDK's."""
    with scratch(on_tmpfs=False) as directory, _sender(directory) as (local, remote, ready):
        programs = [f"{context.build}/nic_receive NIC", f"{context.build}/peer_dpdk_receive -l 0 -m 64 --no-telemetry -a NIC --"]
        # On one core: QEMU's igb must not be preempted in the middle of writing a status (docs/drivers.md).
        command = ["taskset", "-c", CORE, TESTS / "vm/run", "--count-instructions", "--nic", device, "--dgram", f"{local},{remote}",
                   "--hugepages", 96, "--share", directory, "--timeout", DEADLINE_S, "--env", f"RINGCAP={context.tools}/ringcap", "--",
                   "/usr/bin/python3", "-B", TESTS / "vm/guest/receive_cost.py", ready, 20 if context.smoke else 50, *programs]
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode != 0 or len(lines) != 2:
        print(done.stderr, file=sys.stderr)
        raise Failure(f"{len(lines)} of the two programs have said something, the virtual machine ended with status {done.returncode}")
    return lines


@contextlib.contextmanager
def _sender(directory):
    """Frames of 64 bytes (60 and the CRC that no NIC here delivers) flat out as long as the file `ready` is there."""
    local, remote, ready = (directory / name for name in ("nic", "sender", "ready"))
    frame = bytes.fromhex("ffffffffffff 020000000002 0800") + bytes(46)
    end = threading.Event()

    def send():
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
            out.bind(str(remote))
            out.settimeout(1)
            while not end.is_set():
                if not ready.exists():
                    time.sleep(0.02)
                    continue
                with contextlib.suppress(OSError):  # nobody is there yet, or takes none
                    for _ in range(64):
                        out.sendto(frame, str(local))

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield local, remote, ready
    finally:
        end.set()
        thread.join()
