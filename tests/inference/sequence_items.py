"""What the tests of the sequence batcher have in common."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

from yais.inference.request import SequenceStep
from yais.inference.scheduling.sequence import LiveSequence, SequencePolicy, SequenceQueue

MODEL = "M"


@dataclass(eq=False)
class Asked:
    """A request of a sequence that can be cancelled and may have a deadline."""

    step: SequenceStep | None
    size: int = 1
    group: Hashable = ""
    queued: int = 0
    priority: int = 0
    timeout: int = 0
    deadline: int | None = None
    cancelled: bool = False
    sequence: LiveSequence | None = None

    def dead(self, now: int) -> bool:
        return self.cancelled or (self.deadline is not None and now >= self.deadline)


def queue_of(max_batch: int = 8, instances: int = 1, **policy: Any) -> SequenceQueue[Asked]:
    """Return an empty queue."""
    return SequenceQueue(SequencePolicy(max_batch, instances, **policy), MODEL)
