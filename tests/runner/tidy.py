"""clang-tidy over every source that the preset clang builds. Part of --long: it takes minutes."""

import concurrent.futures
import json
import pathlib

import build
import processes


def sources():
    """What the preset compiles out of the tree, and not what it makes itself."""
    built = build.TOP / "build" / "clang"
    files = {pathlib.Path(entry["file"]) for entry in json.loads((built / "compile_commands.json").read_text())}
    return sorted(path for path in files if not path.is_relative_to(build.TOP / "build"))


def run_all(suite, jobs, deadline):
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        for future in [pool.submit(run_one, source, deadline) for source in sources()]:
            name, status, output = future.result()
            if status == 0:
                suite.passed.append(name)
            else:
                suite.add_failure(name, output)


def run_one(source, deadline):
    name = str(source.relative_to(build.TOP))
    log = build.LOGS / "tidy" / (name.replace("/", "_") + ".log")
    status = processes.run(["nice", "clang-tidy-19", "--quiet", "-p", build.TOP / "build" / "clang", source], log, deadline)
    return name, status, log.read_text(errors="replace").splitlines()
