"""How soon a sleeping consumer has a frame in its hands, and what an engine costs that has nothing to do."""

import time

from benchlib.engine import CONSUMER_CORE, NAME, engine, missing
from benchlib.machine import Busy, Program, cpu_ns
from benchlib.network import RECEIVER, RECEIVER_IF, flood, veth
from benchlib.sample import Comparison, Goal, Line

RATE = 1000  # frames a second


def run(context):
    yield _wake_up(context)
    yield _idle(context)


def _wake_up(context):
    floor, absent = "a datagram to a sleeping process", missing(context)
    gen = {poll: f"`gen:`, worker {word}" for poll, word in (("busy", "polling"), ("sleep", "asleep"))}
    packet = {poll: f"`packet:`, worker {word}" for poll, word in (("busy", "polling"), ("sleep", "asleep"))}
    comparison = Comparison(
        f"Wake-up at {RATE:,} frames a second",
        "From the frame's timestamp until the consumer, which slept, has it; median, and beside it the 99th "
        "percentile. `gen:` stamps when the worker takes the frame, `packet:` when the kernel received it: there "
        "the worker's own wake-up is part of the figure.",
        [Line(name, "us", missing=absent) for name in (*gen.values(), *packet.values())] + [Line(floor, "us")],
        columns=[("p99", "99th percentile", lambda v: f"{v:.3g} us")])
    contenders = {floor: lambda: _floor(context)}
    contenders |= {name: lambda poll=poll: _gen(context, poll) for poll, name in gen.items()}
    contenders |= {name: lambda poll=poll: _packet(context, poll) for poll, name in packet.items()}
    context.sampler.take(comparison, contenders)
    return comparison


def _frames(context):
    return int(context.seconds * RATE)


def _sample(result, share=1):
    return result["median_ns"] / 1e3, min(share, result["share"]), {"p99": result["p99_ns"] / 1e3}


def _floor(context):
    with Program([context.build / "peer_wake_socket", f"--frames={_frames(context)}"]) as program:
        return _sample(program.result(30))


def _sleeper(context, env, netns=None):
    argv = [context.build / "wake_up", f"--engine={NAME}", f"--core={CONSUMER_CORE}", f"--frames={_frames(context)}"]
    return Program(argv, env=env, netns=netns)


def _gen(context, poll):
    with engine(context, f"gen:rate={RATE}", poll=poll) as up:
        busy = Busy(up)
        with _sleeper(context, up.env) as program:
            result = program.result(30)
        return _sample(result, busy.share_wanted())


def _packet(context, poll):
    with veth(), engine(context, f"packet:{RECEIVER_IF}", poll=poll, netns=RECEIVER) as up:
        busy = Busy(up)
        with _sleeper(context, up.env, RECEIVER) as program:
            time.sleep(0.2)  # the port starts when the consumer has attached; frames before that are nobody's
            flood(context, _frames(context) + RATE // 2, 64, RATE)
            result = program.result(30)
        return _sample(result, busy.share_wanted())


def _idle(context):
    name = "`packet:` without frames"
    comparison = Comparison(
        "An engine with nothing to do",
        "CPU time of its process, with a sleeping consumer attached and `--poll adaptive`.",
        [Line(name, "% of a core", missing=missing(context))],
        [Goal("under 1 % of a core", name, [], 1, lower_is_better=True)])
    context.sampler.take(comparison, {name: lambda: _idle_share(context)})
    return comparison


def _idle_share(context):
    with veth(), engine(context, f"packet:{RECEIVER_IF}", poll="adaptive", netns=RECEIVER) as up, \
            _sleeper(context, up.env, RECEIVER):
        time.sleep(0.5)  # until it has settled
        before, started = sum(cpu_ns(up.pid).values()), time.monotonic_ns()
        time.sleep(context.seconds)
        used = sum(cpu_ns(up.pid).values()) - before
        return 100 * used / (time.monotonic_ns() - started), None, {}
