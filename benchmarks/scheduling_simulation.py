"""A model that is only simulated, before the schedulers that are real: time passes from event to event."""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from yais.core.clock import NANOSECONDS
from yais.errors import YaisError
from yais.inference.scheduling.queue import BatchQueue, CloseReason
from yais.testing import ManualClock

__all__ = ["Arrival", "Machine", "Outcome", "poisson", "simulate"]


@dataclass(frozen=True)
class Machine:
    """What runs batches: T(b) = alpha + beta b on each of its instances, give or take some noise.

    Attributes
    ----------
    alpha, beta
        In ns.
    noise
        Standard deviation of the logarithm of a factor on T(b) whose median is 1.
    """

    alpha: int
    beta: int
    max_batch: int
    instances: int = 1
    noise: float = 0.0

    def time(self, size: int) -> int:
        """Return T(size) without noise, ns."""
        return self.alpha + self.beta * size

    @property
    def capacity(self) -> float:
        """Requests per second if all batches are as large as they may be."""
        return self.instances * self.max_batch * NANOSECONDS / self.time(self.max_batch)


@dataclass(eq=False)
class Arrival:
    """A request, the `Item` of the schedulers."""

    queued: int
    size: int = 1
    group: str = ""
    priority: int = 0
    timeout: int = 0

    def dead(self, now: int) -> bool:  # noqa: ARG002 - nobody cancels
        """Nobody gives up."""
        return False


@dataclass
class Outcome:
    """What became of the requests.

    Attributes
    ----------
    latencies
        Of those answered, ns, in the order of the answers.
    refused
        How long each of the others had waited when it was told so, ns.
    sizes
        How often a batch had which size.
    reasons
        Why how many batches were closed.
    seconds
        From the first arrival to the last; throughput counts the answers within.
    in_time
        Answers until the last arrival.
    """

    latencies: list[int] = field(default_factory=list)
    refused: list[int] = field(default_factory=list)
    sizes: Counter[int] = field(default_factory=Counter)
    reasons: Counter[CloseReason] = field(default_factory=Counter)
    seconds: float = 0.0
    in_time: int = 0

    @property
    def throughput(self) -> float:
        """Answers per second."""
        return self.in_time / self.seconds

    @property
    def mean_size(self) -> float:
        """Of the batches."""
        return sum(size * count for size, count in self.sizes.items()) / max(self.sizes.total(), 1)

    @property
    def refused_share(self) -> float:
        """Of all requests."""
        return len(self.refused) / (len(self.refused) + len(self.latencies))

    def percentile(self, percent: float) -> float:
        """Return a percentile of the latencies, in ns: the smallest that so many are not above."""
        if not self.latencies:
            return 0.0
        ordered = sorted(self.latencies)
        return ordered[max(0, min(len(ordered) - 1, int(-(-percent * len(ordered) // 100)) - 1))]

    def within(self, objective: int) -> tuple[float, float]:
        """Return how many of those answered, and how many of all, were answered in `objective` ns."""
        good = sum(latency <= objective for latency in self.latencies)
        return good / max(len(self.latencies), 1), good / (len(self.latencies) + len(self.refused))


def poisson(rate: float, count: int, seed: int) -> list[int]:
    """Return when `count` requests come, in ns, if they do not know of each other."""
    source = random.Random(seed)
    now = 0.0
    moments = []
    for _ in range(count):
        now += source.expovariate(rate) * NANOSECONDS
        moments.append(int(now))
    return moments


def simulate(queue: BatchQueue[Arrival], machine: Machine, moments: Sequence[int], seed: int = 0) -> Outcome:
    """Let requests come at `moments`, and run what the scheduler says when it says so."""
    return _Simulation(queue, machine, seed).run(moments)


class _Simulation:
    """The shell around a scheduler, without threads."""

    def __init__(self, queue: BatchQueue[Arrival], machine: Machine, seed: int) -> None:
        self.queue = queue
        self.machine = machine
        self.noise = random.Random(seed + 1)
        self.clock = ManualClock()
        self.free = list(range(machine.instances))
        self.running: list[tuple[int, int, Sequence[Arrival]]] = []  # end, instance, items: a heap
        self.outcome = Outcome()

    def run(self, moments: Sequence[int]) -> Outcome:
        for moment in moments:
            self.advance(moment)
            item = Arrival(moment)
            try:
                self.queue.push(item, moment)
            except YaisError:
                self.outcome.refused.append(0)
            self.start()
        self.outcome.in_time = len(self.outcome.latencies)
        self.outcome.seconds = (moments[-1] - moments[0]) / NANOSECONDS
        self.queue.hurry()
        self.start()
        self.advance(None)
        return self.outcome

    def advance(self, until: int | None) -> None:
        """Let time pass until a moment, or until nothing happens any more."""
        for moment in self.events(until):
            self.clock.advance_ns(max(0, moment - self.clock()))
            while self.running and self.running[0][0] <= moment:
                _, instance, items = heapq.heappop(self.running)
                self.free.append(instance)
                self.queue.released(instance, moment)
                self.outcome.latencies += [moment - item.queued for item in items]
            self.start()
        if until is not None:
            self.clock.advance_ns(until - self.clock())

    def events(self, until: int | None) -> Iterator[int]:
        """Yield when a batch ends, or the scheduler wants to be asked, before `until`."""
        while True:
            moments = [self.running[0][0]] if self.running else []
            wake = self.queue.wake_at(free=bool(self.free)) if len(self.queue) else None
            if wake is not None and (self.free or self.queue.expires):
                moments.append(max(wake, self.clock() + 1))
            if not moments or (until is not None and min(moments) > until):
                return
            yield min(moments)

    def start(self) -> None:
        """Start what can start, and tell those that cannot."""
        now, machine = self.clock(), self.machine
        while self.free and (batch := self.queue.take(now, self.free)) is not None:
            self.free.remove(batch.instance)
            ns = machine.time(batch.size) * self.noise.lognormvariate(0, machine.noise)
            heapq.heappush(self.running, (now + int(ns), batch.instance, batch.items))
            self.outcome.sizes[batch.size] += 1
            self.outcome.reasons[batch.reason] += 1
        self.outcome.refused += [now - refused.item.queued for refused in self.queue.reap(now)]
