#!/usr/bin/python3
"""Instructions that receiving takes: programs that count them (tests/bench/instructions.h), one after the other on the NIC.

    receive_cost.py READY BURSTS PROGRAM...     a PROGRAM with arguments is one word

Each is called with the NIC's address in place of NIC, and READY and BURSTS at its end; READY is removed when it has ended.
Prints what each printed.
"""

import pathlib
import subprocess
import sys

from e1000e import NIC, bind


def main(ready, bursts, *programs):
    bind()
    for program in programs:
        words = [NIC if word == "NIC" else word for word in program.split()]
        done = subprocess.run([*words, ready, bursts], capture_output=True, text=True, check=False)
        pathlib.Path(ready).unlink(missing_ok=True)
        if done.returncode != 0:
            print(f"{words[0]}: status {done.returncode}: {done.stdout}{done.stderr}", file=sys.stderr)
            return 1
        print(done.stdout.splitlines()[-1], flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
