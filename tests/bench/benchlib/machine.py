"""The machine under the benchmarks: what it is, its hugepages, its processes, its cores.

Everything here is taken back on leaving the `with` block that took it, also when a sample fails or the
person presses Ctrl-C: processes are ended, hugepages given back, temporary files removed.
"""

import contextlib
import datetime
import json
import os
import pathlib
import platform
import pty
import re
import select
import shutil
import signal
import subprocess
import tempfile
import time

NR_HUGEPAGES = pathlib.Path("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages")


class Failure(Exception):
    """A message for the person who called."""


def describe():
    """What a reader of the figures must know of the machine: a list of (word, text)."""
    cpu = re.search(r"^model name\s*:\s*(.*)$", pathlib.Path("/proc/cpuinfo").read_text(), re.M)
    caches = subprocess.run(["lscpu", "-B", "-J"], capture_output=True, text=True, check=False).stdout
    entries = {e["field"].rstrip(":"): e["data"] for e in json.loads(caches)["lscpu"]} if caches else {}
    hypervisor = entries.get("Hypervisor vendor")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return [
        ("date", datetime.date.today().isoformat()),
        ("processor", f"{cpu.group(1) if cpu else platform.machine()}, model {entries.get('Model', '?')}, "
                      f"{os.cpu_count()} {'virtual cores, ' + hypervisor if hypervisor else 'cores'}"),
        ("memory", f"{memory / 2**30:.0f} GiB"),
        ("kernel", platform.release().split("-")[0]),
    ]


@contextlib.contextmanager
def hugepages(count):
    """`count` more 2 MiB pages in the pool. Taken back relative to what is there at the end, because
    somebody else may have changed the pool meanwhile."""
    before = int(NR_HUGEPAGES.read_text())
    try:
        NR_HUGEPAGES.write_text(str(before + count))
        added = int(NR_HUGEPAGES.read_text()) - before
        try:
            if added < count:
                raise Failure(f"{count} hugepages of 2 MiB wanted, the kernel found {added}; "
                              "free some memory (`echo 1 > /proc/sys/vm/compact_memory`) and try again")
            yield
        finally:
            NR_HUGEPAGES.write_text(str(max(0, int(NR_HUGEPAGES.read_text()) - added)))
    except PermissionError:
        raise Failure("the hugepage pool cannot be changed: run this as root") from None


@contextlib.contextmanager
def scratch(on_tmpfs=True):
    """A directory of its own, on tmpfs unless told otherwise; removed at the end."""
    path = pathlib.Path(tempfile.mkdtemp(prefix="ringcap-bench-", dir="/dev/shm" if on_tmpfs else None))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _put_first():
    """Runs in the child: before everything else that the machine has to do, as far as the kernel lets us
    (a session is one scheduling group; its weight is the highest there is). As nobody, it changes nothing."""
    with contextlib.suppress(OSError):
        pathlib.Path("/proc/self/autogroup").write_text("-20")
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, -20)


