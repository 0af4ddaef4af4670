"""The heap of the process, after something large has been freed."""

from __future__ import annotations

import ctypes
import gc
import threading

__all__ = ["release_memory"]


_turn, _next = threading.Lock(), threading.Lock()


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
