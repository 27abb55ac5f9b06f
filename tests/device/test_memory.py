"""Large buffers that were freed do not stay with the process."""

from __future__ import annotations

import subprocess
import sys

from tests.waiting import LATE_SECONDS

CODE = """
import ctypes
from agent.device.memory import return_large_buffers
assert return_large_buffers()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.free.argtypes = [ctypes.c_void_p]
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096
def filled(size):
    at = libc.malloc(ctypes.c_size_t(size))
    ctypes.memset(at, 1, size)
    return at
libc.free(filled(30 << 20))  # by this glibc would learn to keep such buffers in its heap
before = resident()
held = [filled(2 << 20) for _ in range(20)]
last = filled(64)  # and this would hold the heap's end in its place
for at in held:
    libc.free(at)
assert resident() - before < 10 << 20, resident() - before
"""


def test_what_start_up_needed_only_once_is_given_back() -> None:
    subprocess.run([sys.executable, "-c", CODE], check=True, timeout=LATE_SECONDS)


HOLES = """
from agent.device.memory import return_freed
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096
held = [bytes(2000) for _ in range(20_000)]
pins = held[::50]
before = resident()
del held
assert return_freed()
assert before - resident() > 20 << 20, before - resident()
del pins
"""


def test_holes_between_what_is_still_used_are_given_back() -> None:
    subprocess.run([sys.executable, "-c", HOLES], check=True, timeout=LATE_SECONDS)
