"""The tables, on the terminal and in docs/performance.md: the same Markdown."""

import re

from benchlib.machine import Failure, describe
from benchlib.sample import ENOUGH, STATES, Comparison, shown


def write(document, measured):
    """Replaces what the document says between the marks of each part that was measured; the prose around
    it stays. `measured`: pairs of part and comparison."""
    text = document.read_text()
    machine = ", ".join(f"{word} {value}" if word == "kernel" else value for word, value in describe())
    for part in dict.fromkeys(name for name, _ in measured):
        sections = [markdown(comparison) for name, comparison in measured if name == part]
        begin, end = f"<!-- {part}: written by tests/bench/run -->", f"<!-- {part}: end -->"
        pattern = re.escape(begin) + ".*" + re.escape(end)
        if not re.search(pattern, text, re.S):
            raise Failure(f"{document} has no place for {part}: it needs the lines {begin} and {end}")
        block = "\n".join([begin, f"Measured on {machine}.\n", *sections, end])
        text = re.sub(pattern, lambda _: block, text, flags=re.S)
    document.write_text(text)


def markdown(comparison):
    """A section: what was compared, the table, what is asked and whether it is met."""
    if not isinstance(comparison, Comparison):
        return comparison.markdown()
    used = [state for state in STATES if any(line.of(state) for line in comparison.lines)]
    text = [f"### {comparison.title}", "", comparison.about, ""]
    text += _table(comparison, used)
    text += [f"- left out: {line.name}: {line.missing}" for line in comparison.lines if line.missing]
    text += [f"- {verdict(comparison, goal)}" for goal in comparison.goals]
    return "\n".join(text) + "\n"


def _table(comparison, used):
    ours = next((line for line in comparison.lines if line.ours and not line.missing), None)
    states = used or [None]
    head = ["", *(f"{state or 'disturbed'} (samples)" for state in states)]
    head += [heading for _, heading, _ in comparison.columns]
    head += [f"{ours.name} : this, {state or 'disturbed'}" for state in states] if ours else []
    rows = [head, ["---"] + ["---:"] * (len(head) - 1)]
    for line in comparison.lines:
        if line.missing and not line.samples:
            continue
        row = [line.name, *(_cell(line, state) for state in states)]
        row += [_extra(line, key, form, used) for key, _, form in comparison.columns]
        row += [_ratio(ours, line, state) for state in states] if ours else []
        rows.append(row)
    return ["| " + " | ".join(row) + " |" for row in rows] + [""]


def _cell(line, state):
    """The median of the samples that count; in brackets, of all, for a line of which none counts."""
    if state is None or not any(line.of(other) for other in STATES):
        value = line.median(None)
        return "-" if value is None else f"({shown(value, line.unit)}) ({len(line.samples)})"
    value = line.median(state)
    return "-" if value is None else f"{shown(value, line.unit)} ({len(line.of(state))})"


def _extra(line, key, form, used):
    value = line.median(next((state for state in used if line.of(state)), None), key)
    return "-" if value is None else form(value)


def _ratio(ours, line, state):
    top, bottom = ours.median(state), line.median(state)
    if line is ours or not top or not bottom:
        return "-"
    ratio = f"{top / bottom:.2f}"
    return f"({ratio})" if state is None else ratio


def verdict(comparison, goal):
    """One sentence: what is asked of us, and per state whether it is met."""
    word = "required" if goal.required else "aim"
    ours = comparison.line(goal.ours)
    if ours is None or not ours.samples:
        return f"{word}: {goal.text}: not measured yet"
    said = [_in_state(comparison, goal, ours, state) for state in STATES if ours.of(state)]
    return f"{word}: {goal.text}: " + ("; ".join(said) or "not measured undisturbed")


def _in_state(comparison, goal, ours, state):
    own = ours.median(state, goal.key)
    peers = [p for p in map(comparison.line, goal.peers) if p and p.median(state, goal.key)]
    if own is None or (goal.peers and not peers):
        return f"{state}: not measured"
    pick = min if goal.lower_is_better else max
    best = pick(peers, key=lambda p: p.median(state, goal.key), default=None)
    figure = own / best.median(state, goal.key) if best else own
    said = f"{figure:.2f} times" if best else shown(figure, ours.unit)
    if min(len(line.of(state)) for line in (ours, best or ours)) < ENOUGH:
        return f"{state}: {said}, of fewer than {ENOUGH} samples"
    met = figure <= goal.factor if goal.lower_is_better else figure >= goal.factor
    return f"{state}: {'met' if met else 'NOT met'} ({said})"
