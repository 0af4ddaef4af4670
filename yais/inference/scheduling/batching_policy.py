"""The batching policy: how a dynamic batcher is configured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from yais.inference.scheduling.queue_policy import QueuePolicy, TimeoutAction

__all__ = ["BatchingPolicy"]


@dataclass(frozen=True, slots=True)
class BatchingPolicy:
    """How a dynamic batcher forms batches.

    Attributes
    ----------
    max_batch
        Largest batch.
    preferred
        Sizes to start at once when they can be formed. Empty, as in Triton, means the largest alone.
    max_delay
        Nanoseconds an item may wait for others; 0 means not at all.
    preserve_ordering
        Whether responses are given in the order of the requests. It is nothing to the queue.
    priority_levels
        How many there are; 1 is the highest. 0 is for no priorities.
    default_priority
        Level of an item whose priority is 0 or not among the levels.
    default_queue_policy
        Of the levels that have none of their own, and of all items without levels.
    queue_policies
        Those of their own, by level.

    Raises
    ------
    ValueError
        A size is not in 1..max_batch, the delay or the number of levels is negative, a level is not among
        them, or the order is to be preserved and would not be.
    """

    max_batch: int
    preferred: tuple[int, ...] = ()
    max_delay: int = 0
    preserve_ordering: bool = False
    priority_levels: int = 0
    default_priority: int = 0
    default_queue_policy: QueuePolicy = field(default_factory=QueuePolicy)
    queue_policies: Mapping[int, QueuePolicy] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if self.max_batch < 1:
            raise ValueError(f"got max_batch={self.max_batch}, expected at least 1")
        if self.max_delay < 0:
            raise ValueError(f"got max_delay={self.max_delay} ns, expected 0 or more")
        for size in self.preferred:
            if not 1 <= size <= self.max_batch:
                raise ValueError(f"got a preferred batch size of {size}, expected 1 to {self.max_batch}")
        self._check_levels()
        if self.preserve_ordering:
            self._check_order()

    @property
    def all_policies(self) -> Sequence[QueuePolicy]:
        """The queue policies: the default one and those by level."""
        return (self.default_queue_policy, *self.queue_policies.values())

    def _check_levels(self) -> None:
        levels, default = self.priority_levels, self.default_priority
        if levels < 0:
            raise ValueError(f"got priority_levels={levels}, expected 0 or more")
        if not levels and default:
            raise ValueError(f"got default_priority={default} without priority levels, expected 0")
        if not levels and self.queue_policies:
            named = ", ".join(map(str, self.queue_policies))
            raise ValueError(f"got queue policies for levels {named} without priority levels, expected none")
        if levels and not 1 <= default <= levels:
            raise ValueError(f"got default_priority={default}, expected 1 to {levels}")
        for level in self.queue_policies:
            if not 1 <= level <= levels:
                raise ValueError(f"got a queue policy for level {level}, expected 1 to {levels}")

    def _check_order(self) -> None:
        if self.priority_levels > 1:
            raise ValueError(
                f"got preserve_ordering with {self.priority_levels} priority levels, expected at most 1"
            )
        for policy in self.all_policies:
            if policy.times_out and policy.timeout_action is TimeoutAction.DELAY:
                raise ValueError("got preserve_ordering and timeouts that delay, expected them to reject")
