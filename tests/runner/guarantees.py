"""docs/guarantees.md: every promise names the tests that show it, and they passed in this run."""

import build
from report import Suite

FILE = build.TOP / "docs" / "guarantees.md"


def promised():
    """The names of tests, in backticks in the last column of the tables, with the promise that each shows."""
    rows = [line.strip().strip("|").split("|") for line in FILE.read_text().splitlines() if line.startswith("|")]
    return [(name, row[0].strip()) for row in rows if len(row) >= 2 and "`" in row[-1]
            for name in row[-1].split("`")[1::2]]


def shown_by(suites):
    """A suite of one result per named test: whether some suite of this run passed it."""
    passed = {plain(name) for suite in suites for name in suite.passed}
    suite = Suite("guarantees")
    for name, promise in promised() if FILE.exists() else []:
        if name in passed:
            suite.passed.append(name)
        else:
            suite.failed.append(f"{name} did not pass in this run; it shows: {promise}")
    return suite


def plain(name):
    """Suite.name of a parameterised test's Prefix/Suite.name/3."""
    return next((part for part in name.split("/") if "." in part), name)
