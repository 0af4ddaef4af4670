"""Which CPUs this process may use, and how much of them.

Linux only. Two limits are independent: the set of CPUs a thread may run on (affinity, cut down by the
cgroup's cpuset) and the CPU time per period that the cgroup pays for (the quota of a container).
"""

from __future__ import annotations

import contextlib
import math
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["CpuSet", "affinity", "concurrency", "cpu_quota", "pinned", "set_affinity", "usable_cpus"]

_RANGE = re.compile(r"([0-9]+)(?:-([0-9]+))?")


class CpuSet:
    """An immutable set of CPU numbers that iterates in order and prints as the kernel writes it.

    Parameters
    ----------
    cpus
        Text in the kernel's list format (cpuset(7), "List format"), as in "0-3,8", or the numbers.

    Raises
    ------
    ValueError
        The text is not such a list, or a number is negative.
    """

    __slots__ = ("_cpus",)

    def __init__(self, cpus: str | Iterable[int] = ()) -> None:
        self._cpus = frozenset(_parsed(cpus) if isinstance(cpus, str) else cpus)
        if any(cpu < 0 for cpu in self._cpus):
            raise ValueError(f"got CPU number {min(self._cpus)}, expected none below 0")

    def __or__(self, other: CpuSet) -> CpuSet:
        return CpuSet(self._cpus | other._cpus)

    def __and__(self, other: CpuSet) -> CpuSet:
        return CpuSet(self._cpus & other._cpus)

    def __sub__(self, other: CpuSet) -> CpuSet:
        return CpuSet(self._cpus - other._cpus)

    def __iter__(self) -> Iterator[int]:
        return iter(sorted(self._cpus))

    def __contains__(self, cpu: object) -> bool:
        return cpu in self._cpus

    def __len__(self) -> int:
        return len(self._cpus)

    def __eq__(self, other: object) -> bool:
        return self._cpus == other._cpus if isinstance(other, CpuSet) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._cpus)

    def __str__(self) -> str:
        runs: list[list[int]] = []
        for cpu in self:
            if runs and cpu == runs[-1][-1] + 1:
                runs[-1][1:] = [cpu]
            else:
                runs.append([cpu])
        return ",".join("-".join(map(str, run)) for run in runs)

    def __repr__(self) -> str:
        return f"CpuSet({str(self)!r})"


def _parsed(text: str) -> Iterator[int]:
    for part in text.split(",") if text.strip() else ():
        match = _RANGE.fullmatch(part.strip())
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if first > last:
            raise ValueError(
                f"got CPU list {text!r} with {part!r}, expected numbers and ranges as in '0-3,8'"
            )
        yield from range(first, last + 1)


def affinity() -> CpuSet:
    """Return the CPUs the calling thread may run on."""
    return CpuSet(os.sched_getaffinity(0))


def set_affinity(cpus: CpuSet) -> None:
    """Let the calling thread run on `cpus` only; threads it starts later inherit that.

    Raises
    ------
    ValueError
        `cpus` is empty, or some of it is not allowed by the cpuset of the process. Nothing changed then.
    """
    before = affinity()
    try:
        os.sched_setaffinity(0, cpus)
        # The kernel drops what is not allowed without a word, and fails only if nothing remains.
        accepted = affinity() == cpus
    except OSError:
        accepted = False
    if not accepted:
        allowed = _allowed()
        os.sched_setaffinity(0, before)
        raise ValueError(f"got CPUs '{cpus}', expected at least one and only such as are in '{allowed}'")


def _allowed() -> CpuSet:
    """Return what the cpuset allows, by asking for every CPU: leaves the thread with that affinity."""
    os.sched_setaffinity(0, range(8192))  # The most Linux can be built for: NR_CPUS in arch/x86/Kconfig.
    return affinity()


@contextlib.contextmanager
def pinned(cpus: CpuSet) -> Iterator[None]:
    """Keep the calling thread on `cpus` inside the block. Raises ValueError as `set_affinity` does."""
    before = affinity()
    set_affinity(cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def usable_cpus() -> CpuSet:
    """Return the CPUs given to the process: those of its main thread, within the cgroup's cpuset."""
    return CpuSet(os.sched_getaffinity(os.getpid()))


def cpu_quota(root: Path = Path("/")) -> float | None:
    """Return the CPUs' worth of time the cgroups of this process may use, None without a limit.

    Limits nest, so the smallest counts of the own cgroup and all above it. Reads `cpu.max` (cgroup v2)
    and `cpu.cfs_quota_us` over `cpu.cfs_period_us` (v1); both are described in the kernel's
    documentation of cgroups. What cannot be read limits nothing.

    Parameters
    ----------
    root
        The directory that holds `proc` and `sys`.
    """
    quotas: list[float] = []
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            mount, read = root / "sys/fs/cgroup", _quota_v2
        elif "cpu" in controllers.split(","):
            mount, read = root / "sys/fs/cgroup/cpu", _quota_v1
        else:
            continue
        # A container sees its own cgroup as the root of the mount, yet may see its path on the host.
        own = mount / path.lstrip("/")
        for group in (own, *own.parents):
            if group.is_relative_to(mount):
                quotas += read(group)
    return min(quotas, default=None)


def _quota_v2(group: Path) -> list[float]:
    match _read(group / "cpu.max").split():
        case [quota, period] if quota != "max":
            return [int(quota) / int(period)]
    return []


def _quota_v1(group: Path) -> list[float]:
    quota, period = _read(group / "cpu.cfs_quota_us"), _read(group / "cpu.cfs_period_us")
    return [int(quota) / int(period)] if quota and period and int(quota) > 0 else []


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError:
        return ""


def concurrency(root: Path = Path("/")) -> int:
    """Return how many threads can compute at the same time: the usable CPUs, cut to the quota; at least 1."""
    quota = cpu_quota(root)
    usable = len(usable_cpus())
    return usable if quota is None else max(1, min(usable, math.ceil(quota)))
