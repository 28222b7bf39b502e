"""clang-tidy over every source of the product. Part of --long: it takes minutes."""

import concurrent.futures

import build
import processes

FOLDERS = ("capture", "driver", "libcap", "tools")


def run_all(suite, jobs, deadline):
    sources = sorted(path for folder in FOLDERS for path in (build.TOP / folder).rglob("*.cc"))
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        for future in [pool.submit(run_one, source, deadline) for source in sources]:
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
