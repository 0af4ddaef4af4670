"""Lanes: the threads and the memory that belong together, lent as one.

Whoever takes a lane has threads that run near its memory: what was allocated and touched on a NUMA node is
used there, because the threads and the memory cannot be had separately (DESIGN.md, D6).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from yais.core.clock import Deadline
from yais.core.cpu_set import CpuSet
from yais.core.gpus import Gpu
from yais.core.pool import Pool
from yais.core.thread_pool import ThreadPool
from yais.core.topology import NumaNode, Topology
from yais.memory.arena import Arena
from yais.memory.buffer import Buffer
from yais.memory.host import HostMemoryResource
from yais.memory.resource import MemoryResource
from yais.memory.tracked import MemoryTracker, TrackedResource

__all__ = ["Device", "Lane", "Lanes", "Placement", "placements"]


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a lane sits.

    Attributes
    ----------
    name
        Of its lanes: "node0", or "gpu1" where there are GPUs.
    node
        The NUMA node; None leaves memory and threads to the kernel.
    cpus
        CPUs of its threads; None for any.
    gpu
        The GPU it serves, if there is one.
    """

    name: str
    node: NumaNode | None = None
    cpus: CpuSet | None = None
    gpu: Gpu | None = None


def placements(topology: Topology) -> list[Placement]:
    """Return where lanes sit on a machine: a place for each GPU, else one for each node with usable CPUs."""
    if topology.gpus:
        return [
            Placement(f"gpu{gpu.index}", topology.nearest_node(gpu), gpu.cpus, gpu) for gpu in topology.gpus
        ]
    return [Placement(f"node{node.id}", node, node.cpus) for node in topology.nodes if node.cpus]


class Device(Protocol):
    """Gives lanes their device half. What it returns is for engines of that device; lanes only keep it."""

    def memory(self, placement: Placement) -> MemoryResource:
        """Return where device memory comes from."""

    def stream(self, placement: Placement) -> Any:
        """Return a new stream."""


@dataclass(slots=True, eq=False)
class Lane:
    """Threads, memory and stream of one place. Whoever holds it has its memory alone.

    Attributes
    ----------
    threads
        Named thread pools, shared with the other lanes of the place.
    staging
        Host memory; reset when the lane is returned.
    stream
        Orders the work on the device; None on a place without one.
    device
        Device memory; None until some is reserved.
    """

    name: str
    placement: Placement
    threads: Mapping[str, ThreadPool]
    staging: Arena
    stream: Any = None
    device: Buffer | None = None

    def __str__(self) -> str:
        return self.name


class Lanes:
    """The lanes of a machine, or of a part of it, and the pool that lends them. Thread-safe.

    Parameters
    ----------
    name
        Leads the names of threads.
    threads
        Threads of each named pool, on each place. A stage without threads runs on those of the stage before.
    count
        Lanes in all, at least one for each place. By default two for each thread that executes, so that
        one request is copied while another is executed.
    places
        Where they sit; by default one place, anywhere.
    memory
        Where staging memory comes from; by default host memory on the node of the place.
    device
        Gives lanes their device half.

    Raises
    ------
    ValueError
        A number is too small, or the process may not run on the CPUs of a place.

    Attributes
    ----------
    pool
        Lends them.
    memory
        Counts the staging memory in use, by place.
    """

    def __init__(
        self,
        name: str = "lane",
        *,
        threads: Mapping[str, int],
        count: int | None = None,
        places: Sequence[Placement] = (),
        memory: MemoryResource | None = None,
        device: Device | None = None,
    ) -> None:
        self.name = name
        self.memory = MemoryTracker()
        self.places = tuple(places) or (Placement(name),)
        wanted = {stage: number for stage, number in threads.items() if number}
        # One place has the name of the whole, several have their own as well.
        names = [name if len(self.places) == 1 else f"{name}-{place.name}" for place in self.places]
        count = 2 * wanted.get("execute", 1) * len(self.places) if count is None else count
        if count < 1:
            raise ValueError(f"got count={count}, expected at least 1")
        self._device = device
        self._threads: list[dict[str, ThreadPool]] = [{} for _ in self.places]
        try:
            for leading, place, pools in zip(names, self.places, self._threads, strict=True):
                for stage, number in wanted.items():
                    pools[stage] = ThreadPool(number, name=f"{leading}-{stage}", cpus=place.cpus)
            homes = list(zip(names, self.places, self._threads, strict=True))
            self._lanes = [
                Lane(
                    f"{leading}-{index}",
                    place,
                    pools,
                    _staging(place, memory, f"{leading} staging", self.memory),
                    device.stream(place) if device is not None else None,
                )
                for index, (leading, place, pools) in zip(
                    range(max(count, len(homes))), itertools.cycle(homes), strict=False
                )
            ]
        except BaseException:  # threads that nobody closes stay
            for pools in self._threads:
                for pool in pools.values():
                    pool.shutdown(wait=False)
            raise
        self.pool: Pool[Lane] = Pool(self._lanes, name=f"{name} lanes", on_return=_reset)

    def __repr__(self) -> str:
        threads = ", ".join(repr(pool) for pools in self._threads for pool in pools.values())
        return f"<Lanes {self.name}: {self.pool!r}, {threads}>"

    @property
    def size(self) -> int:
        """How many lanes there are."""
        return len(self._lanes)

    @property
    def threads(self) -> tuple[Mapping[str, ThreadPool], ...]:
        """The named thread pools of each place."""
        return tuple(self._threads)

    def reserve(self, staging: int, timeout: float, *, device: int = 0) -> None:
        """Give every lane at least `staging` bytes of staging memory and `device` bytes on its device.

        Takes all lanes out of the pool, so work in flight ends undisturbed.

        Raises
        ------
        DeadlineExceeded
            A lane did not come back within `timeout` seconds in all.
        OSError, MemoryError
            There is no such memory. Lanes may have grown already.
        """
        deadline = Deadline.after(timeout)
        leases = []
        try:
            for _ in self._lanes:
                leases.append(self.pool.acquire(deadline.remaining() or 0.0))  # noqa: PERF401 - may fail
            for lease in leases:
                self._grow(lease.item, staging, device)
        finally:
            for lease in leases:
                lease.release()

    def _grow(self, lane: Lane, staging: int, device: int) -> None:
        lane.staging.reset(staging)
        if self._device is None or device <= (lane.device.size if lane.device else 0):
            return
        memory = self._device.memory(lane.placement).allocate(device, stream=lane.stream)
        if lane.device is not None:
            lane.device.close()
        lane.device = memory

    def close(self, timeout: float = 5.0) -> bool:
        """Let the threads finish what is queued, then give the memory back. No lane is lent any more.

        Returns
        -------
        bool
            Whether all threads ended and all lanes came back within `timeout` seconds; if not, the memory is
            left to them.
        """
        deadline = Deadline.after(timeout)
        pools = [pool for pools in self._threads for pool in pools.values()]
        ended = all([pool.close(deadline.remaining() or 0.0) for pool in pools])  # noqa: C419 - close every one
        ended = self.pool.close(deadline.remaining() or 0.0) and ended
        if ended:
            for lane in self._lanes:
                lane.staging.close()
                if lane.device is not None:
                    lane.device.close()
        return ended


def _staging(place: Placement, memory: MemoryResource | None, owner: str, tracker: MemoryTracker) -> Arena:
    if memory is None:
        memory = HostMemoryResource(node=place.node)
    return Arena(TrackedResource(memory, owner=owner, tracker=tracker))


def _reset(lane: Lane) -> None:
    lane.staging.reset()
