"""How a sequence batcher works, as a model's configuration says it."""

from __future__ import annotations

import enum
from dataclasses import dataclass

__all__ = ["SequencePolicy", "Strategy"]


class Strategy(enum.StrEnum):
    """How sequences share a batch."""

    DIRECT = "direct"
    """Each has its row of its instance's batches, from its first request to its last."""
    OLDEST = "oldest"
    """The requests that have waited longest run together, at most one of each sequence."""


@dataclass(frozen=True, slots=True)
class SequencePolicy:
    """How a sequence batcher works. Durations are ns.

    Attributes
    ----------
    max_batch
        Largest batch; 0 for a model without a batch dimension.
    instances
        Batches that may run at once, each on an instance of its own.
    strategy
        How sequences share a batch.
    max_idle
        A sequence without a request for so long is given up.
    max_delay
        How long a request may wait for others; 0 means not at all.
    min_utilization
        With `DIRECT`, the share of the instance's slots, in 0..1, that need not wait for others when filled.
        At 0 nothing waits, whatever `max_delay` is.
    candidates
        With `OLDEST`, sequences that an instance has at once; 0 means as many as its largest batch.
    preferred
        With `OLDEST`, sizes to start at once when they can be formed.
    preserve_ordering
        Whether answers leave in the order in which the requests came. The batcher itself does not use it.

    Raises
    ------
    ValueError
        One of them is impossible; the message says which, and what is expected.
    """

    max_batch: int
    instances: int
    strategy: Strategy = Strategy.DIRECT
    max_idle: int = 1_000_000_000
    max_delay: int = 0
    min_utilization: float = 0.0
    candidates: int = 0
    preferred: tuple[int, ...] = ()
    preserve_ordering: bool = False

    def __post_init__(self) -> None:
        for name, least in (
            ("max_batch", 0),
            ("instances", 1),
            ("max_idle", 1),
            ("max_delay", 0),
            ("candidates", 0),
        ):
            if getattr(self, name) < least:
                raise ValueError(f"got {name}={getattr(self, name)}, expected at least {least}")
        if not 0 <= self.min_utilization <= 1:
            raise ValueError(f"got min_utilization={self.min_utilization}, expected 0 to 1")
        for size in self.preferred:
            if not 1 <= size <= self.rows:
                raise ValueError(f"got a preferred batch size of {size}, expected 1 to {self.rows}")

    @property
    def rows(self) -> int:
        """Requests of the largest batch, at least 1."""
        return max(1, self.max_batch)

    @property
    def slots(self) -> int:
        """Sequences that an instance has at once."""
        return (self.strategy is Strategy.OLDEST and self.candidates) or self.rows
