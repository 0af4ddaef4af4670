"""Jobs: requests on their way through a model."""

from __future__ import annotations

from collections.abc import Hashable

from yais.core.offered_future import OfferedFuture
from yais.inference.layout import Layout
from yais.inference.request import InferRequest, InferResponse, SequenceStep
from yais.inference.scheduling.sequence import LiveSequence

__all__ = ["Job"]


class Job:
    """A checked request, its future, and where it stands: the `Item` of the schedulers.

    Attributes
    ----------
    size, group
        See `yais.inference.scheduling.queue.Item`.
    queued
        When it was handed to the scheduler, ns.
    priority, timeout
        The request's.
    sequence
        What the queue of a model with sequences keeps of the one it belongs to.
    """

    __slots__ = (
        "_deadline",
        "future",
        "group",
        "layout",
        "priority",
        "queued",
        "request",
        "sequence",
        "size",
        "timeout",
    )

    group: Hashable

    def __init__(self, request: InferRequest, layout: Layout, queued: int) -> None:
        self.request = request
        self.layout = layout
        self.size = layout.batch
        self.group = layout.group
        self.queued = queued
        self.priority = request.priority
        self.timeout = request.timeout
        self.sequence: LiveSequence | None = None
        self.future: OfferedFuture[InferResponse] = OfferedFuture()
        self._deadline = request.deadline.at

    @property
    def step(self) -> SequenceStep | None:
        """Which of a sequence of requests it is; see `SequenceItem`."""
        return self.request.sequence

    def dead(self, now: int) -> bool:
        """Whether nobody waits for it any more: it was cancelled, or its deadline has passed."""
        return self.future.done() or (self._deadline is not None and now >= self._deadline)
