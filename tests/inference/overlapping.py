"""Requests on a simulated GPU, on a clock that goes on only when every one of them is known to wait."""

from __future__ import annotations

import dataclasses
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, cast

from managing import X, Y
from modelling import SOON

from yais.core.future import Future
from yais.core.pool import PoolStatistics
from yais.inference.manager import InferenceManager
from yais.inference.model import Model
from yais.memory.host import HostMemoryResource
from yais.testing import FakeDevice, FakeDeviceEngine, ManualClock, SimulatedGpu
from yais.testing.simulated_gpu import Kind

_MS = 1_000_000

Submit = Callable[[int], Future[Any]]
"""Sends a request; numbers count up."""


@dataclass(frozen=True)
class Setup:
    """What runs on what; durations in ms of the virtual clock.

    Attributes
    ----------
    instances
        Of all models together; a manager may allow fewer. 0 leaves it to the manager.
    in_flight
        Requests.
    engines
        Executions that the GPU computes at once, each as fast as if it were alone.
    """

    copy_in: int
    compute: int
    copy_out: int
    tokens: int = 1
    lanes: int = 8
    instances: int = 8
    in_flight: int = 16
    engines: int = 1

    def circuits(self) -> list[tuple[int, int]]:
        """Return what one request goes through before another may follow it: ms, and how many at once.

        The stages are a timed event graph: the k-th start of each follows from earlier ends by maxima and
        sums (`ends`), and its rate is that of its slowest circuit. There is one for each stage alone, one
        from the lane's coming to the end of compute, where an instance is held, and one through all stages,
        where a lane is. A token is held from when the copy is queued, but whoever waits for it has copied
        meanwhile: if it is given back at the end of compute, it binds no more than an engine does.
        """
        a, c, b = self.copy_in, self.compute, self.copy_out
        return [
            (a, 1),
            (c, min(self.tokens, self.engines)),
            (b, 1),
            (a + c, self.instances),
            (a + c + b, min(self.lanes, self.in_flight)),
        ]

    @property
    def period(self) -> Fraction:
        """ms between two answers, on average, in the long run."""
        return max(Fraction(spent, at_once) for spent, at_once in self.circuits())

    @property
    def cycle(self) -> int:
        """A number of answers after which everything is again as it was."""
        return math.lcm(*(at_once for _, at_once in self.circuits()))

    def ends(self, count: int) -> list[int]:
        """Return when each of so many requests is answered, ms."""
        copied: list[int] = []
        computed: list[int] = []
        done: list[int] = []

        def before(ends: list[int], at_once: int) -> int:
            return ends[-at_once] if len(ends) >= at_once else 0

        for _ in range(count):
            begun = max(before(done, min(self.lanes, self.in_flight)), before(computed, self.instances))
            token = max(begun, before(computed, self.tokens))
            copied.append(max(begun, before(copied, 1)) + self.copy_in)
            computed.append(max(copied[-1], token, before(computed, self.engines)) + self.compute)
            done.append(max(computed[-1], before(done, 1)) + self.copy_out)
        return done

    def seconds(self) -> Mapping[Kind, float]:
        """Return how long the stages take, s."""
        return {
            "copy_in": self.copy_in / 1e3,
            "compute": self.compute / 1e3,
            "copy_out": self.copy_out / 1e3,
        }


@dataclass(frozen=True)
class Seen:
    """How everything stands.

    Attributes
    ----------
    queued, busy, instances
        Of each model.
    done
        Answers, and pieces of work: they only grow.
    """

    outstanding: int
    queued: list[int]
    busy: list[int]
    instances: list[int]
    lanes: PoolStatistics
    tokens: PoolStatistics
    work: Mapping[Kind, int]
    due: int
    done: tuple[int, int]

    @property
    def settled(self) -> bool:
        """Whether every request waits: in a queue for a lane or an instance, for a token, or for the GPU."""
        lanes, tokens = self.lanes, self.tokens
        models = zip(self.queued, self.busy, self.instances, strict=True)
        return (
            not self.due
            and sum(self.queued) + lanes.lent == self.outstanding
            and all(not queued or not lanes.available or busy == most for queued, busy, most in models)
            and (tokens.lent == tokens.size or not tokens.waiting)
            and self.work["compute"] == tokens.lent  # what has a token computes, or will
            and sum(self.busy) == tokens.waiting + tokens.lent
            and self.work["copy_out"] + tokens.waiting == lanes.lent  # what has a lane has one, or will copy
        )


