"""The sequence batcher: requests that belong together run one after another on one instance.

A pure state machine. The rules are Triton's (kserve-v2.md, rows 64 to 66):

- A sequence begins with a request that says START. It gets a slot of the instance that has most of them
  free, and keeps it; while there is none, it waits in the backlog, first come, first served.
- Its requests run in their order, one at a time.
- When the one that says END is taken, the slot goes to the next sequence. The id is free from the moment
  that request is pushed.
- START on the id of a sequence that has not ended begins it anew in its slot, after what waits already.
- A sequence without a request for `max_idle` is given up. In the backlog it is not, but a timeout of any of
  its requests holds there, for the whole sequence.

What is not Triton's: when a request is cancelled, or its deadline passes, before its turn, the model misses a
step and all that follow would be wrong. So those that wait are refused, as far as the next START, and without
one the sequence has ended. (Triton ends it for cancelled requests, START or not, and knows no deadlines.)
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Generic

from yais.inference.scheduling.live_sequence import LiveSequence, SequenceItem
from yais.inference.scheduling.queue import Batch, CloseReason, Refused
from yais.inference.scheduling.sequence_choice import Ready, choice_of
from yais.inference.scheduling.sequence_policy import SequencePolicy, Strategy
from yais.inference.scheduling.sequence_register import SequenceItemT, SequenceRegister

__all__ = [
    "LiveSequence",
    "SequenceItem",
    "SequencePolicy",
    "SequenceQueue",
    "SequenceStatistics",
    "Strategy",
]


@dataclass(frozen=True, slots=True)
class SequenceStatistics:
    """Where the sequences of a model are.

    Attributes
    ----------
    slots, used
        Sequences that all instances together can have, and do have.
    backlog
        Sequences that wait for a slot.
    """

    slots: int
    used: int
    backlog: int


class SequenceQueue(Generic[SequenceItemT]):
    """Forms batches of sequences; see `BatchQueue` and the module. Not thread-safe.

    Parameters
    ----------
    model
        Its name, for messages.
    """

    expires = True

    def __init__(self, policy: SequencePolicy, model: str) -> None:
        self.policy = policy
        self._choice = choice_of(policy)
        self._register: SequenceRegister[SequenceItemT] = SequenceRegister(policy, model)
        self._slots = self._register.slots
        self._instances = self._slots.instances

    def __repr__(self) -> str:
        now = self.statistics()
        return (
            f"<SequenceQueue {self.policy.strategy}, {now.used} of {now.slots} slots used, "
            f"{now.backlog} sequences in the backlog, {len(self)} requests waiting>"
        )

    def __len__(self) -> int:
        # Those that a push found to be too late, too: somebody has to `reap` them.
        return self._register.waiting + len(self._register.refused)

    def statistics(self) -> SequenceStatistics:
        """Return where the sequences are."""
        return SequenceStatistics(self._slots.count, len(self._slots.seated), len(self._slots.backlog))

    @property
    def full(self) -> bool:
        """Whether there is enough for the largest batch of an instance that runs none."""
        return any(
            instance.ready and not instance.running and self._choice.full(instance.ready)
            for instance in self._instances
        )

    def push(self, item: SequenceItemT, now: int) -> None:
        """Queue an item, and set its `sequence`.

        Raises
        ------
        InvalidArgument
            It is of no sequence, or of one that has not begun or was given up, or is more than one item.
        """
        self._register.expire(now)
        sequence = self._register.add(item)
        if sequence.place is not None and len(sequence.items) == 1 and not sequence.running:
            self._register.idle.pop(sequence, None)
            self._slots.make_ready(sequence)

    def take(self, now: int, free: Sequence[int]) -> Batch[SequenceItemT] | None:
        """Return the next batch: of the free instances, that one's whose oldest item is older."""
        self._register.expire(now)
        oldest: list[tuple[Ready, int]] = []
        for number in free:
            instance = self._instances[number]
            self._register.bury(instance, now)
            if instance.ready:
                oldest.append((instance.ready[0], number))
        if len(oldest) > 1:
            oldest.sort()
        for _, number in oldest:
            chosen = self._choice.take(self._instances[number].ready, now)
            if chosen is not None:
                return self._start(number, *chosen, now)
        return None

    def startable(self, now: int, free: Sequence[int]) -> Sequence[int]:
        """Return those whose sequences have a batch."""
        self._register.expire(now)
        for number in free:
            self._register.bury(self._instances[number], now)
        ready = [(number, self._instances[number].ready) for number in free]
        return [number for number, items in ready if items and self._choice.take(items, now) is not None]

    def released(self, instance: int, now: int) -> None:
        """Note that the batch that ran on an instance has run: its sequences can go on."""
        running, self._instances[instance].running = self._instances[instance].running, []
        for sequence in running:
            sequence.running = False
            if sequence.place is None:
                continue
            if sequence.items:
                self._slots.make_ready(sequence)
            else:
                self._register.idle[sequence] = now

    def wake_at(self, *, free: bool, lacking: Collection[int] = ()) -> int | None:
        """When a request has waited as long as it may, or a sequence."""
        times = []
        timeout = self._slots.timeout_at()
        if timeout is not None:
            times.append(timeout)
        if free:
            idle = self._register.idle
            if idle:
                times.append(next(iter(idle.values())) + self._register.max_idle)
            times += [
                self._choice.due(each.ready)
                for number, each in enumerate(self._instances)
                if each.ready and not each.running and number not in lacking
            ]
        return min(times, default=None)

    def reap(self, now: int) -> list[Refused[SequenceItemT]]:
        """Return, once each, the items that will not run."""
        self._register.expire(now)
        refused, self._register.refused = self._register.refused, []
        return refused

    def hurry(self) -> None:
        """Wait for nothing from now on, nor for further requests of sequences that have not ended."""
        self._choice.hurry()
        self._register.max_idle = 0

    def clear(self) -> list[SequenceItemT]:
        """Take out and return all items, the oldest first; all sequences end."""
        return self._register.clear()

    def _start(self, number: int, chosen: list[Ready], reason: CloseReason, now: int) -> Batch[SequenceItemT]:
        """Take the first items of sequences out as a batch."""
        instance = self._instances[number]
        if len(chosen) == len(instance.ready):
            instance.ready.clear()
        else:
            left = set(chosen)
            instance.ready = [entry for entry in instance.ready if entry not in left]
        sequences = [entry.sequence for entry in chosen]
        size, rows = len(sequences), None
        if self.policy.strategy is Strategy.DIRECT:
            sequences.sort(key=_slot)
            slots = [_slot(sequence) for sequence in sequences]
            size, rows = slots[-1] + 1, slots if slots[-1] >= size else None
        items: list[SequenceItemT] = []
        for sequence in sequences:
            item = sequence.items.popleft()
            items.append(item)
            sequence.running = True
            if item.step.end:
                self._register.give_up(sequence, now)
        instance.running = sequences
        self._register.waiting -= len(items)
        return Batch(items, size, reason, number, rows)


def _slot(sequence: LiveSequence) -> int:
    assert sequence.place is not None
    return sequence.place[1]
