"""What a queue should do, said as plainly as possible: whatever it is asked, it looks at all that waits."""

from __future__ import annotations

from dataclasses import dataclass

from queue_items import Waiting

from yais.inference.scheduling.batching_policy import BatchingPolicy
from yais.inference.scheduling.queue import CloseReason
from yais.inference.scheduling.queue_policy import QueuePolicy, TimeoutAction


@dataclass(eq=False)
class Known:
    """An item, and what follows from the policy for it."""

    item: Waiting
    number: int
    level: int
    policy: QueuePolicy
    timeout_at: int | None

    def timed_out(self, now: int) -> bool:
        return self.timeout_at is not None and now >= self.timeout_at

    def rejected(self, now: int) -> bool:
        return self.timed_out(now) and self.policy.timeout_action is TimeoutAction.REJECT

    def place(self, now: int) -> tuple[int, bool, int]:
        return (self.level, self.timed_out(now), self.number)


def rows(items: list[Known]) -> int:
    return sum(known.item.size for known in items)


class QueueModel:
    """Waits for what a `DynamicQueue` with the same policy should do."""

    def __init__(self, policy: BatchingPolicy) -> None:
        self.policy = policy
        self.max_delay = policy.max_delay
        self.waiting: list[Known] = []
        self.pushed = 0

    def known(self, item: Waiting, now: int) -> Known:
        policy = self.policy
        has_level = item.priority in range(1, policy.priority_levels + 1)
        level = item.priority if has_level else policy.default_priority
        rules = policy.queue_policies.get(level, policy.default_queue_policy)
        limits = [rules.default_timeout]
        if rules.allow_timeout_override:
            limits.append(item.timeout)
        limits = [limit for limit in limits if limit]
        self.pushed += 1
        return Known(item, self.pushed, level, rules, now + min(limits) if limits else None)

    def has_room(self, known: Known, now: int) -> bool:
        level = [other for other in self.alive(now, now) if other.level == known.level]
        return not known.policy.max_size or len(level) < known.policy.max_size

    def remove(self, item: Waiting) -> Known:
        """Take out an item that waits, or fail: it is not there, or no more."""
        (known,) = [known for known in self.waiting if known.item is item]
        self.waiting.remove(known)
        return known

    def alive(self, now: int, seen: int) -> list[Known]:
        """Return what may still run at `now` of what has not died up to `seen`, in the order of service."""
        alive = [known for known in self.waiting if not known.item.dead(seen) and not known.rejected(now)]
        return sorted(alive, key=lambda known: known.place(now))

    def next_batch(self, now: int, seen: int) -> tuple[list[Known], CloseReason] | None:
        line = self.alive(now, seen)
        first = [line[: count + 1] for count in range(len(line))]
        allowed = [
            items
            for items in first
            if rows(items) <= self.policy.max_batch and len({known.item.group for known in items}) == 1
        ]
        if not allowed:
            return None
        preferred = [items for items in allowed if rows(items) in self.policy.preferred]
        most = allowed[-1]
        if preferred:
            whole = rows(preferred[-1]) == self.policy.max_batch
            return preferred[-1], CloseReason.FULL if whole else CloseReason.PREFERRED
        if rows(most) == self.policy.max_batch:
            return most, CloseReason.FULL
        if len(most) < len(line):
            too_large = rows(line[: len(most) + 1]) > self.policy.max_batch
            return most, CloseReason.FULL if too_large else CloseReason.SHAPE
        if not self.max_delay:
            return most, CloseReason.INSTANCE
        if now - min(known.item.queued for known in line) >= self.max_delay:
            return most, CloseReason.DELAY
        return None

    def next_event(self, now: int, *, free: bool) -> int | None:
        """Return when there will be something to do if nobody pushes or dies, None for never."""
        timeouts = [known.timeout_at for known in self.waiting if known.timeout_at is not None]
        delays = [known.item.queued + self.max_delay for known in self.waiting]
        for moment in sorted({*timeouts, *delays}):
            due = free and self.next_batch(moment, now) is not None
            if moment > now and (due or any(known.timeout_at == moment for known in self.rejects())):
                return moment
        return None

    def rejects(self) -> list[Known]:
        return [known for known in self.waiting if known.policy.timeout_action is TimeoutAction.REJECT]

    def full(self) -> bool:
        return rows(self.waiting) >= self.policy.max_batch


class DirectModel(QueueModel):
    """Waits for what a `DirectQueue` should do."""

    def next_batch(self, now: int, seen: int) -> tuple[list[Known], CloseReason] | None:
        line = self.alive(now, seen)
        return (line[:1], CloseReason.INSTANCE) if line else None

    def full(self) -> bool:
        return bool(self.waiting)
