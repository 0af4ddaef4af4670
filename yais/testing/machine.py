"""Machines that are not there: `proc` and `sys` as Linux shows them, in a directory."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from yais.core.cpu_set import CpuSet

__all__ = ["FakeMachine"]

_GIB = 1 << 30
_PERIOD = 100_000
"""Microseconds, the kernel's default for quotas."""


@dataclass(frozen=True)
class FakeMachine:
    """A machine to be described by files, for `Topology.read` and others that take a `root`.

    CPUs are numbered as most machines do it: the first hardware thread of every core, then the second.

    Parameters
    ----------
    sockets, nodes, cores, threads
        Sockets, NUMA nodes of each socket, cores of each node, hardware threads of each core.
    offline
        CPUs that are switched off, as in "3,7".
    numa
        Without it there is no `/sys/devices/system/node`.
    memory_only
        Nodes without CPUs, after the others.
    memory_bytes
        Of each node.
    affinity
        What the process is pinned to; everything by default.
    cgroup
        The cgroup's path, "/" for that of a container that sees itself as the root.
    version
        Of the cgroups, 1 or 2.
    cpuset
        What the cgroup allows, without a limit by default.
    quota
        CPUs' worth of time that the cgroup pays for, without a limit by default.
    gpus
        The node of each GPU, None for one whose node is not known.
    """

    sockets: int = 1
    nodes: int = 1
    cores: int = 2
    threads: int = 1
    offline: str = ""
    numa: bool = True
    memory_only: int = 0
    memory_bytes: int = 8 * _GIB
    affinity: str | None = None
    cgroup: str = "/"
    version: int = 2
    cpuset: str | None = None
    quota: float | None = None
    gpus: Sequence[int | None] = field(default=())

    @property
    def present(self) -> CpuSet:
        """All CPUs, the offline ones among them."""
        return CpuSet(range(self.sockets * self.nodes * self.cores * self.threads))

    @property
    def online(self) -> CpuSet:
        """CPUs that run."""
        return self.present - CpuSet(self.offline)

    @property
    def usable(self) -> CpuSet:
        """CPUs that are online and allowed to the process by its affinity and its cpuset."""
        limits = [CpuSet(text) for text in (self.affinity, self.cpuset) if text is not None]
        return CpuSet(cpu for cpu in self.online if all(cpu in limit for limit in limits))

    def cpus_of_node(self, node: int) -> CpuSet:
        """Return the CPUs of a node, the offline ones among them."""
        return CpuSet(cpu for cpu in self.present if self._core(cpu) // self.cores == node)

    def write(self, root: Path) -> Path:
        """Write the files under `root`, and return that."""
        made: set[str] = set()
        for name, text in self._files():
            path = f"{root}/{name}"
            directory = path.rpartition("/")[0]
            if directory not in made:
                os.makedirs(directory, exist_ok=True)
                made.add(directory)
            # There are thousands: pathlib would take twice as long.
            with open(path, "w", encoding="utf-8") as file:
                file.write(f"{text}\n")
        return root

    def _core(self, cpu: int) -> int:
        """Return the position of a CPU's core in the machine."""
        return cpu % (self.sockets * self.nodes * self.cores)

    def _files(self) -> Iterator[tuple[str, str]]:
        cpus = "sys/devices/system/cpu"
        yield f"{cpus}/present", str(self.present)
        yield f"{cpus}/online", str(self.online)
        yield f"{cpus}/offline", str(self.present - self.online)
        for cpu in self.online:
            yield from self._cpu(f"{cpus}/cpu{cpu}", cpu)
        # The kernel keeps the affinity within the cpuset, not within what is online.
        allowed = CpuSet(self.affinity) if self.affinity is not None else self.present
        allowed &= CpuSet(self.cpuset) if self.cpuset is not None else allowed
        yield "proc/self/status", f"Name:\tpython\nCpus_allowed_list:\t{allowed}\nMems_allowed_list:\t0"
        count = self.sockets * self.nodes + self.memory_only
        yield "proc/meminfo", f"MemTotal: {count * self.memory_bytes >> 10} kB\nMemFree: 0 kB"
        for node in range(count) if self.numa else ():
            yield from self._node(f"sys/devices/system/node/node{node}", node, count)
        yield from self._cgroup()
        for index, gpu_node in enumerate(self.gpus):
            yield from self._gpu(f"sys/bus/pci/devices/0000:{16 * (index + 1):02x}:00.0", gpu_node)
        # What is no GPU: a network card, and the bridge of another vendor's graphics.
        yield from _device("sys/bus/pci/devices/0000:01:00.0", "0x15b3", "0x020000", 0, "0")
        yield from _device("sys/bus/pci/devices/0000:02:00.0", "0x1a03", "0x030000", 0, "0")

    def _cpu(self, directory: str, cpu: int) -> Iterator[tuple[str, str]]:
        core = self._core(cpu)
        node = core // self.cores
        siblings = self._online(core, 1)
        yield f"{directory}/topology/core_id", str(core % (self.nodes * self.cores))
        yield f"{directory}/topology/physical_package_id", str(node // self.nodes)
        yield f"{directory}/topology/die_id", "0"
        yield f"{directory}/topology/core_cpus_list", siblings
        caches = [("1", "Data", "32K", siblings), ("1", "Instruction", "32K", siblings)]
        caches += [
            ("2", "Unified", "1024K", siblings),
            ("3", "Unified", "32M", self._online(node, self.cores)),
        ]
        for index, values in enumerate(caches):
            for name, value in zip(("level", "type", "size", "shared_cpu_list"), values, strict=True):
                yield f"{directory}/cache/index{index}/{name}", value

    def _online(self, group: int, cores: int) -> str:
        """Return the online CPUs of a group of so many cores."""
        return str(CpuSet(cpu for cpu in self.online if self._core(cpu) // cores == group))

    def _node(self, directory: str, node: int, count: int) -> Iterator[tuple[str, str]]:
        yield f"{directory}/cpulist", str(self.cpus_of_node(node) & self.online)
        yield f"{directory}/distance", " ".join(str(self._distance(node, other)) for other in range(count))
        kilobytes = self.memory_bytes >> 10
        yield f"{directory}/meminfo", f"Node {node} MemTotal: {kilobytes} kB\nNode {node} MemFree: 0 kB"

    def _distance(self, node: int, other: int) -> int:
        if node == other:
            return 10
        return 12 if node // self.nodes == other // self.nodes else 21

    def _cgroup(self) -> Iterator[tuple[str, str]]:
        mount = "sys/fs/cgroup"
        path = f"/{self.cgroup.strip('/')}".rstrip("/")
        quota = None if self.quota is None else round(self.quota * _PERIOD)
        if self.version == 2:
            yield "proc/self/cgroup", f"0::{self.cgroup}"
            yield f"{mount}{path}/cpu.max", f"{'max' if quota is None else quota} {_PERIOD}"
            if self.cpuset is not None:
                yield f"{mount}{path}/cpuset.cpus.effective", self.cpuset
            return
        yield "proc/self/cgroup", f"3:cpu,cpuacct:{self.cgroup}\n2:cpuset:{self.cgroup}\n0::{self.cgroup}"
        yield f"{mount}/cpu{path}/cpu.cfs_quota_us", str(-1 if quota is None else quota)
        yield f"{mount}/cpu{path}/cpu.cfs_period_us", str(_PERIOD)
        yield f"{mount}/cpuset{path}/cpuset.cpus", str(self.present) if self.cpuset is None else self.cpuset

    def _gpu(self, directory: str, node: int | None) -> Iterator[tuple[str, str]]:
        cpus = self.online if node is None else self.cpus_of_node(node) & self.online
        return _device(directory, "0x10de", "0x030200", -1 if node is None else node, str(cpus))


def _device(directory: str, vendor: str, kind: str, node: int, cpus: str) -> Iterator[tuple[str, str]]:
    values: Iterable[tuple[str, str]] = {
        "vendor": vendor,
        "device": "0x2335",
        "class": kind,
        "numa_node": str(node),
        "local_cpulist": cpus,
    }.items()
    return ((f"{directory}/{name}", value) for name, value in values)
