"""How a server of ours uses memory: many short-lived objects, by many threads."""

from __future__ import annotations

import contextlib
import ctypes
import gc

__all__ = ["keep_one_heap", "look_for_cycles_seldom"]

# malloc.h of glibc
_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8
_LARGE = 256 * 1024


def keep_one_heap() -> None:
    """Have the C library keep one heap, and give large blocks back at once; before threads are started.

    glibc's default is a heap for each thread, each as large as the largest request it had, and a bound for
    "large" that grows: with four requests of 8,192 spans at a time 290 MiB, so 175 (`benchmarks.gateway`).
    """
    with contextlib.suppress(OSError, AttributeError, TypeError):  # another C library
        allocator = ctypes.CDLL(None)
        allocator.mallopt(_M_ARENA_MAX, 1)
        allocator.mallopt(_M_MMAP_THRESHOLD, _LARGE)


def look_for_cycles_seldom() -> None:
    """Have Python's collector run seldom; when all is set up.

    With its defaults it walks over a request's spans again and again, a third of the time of a large one, and
    none of them is in a cycle.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)
