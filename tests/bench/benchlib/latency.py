"""How soon a sleeping consumer has a frame in its hands, and what an engine costs that has nothing to do."""

from benchlib.machine import Program
from benchlib.sample import Comparison, Line

RATE = 1000  # frames a second


def run(context):
    yield _wake_up(context)


def _wake_up(context):
    floor = "a datagram to a sleeping process"
    comparison = Comparison(
        f"Wake-up at {RATE:,} frames a second",
        "From the frame's timestamp until the consumer, which slept in poll(), has read it. Median, and beside "
        "it the 99th percentile; lower is better.",
        [Line(floor, "us")], columns=[("p99", "99th percentile", lambda v: f"{v:.3g} us")])
    context.sampler.take(comparison, {floor: lambda: _floor(context)})
    return comparison


def _floor(context):
    with Program([context.build / "peer_wake_socket", f"--frames={int(context.seconds * RATE)}"]) as program:
        return as_sample(program.result(30))


def as_sample(result, share=None):
    return result["median_ns"] / 1e3, share, {"p99": result["p99_ns"] / 1e3}
