"""The rate of this machine's time stamp counter, which QEMU's emulator hands to guests as theirs.

A guest that measures it while the machine is busy can be wrong by a factor of ten, and lives in another time
from then on: its deadlines pass in a moment, or never. So tests/vm/run measures it outside and tells the guest."""

import ctypes
import mmap
import platform
import time

READ_TSC = bytes.fromhex("0f31 48c1e220 4809d0 c3")  # rdtsc; shl rdx, 32; or rax, rdx; ret
CLOSE_NS = 5_000  # so near to each other are the two clocks read
INTERVAL_S = 0.05
TRIES = 10_000


def khz():
    """Ticks a millisecond; None on a machine that has no such counter."""
    if platform.machine() != "x86_64":
        return None
    with mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC) as page:
        page.write(READ_TSC)
        place = ctypes.c_char.from_buffer(page)
        read_tsc = ctypes.CFUNCTYPE(ctypes.c_uint64)(ctypes.addressof(place))
        first, first_ns = both(read_tsc)
        time.sleep(INTERVAL_S)
        last, last_ns = both(read_tsc)
        del read_tsc, place
    return round((last - first) * 1_000_000 / (last_ns - first_ns))


def both(read_tsc):
    """The counter, and the clock at the same moment: the closest pair of a few tries if the machine is busy."""
    best = None
    for _ in range(TRIES):
        before_ns = time.monotonic_ns()
        ticks = read_tsc()
        after_ns = time.monotonic_ns()
        if best is None or after_ns - before_ns < best[0]:
            best = after_ns - before_ns, ticks, (before_ns + after_ns) // 2
        if best[0] < CLOSE_NS:
            break
    return best[1], best[2]


if __name__ == "__main__":
    print(khz())
