"""Builds: one directory a preset, build/NAME. Logs are in build/logs."""

import os
import pathlib
import re
import shutil
import time

import processes
from report import say

TOP = pathlib.Path(__file__).resolve().parents[2]
LOGS = TOP / "build" / "logs"


def build(preset, targets, deadline, definitions=()):
    """Configures and builds `targets` (none given: all; those that it does not have are left out) of a preset. Returns whether it worked; says so either way."""
    start = time.monotonic()
    environment = {**os.environ, "CCACHE_BASEDIR": str(TOP), "CCACHE_NOHASHDIR": "1"}
    launcher = ["-DCMAKE_CXX_COMPILER_LAUNCHER=ccache"] if shutil.which("ccache") else []
    folder = TOP / "build" / preset
    configure = ["cmake", "--preset", preset, *launcher, *definitions]
    if not step("configure", preset, configure, deadline, environment):
        return False
    there = [target for target in targets if has_target(preset, target)]
    compile_all = ["nice", "ninja", "-C", str(folder), "-j", str(os.cpu_count()), *there]
    if (there or not targets) and not step("build", preset, compile_all, deadline, environment):
        return False
    say(f"build {preset}: {time.monotonic() - start:.0f} s")
    return True


def step(what, preset, command, deadline, environment):
    """One command of a build; the errors in its log when it fails."""
    log = LOGS / f"{what}-{preset}.log"
    worked = processes.run(command, log, deadline, cwd=TOP, env=environment) == 0
    if not worked:
        say(f"{what} of {preset} FAILED; the whole log: {log.relative_to(TOP)}")
        say("\n".join(f"    {line}" for line in what_failed(log)))
    return worked


def what_failed(log):
    """The compiler's errors if there are any, else the end of the log."""
    lines = log.read_text(errors="replace").splitlines()
    errors = [line for line in lines if "error:" in line or "CMake Error" in line or "undefined reference" in line]
    return errors[:20] + lines[-20:]


def has_target(preset, target):
    """Whether the configured build has a target of that name."""
    rules = TOP / "build" / preset / "build.ninja"
    return re.search(rf"^build {re.escape(target)}:", rules.read_text(), re.M) is not None
