"""Gives large buffers back to the system when they are freed, so that a small board has room."""

from __future__ import annotations

import ctypes

# <malloc.h>
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
LARGE_BYTES = 1 << 20


def return_large_buffers() -> bool:
    """Keep glibc from hoarding what start-up needed only once; False with another C library.

    Left alone, glibc raises its limit for buffers of their own with every large one that is freed,
    up to 32 MB, and later large ones leave holes in its heap: measured on a door with 25,324
    people, 347 MB resident instead of 327 MB. Call before anything large is allocated.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return all(mallopt(what, LARGE_BYTES) for what in (_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD))


def return_freed() -> bool:
    """Give back what lies free in the heap now; False with another C library.

    Takes milliseconds. Call when start-up or the loading of a gallery is over: their many small
    pieces leave 20 MB of holes that nothing will fill for days.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return trim is not None and bool(trim(ctypes.c_size_t(0)))
