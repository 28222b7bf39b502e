"""The source tree as its tests see it: files by kind, and problems with a place."""

import pathlib
import re
import sys

TOP = pathlib.Path(__file__).resolve().parents[2]
FOLDERS = ("capture", "driver", "libcap", "tools", "tests", "docs")
CODE = (".h", ".cc", ".c", ".hpp")
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.M)


def name(path):
    return str(path.relative_to(TOP))


def files(folders=FOLDERS):
    """All files of the tree's folders, without what a build or an interpreter leaves there."""
    return sorted(path for folder in folders for path in (TOP / folder).rglob("*")
                  if path.is_file() and not {"__pycache__", "build"} & set(path.parts[len(TOP.parts):]))


def code(folders=FOLDERS):
    return [path for path in files(folders) if path.suffix in CODE]


def includes(path):
    """The files of the tree that a file includes, as names; what is not in the tree as it is written."""
    for written in INCLUDE.findall(path.read_text()):
        beside = (path.parent / written).resolve()
        yield name(beside) if beside.is_file() else written


def conclude(checked, problems):
    """Ends a test: says what is wrong, or how much was looked at. Nothing to look at is a failure."""
    for problem in problems:
        print(problem)
    print(f"{checked} looked at, {len(problems)} with a problem")
    sys.exit(1 if problems or not checked else 0)
