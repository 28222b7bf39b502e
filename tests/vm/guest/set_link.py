#!/usr/bin/python3
"""Sets a NIC's link through QEMU's monitor: set_link.py SOCKET NIC up|down. Runs outside the guest."""

import json
import socket
import sys

path, nic, way = sys.argv[1:]
with socket.socket(socket.AF_UNIX) as monitor:
    monitor.connect(path)
    file = monitor.makefile("rw")
    json.loads(file.readline())
    for command in ({"execute": "qmp_capabilities"},
                    {"execute": "set_link", "arguments": {"name": nic, "up": way == "up"}}):
        file.write(json.dumps(command) + "\n")
        file.flush()
        while "return" not in (answer := json.loads(file.readline())):
            assert "error" not in answer, answer
