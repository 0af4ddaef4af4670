"""The sequence batcher at random: what must hold whatever comes."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from sequence_items import Asked

from yais.errors import DeadlineExceeded, InvalidArgument, Unavailable
from yais.inference.request import SequenceStep
from yais.inference.scheduling.queue import Batch
from yais.inference.scheduling.sequence import LiveSequence, SequencePolicy, SequenceQueue, Strategy
from yais.testing import ManualClock

IDS = st.sampled_from([1, 2, 3, 4, "1", "two"])
DELAYS = st.sampled_from([0, 0, 20, 60])


class SequenceMachine(RuleBasedStateMachine):
    """Pushes, takes, releases, kills and waits, and compares with what is known of every sequence."""

    strategy = Strategy.DIRECT

    @initialize(data=st.data(), max_batch=st.integers(0, 4), instances=st.integers(1, 3))
    def begin(self, data: st.DataObject, max_batch: int, instances: int) -> None:
        rows = max(1, max_batch)
        self.policy = SequencePolicy(
            max_batch,
            instances,
            self.strategy,
            max_idle=data.draw(st.sampled_from([50, 10_000])),
            max_delay=data.draw(DELAYS),
            min_utilization=data.draw(st.sampled_from([0.0, 0.5, 1.0])),
            candidates=data.draw(st.integers(0, 5)),
            preferred=tuple(data.draw(st.sets(st.integers(1, rows)))),
        )
        self.queue: SequenceQueue[Asked] = SequenceQueue(self.policy, "M")
        self.clock = ManualClock(1000)
        self.waiting: list[Asked] = []
        self.running: dict[int, list[Asked]] = {}
        self.live: dict[int | str, LiveSequence] = {}
        self.active: dict[LiveSequence, int] = {}  # since when it has nothing to do
        self.homes: dict[LiveSequence, tuple[int, int]] = {}
        self.missed: set[LiveSequence] = set()  # a dead request of it was refused, and no START seen since

    # --- What is known --------------------------------------------------------------------------------

    def waiting_of(self, sequence: LiveSequence) -> list[Asked]:
        return [item for item in self.waiting if item.sequence is sequence]

    def runs(self, sequence: LiveSequence | None) -> bool:
        return any(item.sequence is sequence for items in self.running.values() for item in items)

    def is_idle(self, sequence: LiveSequence, now: int) -> bool:
        busy = self.runs(sequence) or self.waiting_of(sequence)
        return not busy and now - self.active[sequence] >= self.policy.max_idle

    def heads(self) -> list[Asked]:
        """The first waiting request of every sequence."""
        first: dict[LiveSequence | None, Asked] = {}
        for item in self.waiting:
            first.setdefault(item.sequence, item)
        return list(first.values())

    # --- What is done ---------------------------------------------------------------------------------

    @rule(
        id_=IDS,
        start=st.booleans(),
        end=st.sampled_from([False, False, True]),
        group=st.sampled_from("aab"),
        lifetime=st.sampled_from([None, None, None, 0, 30, 90]),
        timeout=st.sampled_from([0, 0, 0, 40]),
    )
    def push(
        self, id_: int | str, start: bool, end: bool, group: str, lifetime: int | None, timeout: int
    ) -> None:
        now = self.clock()
        self.reap()
        live = self.live.get(id_)
        deadline = None if lifetime is None else now + lifetime
        item = Asked(SequenceStep(id_, start, end), 1, group, now, timeout=timeout, deadline=deadline)
        try:
            self.queue.push(item, now)
        except InvalidArgument:
            assert not start and live is None
            return
        assert item.sequence is not None and item.sequence.id == id_
        assert (item.sequence is live) if live else start
        self.live[id_] = item.sequence
        self.waiting.append(item)
        if end:
            del self.live[id_]

    @rule(nanoseconds=st.integers(0, 60))
    def wait(self, nanoseconds: int) -> None:
        self.clock.advance_ns(nanoseconds)

    @rule(number=st.integers(0, 50))
    def cancel(self, number: int) -> None:
        if number < len(self.waiting):
            self.waiting[number].cancelled = True

    @rule(free=st.lists(st.integers(0, 2), unique=True))
    def take(self, free: list[int]) -> None:
        idle = [number for number in range(self.policy.instances) if number not in self.running]
        self.take_of([number for number in free if number in idle])

    def take_of(self, free: list[int]) -> bool:
        now = self.clock()
        batch = self.queue.take(now, free)
        self.reap()
        if batch is not None:
            self.check_batch(batch, free, now)
            for item in batch.items:
                self.waiting.remove(item)
            self.running[batch.instance] = list(batch.items)
        else:
            self.check_nothing_is_due(free, now)
        return batch is not None

    @rule(number=st.integers(0, 2))
    def release(self, number: int) -> None:
        if number in self.running:
            self.release_of(number)

    def release_of(self, number: int) -> None:
        now = self.clock()
        for item in self.running.pop(number):
            assert item.sequence is not None
            self.active[item.sequence] = now
        self.queue.released(number, now)

    @rule()
    def reap(self) -> None:
        now = self.clock()
        for item, error in self.queue.reap(now):
            self.waiting.remove(item)  # raises for one that is not there: refused twice, or invented
            sequence = item.sequence
            assert sequence is not None and item.step is not None
            if item.step.start:
                self.missed.discard(sequence)
            if item.dead(now):
                assert type(error) is DeadlineExceeded
                self.missed.add(sequence)
            else:
                assert type(error) is Unavailable
                assert sequence in self.missed or (sequence not in self.homes and "timeout" in str(error))
            if not self.waiting_of(sequence) and self.live.get(item.step.id) is sequence:
                del self.live[item.step.id]
        self.live = {id_: each for id_, each in self.live.items() if not self.is_idle(each, now)}

    @rule()
    def clear(self) -> None:
        assert sorted(map(id, self.queue.clear())) == sorted(map(id, self.waiting))
        assert not self.queue.statistics().used
        self.waiting = []
        self.live = {}

    # --- What must hold -------------------------------------------------------------------------------

    def check_batch(self, batch: Batch[Asked], free: list[int], now: int) -> None:
        assert batch.instance in free
        heads = self.heads()
        sequences = [item.sequence for item in batch.items]
        assert len({id(sequence) for sequence in sequences}) == len(batch.items) <= self.policy.rows
        assert len({item.group for item in batch.items}) == 1
        slots = [item.sequence.place[1] if item.sequence.place else None for item in batch.items]  # type: ignore[union-attr]
        rows = list(range(len(sequences))) if batch.rows is None else list(batch.rows)
        assert batch.size == rows[-1] + 1 and rows == sorted(set(rows)) and rows[-1] < self.policy.rows
        for item, row, slot in zip(batch.items, rows, slots, strict=True):
            sequence = item.sequence
            assert sequence is not None and item.step is not None
            assert item in heads and not item.dead(now) and not self.runs(sequence)
            if item.step.start:
                self.missed.discard(sequence)
            assert sequence not in self.missed
            ended = slot is None
            assert ended == item.step.end
            direct = self.strategy is Strategy.DIRECT
            home = (batch.instance, row if direct else -1)
            assert self.homes.setdefault(sequence, home) == home

    def check_nothing_is_due(self, free: list[int], now: int) -> None:
        for number in free:
            here = [
                item
                for item in self.heads()
                if item.sequence is not None and item.sequence.place and item.sequence.place[0] == number
            ]
            if not here:
                continue
            assert self.policy.max_delay and now - min(item.queued for item in here) < self.policy.max_delay
            assert self.queue.wake_at(free=True) is not None
            if self.strategy is Strategy.DIRECT:
                assert len(here) < self.policy.min_utilization * self.policy.slots
            else:
                assert len(here) < self.policy.rows and len({item.group for item in here}) == 1
                assert not any(size <= len(here) for size in self.policy.preferred)

    @invariant()
    def nothing_is_lost(self) -> None:
        if hasattr(self, "queue"):
            assert len(self.queue) == len(self.waiting)

    @invariant()
    def no_slot_is_wasted(self) -> None:
        if hasattr(self, "queue"):
            now = self.queue.statistics()
            assert now.used == now.slots or not now.backlog

    def teardown(self) -> None:
        if not hasattr(self, "queue"):
            return
        self.queue.hurry()
        for _ in range(2 * len(self.waiting) + 2):
            for number in list(self.running):
                self.release_of(number)
            while self.take_of([n for n in range(self.policy.instances) if n not in self.running]):
                pass
        assert not self.waiting and not self.running and len(self.queue) == 0
        assert self.queue.statistics().backlog == 0


class OldestMachine(SequenceMachine):
    strategy = Strategy.OLDEST


TestDirectSequences = SequenceMachine.TestCase
TestDirectSequences.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestOldestSequences = OldestMachine.TestCase
TestOldestSequences.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
