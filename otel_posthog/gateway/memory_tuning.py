"""Memory settings for a server process: many threads create many short-lived objects."""

from __future__ import annotations

import contextlib
import ctypes
import gc

__all__ = ["collect_rarely", "keep_one_heap"]

# malloc.h of glibc
_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8
_LARGE = 256 * 1024


def keep_one_heap() -> None:
    """Make glibc keep one heap and return large blocks at once. Call it before threads are started.

    By default each thread has a heap as large as its largest request, and the bound for "large" grows. Four
    requests of 8,192 spans at a time then need 290 MiB; with these settings 175 MiB (`benchmarks.gateway`).
    """
    with contextlib.suppress(OSError, AttributeError, TypeError):  # another C library
        allocator = ctypes.CDLL(None)
        allocator.mallopt(_M_ARENA_MAX, 1)
        allocator.mallopt(_M_MMAP_THRESHOLD, _LARGE)


def collect_rarely() -> None:
    """Make Python's garbage collector run rarely. Call it when all is set up.

    With its defaults it walks over the spans of a large request again and again, which takes a third of that
    request's time, and none of them is in a cycle.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)
