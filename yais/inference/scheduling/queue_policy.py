"""Queue policies: how many requests may wait, how long, and what becomes of those that waited too long."""

from __future__ import annotations

import enum
from dataclasses import dataclass

__all__ = ["QueuePolicy", "TimeoutAction"]


class TimeoutAction(enum.StrEnum):
    """What becomes of an item that has waited as long as it may."""

    REJECT = "reject"
    """It is refused with Unavailable, whether or not an instance is free."""
    DELAY = "delay"
    """It is served after those of its level that have time left."""


@dataclass(frozen=True, slots=True)
class QueuePolicy:
    """How the items of one priority level wait (kserve-v2.md, row 62).

    Attributes
    ----------
    timeout_action
        What becomes of those that time out.
    default_timeout
        How long one may wait, ns; 0 is for ever.
    allow_timeout_override
        Whether an item's own timeout counts where it is shorter than the default. Triton ignores it if the
        default is 0. Here it counts then, too: any time is shorter than for ever.
    max_size
        How many may wait, those that are delayed included; 0 is any number.

    Raises
    ------
    ValueError
        A number is negative.
    """

    timeout_action: TimeoutAction = TimeoutAction.REJECT
    default_timeout: int = 0
    allow_timeout_override: bool = False
    max_size: int = 0

    def __post_init__(self) -> None:
        if self.default_timeout < 0:
            raise ValueError(f"got default_timeout={self.default_timeout} ns, expected 0 or more")
        if self.max_size < 0:
            raise ValueError(f"got max_size={self.max_size}, expected 0 or more")

    @property
    def times_out(self) -> bool:
        """Whether an item can wait too long."""
        return bool(self.default_timeout) or self.allow_timeout_override

    def timeout(self, asked: int) -> int:
        """Return how long an item may wait that asks for `asked`, both in ns and 0 for no limit."""
        if not self.allow_timeout_override or not asked:
            return self.default_timeout
        return min(asked, self.default_timeout or asked)
