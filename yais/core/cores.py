"""Cores and caches, from `/sys/devices/system/cpu` (Documentation/ABI in the kernel's source)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from yais.core.cpu_set import CpuSet
from yais.core.sysfs import numbered, read_cpus, read_number, read_text

__all__ = ["Cache", "Core", "Socket", "read_caches", "read_cores", "sockets_of"]

_CPUS = "sys/devices/system/cpu"
_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


@dataclass(frozen=True, slots=True)
class Core:
    """A physical core: one CPU for each of its hardware threads.

    Attributes
    ----------
    id
        The platform's number, unique within the die at best.
    socket, die
        Where it is: the physical package, and the die in it.
    cpus
        CPUs that the process may use.
    online
        All that are online.
    """

    id: int
    socket: int
    die: int
    cpus: CpuSet
    online: CpuSet


@dataclass(frozen=True, slots=True)
class Socket:
    """A physical package; `cpus` are those that the process may use, `online` all that are online."""

    id: int
    cpus: CpuSet
    online: CpuSet


@dataclass(frozen=True, slots=True)
class Cache:
    """A cache and who shares it.

    Attributes
    ----------
    level
        1 is nearest to the core.
    kind
        "Data", "Instruction" or "Unified".
    size
        Bytes; 0 where the machine does not say.
    cpus
        CPUs that the process may use.
    online
        All that are online.
    """

    level: int
    kind: str
    size: int
    cpus: CpuSet
    online: CpuSet


def read_cores(root: Path, online: CpuSet, usable: CpuSet) -> tuple[Core, ...]:
    """Return the cores of the online CPUs; a CPU that the machine says nothing of is a core by itself."""
    cores: dict[CpuSet, tuple[int, list[int]]] = {}
    for cpu in online:
        directory = root / _CPUS / f"cpu{cpu}/topology"
        # The second name is that of kernels before 5.3.
        siblings = read_cpus(directory / "core_cpus_list") or read_cpus(directory / "thread_siblings_list")
        cores.setdefault(siblings or CpuSet([cpu]), (cpu, []))[1].append(cpu)
    return tuple(_core(root / _CPUS, first, CpuSet(cpus), usable) for first, cpus in cores.values())


def _core(directory: Path, first: int, cpus: CpuSet, usable: CpuSet) -> Core:
    topology = directory / f"cpu{first}/topology"
    number = read_number(topology / "core_id")
    return Core(
        id=first if number is None else number,
        socket=read_number(topology / "physical_package_id") or 0,
        die=read_number(topology / "die_id") or 0,
        cpus=cpus & usable,
        online=cpus,
    )


def sockets_of(cores: tuple[Core, ...]) -> tuple[Socket, ...]:
    """Return the sockets that the cores are in, by number."""
    numbers = sorted({core.socket for core in cores})
    members = {number: [core for core in cores if core.socket == number] for number in numbers}
    return tuple(
        Socket(
            number,
            CpuSet(cpu for core in inside for cpu in core.cpus),
            CpuSet(cpu for core in inside for cpu in core.online),
        )
        for number, inside in members.items()
    )


def read_caches(root: Path, online: CpuSet, usable: CpuSet) -> tuple[Cache, ...]:
    """Return the caches of the online CPUs, by level, then by their first CPU."""
    caches: list[Cache] = []
    seen: dict[int, set[int]] = {}
    for cpu in online:
        for index, directory in numbered(root / _CPUS / f"cpu{cpu}/cache", "index"):
            # Described in the same words under each CPU that shares it; there can be hundreds.
            if cpu in seen.setdefault(index, set()):
                continue
            shared = (read_cpus(directory / "shared_cpu_list") or CpuSet([cpu])) & online
            seen[index].update(shared)
            level, kind = read_number(directory / "level") or 0, read_text(directory / "type")
            size = _size(read_text(directory / "size"))
            caches.append(Cache(level, kind, size, shared & usable, shared))
    return tuple(sorted(caches, key=lambda cache: (cache.level, min(cache.online), cache.kind)))


def _size(text: str) -> int:
    """Return the bytes of text such as "32K"."""
    number = text.rstrip("KMG")
    return int(number) * _UNITS.get(text[-1:], 1) if number.isdecimal() else 0
