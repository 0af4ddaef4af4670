"""The SLO batcher at random, before an engine that takes exactly as long as predicted."""

from __future__ import annotations

import heapq
from collections.abc import Iterator

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from queue_items import Waiting

from yais.errors import DeadlineExceeded, ResourceExhausted
from yais.inference.batch_times import BatchTimes
from yais.inference.scheduling.dynamic import BatchingPolicy
from yais.inference.scheduling.queue import Batch, CloseReason
from yais.inference.scheduling.slo import SloPolicy, SloQueue
from yais.testing import ManualClock


class SloMachine(RuleBasedStateMachine):
    """Pushes, cancels, lets time pass, and starts what can start, as the shell does."""

    @initialize(
        max_batch=st.integers(1, 6),
        alpha=st.sampled_from([0, 5, 20]),
        beta=st.sampled_from([1, 10]),
        objective=st.integers(10, 300),
        instances=st.integers(1, 3),
        max_delay=st.sampled_from([0, 0, 15, 1000]),
    )
    def begin(
        self, max_batch: int, alpha: int, beta: int, objective: int, instances: int, max_delay: int
    ) -> None:
        self.max_batch, self.alpha, self.beta = max_batch, alpha, beta
        self.objective, self.instances, self.max_delay = objective, instances, max_delay
        times = BatchTimes((size, self.time(size)) for size in range(1, max_batch + 1))
        if max_batch == 1:  # one point is no line
            self.alpha, self.beta = self.time(1), 0
        policy = SloPolicy(BatchingPolicy(max_batch), objective, 90, instances, max_delay)
        self.queue: SloQueue[Waiting] = SloQueue(policy, times)
        self.clock = ManualClock(1000)
        self.waiting: list[Waiting] = []
        self.running: dict[int, tuple[int, Batch[Waiting]]] = {}  # its end, by instance
        self.trials: list[Waiting] = []

    # --- What an independent observer knows -----------------------------------------------------------

    def time(self, size: int) -> int:
        return self.alpha + self.beta * size

    def largest(self, left: int) -> int:
        return max((size for size in range(1, self.max_batch + 1) if self.time(size) <= left), default=0)

    def deadline(self, item: Waiting) -> int:
        return item.queued + self.objective

    def starts(self, free: list[int]) -> Iterator[int]:
        """Yield when batch after batch starts, after the first: all of them whole."""
        while True:
            start = heapq.heappop(free)
            yield start
            heapq.heappush(free, start + self.time(self.max_batch))

    def predicted(self, item: Waiting, now: int) -> int:
        """Simulate what waits, item by item, and return when the batch of another would end."""
        units = sum(other.size for other in self.waiting)
        free = [now] * (self.instances - len(self.running)) + [end for end, _ in self.running.values()]
        heapq.heapify(free)
        start = heapq.heappop(free)
        if not units:
            return start + self.time(item.size)
        room = self.largest(self.deadline(self.waiting[0]) - start)
        if units + item.size <= room:
            return start + self.time(units + item.size)
        taken = min(room, units)
        units -= taken
        heapq.heappush(free, start + (self.time(taken) if taken else 0))
        for start in self.starts(free):  # noqa: B007
            if units + item.size <= self.max_batch:
                break
            if units < self.max_batch:  # it does not fit in
                units = 0
            else:
                units -= self.max_batch
        whole = max(item.size, self.largest(self.objective * 2 // 3))
        return start + (self.time(units + item.size) if units else self.time(whole))

    # --- What happens -----------------------------------------------------------------------------------

    @rule(data=st.data(), group=st.sampled_from("aaab"), lifetime=st.none() | st.integers(0, 200))
    def push(self, data: st.DataObject, group: str, lifetime: int | None) -> None:
        now = self.clock()
        size = data.draw(st.integers(1, self.max_batch) | st.just(1))
        item = Waiting(size, group, now, deadline=None if lifetime is None else now + lifetime)
        late = self.predicted(item, now) > self.deadline(item)
        try:
            self.queue.push(item, now)
        except ResourceExhausted:
            assert late, "refused without a reason"
        else:
            if late:
                assert not self.waiting and not self.running, "only an idle model tries"
                self.trials.append(item)
            self.waiting.append(item)
        self.start()

    @rule(nanoseconds=st.integers(0, 60))
    def wait(self, nanoseconds: int) -> None:
        """Let time pass, from event to event."""
        until = self.clock() + nanoseconds
        for _ in range(1000):
            events = [end for end, _ in self.running.values()]
            wake = self.queue.wake_at(free=len(self.running) < self.instances)
            if wake is not None:
                assert wake > self.clock(), "everything that is due has been done"
                events.append(wake)
            if min(events, default=until) > until:
                break
            self.clock.advance_ns(max(min(events, default=until) - self.clock(), 0))
            for instance, (end, _) in list(self.running.items()):
                if end == self.clock():
                    del self.running[instance]
                    self.queue.released(instance, end)
            self.start()
            if not events:
                break
        self.clock.advance_ns(until - self.clock())

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        if self.waiting:
            data.draw(st.sampled_from(self.waiting)).cancelled = True

    @rule()
    def hurry(self) -> None:
        self.max_delay = 0
        self.queue.hurry()
        self.start()

    @rule()
    def clear(self) -> None:
        assert self.queue.clear() == self.waiting
        self.waiting = []

    def start(self) -> None:
        now = self.clock()
        while free := [instance for instance in range(self.instances) if instance not in self.running]:
            before = list(self.waiting)
            batch = self.queue.take(now, free)
            if batch is not None:
                assert batch.instance in free
                self.running[batch.instance] = (now + self.time(batch.size), batch)
            self.reap(now, batch)
            if batch is None:
                self.check_that_it_waits(now)
                break
            self.check_batch(batch, before, now)
            self.waiting = [item for item in self.waiting if item not in batch.items]
        self.reap(now)

    def holds_up(self, item: Waiting, batch: Batch[Waiting], now: int) -> bool:
        """Whether an item would have made a batch of what waits less than half as large as it could be."""
        first = self.waiting.index(batch.items[0])
        behind = sum(other.size for other in self.waiting[first:])
        larger = min(behind, self.largest(self.deadline(batch.items[0]) - now))
        return larger > 2 * self.largest(self.deadline(item) - now)

    def reap(self, now: int, taken: Batch[Waiting] | None = None) -> None:
        """Take out what is refused; nothing is refused without a reason."""
        free = now if len(self.running) < self.instances else min(end for end, _ in self.running.values())
        for item, error in self.queue.reap(now):
            if item.dead(now):
                assert isinstance(error, DeadlineExceeded)
            else:
                assert isinstance(error, ResourceExhausted) and item not in self.trials
                late = self.largest(self.deadline(item) - free) < item.size
                assert late or (taken is not None and self.holds_up(item, taken, now))
            self.waiting.remove(item)  # raises for one that is not there: refused twice, or invented

    def check_batch(self, batch: Batch[Waiting], before: list[Waiting], now: int) -> None:
        items = list(batch.items)
        after = before.index(items[-1]) + 1
        assert items == [item for item in before[:after] if item in self.waiting], "first in, first out"
        assert not any(item.dead(now) for item in items)
        assert len({item.group for item in items}) == 1
        assert batch.size == sum(item.size for item in items) <= self.max_batch
        if items[0] in self.trials:
            assert len(items) == 1
            return
        end = now + self.time(batch.size)
        assert all(end <= self.deadline(item) for item in items), "the objective is met"
        following = next((item for item in before[after:] if not item.dead(now)), None)
        if batch.size == self.max_batch:
            assert batch.reason is CloseReason.FULL
        elif following is None:
            assert batch.reason in {CloseReason.INSTANCE, CloseReason.DELAY}
        elif following.group != items[0].group:
            assert batch.reason is CloseReason.SHAPE
        elif batch.size + following.size > self.max_batch:
            assert batch.reason is CloseReason.FULL
        else:
            assert batch.reason is CloseReason.OBJECTIVE
            assert now + self.time(batch.size + following.size) > self.deadline(items[0])

    def check_that_it_waits(self, now: int) -> None:
        """With an instance free nothing waits, but for others, and as long as that may be."""
        if not self.waiting:
            return
        total = sum(item.size for item in self.waiting)
        assert now - self.waiting[0].queued < self.max_delay
        assert total < self.max_batch
        assert now + self.time(total + 1) <= self.deadline(self.waiting[0])

    @invariant()
    def nothing_is_lost(self) -> None:
        if hasattr(self, "queue"):
            assert len(self.queue) == len(self.waiting)
            assert self.queue.full == (sum(item.size for item in self.waiting) >= self.max_batch)

    def teardown(self) -> None:
        if hasattr(self, "queue"):
            self.hurry()
            for _ in range(30):
                self.wait(1000)
            assert not self.waiting and not self.running and self.queue.wake_at(free=True) is None


TestSloMachine = SloMachine.TestCase
TestSloMachine.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)


@settings(max_examples=100, deadline=None)
@given(
    gaps=st.lists(st.integers(0, 30), max_size=80),
    instances=st.integers(1, 3),
    objective=st.integers(200, 500),
)
def test_what_is_let_in_is_answered_in_time(gaps: list[int], instances: int, objective: int) -> None:
    # With items of one shape and size, and room for two whole batches (T(8) = 100), a prediction holds.
    times = BatchTimes((size, 20 + 10 * size) for size in range(1, 9))
    queue: SloQueue[Waiting] = SloQueue(SloPolicy(BatchingPolicy(8), objective, 90, instances), times)
    free = list(range(instances))
    running: list[tuple[int, int, Batch[Waiting]]] = []
    let_in: list[Waiting] = []
    answered: dict[Waiting, int] = {}

    def start(now: int) -> None:
        while free and (batch := queue.take(now, free)) is not None:
            free.remove(batch.instance)
            heapq.heappush(running, (now + 20 + 10 * batch.size, batch.instance, batch))
        assert not queue.reap(now)

    def advance(until: int) -> None:
        while running and running[0][0] <= until:
            end, instance, batch = heapq.heappop(running)
            answered.update(dict.fromkeys(batch.items, end))
            free.append(instance)
            queue.released(instance, end)
            start(end)

    now = 0
    for gap in gaps:
        now += gap
        advance(now)
        item = Waiting(queued=now)
        try:
            queue.push(item, now)
        except ResourceExhausted:
            continue
        let_in.append(item)
        start(now)
    advance(10**9)
    assert set(answered) == set(let_in)
    assert all(end <= item.queued + objective for item, end in answered.items())
