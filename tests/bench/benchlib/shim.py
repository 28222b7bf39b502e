"""pcap programs on an engine, through the shim, against the system's libpcap on an interface."""

import re
import shutil
import signal
import time

from benchlib.engine import CONSUMER_CORE, NAME, engine, missing
from benchlib.machine import Busy, Others, Program, cpu_ns, scratch, wait_until
from benchlib.network import RECEIVER, RECEIVER_IF, flood, veth
from benchlib.packet import OFFERED, _at_rest
from benchlib.sample import Comparison, Goal, Line

RATE = 1000  # frames a second, for the wake-up
DEVICE = f"ringcap:{NAME}"


def _shim(context):
    return {"LD_LIBRARY_PATH": str(context.tools.parent / "libcap/pcap")}


def _tcpdump(device):
    return ["tcpdump", "-n", "-Z", "root", "-i", device, "-w", "/dev/null"]


def run(context):
    no_tcpdump = "" if shutil.which("tcpdump") else "not installed (package tcpdump)"
    yield _cost(context, "tcpdump -w /dev/null", _tcpdump, no_tcpdump)
    yield _cost(context, "a pcap_loop that counts",
                lambda device: [context.build / "peer_pcap_live", f"--device={device}"], "")
    yield _rate(context)
    yield _wake_up(context)
    yield _forwarded(context)


def _captured(context, program, beside=()):
    """Floods; the rate captured, and CPU time per frame of the program and of all. What counts is that the
    program had its core when it wanted it, how fast frames came is not the figure. There are two measures, the time
    that it was ready and waited, and what others took of its core; interrupts, which are nobody's, are in both, so
    that each says too little: the better one counts."""
    before = [sum(cpu_ns(one.pid).values()) for one in (program, *beside)]
    busy, others = Busy(program), Others([CONSUMER_CORE], program)
    sent, seconds, _ = flood(context, int(OFFERED * context.seconds), 64)
    share = max(busy.share_wanted(), others.share_left())
    _at_rest(program)
    used = [sum(cpu_ns(one.pid).values()) - was for one, was in zip((program, *beside), before)]
    program.stop(signal.SIGINT)
    captured = int(re.search(r"(\d+) packets? captured", program.output()).group(1))
    extra = {"cpu": used[0] / max(captured, 1), "all": sum(used) / max(captured, 1), "lost": 1 - captured / sent}
    return captured / seconds, share, extra


def _listening(program):
    wait_until(lambda: "listening on" in program.output(), f"{program.name} to capture")
    time.sleep(0.3)  # the engine's port starts when the consumer has attached


def _cost(context, what, argv, absent):
    def own():
        with veth(), engine(context, f"packet:{RECEIVER_IF}", poll="adaptive", netns=RECEIVER) as up, \
                Program(argv(DEVICE), core=CONSUMER_CORE, netns=RECEIVER, env=up.env | _shim(context)) as program:
            _listening(program)
            return _captured(context, program, (up,))

    def stock():
        with veth(), Program(argv(RECEIVER_IF), core=CONSUMER_CORE, netns=RECEIVER) as program:
            _listening(program)
            return _captured(context, program)

    comparison = Comparison(
        f"{what}: an engine through the shim, and stock libpcap",
        "64-byte frames from a sender as fast as it can, over a veth pair: to an engine's `packet:` port, whose "
        "frames the program reads through the shim, and to the same program with the system's libpcap.",
        [Line("shim", "frames/s", ours=True, missing=missing(context) or absent),
         Line("libpcap", "frames/s", missing=absent)],
        [Goal("CPU time per frame of the program at most half of libpcap's", "shim", ["libpcap"], 0.5, key="cpu",
              lower_is_better=True)],
        [("cpu", "CPU time per frame", lambda v: f"{v:.1f} ns"),
         ("all", "program and engine", lambda v: f"{v:.1f} ns"), ("lost", "lost", lambda v: f"{v:.2%}")])
    context.sampler.take(comparison, {"shim": own, "libpcap": stock})
    return comparison


