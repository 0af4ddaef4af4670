"""Lanes: the threads and the memory that belong together, lent as one.

Whoever takes a lane has threads that run near its memory: what was allocated and touched on a NUMA node is
used there, because the threads and the memory cannot be had separately (DESIGN.md, D6).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from yais.core.clock import Deadline
from yais.core.cpu_set import CpuSet
from yais.core.gpus import Gpu
from yais.core.pool import Pool
from yais.core.thread_pool import ThreadPool
from yais.core.topology import NumaNode, Topology
from yais.memory.arena import Arena
from yais.memory.device_buffer import DeviceBuffer
from yais.memory.host import HostMemoryResource
from yais.memory.resource import MemoryResource
from yais.memory.tracked import MemoryTracker, TrackedResource

__all__ = ["Device", "DeviceMemory", "Lane", "Lanes", "Placement", "placements"]


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


class DeviceMemory(Protocol):
    """Where device memory comes from; every `yais.memory.resource.MemoryResource` is such a one."""

    def allocate(self, size: int, *, stream: Any = None) -> DeviceBuffer:
        """Return a buffer of `size` bytes. Raises MemoryError if there is too little."""


class Device(Protocol):
    """Gives lanes their device half. What it returns is for engines of that device; lanes only keep it."""

    def staging(self, placement: Placement) -> MemoryResource:
        """Return where host memory comes from that the device copies to and from."""

    def memory(self, placement: Placement) -> DeviceMemory:
        """Return where device memory comes from."""

    def stream(self, placement: Placement) -> Any:
        """Return a new stream. If it has `sync`, lanes wait with it; if it has `close`, they close it."""


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
    device: DeviceBuffer | None = None

    def __str__(self) -> str:
        return self.name

    def settle(self) -> None:
        """Wait until the stream has done what was queued: for memory whose use was given up half-way."""
        sync = getattr(self.stream, "sync", None)
        if sync is not None:
            sync()

    def close(self) -> None:
        """Give memory and stream back. Nothing may be running."""
        self.staging.close()
        if self.device is not None:
            self.device.close()
        close = getattr(self.stream, "close", None)
        if close is not None:
            close()


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
        Where staging memory comes from; by default the device's, else host memory on the node of the place.
    device
        Gives lanes their device half.
    tracker
        Counts staging memory; by default one of their own.

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
    staging_size, device_size
        Bytes of staging and of device memory that each lane has at least.
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
        tracker: MemoryTracker | None = None,
    ) -> None:
        self.name = name
        self.memory = tracker if tracker is not None else MemoryTracker()
        self.staging_size = self.device_size = 0
        self.places = tuple(places) or (Placement(name),)
        wanted = {stage: number for stage, number in threads.items() if number}
        # One place has the name of the whole, several have their own as well.
        names = [name if len(self.places) == 1 else f"{name}-{place.name}" for place in self.places]
        count = 2 * wanted.get("execute", 1) * len(self.places) if count is None else count
        if count < 1:
            raise ValueError(f"got count={count}, expected at least 1")
        self._device = device
        self._threads: list[dict[str, ThreadPool]] = [{} for _ in self.places]
        self._lanes: list[Lane] = []
        self._staging: list[MemoryResource] = []  # where that of each lane comes from
        try:
            for leading, place, pools in zip(names, self.places, self._threads, strict=True):
                for stage, number in wanted.items():
                    pools[stage] = ThreadPool(number, name=f"{leading}-{stage}", cpus=place.cpus)
            homes = itertools.cycle(zip(names, self.places, self._threads, strict=True))
            for index, home in zip(range(max(count, len(self.places))), homes, strict=False):
                self._add(index, *home, memory)
        except BaseException:  # threads and streams that nobody closes stay
            for pools in self._threads:
                for pool in pools.values():
                    pool.shutdown(wait=False)
            for lane in self._lanes:
                lane.close()
            raise
        self.pool: Pool[Lane] = Pool(self._lanes, name=f"{name} lanes", on_return=_reset)

    def __repr__(self) -> str:
        threads = ", ".join(repr(pool) for pools in self._threads for pool in pools.values())
        return f"<Lanes {self.name}: {self.pool!r}, {threads}>"

    def __contains__(self, lane: object) -> bool:
        return any(lane is mine for mine in self._lanes)

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

        Takes all lanes out of the pool, so work in flight ends undisturbed. What they had is freed once there
        is the new, so for a moment there is both. Not from two threads at once.

        Raises
        ------
        DeadlineExceeded
            A lane did not come back within `timeout` seconds in all.
        OSError, MemoryError
            There is no such memory; then the lanes are as they were.
        """
        with self.reserving(staging, timeout, device=device):
            pass

    @contextmanager
    def reserving(self, staging: int, timeout: float, *, device: int = 0) -> Iterator[None]:
        """Do as `reserve`, around a block that reserves something else: if that raises, nothing changes."""
        if staging <= self.staging_size and device <= self.device_size:
            yield
            return
        deadline = Deadline.after(timeout)
        with ExitStack() as held:
            for _ in self._lanes:
                held.enter_context(self.pool.acquire(deadline.remaining() or 0.0))
            with ExitStack() as unused:
                arenas = self._more_staging(staging, unused)
                memories = self._more_memory(device, unused)
                yield
                unused.pop_all()
            for lane, arena, memory in zip(self._lanes, arenas, memories, strict=True):
                _replace(lane, arena, memory)
            self.staging_size = max(staging, self.staging_size)
            self.device_size = max(device, self.device_size)

    def _more_staging(self, size: int, unused: ExitStack) -> list[Arena | None]:
        """Return an arena for each lane, if it needs a larger one."""
        arenas: list[Arena | None] = []
        for lane, resource in zip(self._lanes, self._staging, strict=True):
            arena = Arena(resource) if lane.staging.size < size else None
            if arena is not None:
                unused.callback(arena.close)
                arena.reset(size)
            arenas.append(arena)
        return arenas

    def _more_memory(self, size: int, unused: ExitStack) -> list[DeviceBuffer | None]:
        """Return device memory for each lane, if it needs more."""
        memories: list[DeviceBuffer | None] = []
        for lane in self._lanes:
            memory = None
            if self._device is not None and size > (lane.device.size if lane.device is not None else 0):
                memory = self._device.memory(lane.placement).allocate(size, stream=lane.stream)
                unused.callback(memory.close)
            memories.append(memory)
        return memories

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
                lane.close()
        return ended

    def _add(
        self,
        index: int,
        name: str,
        place: Placement,
        threads: Mapping[str, ThreadPool],
        memory: MemoryResource | None,
    ) -> None:
        if memory is None and self._device is not None:
            memory = self._device.staging(place)
        elif memory is None:
            memory = HostMemoryResource(node=place.node)
        staging = TrackedResource(memory, owner=f"{name} staging", tracker=self.memory)
        lane = Lane(f"{name}-{index}", place, threads, Arena(staging))
        self._lanes.append(lane)
        self._staging.append(staging)
        if self._device is not None:
            lane.stream = self._device.stream(place)


def _reset(lane: Lane) -> None:
    lane.staging.reset()


def _replace(lane: Lane, staging: Arena | None, device: DeviceBuffer | None) -> None:
    """Give a lane other memory, and free what it had."""
    if staging is not None:
        old, lane.staging = lane.staging, staging
        old.close()
    if device is not None:
        before, lane.device = lane.device, device
        if before is not None:
            before.close()
