"""Which sequences there are, and when each of them ends."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

from yais.errors import InvalidArgument, Unavailable
from yais.inference.scheduling.live_sequence import LiveSequence, SequenceItem
from yais.inference.scheduling.queue import Refused, expired
from yais.inference.scheduling.sequence_policy import SequencePolicy
from yais.inference.scheduling.sequence_slots import Instance, SequenceSlots

__all__ = ["SequenceItemT", "SequenceRegister"]

SequenceItemT = TypeVar("SequenceItemT", bound=SequenceItem)


class SequenceRegister(Generic[SequenceItemT]):
    """Begins sequences, ends them, and refuses what can no longer run. Not thread-safe.

    Parameters
    ----------
    model
        Its name, for messages.

    Attributes
    ----------
    slots
        Where they are.
    waiting
        Items of all of them.
    refused
        Items that will not run and were not reaped yet.
    idle
        The sequences that have a slot and no item, and since when, in the order of that.
    max_idle
        When such a sequence is given up, ns.
    """

    def __init__(self, policy: SequencePolicy, model: str) -> None:
        self.slots = SequenceSlots(policy.instances, policy.slots)
        self.waiting = 0
        self.refused: list[Refused[SequenceItemT]] = []
        self.idle: OrderedDict[LiveSequence, int] = OrderedDict()
        self.max_idle = policy.max_idle
        self._open: dict[int | str, LiveSequence] = {}  # those that take further items
        self._model = model

    def add(self, item: SequenceItemT) -> LiveSequence:
        """Add an item to its sequence, which begins if need be. Raises InvalidArgument."""
        sequence = self._sequence_of(item)
        item.sequence = sequence
        sequence.items.append(item)
        self.waiting += 1
        if item.step is not None and item.step.end:
            self._close(sequence)
        if sequence.place is None and item.timeout:
            self.slots.set_timeout(sequence, item.queued + item.timeout)
        return sequence

    def bury(self, instance: Instance, now: int) -> None:
        """Refuse what cannot run among the first items of an instance's sequences."""
        dead = [entry for entry in instance.ready if entry.sequence.items[0].dead(now)]
        for entry in dead:
            instance.ready.remove(entry)
            if self._goes_on(entry.sequence, now):
                self.slots.make_ready(entry.sequence)
            else:
                self.give_up(entry.sequence, now)

    def give_up(self, sequence: LiveSequence, now: int) -> None:
        """Give the slot of a sequence that has no items, and gets none, to the next."""
        instance, slot = self.slots.leave(sequence)
        backlog = self.slots.backlog
        while backlog:
            successor, _ = backlog.popitem(last=False)
            if self._goes_on(successor, now):
                self.slots.seat(successor, instance, slot)
                return
        self.slots.vacate(instance, slot)

    def expire(self, now: int) -> None:
        """End the sequences whose time is over."""
        while self.idle:
            sequence, since = next(iter(self.idle.items()))
            if now - since < self.max_idle:
                break
            del self.idle[sequence]
            self._close(sequence)
            self.give_up(sequence, now)
        while (timed_out := self.slots.pop_timed_out(now)) is not None:
            self._close(timed_out)
            while timed_out.items:
                self._refuse(timed_out, "timeout of the corresponding sequence has been expired", now)

    def clear(self) -> list[SequenceItemT]:
        """End all sequences, and return their items, the oldest first."""
        items: list[SequenceItemT] = []
        for sequence in self.slots.clear():
            items += sequence.items
            sequence.items.clear()
        self._open.clear()
        self.idle.clear()
        self.waiting = 0
        return sorted(items, key=lambda item: item.queued)

    def _sequence_of(self, item: SequenceItemT) -> LiveSequence:
        step = item.step
        request = f"inference request to model '{self._model}'"
        if item.size != 1:
            raise InvalidArgument(
                f"{request} must specify batch-size 1 due to requirements of sequence batcher"
            )
        if step is None or not step.id:
            raise InvalidArgument(f"{request} must specify a non-zero or non-empty correlation ID")
        sequence = self._open.get(step.id)
        if sequence is None:
            if not step.start:
                raise InvalidArgument(
                    f"inference request for sequence {step.id} to model '{self._model}' must specify the "
                    "START flag on the first request of the sequence"
                )
            sequence = self._open[step.id] = LiveSequence(step.id)
            self.slots.enter(sequence)
        return sequence

    def _goes_on(self, sequence: LiveSequence, now: int) -> bool:
        """Refuse what can no longer run of a sequence that is not ready; return whether something is left.

        If not, the sequence has ended.
        """
        items = sequence.items
        while items and items[0].dead(now):
            self._refuse(sequence, "", now)
            while items and not items[0].step.start:
                why = "an earlier request of it was cancelled, or its deadline passed, before it could run"
                self._refuse(
                    sequence, f"sequence {sequence.id} of model '{self._model}' has ended: {why}", now
                )
        if not items:
            self._close(sequence)
        return bool(items)

    def _refuse(self, sequence: LiveSequence, text: str, now: int) -> None:
        """Take the first item out; `text` says why if it is not dead."""
        item: SequenceItemT = sequence.items.popleft()
        self.waiting -= 1
        self.refused.append(expired(item) if item.dead(now) else Refused(item, Unavailable(text)))

    def _close(self, sequence: LiveSequence) -> None:
        """Let the id of a sequence mean another one from now on."""
        if not sequence.ends:
            sequence.ends = True
            del self._open[sequence.id]