def _rate(context):
    def own():
        with engine(context, "gen:size=64") as up:
            busy = Busy(up)
            argv = [context.build / "peer_pcap_live", f"--device={DEVICE}", "--read=next_ex", f"--core={CONSUMER_CORE}",
                    f"--ms={int(context.seconds * 1000)}"]
            with Program(argv, env=up.env | _shim(context)) as program:
                result = program.result(context.seconds + 20)
            return result["frames"] / result["seconds"], min(result["share"], busy.share()), {}

    comparison = Comparison(
        "pcap_next_ex on an engine", "`gen:size=64`, worker and reader on a core each; the reader counts frames and bytes.",
        [Line("shim", "frames/s", ours=True, missing=missing(context))],
        [Goal("at least 30 million frames a second", "shim", [], 30e6)])
    context.sampler.take(comparison, {"shim": own})
    return comparison


def _wake_up(context):
    frames = int(context.seconds * RATE)

    def reader(device, env, netns=None):
        return Program([context.build / "peer_pcap_live", f"--device={device}", "--read=latency",
                        f"--core={CONSUMER_CORE}", f"--frames={frames}"], env=env, netns=netns)

    def own(poll):
        with engine(context, f"gen:rate={RATE}", poll=poll) as up, reader(DEVICE, up.env | _shim(context)) as program:
            busy = Busy(up)
            return _sample(program.result(30), busy.share_wanted())

    def stock():
        with veth(), reader(RECEIVER_IF, None, RECEIVER) as program:
            _listening(program)
            flood(context, frames + RATE // 2, 64, RATE)
            return _sample(program.result(30), 1)

    names = {"busy": "shim, worker polling", "sleep": "shim, worker asleep"}
    comparison = Comparison(
        f"Wake-up of a pcap program at {RATE:,} frames a second, immediate mode",
        "From a frame's time stamp to the callback of pcap_loop; median.",
        [Line(name, "us", ours=True, missing=missing(context)) for name in names.values()] + [Line("libpcap", "us")],
        [Goal("polling: at most libpcap's", names["busy"], ["libpcap"], 1, lower_is_better=True),
         Goal("asleep: at most twice libpcap's", names["sleep"], ["libpcap"], 2, lower_is_better=True)],
        [("p99", "99th percentile", lambda v: f"{v:.3g} us")])
    context.sampler.take(comparison, {names["busy"]: lambda: own("busy"), names["sleep"]: lambda: own("sleep"),
                                      "libpcap": stock})
    return comparison


def _forwarded(context):
    def calls(env):
        with scratch() as directory, Program([context.build / "peer_pcap_calls", f"--file={directory}/frames.pcap",
                                              f"--core={CONSUMER_CORE}", f"--ms={int(context.seconds * 200)}"],
                                             env=env) as program:
            result = program.result(30)
        return result["next_ex"], result["share"], result

    comparison = Comparison(
        "Calls that the shim only hands on",
        "`pcap_next_ex` over a file in memory, `pcap_offline_filter` of `tcp port 80`, `pcap_open_dead` with `pcap_close`, "
        "and `pcap_datalink`, which does nothing: ns a call.",
        [Line("shim", "ns", ours=True), Line("libpcap", "ns")],
        [Goal(f"{what}: no more than 5 % above libpcap's", "shim", ["libpcap"], 1.05, lower_is_better=True, key=key)
         for what, key in (("a frame of a file", "next_ex"), ("a filter's answer", "filter"))],
        [(key, heading, lambda v: f"{v:.2f} ns") for key, heading in
         (("filter", "filter"), ("open", "open and close"), ("nothing", "a call that does nothing"))])
    context.sampler.take(comparison, {"shim": lambda: calls(_shim(context)), "libpcap": lambda: calls(None)})
    return comparison


def _sample(result, share):
    return result["median_ns"] / 1e3, share, {"p99": result["p99_ns"] / 1e3}
