"""`ringcap send` through an e1000e in a virtual machine, beside programs that use the kernel's driver there."""

import json
import os
import pathlib
import shutil
import subprocess

from benchlib.engine import missing
from benchlib.forward import first_frame, make_frames
from benchlib.machine import Failure, scratch
from benchlib.sample import Comparison, Goal, Line

TESTS = pathlib.Path(__file__).resolve().parent.parent.parent
COUNT = 200_000


class Guest:
    """One boot measures all three: whoever asks first starts it, the others take what it found."""

    def __init__(self, context, directory):
        self.context, self.directory = context, directory
        self.found = {}

    def speed_of(self, name):
        def contender():
            if name not in self.found:
                self.found = self._boot()
            if name not in self.found:
                raise Failure(f"{name} is not installed")
            return self.found.pop(name), None, {}
        return contender

    def _boot(self):
        frames = make_frames(self.context, self.directory)
        config = self.directory / "frames.cfg"
        config.write_text("{ " + ", ".join(f"0x{b:02x}" for b in first_frame(frames)) + " }\n")
        script = ('. "$0/lib/vm.sh"; vm_outside; cp "$1" "$2" "$vm_share"; '
                  'vm_run --hugepages 16 --memory 1024 --timeout 100 --env "RINGCAP=$3" -- /usr/bin/python3 -B '
                  '"$vm_tests/guest/send_speed.py" "$vm_share/frames.pcap" "$vm_share/frames.cfg" "$4"')
        done = subprocess.run(["bash", "-c", script, TESTS, frames, config, self.context.tools / "ringcap", str(COUNT)],
                              capture_output=True, text=True, check=False, env={**os.environ})
        line = next((word for word in reversed(done.stdout.splitlines()) if word.startswith("{")), None)
        if done.returncode != 0 or line is None:
            raise Failure(f"the virtual machine: status {done.returncode}: {done.stdout[-300:]}{done.stderr[-600:]}")
        return json.loads(line)


def run(context):
    def installed(program):
        return "" if shutil.which(program) else "not installed"
    with scratch() as directory:
        guest = Guest(context, directory)
        comparison = Comparison(
            "Sending 64-byte frames through an e1000e in a virtual machine, flat out",
            "QEMU's emulated processor and NIC, so ratios only: `ringcap send vfio: --flat-out`, and tcpreplay and trafgen over "
            "the kernel's e1000e driver, one after the other in one boot.",
            [Line("ringcap", "frames/s", ours=True, missing=missing(context)),
             Line("tcpreplay", "frames/s", missing=installed("tcpreplay")),
             Line("trafgen", "frames/s", missing=installed("trafgen"))],
            [Goal("the better of both", "ringcap", ["tcpreplay", "trafgen"], 1)])
        context.sampler.take(comparison, {name: guest.speed_of(name) for name in ("ringcap", "tcpreplay", "trafgen")})
    yield comparison
