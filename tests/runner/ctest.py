"""Runs registered tests (tests/CMakeLists.txt) by label and reads what ctest says about each."""

import json
import os
import re
import subprocess

import processes
from build import LOGS, TOP

RESULT = re.compile(r"\s*\d+/\d+ Test\s+#(\d+): (\S+) \.*\s*(?:\*\*\*)?(Passed|Failed|Skipped|Timeout|Not Run|Exception|.*?)\b.*? +([\d.]+) sec")
OUTPUT = re.compile(r"(\d+): (.*)")


def run_label(suite, preset, label, deadline, jobs, only=None, prefix=(), environment=None):
    """Runs the tests of a label (of those the ones that the expression `only` matches) in build/PRESET into `suite`."""
    environment = {**test_environment(), **(environment or {})}
    select = ["-L", f"^({label})$"] + (["-R", only] if only else [])
    names = listed(preset, select, environment)
    reader = Reader(suite)
    command = [*prefix, "ctest", "-V", "--no-tests=ignore", "-j", str(jobs), *select]
    try:
        processes.run(command, LOGS / f"{suite.name.replace(' ', '-')}.log", deadline, reader.line,
                      cwd=TOP / "build" / preset, env=environment)
    finally:
        missing = [name for name in names if name not in reader.seen]
        suite.not_run += [f"{name}: ctest did not get to it" for name in missing]
    if not names:
        suite.not_run.append("all: there are no tests of this kind in the build")


def listed(preset, select, environment):
    """The names of the tests that a selection has."""
    listing = subprocess.run(["ctest", "--show-only=json-v1", *select], cwd=TOP / "build" / preset, env=environment,
                             stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300)
    if listing.returncode != 0:
        return [f"the list of tests ({listing.stderr.strip()[-500:]})"]
    return [test["name"] for test in json.loads(listing.stdout)["tests"]]


def test_environment():
    """The caller's environment without what would change the product's behaviour."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("RINGCAP_") or key in KEPT}
    return {**kept, "LC_ALL": "C.UTF-8"}


KEPT = ("RINGCAP_VM_DIR", "RINGCAP_QEMU", "RINGCAP_LONG")  # read by the tests, not by the product


class Reader:
    """Puts ctest's lines into a suite, each result when it comes."""

    def __init__(self, suite):
        self.suite = suite
        self.seen = set()
        self.output = {}

    def line(self, text):
        if found := RESULT.match(text):
            self.result(*found.groups())
        elif found := OUTPUT.match(text):
            self.output.setdefault(found[1], []).append(found[2])

    def result(self, number, name, verdict, seconds):
        self.seen.add(name)
        output = self.output.pop(number, [])
        if verdict == "Passed":
            self.suite.passed.append(name)
        elif verdict == "Skipped":
            self.suite.not_run.append(f"{name}: {reason(output)}")
        else:
            self.suite.add_failure(f"{name} ({verdict.strip() or 'ended by a signal'} after {seconds} s)", output)


def reason(output):
    """Why a test says that it did not run: GoogleTest prints it on the lines before its own mark."""
    texts = [line.strip() for line in output if line.strip() and not line.startswith(("[", "Note:", "Running main", "Test command",
             "Working Directory", "Environment", "Test timeout"))]
    texts = [text for text in texts if not re.search(r"_test\.cc:\d+: Skipped$", text)]
    return texts[-1] if texts else "skipped without a reason"
