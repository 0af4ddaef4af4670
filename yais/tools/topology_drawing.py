"""A machine as a tree of text, with ranges rather than boxes: it fits a screen with 256 CPUs too."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import click

from yais.core.cores import Core
from yais.core.cpu_set import CpuSet
from yais.core.gpus import Gpu
from yais.core.topology import NumaNode, Topology
from yais.lane import Placement

__all__ = ["draw"]

_BOXES = ("├─ ", "└─ ", "│  ", "   ")
_ASCII = ("|- ", "`- ", "|  ", "   ")


@dataclass(slots=True)
class _Branch:
    """A line, what hangs on it, and whether it is of less interest."""

    text: str
    branches: list[_Branch] = field(default_factory=list)
    dim: bool = False


def draw(
    topology: Topology, lanes: Sequence[Placement], concurrency: int, *, encoding: str = "utf-8"
) -> Iterator[str]:
    """Yield the lines of a drawing, styled; `click.echo` takes the styles out where nobody sees them.

    Parameters
    ----------
    topology
        The machine.
    lanes
        Where lanes sit on it.
    concurrency
        Threads that can compute at once.
    encoding
        Of the terminal: one without box-drawing characters gets "|" and "-".
    """
    try:
        "".join(_BOXES).encode(encoding)
        rails = _BOXES
    except (UnicodeEncodeError, LookupError):
        rails = _ASCII
    yield f"{_count(topology.online, 'CPU')} online, {len(topology.usable)} usable: {topology.usable}"
    yield _limits(topology, concurrency)
    unusable = topology.online - topology.usable
    for name, cpus in (("not usable", unusable), ("offline", topology.offline)):
        if cpus:
            yield click.style(f"{name}: {cpus}", dim=True)
    for branch in _parts(topology, lanes):
        yield _styled(branch)
        yield from _lines(branch.branches, rails)


def _limits(topology: Topology, concurrency: int) -> str:
    cpuset = "none" if topology.cpuset is None else str(topology.cpuset)
    quota = "none" if topology.quota is None else f"{topology.quota:g} CPUs"
    threads = "1 thread" if concurrency == 1 else f"{concurrency} threads"
    return f"limits: cpuset {cpuset}, quota {quota}; {threads} can compute at once"


def _parts(topology: Topology, lanes: Sequence[Placement]) -> Iterator[_Branch]:
    """Yield the sockets with their nodes, then what belongs to none."""
    homes: dict[tuple[int, ...], list[NumaNode]] = {}
    for node in topology.nodes:
        # Several sockets where the machine does not tell nodes apart, none for a node of memory only.
        on = tuple(socket.id for socket in topology.sockets if socket.online & node.online)
        homes.setdefault(on, []).append(node)
    for sockets, nodes in sorted(homes.items(), key=lambda home: (not home[0], home[0])):
        title = (
            f"{'sockets' if len(sockets) > 1 else 'socket'} {CpuSet(sockets)}" if sockets else "memory only"
        )
        yield _Branch(title, [_node(topology, node, lanes) for node in nodes])
    known = {node.id for node in topology.nodes}
    elsewhere = [_gpu(gpu) for gpu in topology.gpus if gpu.node not in known] + _lanes(lanes, None)
    if elsewhere:
        yield _Branch("on no node", elsewhere)


def _node(topology: Topology, node: NumaNode, lanes: Sequence[Placement]) -> _Branch:
    memory = f"{node.memory_bytes / (1 << 30):.1f} GiB" if node.memory_bytes else "memory unknown"
    distances = ", ".join(
        f"{distance} to {other}" for other, distance in node.distances.items() if other != node.id
    )
    branch = _Branch(f"node {node.id}: {memory}{f'; distance {distances}' if distances else ''}")
    branch.branches += _groups(topology, node)
    branch.branches += [_gpu(gpu) for gpu in topology.gpus if gpu.node == node.id]
    branch.branches += _lanes(lanes, node.id)
    return branch


def _groups(topology: Topology, node: NumaNode) -> Iterator[_Branch]:
    """Yield the cores of a node, those that share an L3 cache together."""
    rest = node.online
    for cache in topology.caches:
        if cache.level == 3 and (shared := cache.online & node.online):
            rest -= shared
            yield _cores(topology, f"L3 {cache.size / (1 << 20):g} MiB, ", shared)
    if rest:
        yield _cores(topology, "", rest)


def _cores(topology: Topology, leading: str, cpus: CpuSet) -> _Branch:
    cores = [core for core in topology.cores if core.online & cpus]
    threads = [CpuSet(members) for members in _threads(cores, cpus)]
    count = "1 core" if len(cores) == 1 else f"{len(cores)} cores"
    most = "" if len(threads[0]) == len(threads[-1]) else "up to "
    smt = f" of {most}{len(threads)} threads" if len(threads) > 1 else ""
    text = f"{leading}{count}{smt}: CPUs {' + '.join(map(str, threads))}"
    unusable = cpus - topology.usable
    if unusable and unusable != cpus:
        text += f" (not usable: {unusable})"
    return _Branch(text if cpus & topology.usable else f"{text} (not usable)", dim=unusable == cpus)


def _threads(cores: Sequence[Core], cpus: CpuSet) -> Iterator[list[int]]:
    """Yield the first CPU of each core, then the second of those that have one, and so on."""
    siblings = [list(core.online & cpus) for core in cores]
    for index in range(max(map(len, siblings))):
        yield [members[index] for members in siblings if len(members) > index]


def _gpu(gpu: Gpu) -> _Branch:
    return _Branch(f"GPU {gpu.index}: {gpu.name}, {gpu.pci}")


def _lanes(lanes: Sequence[Placement], node: int | None) -> list[_Branch]:
    return [
        _Branch(f"lane {lane.name}: CPUs {'any' if lane.cpus is None else lane.cpus}")
        for lane in lanes
        if (None if lane.node is None else lane.node.id) == node
    ]


def _lines(branches: Sequence[_Branch], rails: tuple[str, ...], before: str = "") -> Iterator[str]:
    between, last, down, blank = rails
    for index, branch in enumerate(branches, 1):
        ends = index == len(branches)
        yield f"{before}{last if ends else between}{_styled(branch)}"
        yield from _lines(branch.branches, rails, before + (blank if ends else down))


def _styled(branch: _Branch) -> str:
    return click.style(branch.text, dim=True) if branch.dim else branch.text


def _count(cpus: CpuSet, name: str) -> str:
    return f"{len(cpus)} {name}{'' if len(cpus) == 1 else 's'}"
