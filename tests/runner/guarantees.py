"""docs/guarantees.md: every promise names the tests that show it, and they passed in this run."""

import build
from report import Suite

FILE = build.TOP / "docs" / "guarantees.md"


def rows():
    """The rows of the tables, as lists of cells; without their headings and rulers."""
    lines = FILE.read_text().splitlines() if FILE.exists() else []
    cells = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in lines if line.startswith("|")]
    return [row for row in cells if row[0] != "promise" and row[0].strip("-")]


def promised():
    """The tests' names (in backticks in the last cell), each with the promise that it shows."""
    return [(name, row[0]) for row in rows() for name in row[-1].split("`")[1::2]]


def without_tests():
    return [f"docs/guarantees.md: a promise without a test: {row[0]}" for row in rows() if "`" not in row[-1]]


def shown_by(suites):
    """A suite of one result per named test: whether some suite of this run passed it."""
    passed = {plain(name) for suite in suites for name in suite.passed}
    suite = Suite("guarantees")
    for name, promise in promised():
        if name in passed:
            suite.passed.append(name)
        else:
            suite.failed.append(f"{name} did not pass in this run; it shows: {promise}")
    return suite


def plain(name):
    """Suite.name of a parameterised test's Prefix/Suite.name/3."""
    return next((part for part in name.split("/") if "." in part), name)
