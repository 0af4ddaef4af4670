"""What the tests of queues have in common: items that wait."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

from yais.inference.scheduling.queue import Batch, BatchQueue

FREE = (0,)
"""The free instances, where it does not matter which."""


@dataclass(eq=False)
class Waiting:
    """An item that can be cancelled and may have a deadline."""

    size: int = 1
    group: Hashable = ""
    queued: int = 0
    priority: int = 0
    timeout: int = 0
    deadline: int | None = None
    cancelled: bool = False

    def dead(self, now: int) -> bool:
        return self.cancelled or (self.deadline is not None and now >= self.deadline)


def push(queue: BatchQueue[Waiting], *sizes: int, queued: int = 0, **item: Any) -> list[Waiting]:
    """Push items of these sizes at the moment `queued`, and return them."""
    items = [Waiting(size, queued=queued, **item) for size in sizes]
    for item_ in items:
        queue.push(item_, queued)
    return items


def taken(queue: BatchQueue[Waiting], now: int = 0) -> list[Waiting]:
    """Take a batch, and return its items; none if there is no batch."""
    batch = queue.take(now, FREE)
    return [] if batch is None else list(batch.items)


def sizes(batch: Batch[Waiting] | None) -> list[int] | None:
    """Return the sizes of the items of a batch."""
    return None if batch is None else [item.size for item in batch.items]
