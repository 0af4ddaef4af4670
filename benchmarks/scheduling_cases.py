"""What is simulated: batching against the load, and a latency objective against the load.

The machine: T(b) = 2 ms + b/2 ms on one instance, batches of up to 16. No particular model has been measured
for it; it stands for convolutional networks in whose time a fixed part (launches, weights read from memory)
is worth several items, so that batching pays: 16 at once are four times the throughput of one at a time. All
results but milliseconds hold for any machine with the same alpha : beta.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.scheduling_simulation import Arrival, Machine, Outcome, poisson, simulate
from yais.inference.batch_times import BatchTimes
from yais.inference.scheduling.dynamic import BatchingPolicy, DynamicQueue
from yais.inference.scheduling.queue import BatchQueue
from yais.inference.scheduling.slo import SloPolicy, SloQueue

__all__ = ["LOADS", "MACHINE", "Row", "against_load", "against_objectives", "against_static"]

MACHINE = Machine(alpha=2_000_000, beta=500_000, max_batch=16)
LOADS = (0.5, 0.8, 0.95, 1.1)
OBJECTIVE = 2.0
"""In times of T(16): 20 ms. Just enough to wait for a whole batch and run in the next."""
NOISE = 0.1
SEED = 4
_FOREVER = 10**15


@dataclass(frozen=True)
class Row:
    """One scheduler under one load.

    Attributes
    ----------
    load
        Share of the capacity that is asked for.
    throughput
        Share of the capacity that is answered.
    p50, p90, p99
        Latencies of the answers, ms.
    answered_in_time, all_in_time
        Of those answered, and of all requests, within the objective; 0 without one.
    refused
        Share of all requests.
    sizes
        The mean, and the 10th, 50th and 90th percentile of the sizes of batches.
    """

    scheduler: str
    load: float
    throughput: float
    p50: float
    p90: float
    p99: float
    answered_in_time: float
    all_in_time: float
    refused: float
    sizes: tuple[float, int, int, int]
    objective: float = 0.0
    noise: float = 0.0
    instances: int = 1

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return asdict(self)


def _row(name: str, machine: Machine, load: float, outcome: Outcome, objective: float = 0.0) -> Row:
    sizes = sorted(outcome.sizes.elements())
    p10, p50, p90 = (sizes[int(share * (len(sizes) - 1))] for share in (0.1, 0.5, 0.9))
    answered, every = outcome.within(int(objective * machine.time(machine.max_batch)))
    return Row(
        scheduler=name,
        load=load,
        throughput=outcome.throughput / machine.capacity,
        p50=outcome.percentile(50) / 1e6,
        p90=outcome.percentile(90) / 1e6,
        p99=outcome.percentile(99) / 1e6,
        answered_in_time=answered,
        all_in_time=every,
        refused=outcome.refused_share,
        sizes=(outcome.mean_size, p10, p50, p90),
        objective=objective,
        noise=machine.noise,
        instances=machine.instances,
    )


def _run(make: Callable[[], BatchQueue[Arrival]], machine: Machine, load: float, requests: int) -> Outcome:
    return simulate(make(), machine, poisson(load * machine.capacity, requests, SEED), SEED)


def _dynamic(machine: Machine) -> DynamicQueue[Arrival]:
    return DynamicQueue(BatchingPolicy(machine.max_batch))


def slo(machine: Machine, objective: float, percentile: float = 90.0) -> SloQueue[Arrival]:
    """Return the SLO scheduler, having measured the machine five times for each size."""
    source = random.Random(SEED)
    samples = [
        (size, int(machine.time(size) * source.lognormvariate(0, machine.noise)))
        for size in range(1, machine.max_batch + 1)
        for _ in range(5)
    ]
    latency = int(objective * machine.time(machine.max_batch))
    policy = SloPolicy(BatchingPolicy(machine.max_batch), latency, percentile, machine.instances)
    return SloQueue(policy, BatchTimes(samples, percentile))


def against_static(loads: Sequence[float], requests: int) -> list[Row]:
    """Return the dynamic batcher's default, the best fixed size for each load, and the fixed largest.

    A fixed size waits until it is full. The best is chosen with hindsight, by the 90th percentile.
    """
    rows = []
    for load in loads:
        rows.append(_row("dynamic", MACHINE, load, _run(lambda: _dynamic(MACHINE), MACHINE, load, requests)))
        fixed = []
        for size in (1, 2, 4, 8, MACHINE.max_batch):
            policy = BatchingPolicy(size, max_delay=_FOREVER)
            outcome = _run(lambda: DynamicQueue(policy), MACHINE, load, requests)  # noqa: B023
            fixed.append(_row(f"fixed {size}", MACHINE, load, outcome))
        best = min(fixed, key=lambda row: row.p90)
        rows += [best] if best is fixed[-1] else [best, fixed[-1]]
    return rows


def against_load(noise: float, requests: int, instances: int = 1) -> list[Row]:
    """Return the dynamic batcher's default and the SLO scheduler, at each of the loads."""
    machine = Machine(MACHINE.alpha, MACHINE.beta, MACHINE.max_batch, instances, noise)
    return [row for load in LOADS for row in _both(machine, load, OBJECTIVE, requests)]


def against_objectives(noise: float, requests: int) -> list[Row]:
    """Return the same at 95 % of capacity, for objectives from T(16) to 4 T(16)."""
    machine = Machine(MACHINE.alpha, MACHINE.beta, MACHINE.max_batch, 1, noise)
    objectives = (1.0, 1.25, 1.5, 1.75, 2.0, 2.25, 2.5, 3.0, 4.0)
    return [row for objective in objectives for row in _both(machine, 0.95, objective, requests)]


def _both(machine: Machine, load: float, objective: float, requests: int) -> list[Row]:
    return [
        _row(name, machine, load, _run(make, machine, load, requests), objective)
        for name, make in (
            ("dynamic", lambda: _dynamic(machine)),
            ("SLO", lambda: slo(machine, objective)),
        )
    ]
