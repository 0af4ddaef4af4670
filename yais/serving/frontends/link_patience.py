"""Whether a thread that has sent requests waits for their answers itself."""

from __future__ import annotations

__all__ = ["WORTH_IT", "Patience"]

WORTH_IT = 0.003
"""Seconds that a thread may wait: what the engine process needs for a short model on busy CPUs, and what
others who want something of the thread can do without. On two cores 3 ms gave 2 to 14 % more requests/s
than 1 ms, and 8 ms no more (benchmarks/README.md)."""

_MOST = 63  # times that are left out


class Patience:
    """Judges by how often the answers came in time.

    After a time when they did not the next is left out, then the next 3, 7 and so on up to 63; and none after
    one when they did. Threads that use it at once may spoil a count, which does no harm.
    """

    def __init__(self) -> None:
        self._left = self._left_out = 0

    def willing(self) -> bool:
        """Return whether to wait this time; to be followed by `learn` if so."""
        if self._left:
            self._left -= 1
            return False
        return True

    def learn(self, *, came: bool) -> None:
        """Take in whether the answers came in time."""
        self._left_out = 0 if came else min(2 * self._left_out + 1, _MOST)
        self._left = self._left_out
