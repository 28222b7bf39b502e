"""The machine's pool of 2 MiB pages: lent to the tests, and put back as it was found."""

import contextlib
import pathlib

from report import say

POOL = pathlib.Path("/sys/kernel/mm/hugepages/hugepages-2048kB")


@contextlib.contextmanager
def reserved(pages):
    """At least `pages` free ones while this lasts. What was added is taken away again, no more:
    somebody else may have changed the pool meanwhile."""
    added = add_pages(pages)
    try:
        yield
    finally:
        if added:
            write_total(total_pages() - added)


def add_pages(wanted):
    try:
        before = total_pages()
        missing = max(0, wanted - int((POOL / "free_hugepages").read_text()))
        if missing:
            write_total(before + missing)
        added = total_pages() - before
    except OSError as error:
        say(f"hugepages: the pool of 2 MiB pages cannot be changed ({error.strerror}); run the tests as root")
        return 0
    if added < missing:
        say(f"hugepages: {missing} more were asked for, the kernel found {added}: memory is short or in small pieces")
    return added


def total_pages():
    return int((POOL / "nr_hugepages").read_text())


def write_total(pages):
    (POOL / "nr_hugepages").write_text(str(max(0, pages)))
