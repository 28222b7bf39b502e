"""A veth pair between two network namespaces of our own, and traffic on it."""

import contextlib
import re
import resource
import subprocess

from benchlib.machine import Failure, Others, Program

SENDER, RECEIVER = "ringcap-bench-a", "ringcap-bench-b"
SENDER_IF, RECEIVER_IF = "rbtx0", "rbrx0"
SENDER_CORE = 0


def _ip(*words):
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Failure(f"ip {' '.join(words)}: {done.stderr.strip()}")


@contextlib.contextmanager
def veth():
    """Both ends up, without IPv6's own chatter; the namespaces go at the end, and the pair with them."""
    made = []
    try:
        for name in (SENDER, RECEIVER):
            _ip("netns", "add", name)
            made.append(name)
            _ip("netns", "exec", name, "sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1")
        _ip("-n", SENDER, "link", "add", SENDER_IF, "type", "veth", "peer", "name", RECEIVER_IF, "netns", RECEIVER)
        _ip("-n", SENDER, "link", "set", SENDER_IF, "up")
        _ip("-n", RECEIVER, "link", "set", RECEIVER_IF, "up")
        yield
    finally:
        for name in made:
            subprocess.run(["ip", "netns", "del", name], check=False)


def flood(context, frames, size, rate="max"):
    """Sends from the sender's end and waits for the end of it: frames sent, seconds, and what others left of its
    core meanwhile (not its CPU time against the wall clock: we learn of its end a little later)."""
    argv = [context.build.parent / "lib" / "ringcap_flood", SENDER_IF, "--size", size, "--count", frames,
            "--flows", 100, "--rate", rate]
    used, others = _children_s(), Others([SENDER_CORE])
    with Program(argv, core=SENDER_CORE, netns=SENDER) as program:
        status = program.wait(120)
        said = re.search(r"sent (\d+) frames in ([\d.]+) s", program.output())
        if status != 0 or not said:
            raise Failure(f"the sender failed with status {status}:\n{program.output()}")
    return int(said.group(1)), float(said.group(2)), others.share_left(int((_children_s() - used) * 1e9))


def _children_s():
    """CPU time of the children that have ended."""
    use = resource.getrusage(resource.RUSAGE_CHILDREN)
    return use.ru_utime + use.ru_stime
