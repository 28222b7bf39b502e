"""What ran and how it went: a line per suite while it runs, names and the closing line at the end."""

import dataclasses
import os
import sys

LOG_TAIL_LINES = 40


@dataclasses.dataclass
class Suite:
    name: str
    passed: list[str] = dataclasses.field(default_factory=list)
    failed: list[str] = dataclasses.field(default_factory=list)
    not_run: list[str] = dataclasses.field(default_factory=list)  # "name: why"

    def add_failure(self, name, output=()):
        """Names a failure at once, with the end of what it printed."""
        self.failed.append(name)
        say(f"{self.name}: FAILED {name}")
        for line in list(output)[-LOG_TAIL_LINES:]:
            say(f"    {line}")

    def line(self, seconds):
        counts = [f"{len(names)} {word}" for word, names in
                  (("passed", self.passed), ("failed", self.failed), ("did not run", self.not_run)) if names]
        return f"{self.name}: {', '.join(counts) or 'no tests'} in {seconds:.0f} s"


def say(text):
    print(text, flush=True)


def close(suites):
    """Prints the names and the closing line. Returns the exit status."""
    failed = [f"{suite.name}: {name}" for suite in suites for name in suite.failed]
    not_run = [f"{suite.name}: {name}" for suite in suites for name in suite.not_run]
    passed = sum(len(suite.passed) for suite in suites)
    for title, names in (("Failed:", failed), ("Did not run:", not_run)):
        if names:
            say("\n".join([title, *(f"  {name}" for name in names)]))
    in_ci = os.environ.get("CI") == "true"
    if not_run and in_ci:
        say("In CI a test that does not run is a failure.")
    say(f"{passed} passed, {len(failed)} failed, {len(not_run)} skipped")
    sys.stdout.flush()
    return 1 if failed or passed == 0 or (not_run and in_ci) else 0
