"""Lanes: the threads and the memory that belong together."""

from __future__ import annotations

from collections.abc import Mapping

from yais.core.pool import Pool
from yais.core.thread_pool import ThreadPool
from yais.core.topology import CpuSet
from yais.memory.arena import Arena
from yais.memory.host import HostMemoryResource
from yais.memory.resource import MemoryResource

__all__ = ["Lane"]


class Lane:
    """The named thread pools and the staging memory of one NUMA node.

    Whoever works on a lane's threads finds memory of the same node in its `staging`.

    Parameters
    ----------
    name
        Leads the names of its threads.
    threads
        Threads of each named pool. A stage whose pool has none runs on the thread of the stage before.
    cpus
        CPUs its threads run on; None leaves the choice to the kernel.
    memory
        Where staging memory comes from; host memory by default.
    """

    def __init__(
        self,
        name: str = "lane",
        *,
        threads: Mapping[str, int],
        cpus: CpuSet | None = None,
        memory: MemoryResource | None = None,
    ) -> None:
        self.name = name
        self.threads = {
            stage: ThreadPool(count, name=f"{name}-{stage}", cpus=cpus)
            for stage, count in threads.items()
            if count
        }
        self.memory = memory if memory is not None else HostMemoryResource()
        # As many as there are threads that may gather at once, and one for a queue's own thread.
        arenas = 1 + sum(threads.values())
        self._arenas = [Arena(self.memory) for _ in range(arenas)]
        self.staging: Pool[Arena] = Pool(self._arenas, name=f"{name} staging")

    def __repr__(self) -> str:
        pools = ", ".join(map(repr, self.threads.values()))
        return f"<Lane {self.name}: {pools}, {self.staging!r}>"

    def close(self, timeout: float = 5.0) -> bool:
        """Let the threads finish what is queued, then give the staging memory back.

        Returns
        -------
        bool
            Whether each pool finished within `timeout` seconds; if not, the memory is left to it.
        """
        ended = all([pool.close(timeout) for pool in self.threads.values()])  # noqa: C419 - close every one
        if ended:
            for arena in self._arenas:
                arena.close()
        return ended