class Program:
    """A process that a benchmark started; a context manager, so that none is left behind."""

    def __init__(self, argv, core=None, netns=None, env=None, terminal=False, first=True):
        prefix = ["ip", "netns", "exec", netns] if netns else []
        prefix += ["taskset", "-c", str(core)] if core is not None else []
        self.name = os.path.basename(str(argv[0]))
        self.log = tempfile.TemporaryFile()
        self.master, slave = pty.openpty() if terminal else (None, None)
        self.seen = ""
        self.process = subprocess.Popen(
            prefix + [str(word) for word in argv], start_new_session=True, env={**os.environ, **(env or {})},
            stdin=slave if terminal else subprocess.DEVNULL, stdout=slave if terminal else self.log,
            stderr=self.log, preexec_fn=_put_first if first else None)
        if slave is not None:
            os.close(slave)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()
        if self.master is not None:
            os.close(self.master)
            self.master = None
        self.log.close()

    @property
    def pid(self):
        return self.process.pid

    def output(self):
        """What it printed, all of it (a terminal's: what say() and expect() have seen)."""
        self.log.seek(0)
        return self.seen + self.log.read().decode(errors="replace")

    def stop(self, how=signal.SIGTERM, deadline_s=5):
        """Ends it as an operator would, and by force when it does not listen. Returns its status."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        try:
            return self.process.wait(deadline_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()

    def wait(self, deadline_s):
        """Its status when it ends by itself in time."""
        try:
            return self.process.wait(deadline_s)
        except subprocess.TimeoutExpired:
            raise Failure(f"{self.name} did not end within {deadline_s} s:\n{self.output()}") from None

    def result(self, deadline_s):
        """The line of JSON that a benchmark program prints at its end."""
        status = self.wait(deadline_s)
        lines = [line for line in self.output().splitlines() if line.startswith("{")]
        if status != 0 or not lines:
            raise Failure(f"{self.name} failed with status {status}:\n{self.output()}")
        return json.loads(lines[-1])

    def say(self, line):
        self.seen = ""
        os.write(self.master, line.encode() + b"\n")

    def expect(self, pattern, deadline_s=10):
        """Reads the terminal until the pattern is there; its match."""
        end = time.monotonic() + deadline_s
        while not (match := re.search(pattern, self.seen, re.S)):
            ready, _, _ = select.select([self.master], [], [], max(0, end - time.monotonic()))
            try:
                text = os.read(self.master, 65536) if ready else b""
            except OSError:
                text = b""
            if not text:
                raise Failure(f"{self.name} did not say {pattern!r}:\n{self.output()}")
            self.seen += text.decode(errors="replace")
        return match


def cpu_ns(pid):
    """CPU time of the threads of a process: {thread id: ns}. Of a process that is gone: {}."""
    return {task: times[0] for task, times in _times(pid).items()}


def _times(pid):
    """{thread id: (ns that it ran, ns that it was ready and had to wait)}"""
    times = {}
    for task in pathlib.Path(f"/proc/{pid}/task").glob("*"):
        with contextlib.suppress(OSError, ValueError):
            ran, waited = (task / "schedstat").read_text().split()[:2]
            times[task.name] = int(ran), int(waited)
    return times


class Busy:
    """How much of a core the busiest thread of each process had, since this was made."""

    def __init__(self, *programs):
        self.pids = [program.pid for program in programs]
        self.started = time.monotonic_ns()
        self.before = {pid: _times(pid) for pid in self.pids}

    def share(self):
        """Of a thread that never sleeps: of the wall clock. The lowest among the processes."""
        wall = time.monotonic_ns() - self.started
        return min(self._busiest(pid)[0] for pid in self.pids) / wall

    def share_wanted(self):
        """Of a thread that sleeps when it has nothing to do: of the time that it was ready to run."""
        shares = [ran / (ran + waited) for ran, waited in map(self._busiest, self.pids) if ran + waited > 0]
        return min(shares, default=0)

    def _busiest(self, pid):
        used = []
        for task, (ran, waited) in _times(pid).items():
            ran_before, waited_before = self.before[pid].get(task, (0, 0))
            used.append((ran - ran_before, waited - waited_before))
        return max(used, default=(0, 0))


class Others:
    """What everybody else took of the cores that a contender has to itself, since this was made. For contenders
    whose threads share a core and sleep: there the scheduler's waiting times say nothing about others.

    Idle time and time of the programs are the kernel's exact counts; what is neither is others' work, interrupts
    that belong to nobody, and what the host took."""

    def __init__(self, cores, *programs):
        self.cores, self.pids = cores, [program.pid for program in programs]
        self.started, self.before = time.monotonic_ns(), self._not_others()

    def share_left(self, ended_ns=0):
        """What was left of the cores: 1 is all. `ended_ns`: CPU time of a program of ours that has ended."""
        wall = (time.monotonic_ns() - self.started) * len(self.cores)
        return min(1, (self._not_others() - self.before + ended_ns) / wall)

    def _not_others(self):
        return sum(map(_idle_ns, self.cores)) + sum(sum(cpu_ns(pid).values()) for pid in self.pids)


def _idle_ns(core):
    for line in pathlib.Path("/proc/stat").read_text().splitlines():
        word, *ticks = line.split()
        if word == f"cpu{core}":
            return (int(ticks[3]) + int(ticks[4])) * 1_000_000_000 // os.sysconf("SC_CLK_TCK")
    raise Failure(f"there is no core {core}")


def wait_until(condition, what, deadline_s=10):
    end = time.monotonic() + deadline_s
    while not (value := condition()):
        if time.monotonic() > end:
            raise Failure(f"waited {deadline_s} s for {what}")
        time.sleep(0.002)
    return value
