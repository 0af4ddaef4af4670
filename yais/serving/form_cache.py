"""A cache of what requests have in common: of a bounded size, however large the requests are."""

from __future__ import annotations

import threading
from collections.abc import Hashable
from typing import TypeVar

__all__ = ["FormCache"]

ValueT = TypeVar("ValueT")


class FormCache(dict[Hashable, ValueT]):
    """What was found out, by what it was found out of. Thread-safe; empty again once it is full.

    Parameters
    ----------
    most
        What the sizes of all that is kept may add up to.
    """

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most
        self._size = 0
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<FormCache {self._size} of {self._most} in {len(self)} entries>"

    def keep(self, key: Hashable, value: ValueT, size: int) -> None:
        """Keep a value, unless it is larger than all that may be kept."""
        with self._lock:
            if size > self._most or key in self:
                return
            if self._size + size > self._most:
                self.clear()
                self._size = 0
            self[key] = value
            self._size += size
