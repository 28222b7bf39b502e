"""The fuzzers (tests/fuzz/NAME_fuzz.cc, each a program of the preset fuzz), a bounded time each.

The committed corpus (tests/fuzz/corpus/NAME) is read; what is found new goes to build/fuzz-corpus/NAME."""

import concurrent.futures
import os

import build
import processes

SOURCES = build.TOP / "tests" / "fuzz"


def names():
    return sorted(path.stem for path in SOURCES.glob("*_fuzz.cc"))


def targets():
    return names()


def run_all(suite, seconds, jobs, deadline):
    if not names():
        suite.not_run.append("all: there are no fuzzers")
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        for future in [pool.submit(run_one, name, seconds, deadline) for name in names()]:
            name, status, output = future.result()
            if status == 0:
                suite.passed.append(name)
            else:
                suite.add_failure(f"{name} (exit status {status})", output)


def run_one(name, seconds, deadline):
    """Returns name, exit status, and what it printed last."""
    found = build.TOP / "build" / "fuzz-corpus" / name
    found.mkdir(parents=True, exist_ok=True)
    kept = SOURCES / "corpus" / name
    log = build.LOGS / f"{name}.log"
    command = [build.TOP / "build" / "fuzz" / "tests" / "fuzz" / name, f"-max_total_time={seconds}", "-timeout=20",
               "-rss_limit_mb=3000", "-print_final_stats=1", f"-artifact_prefix={build.LOGS}/{name}-", found,
               *([kept] if kept.is_dir() else [])]
    status = processes.run(command, log, deadline, env={**os.environ, "ASAN_OPTIONS": "detect_leaks=1"})
    return name, status, log.read_text(errors="replace").splitlines()
