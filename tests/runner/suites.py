"""The suites: what each builds and how it runs."""

import os
import subprocess
import time

import build
import ctest
import fuzz
import processes
import tidy
from report import Suite, say

STANDARD = ["tree", "unit", "system", "nic", "vm", "sanitize", "fuzz"]
OPTIONAL = ["tidy"]
IN_RELEASE = {"tree", "unit", "system", "nic", "vm"}

SANITIZER_OPTIONS = {
    "ASAN_OPTIONS": "detect_leaks=1:detect_stack_use_after_return=1:check_initialization_order=1",
    "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
    "TSAN_OPTIONS": "halt_on_error=1:second_deadlock_stack=1",
}
# What two threads share, and so what the thread sanitizer is for.
THREADED = r"(Thread|Ring|Forwarder|Sender|Plan|Ledger|Sleep|Wake|Worker|Sequence|Engine)"


class Run:
    """One run of some suites. Everything in it ends before `deadline` (time.monotonic())."""

    def __init__(self, deadline, long):
        self.deadline = deadline
        self.long = long
        self.suites = []
        self.waiting = []  # names of those that were not begun
        self.jobs = os.cpu_count()
        self.is_built = {}  # preset: whether it worked
        self.fetch = None

    def prepare(self, names):
        """Starts the download of what the VM tests run on, and builds meanwhile."""
        if {"nic", "vm"} & set(names):
            self.fetch = Fetch()
        if IN_RELEASE & set(names):
            targets = {"tree": ["build.ninja"], "unit": ["ringcap_unit_tests"]}.get(" ".join(names), [])
            with self.suite("build"):
                self.need("release", targets)

    def one(self, name):
        """Runs a suite, unless time is over."""
        if time.monotonic() < self.deadline:
            getattr(self, name)()
        else:
            with self.suite(name) as suite:
                suite.not_run.append("all: the run's time was over")

    def suite(self, name):
        return Timed(self, Suite(name))

    def need(self, preset, targets):
        """Builds a preset once. Whether it is there."""
        if preset not in self.is_built:
            self.is_built[preset] = False
            definitions = [f"-DRINGCAP_TEST_TIMEOUT={1200 if self.long else 240}"]
            self.is_built[preset] = build.build(preset, targets, self.deadline, definitions)
            if not self.is_built[preset]:
                self.suites[-1].failed.append(f"build of {preset}")
        return self.is_built[preset]

    def by_label(self, name, preset="release", **options):
        with self.suite(name) as suite:
            if self.need(preset, []):
                ctest.run_label(suite, preset, options.pop("label", name), self.deadline, self.jobs, **options)
            else:
                suite.not_run.append("all: the build failed")

    def tree(self):
        self.by_label("tree")

    def unit(self):
        self.by_label("unit")

    def system(self):
        self.by_label("system")

    def nic(self):
        self.with_vm_files("nic")

    def vm(self):
        self.with_vm_files("vm")

    def with_vm_files(self, name):
        problem = self.fetch.wait(self.deadline)
        if problem:
            with self.suite(name) as suite:
                suite.add_failure("tests/vm/fetch", problem)
                suite.not_run.append("all: QEMU and the guest's kernel are missing")
        else:
            self.by_label(name)

    def sanitize(self):
        self.sanitized("address", ["ringcap_unit_tests", "ringcap_system_tests"], "unit|system")
        self.sanitized("thread", ["ringcap_unit_tests"], "unit", only=THREADED)

    def sanitized(self, preset, targets, label, only=None):
        with self.suite(f"{preset} sanitizer") as suite:
            if self.need(preset, targets):
                ctest.run_label(suite, preset, label, self.deadline, self.jobs, only, no_randomisation(), SANITIZER_OPTIONS)
            else:
                suite.not_run.append("all: the build failed")

    def fuzz(self):
        with self.suite("fuzz") as suite:
            if self.need("fuzz", fuzz.targets()):
                fuzz.run_all(suite, 600 if self.long else 30, self.jobs, self.deadline)
            else:
                suite.not_run.append("all: the build failed")

    def tidy(self):
        with self.suite("tidy") as suite:
            if self.need("clang", []):
                tidy.run_all(suite, self.jobs, self.deadline)
            else:
                suite.not_run.append("all: the build failed")


def no_randomisation():
    """A prefix for the thread sanitizer, which cannot place its memory under some kernels' address randomisation."""
    works = subprocess.run(["setarch", "-R", "true"], capture_output=True).returncode == 0
    return ["setarch", "-R"] if works else []


class Timed:
    """One suite of a run: its line at the end, what it left behind, and the hard stop."""

    def __init__(self, run, suite):
        self.run, self.suite = run, suite

    def __enter__(self):
        self.start = time.monotonic()
        self.run.suites.append(self.suite)
        return self.suite

    def __exit__(self, kind, error, trace):
        fetching = self.run.fetch.pid if self.run.fetch else None
        for name in processes.end_leftovers(besides=fetching):
            if kind is None:  # else the suite was cut short
                self.suite.add_failure(f"left behind: {name}")
        if kind is processes.OutOfTime:
            self.suite.not_run.append("the rest: the run's time was over")
        if kind in (None, processes.OutOfTime) and (self.suite.name != "build" or self.suite.failed):
            say(self.suite.line(time.monotonic() - self.start))
        return kind is processes.OutOfTime


class Fetch:
    """tests/vm/fetch in the background."""

    def __init__(self):
        build.LOGS.mkdir(parents=True, exist_ok=True)
        self.log = build.LOGS / "fetch.log"
        with open(self.log, "wb") as out:
            self.process = subprocess.Popen([build.TOP / "tests/vm/fetch"], stdin=subprocess.DEVNULL, stdout=out,
                                            stderr=subprocess.STDOUT, start_new_session=True)
        self.pid = self.process.pid

    def wait(self, deadline):
        """The lines of its failure; none if it worked."""
        try:
            status = self.process.wait(timeout=max(1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return ["no answer until the run's time was over"]
        return [] if status == 0 else self.log.read_text(errors="replace").splitlines() or [f"exit status {status}"]
