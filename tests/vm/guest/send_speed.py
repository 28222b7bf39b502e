#!/usr/bin/python3
"""How fast frames leave through the NIC: tcpreplay and trafgen over the kernel's driver, then `ringcap send` over ours.

    send_speed.py FILE CONFIG COUNT

FILE: a pcap file; CONFIG: trafgen's, of one of its frames; COUNT: frames that each sends. Prints one line of JSON: frames a
second of each that is installed. RINGCAP names the program.
"""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time

from e1000e import DEVICE, NIC, RINGCAP, bind, until


def run(*words):
    done = subprocess.run([str(w) for w in words], check=True, capture_output=True, text=True)
    return done.stdout + done.stderr


def main(path, config, count):
    frames = int(run(RINGCAP, "filter", "--json", "--run", path, "ether[0] >= 0").rpartition('"frames": ')[2].split(",")[0])
    loops = max(1, count // frames)
    subprocess.run(["modprobe", "e1000e"], check=True)
    interface = until(lambda: next((p.name for p in (DEVICE / "net").iterdir()), None), "the kernel's interface")
    run("ip", "link", "set", interface, "up")
    carrier = pathlib.Path(f"/sys/class/net/{interface}/carrier")
    until(lambda: carrier.read_text().strip() == "1", "the link is up")
    speeds = {}
    if shutil.which("tcpreplay"):
        said = run("tcpreplay", "--topspeed", "--preload-pcap", "--quiet", f"--loop={loops}", "-i", interface, path)
        speeds["tcpreplay"] = float(re.search(r"([\d.]+) pps", said).group(1))
    if shutil.which("trafgen"):
        began = time.monotonic()
        run("trafgen", "--dev", interface, "--conf", config, "--cpus", "1", "--num", loops * frames, "--no-sock-mem")
        speeds["trafgen"] = loops * frames / (time.monotonic() - began)
    run("ip", "link", "set", interface, "down")
    pathlib.Path("/sys/bus/pci/drivers/e1000e/unbind").write_text(NIC)
    bind()
    said = run(RINGCAP, "send", f"vfio:{NIC}", path, "--flat-out", "--loop", loops, "--json")
    speeds["ringcap"] = json.loads(said[said.index("{"):])["frames_per_second"]
    print(json.dumps(speeds))


if __name__ == "__main__":
    os.environ.setdefault("RINGCAP_RUN_DIR", "/run")
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
