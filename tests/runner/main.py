"""The tests' runner, started by tests/run. One run: build, suites in order, names, closing line.

Hard stop: 80 minutes after the start; what did not run until then is named."""

import argparse
import contextlib
import os
import signal
import sys
import time

import guarantees
import hugepages
import processes
import report
import suites
from report import say

HARD_STOP_S = 80 * 60
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
HUGEPAGES = 160  # two tests at a time with up to 32 pages each, and what their engines keep a moment longer


def main():
    arguments = parse()
    processes.adopt_orphans()
    for number in SIGNALS:
        signal.signal(number, interrupted)
    run = suites.Run(deadline=time.monotonic() + HARD_STOP_S - (time.time() - arguments.started), long=arguments.long)
    try:
        with hugepages.reserved(HUGEPAGES):
            run_all(run, arguments)
    except KeyboardInterrupt:
        say("interrupted")
        report.close(run.suites + [report.Suite(name, not_run=["all: interrupted"]) for name in run.waiting])
        return 130
    if not arguments.suite:
        run.suites.append(guarantees.shown_by(run.suites))
        say(run.suites[-1].line(0))
    say(f"total: {time.time() - arguments.started:.0f} s")
    return report.close(run.suites)


def parse():
    parser = argparse.ArgumentParser(prog="tests/run")
    known = [*suites.STANDARD, *suites.OPTIONAL]
    parser.add_argument("suite", nargs="*", help=f"some of {' '.join(known)}; default: all but tidy")
    parser.add_argument("--long", action="store_true", help="repetitions in full, 10 minutes a fuzzer, everything optional")
    parser.add_argument("--started", type=float, default=time.time(), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    for name in arguments.suite:
        if name not in known:
            parser.error(f"there is no suite {name}; there are {' '.join(known)}")
    return arguments


def interrupted(number, frame):
    """Ends the run. A second signal (timeout(1) sends two) must not interrupt the tidying."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def run_all(run, arguments):
    names = arguments.suite or [*suites.STANDARD, *(suites.OPTIONAL if arguments.long else [])]
    if arguments.long:
        os.environ["RINGCAP_LONG"] = "1"
    run.waiting = list(names)
    run.prepare(names)
    while run.waiting:
        run.one(run.waiting.pop(0))


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        sys.exit(main())
