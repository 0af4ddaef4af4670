"""The direct and the dynamic queue at random, against a model that is too plain to be wrong."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from queue_items import Waiting
from queue_model import DirectModel, QueueModel

from yais.errors import DeadlineExceeded, Unavailable
from yais.inference.scheduling.direct import DirectQueue
from yais.inference.scheduling.dynamic import BatchingPolicy, DynamicQueue
from yais.inference.scheduling.queue import Batch, BatchQueue
from yais.inference.scheduling.queue_policy import QueuePolicy, TimeoutAction
from yais.testing import ManualClock


class Arrival(NamedTuple):
    size: int
    group: str
    lifetime: int | None
    priority: int
    timeout: int


ARRIVALS = st.builds(
    Arrival,
    size=st.sampled_from([1, 1, 1, 2, 3, 9]),
    group=st.sampled_from("aaaaaaab"),
    lifetime=st.sampled_from([None, None, None, 0, 20, 60]),
    priority=st.integers(0, 4),
    timeout=st.sampled_from([0, 0, 5, 30, 60]),
)


class QueueMachine(RuleBasedStateMachine):
    """Does what the shell does, and whatever happens to items; instances are freed at random."""

    queue: BatchQueue[Waiting]
    model: QueueModel
    free: list[int]

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock(1000)
        self.running: list[int] = []

    @rule(arrivals=st.lists(ARRIVALS, min_size=1, max_size=4))
    def push(self, arrivals: list[Arrival]) -> None:
        now = self.clock()
        for arrival in arrivals:
            deadline = None if arrival.lifetime is None else now + arrival.lifetime
            size = min(arrival.size, self.model.policy.max_batch)
            item = Waiting(size, arrival.group, now, arrival.priority, arrival.timeout, deadline)
            known = self.model.known(item, now)
            if self.model.has_room(known, now):
                self.queue.push(item, now)
                self.model.waiting.append(known)
            else:
                with pytest.raises(Unavailable, match=r"^Exceeds maximum queue size$"):
                    self.queue.push(item, now)

    @precondition(lambda self: self.model.waiting or self.running)
    @rule(nanoseconds=st.integers(0, 30))
    def wait(self, nanoseconds: int) -> None:
        self.clock.advance_ns(nanoseconds)

    @precondition(lambda self: self.model.waiting)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self.model.waiting)).item.cancelled = True

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        instance = data.draw(st.sampled_from(self.running))
        self.running.remove(instance)
        self.free.append(instance)
        self.queue.released(instance, self.clock())

    @precondition(lambda self: self.model.waiting)
    @rule()
    def take(self) -> None:
        self.took()

    def took(self) -> bool:
        """Take a batch if there is one, as the model says; return whether."""
        now = self.clock()
        expected = self.model.next_batch(now, now) if self.free else None
        batch = self.queue.take(now, tuple(self.free))
        if batch is not None:
            assert expected is not None
            items, reason = expected
            assert [known.item for known in items] == list(batch.items) and batch.reason is reason
            self.start(batch, now)
        else:
            assert expected is None, "an instance is free and a batch waits"
        self.reap()
        return batch is not None

    def start(self, batch: Batch[Waiting], now: int) -> None:
        assert batch.size == sum(item.size for item in batch.items) <= self.model.policy.max_batch
        for item in batch.items:
            known = self.model.remove(item)
            assert not item.dead(now) and not known.rejected(now)
            ahead = [other for other in self.model.alive(now, now) if other.place(now) < known.place(now)]
            assert not ahead, "nobody of a higher level or of the same waits for longer"
        self.free.remove(batch.instance)
        self.running.append(batch.instance)

    @precondition(lambda self: self.model.waiting)
    @rule()
    def reap(self) -> None:
        now = self.clock()
        for item, error in self.queue.reap(now):
            known = self.model.remove(item)
            if isinstance(error, Unavailable):
                assert known.rejected(now) and str(error) == "Request timeout expired"
            else:
                assert isinstance(error, DeadlineExceeded) and item.dead(now)
        assert not any(known.rejected(now) for known in self.model.waiting)
        assert len(self.queue) == len(self.model.waiting), "nothing is lost"
        assert self.queue.full == self.model.full()
        self.check_sleep(self.queue.wake_at(free=False), self.model.next_event(now, free=False))

    def check_sleep(self, wake_at: int | None, event: int | None) -> None:
        assert event is None or (wake_at is not None and wake_at <= event), "something is slept through"
        assert wake_at is None or wake_at > self.clock(), "there is something to wake up for"

    @precondition(lambda self: self.model.waiting)
    @rule()
    def serve(self) -> None:
        """Start all that can be started."""
        while self.took():
            pass
        now = self.clock()
        if self.free:
            assert not any(known.item.dead(now) for known in self.model.waiting)
            self.check_sleep(self.queue.wake_at(free=True), self.model.next_event(now, free=True))

    @precondition(lambda self: self.model.waiting)
    @rule()
    def sleep(self) -> None:
        """Serve, and sleep until there is more to do."""
        self.serve()
        wake_at = self.queue.wake_at(free=bool(self.free))
        if wake_at is not None:
            self.clock.advance_ns(wake_at - self.clock())
            self.take()

    @precondition(lambda self: len(self.model.waiting) > 9)
    @rule()
    def clear(self) -> None:
        self.reap()
        now = self.clock()
        line = sorted(self.model.waiting, key=lambda known: known.place(now))
        assert self.queue.clear() == [known.item for known in line]
        self.model.waiting = []

    @invariant()
    def nothing_comes_of_nothing(self) -> None:
        assert len(self.queue) <= len(self.model.waiting)  # those that are found dead are reaped later

    def teardown(self) -> None:
        self.queue.hurry()
        self.model.max_delay = 0
        for _ in range(len(self.model.waiting) + 1):
            self.free += self.running
            self.running = []
            self.serve()
        assert not self.model.waiting and len(self.queue) == 0 and not self.queue.full
        assert self.queue.wake_at(free=True) is None and self.queue.wake_at(free=False) is None


QUEUE_POLICIES = st.builds(
    QueuePolicy,
    timeout_action=st.sampled_from(TimeoutAction),
    default_timeout=st.sampled_from([0, 0, 15, 40]),
    allow_timeout_override=st.booleans(),
    max_size=st.sampled_from([0, 0, 1, 3]),
)


class DynamicMachine(QueueMachine):
    @initialize(
        data=st.data(),
        max_batch=st.integers(1, 9) | st.just(9),
        max_delay=st.sampled_from([0, 10, 25, 100]),
        instances=st.integers(1, 3),
    )
    def begin(self, data: st.DataObject, max_batch: int, max_delay: int, instances: int) -> None:
        preferred = tuple(
            data.draw(st.just([]) | st.just([]) | st.lists(st.integers(1, max_batch), max_size=2))
        )
        self.free = list(range(instances))
        policy = self.policy(data, BatchingPolicy(max_batch, preferred, max_delay))
        self.model, self.queue = QueueModel(policy), DynamicQueue(policy)

    def policy(self, data: st.DataObject, policy: BatchingPolicy) -> BatchingPolicy:
        return policy


class PoliciesMachine(DynamicMachine):
    def policy(self, data: st.DataObject, policy: BatchingPolicy) -> BatchingPolicy:
        levels = data.draw(st.integers(0, 3))
        numbers = st.integers(1, levels)
        return BatchingPolicy(
            policy.max_batch,
            policy.preferred,
            policy.max_delay,
            priority_levels=levels,
            default_priority=data.draw(numbers) if levels else 0,
            default_queue_policy=data.draw(QUEUE_POLICIES),
            queue_policies=data.draw(st.dictionaries(numbers, QUEUE_POLICIES)) if levels else {},
        )


class DirectMachine(QueueMachine):
    @initialize(instances=st.integers(1, 3))
    def begin(self, instances: int) -> None:
        self.free = list(range(instances))
        self.model, self.queue = DirectModel(BatchingPolicy(5)), DirectQueue()


TestDynamicMachine = DynamicMachine.TestCase
TestDynamicMachine.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestPoliciesMachine = PoliciesMachine.TestCase
TestPoliciesMachine.settings = settings(max_examples=120, stateful_step_count=40, deadline=None)
TestDirectMachine = DirectMachine.TestCase
TestDirectMachine.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)
