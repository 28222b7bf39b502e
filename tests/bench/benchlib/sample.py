"""Samples and the lines of a table: when a sample counts, and what a line says.

The two cores of a virtual machine share a cache or do not, and that changes while one looks. So a
core-to-core round trip is measured before and after each sample, and names the state that the sample
belongs to:

    near     both under 200 ns            far      both from 380 to 800 ns
    between  anything else, or the two do not agree: the sample counts for nothing

A sample counts only if each of its threads had 98 % of a core besides; where threads of a contender share a
core or sleep, if others took at most 2 % of the contender's cores. A line's figure is the median of (at least)
five samples of one state.
"""

import dataclasses
import statistics

from benchlib.machine import Failure, Program

NEAR_NS = 200
FAR_NS = (380, 800)
FULL_SHARE = 0.98
ENOUGH = 5
STATES = ("near", "far")


@dataclasses.dataclass
class Sample:
    value: float
    before_ns: float
    after_ns: float
    share: float | None = None  # of a core, that the contender had or could have had; None: the line asks for none
    extra: dict = dataclasses.field(default_factory=dict)

    @property
    def state(self):
        before, after = state_of(self.before_ns), state_of(self.after_ns)
        return before if before == after else "between"

    @property
    def counts(self):
        return self.state in STATES and (self.share is None or self.share >= FULL_SHARE)


def state_of(round_trip_ns):
    if round_trip_ns < NEAR_NS:
        return "near"
    return "far" if FAR_NS[0] <= round_trip_ns <= FAR_NS[1] else "between"


@dataclasses.dataclass
class Line:
    """One contender of one comparison. `missing` says why it is left out."""

    name: str
    unit: str
    ours: bool = False
    missing: str = ""
    samples: list = dataclasses.field(default_factory=list)

    def of(self, state):
        return [s for s in self.samples if s.counts and s.state == state]

    def median(self, state, key=None):
        """Of the samples of a state that count, or, with state None, of all: what is shown, in brackets, where
        none counts. `key`: of what a sample says besides its value. None without samples."""
        chosen = self.samples if state is None else self.of(state)
        values = [s.value if key is None else s.extra[key] for s in chosen if key is None or key in s.extra]
        return statistics.median(values) if values else None

    def enough(self, samples=ENOUGH):
        return bool(self.missing) or any(len(self.of(state)) >= samples for state in STATES)


@dataclasses.dataclass
class Goal:
    """What is asked of one of our lines: `factor` times a peer's line, in each state measured; without peers,
    the figure itself."""

    text: str
    ours: str
    peers: list  # names; the best of them counts
    factor: float
    required: bool = True
    lower_is_better: bool = False
    key: str | None = None  # of a sample's extra; None: its value


@dataclasses.dataclass
class Comparison:
    """Lines measured in turn, so that each meets the same weather."""

    title: str
    about: str
    lines: list
    goals: list = dataclasses.field(default_factory=list)
    columns: list = dataclasses.field(default_factory=list)  # (key of extra, heading, function: value -> text)
    lower_is_better: bool = False

    def line(self, name):
        return next((line for line in self.lines if line.name == name), None)


def core_to_core(build, ms=40):
    with Program([build / "core_to_core", f"--ms={ms}"]) as program:
        return program.result(20)["round_trip_ns"]


class Sampler:
    """Takes the samples of a comparison: round after round, one of each line, until each line has enough of
    one state, the rounds are used up or, for a line that fails, until it has failed twice."""

    def __init__(self, build, samples=ENOUGH, rounds=15, say=print):
        self.build, self.samples, self.rounds, self.say = build, samples, rounds, say

    def take(self, comparison, contenders):
        """contenders: {line name: function() -> (value, share or None, extra)}"""
        failures = {}
        before = core_to_core(self.build)
        for _ in range(self.rounds):
            for line in comparison.lines:
                if line.missing or len(failures.get(line.name, [])) == 2:
                    continue
                if len(comparison.lines) == 1 and line.enough(self.samples):
                    break
                before = self._one(line, contenders[line.name], before, failures)
            if all(line.enough(self.samples) for line in comparison.lines):
                break
        for line in comparison.lines:
            if failures.get(line.name) and not line.samples:
                line.missing = "failed: " + " ".join(str(failures[line.name][-1]).split())

    def _one(self, line, contender, before, failures):
        try:
            value, share, extra = contender()
        except Failure as failure:
            failures.setdefault(line.name, []).append(failure)
            self.say(f"  {line.name}: {failure}")
            return core_to_core(self.build)
        after = core_to_core(self.build)
        sample = Sample(value, before, after, share, extra)
        line.samples.append(sample)
        self.say(f"  {line.name}: {shown(value, line.unit)}, {before:.0f} and {after:.0f} ns"
                 + (f", {share:.1%} of a core" if share is not None else "")
                 + ("" if sample.counts else ", does not count"))
        return after


def shown(value, unit):
    """A figure as a person reads it: three digits, with the unit."""
    if value is None:
        return "-"
    if unit == "frames/s":
        return f"{value / 1e6:.3g} M frames/s" if value >= 1e5 else f"{value:.0f} frames/s"
    if unit == "B/s":
        return f"{value / 1e9:.3g} GB/s"
    return f"{value:.3g} {unit}"
