"""The C heap of the process: what it keeps of freed memory, and when it gives that back."""

from __future__ import annotations

import ctypes
import gc
import threading

__all__ = ["keep_memory", "release_memory"]

# Parameters of mallopt(3), and what they are set to, in bytes.
_TRIM_THRESHOLD, _KEPT = -1, 128 << 20
_MMAP_THRESHOLD, _LARGEST = -3, 32 << 20  # the most that glibc takes

_turn, _next = threading.Lock(), threading.Lock()


def keep_memory() -> None:
    """Let the C heap keep what is freed, up to 128 MiB, for what is allocated next.

    By default glibc gives blocks of 128 KiB and more back at once: the messages of large requests then get
    pages that the kernel has to clear first, each time (600 KB over gRPC: 570 us of CPU per request with
    it, 380 without; `benchmarks/serving.py`). For programs to call at their start, not for libraries. Does
    nothing where there is no such setting.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, _LARGEST)
        mallopt(_TRIM_THRESHOLD, _KEPT)


def release_memory() -> None:
    """Collect what only refers to itself, and give the free pages of the C heap back to the system.

    glibc keeps freed memory for later; `malloc_trim(3)` releases it. Where there is no such function only the
    first is done. It takes some ten milliseconds, most of them with the interpreter's lock; so of many
    threads that call it at once two do it, one after the other, and the rest return at once. Thread-safe.
    """
    if not _next.acquire(blocking=False):
        return  # one that has not begun yet does it for this one, too
    with _turn:
        _next.release()
        _release()


def _release() -> None:
    # What a server has frozen, since it was there at the start, can be garbage by now.
    frozen = gc.get_freeze_count() > 0
    gc.unfreeze()
    gc.collect()
    if frozen:
        gc.freeze()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
