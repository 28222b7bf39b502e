"""The Google Benchmark programs (tests/bench/*_bench.cc): single functions, beside the same of a peer.

A program's benchmarks say how many things they did a second in a counter `frames`, `items_per_second` or
`bytes_per_second`. A benchmark with "libpcap" in its name, or another of PEERS, is a peer of the one with
"ringcap" there.
"""

import dataclasses
import json

from benchlib.machine import Failure, Program, hugepages

CORE = 1
RATES = (("frames", "frames"), ("items_per_second", "items"), ("bytes_per_second", "bytes"))
PEERS = ("libpcap", "dpdk", "kernel")


@dataclasses.dataclass
class Functions:
    """The table of one program: rows of (name, rate a second, unit, {peer: ratio to it})."""

    title: str
    rows: list

    def markdown(self):
        head = ["| | rate | each | ringcap : peer |", "| --- | ---: | ---: | ---: |"]
        rows = [f"| {name} | {rate / 1e6:.4g} M {unit}/s | {1e9 / rate:.3g} ns | "
                f"{_text_of(ratios)} |" for name, rate, unit, ratios in self.rows]
        return "\n".join([f"### {self.title}", "", *head, *rows]) + "\n"


RECEIVE = "receive_bench"  # a part of its own: it takes hugepages


def run(context):
    for path in sorted(context.build.glob("*_bench")):
        if path.name != RECEIVE:
            yield _program(context, path)


def run_receive(context):
    with hugepages(32):
        yield _program(context, context.build / RECEIVE)


def _program(context, path):
    seconds = 0.02 if context.smoke else 0.3
    argv = [path, "--benchmark_format=json", f"--benchmark_min_time={seconds}",
            *([] if context.smoke else ["--benchmark_repetitions=3", "--benchmark_report_aggregates_only"])]
    with Program(argv, core=CORE) as program:
        status = program.wait(300)
        output = program.output()
    if status != 0 or "{" not in output:
        raise Failure(f"{path.name} failed with status {status}:\n{output}")
    report, _ = json.JSONDecoder().raw_decode(output[output.index("{"):])
    rates = {}
    for entry in report["benchmarks"]:
        if entry.get("aggregate_name", "median") == "median" and not entry.get("error_occurred"):
            rates[entry["run_name"].removesuffix("/manual_time")] = _rate(entry)
    return Functions(f"Functions of `{path.name}`, in cache, one core",
                     [(name, *rates[name], _ratios(rates, name)) for name in rates])


def _rate(entry):
    for key, unit in RATES:
        if key in entry:
            return entry[key], unit
    return 1e9 / entry["real_time"], "calls"  # Google Benchmark's unit is ns unless a program asks for another


def _ratios(rates, name):
    """By peer; a peer may have no argument of ours."""
    ratios = {}
    for peer in PEERS:
        other = name.replace("ringcap", peer)
        for found in (other, other.partition("/")[0]):
            if other != name and found in rates and peer not in ratios:
                ratios[peer] = rates[name][0] / rates[found][0]
    return ratios


def _text_of(ratios):
    if len(ratios) == 1:
        return f"{next(iter(ratios.values())):.2f}"
    return ", ".join(f"{ratio:.2f} ({peer})" for peer, ratio in ratios.items()) or "-"