class Bench:
    """A manager on a simulated GPU, and requests that are always in flight.

    Parameters
    ----------
    models
        Of the same kind, which share it.
    gpu
        Whether it is the manager's GPU 0, or the device of its host's lanes. There one thread executes, so
        that who comes first is first everywhere; on a GPU there are as many as tokens.

    Attributes
    ----------
    setup
        With the instances that there are.
    ends
        When each request was answered, ms of the virtual clock.
    """

    def __init__(self, setup: Setup, models: int = 1, *, gpu: bool = False) -> None:
        self.clock = ManualClock()
        engines: dict[Kind, int] = {"copy_in": 1, "compute": setup.engines, "copy_out": 1}
        self.gpu = SimulatedGpu(clock=self.clock, engines=engines)
        self.device = FakeDevice(gpu=self.gpu)
        self.manager = InferenceManager(
            setup.tokens,
            setup.lanes,
            execute_threads=1,
            post_threads=setup.lanes,
            device=None if gpu else self.device,
            scratch=HostMemoryResource(),
            gpus=lambda _: self.device,
        )
        for number in range(models):
            engine = FakeDeviceEngine([X], [Y], lambda x: [2 * x], scratch_size=64, seconds=setup.seconds())
            engine.gpu = 0 if gpu else None
            self.manager.register(f"M{number}", engine, concurrency=setup.instances // models or None)
        self.manager.allocate()
        self.models = [cast("Model", self.manager.find(name)) for name in self.manager.get_models()]
        instances = sum(model.options.instances for model in self.models)
        self.setup = dataclasses.replace(setup, instances=instances)
        self.ends: list[float] = []
        self.errors: list[BaseException] = []
        self._lock = threading.Lock()
        self._sent = 0
        self._outstanding = 0
        self._last = 0

    def run(self, submit: Submit, count: int) -> None:
        """Keep requests in flight until `count` are answered."""
        self._last = count
        for _ in range(min(self.setup.in_flight, count)):
            with self._lock:
                number = self._next()
            self._send(submit, number)
        while len(self.ends) < count:
            self._settle()
            if len(self.ends) < count:
                end = self.gpu.next_end()
                assert end is not None, f"nothing runs: {self}"
                self.clock.advance_to(end)
        assert not self.errors, self.errors

    def __repr__(self) -> str:
        return f"<{len(self.ends)} answers, {self._outstanding} in flight, {self.gpu!r}, {self.manager!r}>"

    def period(self) -> Fraction:
        """Return ms between two answers, over the last cycle."""
        cycle = self.setup.cycle
        return Fraction(self.ends[-1]) / cycle - Fraction(self.ends[-1 - cycle]) / cycle

    def _send(self, submit: Submit, number: int) -> None:
        if number:
            submit(number).add_done_callback(lambda future: self._answered(submit, future))

    def _next(self) -> int:
        """Return the number of the next request; 0 if there are to be no more. Needs the lock."""
        if self._sent == self._last:
            return 0
        self._sent += 1
        self._outstanding += 1
        return self._sent

    def _answered(self, submit: Submit, future: Future[Any]) -> None:
        error = future.exception(0)
        if error is not None:
            self.errors.append(error)
        with self._lock:  # in one step: meanwhile there are not fewer of them
            self.ends.append(self.clock() / _MS)
            self._outstanding -= 1
            number = self._next()
        self._send(submit, number)

    def _settle(self) -> None:
        """Wait until nothing happens but on the GPU; it is seen twice, since a look takes its time."""
        deadline = time.monotonic() + SOON
        seen = None
        while seen is None or self.seen() != seen or not seen.settled:
            assert time.monotonic() < deadline, f"it never settled: {self}, {seen}"
            time.sleep(0.00005)
            seen = self.seen()

    def seen(self) -> Seen:
        """Return how everything stands, as far as nothing moves meanwhile."""
        statistics = self.manager.statistics()
        site = statistics.gpus.get(0, statistics)
        with self._lock:
            outstanding, answers = self._outstanding, len(self.ends)
        return Seen(
            outstanding=outstanding,
            queued=[model.pending for model in self.models],
            busy=[model.options.instances - len(model._scheduler._free) for model in self.models],
            instances=[model.options.instances for model in self.models],
            lanes=dataclasses.replace(site.lanes, wait_seconds_total=0.0),
            tokens=dataclasses.replace(site.tokens, wait_seconds_total=0.0),
            work=self.gpu.pending_by_kind(),
            due=self.gpu.due,
            done=(answers, len(self.gpu.timeline)),
        )

    def close(self) -> None:
        assert self.manager.close(SOON), self.manager
        assert self.device.close(SOON), self.device
        assert not self.gpu.pending


@contextmanager
def bench(setup: Setup, models: int = 1, *, gpu: bool = False) -> Iterator[Bench]:
    """Return a bench, which is closed in the end."""
    bench = Bench(setup, models, gpu=gpu)
    try:
        yield bench
    finally:
        bench.close()
