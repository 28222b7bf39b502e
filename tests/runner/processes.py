"""Commands with a log and a deadline. Whatever they start ends with them: this process adopts orphans
(it is a subreaper), so that all descendants can be found and only they are ended."""

import ctypes
import os
import pathlib
import selectors
import signal
import subprocess
import time

PR_SET_CHILD_SUBREAPER = 36


class OutOfTime(Exception):
    """The run's hard stop was reached."""


def adopt_orphans():
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def run(command, log, deadline, on_line=None, **options):
    """Runs a command with its output in the file `log`, a line at a time to on_line too. Returns its exit status.
    Raises OutOfTime when `deadline` (time.monotonic()) passes; the command has ended then."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "wb") as out:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                   start_new_session=True, **options)
        try:
            follow(process, out, deadline, on_line)
            return process.wait(timeout=max(1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            raise OutOfTime from None
        finally:
            end(process)


def follow(process, out, deadline, on_line):
    """Copies the output until it ends or, when a left-over process holds it open, until the command has ended."""
    pending = b""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while True:
            if time.monotonic() > deadline:
                raise OutOfTime
            if not selector.select(timeout=1):
                if process.poll() is not None:
                    break
                continue
            data = os.read(process.stdout.fileno(), 1 << 16)
            if not data:
                break
            out.write(data)
            *lines, pending = (pending + data).split(b"\n")
            for line in lines if on_line else ():
                on_line(line.decode(errors="replace"))


def end(process):
    """Ends the command's session, if it is still there, and waits for it."""
    process.stdout.close()
    for number, patience_s in ((signal.SIGTERM, 5), (signal.SIGKILL, 5)):
        if process.poll() is not None:
            return
        os.killpg(process.pid, number)
        try:
            process.wait(timeout=patience_s)
        except subprocess.TimeoutExpired:
            pass


def end_leftovers(besides=None):
    """Ends the descendants that are still there, but for the child `besides`, and returns their names."""
    names = []
    stop = time.monotonic() + 10
    while (pids := children(besides)) and time.monotonic() < stop:
        for pid in pids:
            name = command_line(pid)
            if name:  # not a zombie
                names.append(f"{name} (pid {pid})")
                os.kill(pid, signal.SIGKILL)  # its own children become ours, and go in the next turn
            os.waitpid(pid, 0)
    return names


def children(besides):
    pids = pathlib.Path(f"/proc/self/task/{os.getpid()}/children")
    return [int(pid) for pid in pids.read_text().split() if int(pid) != besides]


def command_line(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""
