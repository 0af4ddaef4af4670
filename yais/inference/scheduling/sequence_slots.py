"""Where sequences are: the slots of every instance, and the backlog of those that wait for one."""

from __future__ import annotations

import heapq
from bisect import insort
from collections import OrderedDict

from yais.inference.scheduling.live_sequence import LiveSequence
from yais.inference.scheduling.sequence_choice import Ready

__all__ = ["Instance", "SequenceSlots"]


class Instance:
    """One instance of the model: its slots, and what could run there. Not thread-safe.

    Attributes
    ----------
    free
        A heap of its slots that no sequence has.
    ready
        Its sequences that have an item and none that runs, sorted.
    running
        Those of the batch that runs there.
    """

    __slots__ = ("free", "ready", "running")

    def __init__(self, slots: int) -> None:
        self.free = list(range(slots))
        self.ready: list[Ready] = []
        self.running: list[LiveSequence] = []


class SequenceSlots:
    """Gives slots to sequences. Not thread-safe.

    There is no free slot while a sequence waits for one.

    Attributes
    ----------
    count
        Slots of all instances.
    instances
        By their numbers.
    seated
        The sequences that have a slot.
    backlog
        Those that wait for one, in the order in which they began.
    """

    def __init__(self, instances: int, slots: int) -> None:
        self.count = instances * slots
        self.instances = [Instance(slots) for _ in range(instances)]
        self.seated: set[LiveSequence] = set()
        self.backlog: OrderedDict[LiveSequence, None] = OrderedDict()
        self._timeouts: list[tuple[int, int, LiveSequence]] = []
        self._numbers = 0

    def enter(self, sequence: LiveSequence) -> None:
        """Give a new sequence a slot of the instance that has most of them, or a place in the backlog."""
        number = max(range(len(self.instances)), key=lambda index: len(self.instances[index].free))
        if self.instances[number].free:
            self.seat(sequence, number, heapq.heappop(self.instances[number].free))
        else:
            self.backlog[sequence] = None

    def seat(self, sequence: LiveSequence, instance: int, slot: int) -> None:
        """Give a sequence a slot that nobody has."""
        sequence.place = instance, slot
        self.seated.add(sequence)
        if sequence.items:
            self.make_ready(sequence)

    def leave(self, sequence: LiveSequence) -> tuple[int, int]:
        """Take the slot of a sequence that is not ready, and return it: it is to be given on."""
        assert sequence.place is not None
        place, sequence.place = sequence.place, None
        self.seated.remove(sequence)
        return place

    def vacate(self, instance: int, slot: int) -> None:
        """Note that nobody wants a slot."""
        heapq.heappush(self.instances[instance].free, slot)

    def make_ready(self, sequence: LiveSequence) -> None:
        """Note that the first item of a sequence with a slot could run."""
        assert sequence.place is not None
        self._numbers += 1
        entry = Ready(sequence.items[0].queued, self._numbers, sequence)
        insort(self.instances[sequence.place[0]].ready, entry)

    def set_timeout(self, sequence: LiveSequence, when: int) -> None:
        """Note when a sequence is to be refused if it still is in the backlog; the earliest time counts."""
        if sequence.timeout_at is None or when < sequence.timeout_at:
            sequence.timeout_at = when
            self._numbers += 1
            heapq.heappush(self._timeouts, (when, self._numbers, sequence))

    def timeout_at(self) -> int | None:
        """When the first sequence in the backlog is to be refused, ns."""
        while self._timeouts:
            when, _, sequence = self._timeouts[0]
            if sequence in self.backlog and sequence.timeout_at == when:
                return when
            heapq.heappop(self._timeouts)
        return None

    def pop_timed_out(self, now: int) -> LiveSequence | None:
        """Take a sequence out of the backlog that is to be refused by now."""
        when = self.timeout_at()
        if when is None or now < when:
            return None
        sequence = heapq.heappop(self._timeouts)[2]
        del self.backlog[sequence]
        return sequence

    def clear(self) -> list[LiveSequence]:
        """Take all sequences out, and return them. What runs, runs on."""
        sequences = [*self.seated, *self.backlog]
        for sequence in self.seated:
            if sequence.place is not None:
                self.vacate(*sequence.place)
                sequence.place = None
        for instance in self.instances:
            instance.ready.clear()
        self.seated.clear()
        self.backlog.clear()
        self._timeouts.clear()
        return sequences
