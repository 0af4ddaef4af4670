"""When batches will end: those that run, and those that wait to."""

from __future__ import annotations

from typing import NamedTuple

from yais.inference.batch_times import BatchTimes

__all__ = ["Forecast"]


class _Running(NamedTuple):
    size: int
    start: int
    end: int  # predicted


class Forecast:
    """What `SloQueue` expects. Not thread-safe; all times are in ns.

    Parameters
    ----------
    times
        How long batches take.
    objective
        Latency to keep.
    max_batch
        The largest batch.
    instances
        Batches that may run at once.
    """

    def __init__(self, times: BatchTimes, objective: int, max_batch: int, instances: int) -> None:
        self.times = times
        self._objective = objective
        self._max_batch = max_batch
        self._instances = instances
        self._running: dict[int, _Running] = {}

    def __repr__(self) -> str:
        return f"<Forecast {len(self._running)} of {self._instances} instances busy, {self.times!r}>"

    @property
    def idle(self) -> bool:
        """Whether nothing runs."""
        return not self._running

    def started(self, instance: int, size: int, now: int) -> None:
        """Note that a batch runs."""
        self._running[instance] = _Running(size, now, now + self.times.at(size))

    def released(self, instance: int, now: int) -> None:
        """Note that it has run, and learn from how long it took."""
        batch = self._running.pop(instance, None)
        if batch is not None:
            self.times.observe(batch.size, now - batch.start)

    def next_free(self, now: int) -> int:
        """Return when the next instance is free; `now` if one is already.

        A batch that has not ended when it should have is expected to end now.
        """
        if len(self._running) < self._instances:
            return now
        return max(now, min([batch.end for batch in self._running.values()]))

    def largest(self, left: int) -> int:
        """Return the largest batch that ends within `left`; 0 if not even one item does."""
        size = self.times.largest(left)
        return self._max_batch if size is None or size > self._max_batch else size

    def whole(self) -> int:
        """Return the largest batch that can be kept up under load, or 0."""
        return self.largest(self._objective * 2 // 3)

    def end(self, size: int, now: int, waiting: int, oldest: int) -> int:
        """Predict when the batch of an item of `size` that comes now will end.

        Parameters
        ----------
        waiting
            Sum of the sizes of those before it.
        oldest
            When the first of them was queued.
        """
        times, max_batch = self.times, self._max_batch
        start = self.next_free(now)
        if not waiting:
            return start + times.at(size)
        first = self.largest(oldest + self._objective - start)
        if waiting + size <= first:
            return start + times.at(waiting + size)
        first = min(waiting, first)
        ahead, joined = divmod(waiting - first, max_batch)  # behind the first batch
        if joined + size > max_batch:
            ahead, joined = ahead + 1, 0
        free = [max(now, batch.end) for batch in self._running.values()]
        free += [now] * (self._instances - len(free))
        free[free.index(start)] += times.at(first) if first else 0
        free.sort()  # no two are more than a whole batch apart, so that they come in this order again
        rounds, index = divmod(ahead, len(free))
        start = free[index] + rounds * times.at(max_batch)
        return start + times.at(joined + size if joined else max(size, self.whole()))
