"""Limited memory: no more than so much at a time."""

from __future__ import annotations

import functools
from typing import Any

from yais.memory.account import Account, MemoryUsage
from yais.memory.adaptor import Adaptor
from yais.memory.buffer import Buffer
from yais.memory.resource import MemoryResource

__all__ = ["LimitedResource"]


class LimitedResource(Adaptor):
    """Refuses what would make more than `limit` bytes in use, in the sizes that are asked for. Thread-safe.

    Parameters
    ----------
    upstream
        Where the memory comes from.
    limit
        Bytes in use at a time.

    Raises
    ------
    ValueError
        `limit` is negative.

    Attributes
    ----------
    limit
        The one given.
    """

    def __init__(self, upstream: MemoryResource, limit: int) -> None:
        if limit < 0:
            raise ValueError(f"got limit={limit}, expected 0 or more bytes")
        super().__init__(upstream)
        self.limit = limit
        self._account = Account()

    def __repr__(self) -> str:
        return f"<LimitedResource: {self._account.usage().bytes} of {self.limit} bytes in use>"

    def allocate(self, size: int, *, stream: Any = None) -> Buffer:
        """Return a buffer of `size` bytes.

        Raises
        ------
        MemoryError
            That were too many; or whatever the upstream raises.
        """
        used = self._account.debit(size, limit=self.limit)
        if used is not None:
            raise MemoryError(
                f"got {size} bytes to allocate with {used} in use, expected at most {self.limit} in all"
            )
        try:
            memory = self._memory(size, stream)
        except BaseException:
            self._account.credit(size)
            raise
        return Buffer(memory, functools.partial(self._account.credit, size), resource=self)

    def statistics(self) -> MemoryUsage:
        """Return the numbers of now; `limit` says how many bytes there may be."""
        return self._account.usage()
