"""The sites of a machine: the host, and each GPU that has models."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

from yais.core.clock import Deadline
from yais.core.topology import Topology
from yais.inference.site import Site
from yais.inference.tokens import Tokens
from yais.lane import Device, Lanes, Placement, placements

__all__ = ["Sites", "gpu_placement"]


class Sites:
    """Where batches run: on the host, and on GPUs from the moment that a model is on one. Thread-safe.

    Parameters
    ----------
    host
        The host's.
    gpus
        Makes the device of a GPU, by its number; called once for each. By default
        `yais.memory.cuda.device.cuda_device`. Whoever makes devices closes them, after the sites.
    executions
        Execution tokens of each GPU: batches that are in its engines at once.
    lanes
        Lanes of each GPU: batches whose data is on the way to it, in it or on the way back. By default twice
        as many, so that some are copied while others are computed.
    name
        Leads the names of threads: "yais" gives "yais-gpu0-execute-1".

    Raises
    ------
    ValueError
        A number is below 1.
    """

    def __init__(
        self,
        host: Site,
        *,
        gpus: Callable[[int], Device] | None = None,
        executions: int = 2,
        lanes: int | None = None,
        name: str = "yais",
    ) -> None:
        self.executions = executions
        self.lanes = 2 * executions if lanes is None else lanes
        if min(self.executions, self.lanes) < 1:
            raise ValueError(
                f"got {self.executions} executions and {self.lanes} lanes of each GPU, expected at least 1"
            )
        self._host = host
        self._make_device = gpus or _cuda_device
        self._name = name
        self._lock = threading.Lock()
        self._gpus: dict[int, Site] = {}
        self._closed = False

    def __repr__(self) -> str:
        return f"<Sites: {', '.join(map(repr, (self._host, *self.gpus.values())))}>"

    @property
    def gpus(self) -> Mapping[int, Site]:
        """The sites of GPUs that there are by now, by the numbers of these."""
        with self._lock:
            return dict(sorted(self._gpus.items()))

    def of(self, gpu: int | None) -> Site:
        """Return the site of a GPU, or of the host for None. That of a GPU is made when first asked for.

        Raises
        ------
        FailedPrecondition
            There is no such GPU, or nothing to use it with; the message says what is missing.
        RuntimeError
            The sites are closed.
        """
        if gpu is None:
            return self._host
        with self._lock:
            site = self._gpus.get(gpu)
            if site is None:
                if self._closed:
                    raise RuntimeError(f"got GPU {gpu} of sites that are closed, expected open ones")
                site = self._gpus[gpu] = self._make(gpu)
            return site

    def close(self, timeout: float) -> bool:
        """Close the sites of GPUs, then the host's; return whether all came back in `timeout` seconds."""
        deadline = Deadline.after(timeout)
        with self._lock:
            self._closed = True
        sites = [*self.gpus.values(), self._host]
        return all([site.close(deadline.remaining() or 0.0) for site in sites])  # noqa: C419 - close every one

    def _make(self, gpu: int) -> Site:
        device = self._make_device(gpu)
        place = gpu_placement(gpu)
        tokens = Tokens(self.executions, memory=device.memory(place))
        # What is launched is waited for by a thread of its own, which has nothing else to do: the wait is
        # without the interpreter's lock.
        lanes = Lanes(
            f"{self._name}-{place.name}",
            threads={"execute": self.executions, "post": self.lanes},
            count=self.lanes,
            places=[place],
            device=device,
            tracker=self._host.lanes.memory,
        )
        return Site(lanes, tokens, gpu=gpu)


def gpu_placement(gpu: int) -> Placement:
    """Return where the lanes of a GPU sit: on the CPUs and the node next to it, as far as that is known."""
    for place in placements(Topology.read()):
        if place.gpu is not None and place.gpu.index == gpu:
            return place
    return Placement(f"gpu{gpu}")


def _cuda_device(gpu: int) -> Device:
    from yais.memory.cuda.device import cuda_device  # with the extra "cuda" only

    return cuda_device(gpu)
