"""The SLO batcher: batches as large as the latency objective allows, and no request that cannot meet it.

A pure state machine, first in, first out. What it knows is T(b), how long a batch of b items takes at a
percentile (`BatchTimes`); the objective L is counted from `Item.queued` to the moment when the instance is
free again. It follows an idea of trtlab's (trtlab.md, row 105).

- A batch is as large as its oldest item allows: the largest b with now + T(b) <= queued + L, so that what
  it may take in shrinks as time passes.
- An item is refused when it comes if the batches before it are predicted to end too late for it. One that
  opens a batch behind another that waits must leave room for a whole one: the largest that is run in two
  thirds of L. Otherwise its batch could take in hardly anything else, the next one would be opened as
  late, and under load all batches would stay small.
- An item is refused when it waits if even alone it would be late by now, because a batch took longer than
  predicted or items were of different shapes; or if a batch without it could be more than twice
  as large, since one so small would make those behind it late.
- Nobody waits for others while an instance is free, unless `max_delay` says so.
- Of those refused although nothing waits or runs, one in 8 is run all the same, to see whether a batch
  still takes as long as it did.

The numbers are from simulations of T(b) = 2 ms + b/2 ms, up to 16 items, objectives of 1 to 4 T(16) and
Poisson arrivals. At 110 % of capacity with L = 2 T(16), 97 % of the capacity are answered in time, and 45 %
if a batch is opened wherever one item fits; half of L instead of two thirds, or no limit, is worse with
several instances. Where times vary by more than is known (log-normal, sigma 0.1, predicted at the median,
three instances, L = 1.5 T(16)), this rule lets answer 95 % of the capacity instead of 56 %. A
delay made batches larger where they need not be, and more requests in time only with several instances and
an objective below 1.5 T(16).

Priorities and timeouts of items mean nothing here. Until it is known how long batches take, it is a dynamic
batcher.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Generic

from yais.errors import ResourceExhausted
from yais.inference.batch_times import BatchTimes
from yais.inference.scheduling.dynamic import BatchingPolicy, DynamicQueue
from yais.inference.scheduling.forecast import Forecast
from yais.inference.scheduling.queue import Batch, CloseReason, ItemT, Refused, expired

__all__ = ["SloPolicy", "SloQueue"]

_TRY_EVERY = 8  # refusals by an idle model


@dataclass(frozen=True, slots=True)
class SloPolicy:
    """How an SLO batcher works.

    Attributes
    ----------
    batching
        The largest batch; and how requests are batched while it is not known how long batches take.
    objective
        Latency to keep, ns.
    percentile
        Of the requests that are to keep it, in 1..100.
    instances
        Batches that may run at once.
    max_delay
        Nanoseconds an item may wait for others while an instance is free and its objective allows it.

    Raises
    ------
    ValueError
        The objective is not positive, the percentile not in 1..100, or the delay negative.
    """

    batching: BatchingPolicy
    objective: int
    percentile: float = 90.0
    instances: int = 1
    max_delay: int = 0

    def __post_init__(self) -> None:
        if self.objective < 1:
            raise ValueError(f"got objective={self.objective} ns, expected more than 0")
        if not 1 <= self.percentile <= 100:
            raise ValueError(f"got percentile={self.percentile:g}, expected 1 to 100")
        if self.max_delay < 0:
            raise ValueError(f"got max_delay={self.max_delay} ns, expected 0 or more")


class SloQueue(Generic[ItemT]):
    """Forms batches; see `BatchQueue` and the module. Not thread-safe.

    Parameters
    ----------
    policy
        The rules.
    times
        How long batches take, at the policy's percentile; None until they are `measured`.
    """

    expires = True

    def __init__(self, policy: SloPolicy, times: BatchTimes | None = None) -> None:
        self.policy = policy
        self._max_batch = policy.batching.max_batch
        self._objective = policy.objective
        self._max_delay = policy.max_delay
        self._until_measured: DynamicQueue[ItemT] = DynamicQueue(policy.batching)
        self._forecast: Forecast | None = None
        self._items: deque[ItemT] = deque()
        self._total = 0  # sum of the sizes of all that wait
        self._refused: list[Refused[ItemT]] = []
        self._in_vain = 0  # refusals by an idle model
        self._trial: ItemT | None = None  # late, and to be run all the same
        if times is not None:
            self.measured(times)

    def __len__(self) -> int:
        return len(self._items) + len(self._until_measured)

    def __repr__(self) -> str:
        forecast = self._forecast or "batches not measured"
        return f"<SloQueue {len(self)} waiting, {self._objective / 1e6:g} ms: {forecast}>"

    @property
    def full(self) -> bool:
        """Whether enough waits for the largest batch."""
        return self._total >= self._max_batch or self._until_measured.full

    def measured(self, times: BatchTimes) -> None:
        """Keep the objective from now on, also for those that wait already."""
        for item in self._until_measured.clear():
            self._append(item)
        self._refused += self._until_measured.reap(0)
        policy = self.policy
        self._forecast = Forecast(times, policy.objective, self._max_batch, policy.instances)

    def push(self, item: ItemT, now: int) -> None:
        """Queue an item of at most `max_batch` in size. Raises ResourceExhausted if it would be late."""
        if self._forecast is None:
            self._until_measured.push(item, now)
            return
        oldest = self._items[0] if self._items else item
        end = self._forecast.end(item.size, now, self._total, oldest.queued)
        if end > item.queued + self._objective and not self._tries(self._forecast, item):
            raise self._too_late(item, end)
        self._append(item)

    def take(self, now: int, free: Sequence[int]) -> Batch[ItemT] | None:
        """Return the next batch, if one should start at `now`."""
        forecast = self._forecast
        if forecast is None:
            return self._until_measured.take(now, free)
        if not free:
            return None
        self._bury(forecast, now, now)
        self._relieve(forecast, now)
        if not self._items or self._waits(forecast, now):
            return None
        batch = self._pop(forecast, now, free[-1])
        forecast.started(batch.instance, batch.size, now)
        return batch

    def startable(self, now: int, free: Sequence[int]) -> Sequence[int]:
        """Return them all if a batch should start at `now`, unless those that wait turn out to be late."""
        if self._forecast is None:
            return self._until_measured.startable(now, free)
        return free if self._items and not self._waits(self._forecast, now) else ()

    def released(self, instance: int, now: int) -> None:
        """Correct the prediction by how long the batch took."""
        if self._forecast is not None:
            self._forecast.released(instance, now)

    def wake_at(
        self,
        *,
        free: bool,
        lacking: Collection[int] = (),  # noqa: ARG002 - any instance will do
    ) -> int | None:
        """When the oldest item has waited as long as it may, or is late whatever happens."""
        forecast = self._forecast
        if forecast is None:
            return self._until_measured.wake_at(free=free)
        if not self._items or self._items[0] is self._trial:  # which waits for nothing but an instance
            return None
        oldest = self._items[0]
        deadline = oldest.queued + self._objective
        if not free or not self._max_delay:
            return deadline - forecast.times.at(oldest.size) + 1
        last = deadline - forecast.times.at(min(self._total + 1, self._max_batch)) + 1
        return min(oldest.queued + self._max_delay, last)

    def reap(self, now: int) -> list[Refused[ItemT]]:
        """Return, once each, the items that were found dead, and those that would be late by now."""
        if self._forecast is None:
            return self._until_measured.reap(now)
        self._bury(self._forecast, now, self._forecast.next_free(now))
        refused, self._refused = self._refused, []
        return refused

    def hurry(self) -> None:
        """Wait for nothing from now on: what waits can be taken at once."""
        self._max_delay = 0
        self._until_measured.hurry()

    def clear(self) -> list[ItemT]:
        """Take out and return all items."""
        items = [*self._until_measured.clear(), *self._items]
        self._items.clear()
        self._total = 0
        return items

    def _append(self, item: ItemT) -> None:
        self._items.append(item)
        self._total += item.size

    def _refuse(self, refused: Refused[ItemT]) -> None:
        """Take out the oldest item."""
        self._refused.append(refused)
        self._total -= self._items.popleft().size

    def _tries(self, forecast: Forecast, item: ItemT) -> bool:
        """Whether a late item is let through to see how long a batch takes: only by an idle model."""
        if self._items or not forecast.idle:
            return False
        self._in_vain += 1
        if self._in_vain % _TRY_EVERY:
            return False
        self._trial = item
        return True

    def _bury(self, forecast: Forecast, now: int, start: int) -> None:
        """Set aside the oldest items that are dead, or late if they start at `start`."""
        while self._items:
            oldest = self._items[0]
            if oldest.dead(now):
                self._trial = None
                self._refuse(expired(oldest))
                continue
            end = start + forecast.times.at(oldest.size)
            if end <= oldest.queued + self._objective or oldest is self._trial:
                return
            self._refuse(Refused(oldest, self._too_late(oldest, end)))

    def _relieve(self, forecast: Forecast, now: int) -> None:
        """Refuse the oldest items if without them a batch could be more than twice as large."""
        if not self._items or self._items[0] is self._trial:
            return
        behind = self._total
        room = forecast.largest(self._items[0].queued + self._objective - now)
        if 2 * room >= min(behind, self._max_batch):
            return
        for count, item in enumerate(self._items):
            alone = min(behind, forecast.largest(item.queued + self._objective - now))
            if alone > 2 * room:
                end = now + forecast.times.at(alone)
                for _ in range(count):
                    self._refuse(Refused(self._items[0], self._too_late(self._items[0], end)))
                return
            behind -= item.size

    def _waits(self, forecast: Forecast, now: int) -> bool:
        """Whether the oldest item can wait for others."""
        oldest = self._items[0]
        return (
            now - oldest.queued < self._max_delay
            and self._total < self._max_batch
            and now + forecast.times.at(self._total + 1) <= oldest.queued + self._objective
            and all(item.group == oldest.group for item in self._items)
        )

    def _pop(self, forecast: Forecast, now: int, instance: int) -> Batch[ItemT]:
        """Take out the batch that the oldest item, alive and in time, allows."""
        items, max_batch = self._items, self._max_batch
        oldest = items.popleft()
        self._trial = None  # nothing else waits beside it
        batch, size, dead = [oldest], oldest.size, 0
        limit = forecast.largest(oldest.queued + self._objective - now)
        reason = CloseReason.DELAY if self._max_delay else CloseReason.INSTANCE
        while items:
            item = items[0]
            if item.dead(now):
                self._refused.append(expired(item))
                dead += item.size
            elif item.group != oldest.group:
                reason = CloseReason.SHAPE
                break
            elif size + item.size > limit:
                reason = CloseReason.FULL if size + item.size > max_batch else CloseReason.OBJECTIVE
                break
            else:
                batch.append(item)
                size += item.size
            items.popleft()
        self._total -= size + dead
        return Batch(batch, size, CloseReason.FULL if size == max_batch else reason, instance)

    def _too_late(self, item: ItemT, end: int) -> ResourceExhausted:
        return ResourceExhausted(
            f"the latency objective of {self._objective / 1e6:g} ms cannot be met: an answer is predicted "
            f"after {(end - item.queued) / 1e6:.3g} ms"
        )
