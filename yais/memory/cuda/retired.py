"""What is to be freed, as soon as nobody uses it and somebody has the time."""

from __future__ import annotations

import collections
import threading
from collections.abc import Callable

__all__ = ["Retired"]


class Retired:
    """Collects what is to be freed. Thread-safe.

    CUDA's functions that free wait for locks and for work, which nobody may do in a garbage collector.

    Parameters
    ----------
    settle
        Waits until nothing of what is retired by now is used any more; returns whether that is so in time.
    attempt
        Calls a function that frees.
    """

    def __init__(self, settle: Callable[[], bool], attempt: Callable[[Callable[[], object]], None]) -> None:
        self._settle = settle
        self._attempt = attempt
        self._waiting: collections.deque[Callable[[], object]] = collections.deque()
        self._lock = threading.Lock()  # held while freeing

    def __repr__(self) -> str:
        return f"<Retired: {len(self._waiting)} waiting>"

    def add(self, free: Callable[[], object]) -> None:
        """Have something freed later. Waits for no lock."""
        self._waiting.append(free)

    def free(self) -> None:
        """Free what was added by now; if another thread is at it, wait for that.

        What is still used after the time that `settle` takes is kept for the next call.
        """
        while self._waiting:
            with self._lock:
                count = len(self._waiting)
                if count and not self._settle():
                    return
                for _ in range(count):
                    self._attempt(self._waiting.popleft())
