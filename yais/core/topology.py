"""The machine: nodes, sockets, cores, caches, GPUs, and what of it this process may use. Linux only."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Self

from yais.core.affinity import usable_cpus
from yais.core.cgroup import cpu_quota, cpuset
from yais.core.cores import Cache, Core, Socket, read_caches, read_cores, sockets_of
from yais.core.cpu_set import CpuSet
from yais.core.gpus import Gpu, read_gpus
from yais.core.sysfs import numbered, read_cpus, read_text

__all__ = ["NumaNode", "Topology"]

_LOCAL = 10
"""The distance of a node to itself (ACPI specification, "System Locality Information Table")."""


@dataclass(frozen=True, slots=True)
class NumaNode:
    """Memory and the CPUs next to it.

    Attributes
    ----------
    id
        The kernel's number; numbers may have gaps.
    cpus
        CPUs that the process may use; empty for a node of memory only.
    online
        All that are online.
    distances
        To each node by number, 10 to itself, more the further.
    memory_bytes
        0 where the machine does not say.
    """

    id: int
    cpus: CpuSet
    online: CpuSet
    distances: Mapping[int, int]
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class Topology:
    """What a machine consists of, at the moment it was read. `cpus` of each part are those that may be used.

    Every online CPU is in one node, one socket and one core.

    Attributes
    ----------
    nodes
        By number. A machine without NUMA information is one node 0.
    sockets, cores, caches, gpus
        The rest of it.
    usable
        CPUs that are online, allowed to the process, and in its cgroup's cpuset.
    online, offline
        CPUs that run, and those that are there but do not.
    cpuset
        What the cgroup allows, None without a limit.
    quota
        CPUs' worth of time that the cgroup pays for, None without a limit.
    """

    nodes: tuple[NumaNode, ...]
    sockets: tuple[Socket, ...]
    cores: tuple[Core, ...]
    caches: tuple[Cache, ...]
    gpus: tuple[Gpu, ...]
    usable: CpuSet
    online: CpuSet
    offline: CpuSet
    cpuset: CpuSet | None
    quota: float | None

    @classmethod
    def read(cls, root: Path = Path("/")) -> Self:
        """Read it.

        Parameters
        ----------
        root
            The directory that holds `proc` and `sys`. Nothing is read, and nobody asked, outside of another
            root than "/".

        Raises
        ------
        ValueError
            A file has something else than the kernel writes.
        """
        within, allowed = cpuset(root), usable_cpus(root)
        cpus = root / "sys/devices/system/cpu"
        # A container may be shown a list of its own making (lxcfs); the scheduler knows better.
        online = read_cpus(cpus / "online") | allowed
        usable = allowed if within is None else allowed & within
        offline = read_cpus(cpus / "present") - online
        cores = read_cores(root, online, usable)
        nodes = _read_nodes(root, online, usable)
        gpus = read_gpus(root, cpu_count=max(online | offline, default=0) + 1)
        return cls(
            nodes=nodes,
            sockets=sockets_of(cores),
            cores=cores,
            caches=read_caches(root, online, usable),
            gpus=tuple(_usable_gpu(gpu, nodes, usable) for gpu in gpus),
            usable=usable,
            online=online,
            offline=offline,
            cpuset=within,
            quota=cpu_quota(root),
        )

    def node_of(self, cpu: int) -> NumaNode:
        """Return the node of an online CPU. Raises ValueError for any other."""
        for node in self.nodes:
            if cpu in node.online:
                return node
        raise ValueError(f"got CPU {cpu}, expected one that is online: '{self.online}'")

    def cpus_of_socket(self, socket: int) -> CpuSet:
        """Return the CPUs of a socket that the process may use. Raises ValueError for an unknown socket."""
        for found in self.sockets:
            if found.id == socket:
                return found.cpus
        numbers = CpuSet(found.id for found in self.sockets)
        raise ValueError(f"got socket {socket}, expected one of '{numbers}'")

    def siblings(self, cpu: int) -> CpuSet:
        """Return the online CPUs of a CPU's core, itself among them. Raises as `node_of` does."""
        for core in self.cores:
            if cpu in core.online:
                return core.online
        raise ValueError(f"got CPU {cpu}, expected one that is online: '{self.online}'")

    def one_per_core(self, cpus: CpuSet) -> CpuSet:
        """Return the first of `cpus` in each core that has any, for threads that should not share cores."""
        return CpuSet(min(chosen) for core in self.cores if (chosen := core.online & cpus))

    def nearest_node(self, gpu: Gpu) -> NumaNode | None:
        """Return the nearest node with CPUs that the process may use; None if that is not known."""
        return _nearest(gpu.node, self.nodes)


def _read_nodes(root: Path, online: CpuSet, usable: CpuSet) -> tuple[NumaNode, ...]:
    directories = numbered(root / "sys/devices/system/node", "node")
    if not directories:
        memory = _total(read_text(root / "proc/meminfo"))
        return (NumaNode(0, usable, online, MappingProxyType({0: _LOCAL}), memory),)
    members = {number: read_cpus(path / "cpulist") & online for number, path in directories}
    # CPUs that the kernel puts nowhere must still be found.
    missing = online - CpuSet(cpu for cpus in members.values() for cpu in cpus)
    members[directories[0][0]] |= missing
    return tuple(
        NumaNode(
            number,
            members[number] & usable,
            members[number],
            _distances(number, list(members), read_text(path / "distance")),
            _total(read_text(path / "meminfo")),
        )
        for number, path in directories
    )


def _distances(node: int, nodes: list[int], text: str) -> Mapping[int, int]:
    values = [int(value) for value in text.split()]
    known = len(values) == len(nodes)
    return MappingProxyType(dict(zip(nodes, values, strict=True)) if known else {node: _LOCAL})


def _total(meminfo: str) -> int:
    """Return the bytes of MemTotal, in the format of `/proc/meminfo` or of a node's."""
    for line in meminfo.splitlines():
        name, _, rest = line.partition(":")
        if name.endswith("MemTotal"):
            return int(rest.split()[0]) << 10
    return 0


def _usable_gpu(gpu: Gpu, nodes: tuple[NumaNode, ...], usable: CpuSet) -> Gpu:
    node = _nearest(gpu.node, nodes)
    return dataclasses.replace(gpu, cpus=gpu.cpus & usable or (usable if node is None else node.cpus))


def _nearest(number: int | None, nodes: tuple[NumaNode, ...]) -> NumaNode | None:
    offering = [node for node in nodes if node.cpus]
    if number is None or len(offering) < 2:
        return offering[0] if len(offering) == 1 else None
    return min(offering, key=lambda node: node.distances.get(number, math.inf))
