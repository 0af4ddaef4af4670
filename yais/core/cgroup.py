"""What the cgroups of this process, a container's for example, leave it of the machine. Linux only.

Two limits are independent: the set of CPUs it may run on (the cpuset) and the CPU time per period that is
paid for (the quota).
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from yais.core.affinity import usable_cpus
from yais.core.cpu_set import CpuSet
from yais.core.sysfs import read_text

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["concurrency", "cpu_quota", "cpuset"]


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
    for group, version in _groups(root, "cpu"):
        quotas += _quota_v2(group) if version == 2 else _quota_v1(group)
    return min(quotas, default=None)


def cpuset(root: Path = Path("/")) -> CpuSet | None:
    """Return the CPUs that the cgroups of this process may use, None without a limit.

    Reads `cpuset.cpus.effective` (cgroup v2), or `cpuset.effective_cpus` and `cpuset.cpus` (v1), of the own
    cgroup, or of the nearest above it that has such a file: the kernel keeps each within what is above it.

    Parameters
    ----------
    root
        The directory that holds `proc` and `sys`.
    """
    files = {2: ("cpuset.cpus.effective",), 1: ("cpuset.effective_cpus", "cpuset.cpus")}
    for group, version in _groups(root, "cpuset"):
        for name in files[version]:
            if text := read_text(group / name):
                return CpuSet(text)
    return None


def concurrency(root: Path = Path("/")) -> int:
    """Return how many threads can compute at the same time: the usable CPUs, cut to the quota; at least 1."""
    quota, within = cpu_quota(root), cpuset(root)
    usable = usable_cpus(root)
    count = len(usable if within is None else usable & within)
    return max(1, count if quota is None else min(count, math.ceil(quota)))


def _groups(root: Path, controller: str) -> Iterator[tuple[Path, int]]:
    """Yield the directories that may have limits of a controller, own ones first, and the cgroup version."""
    for line in read_text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            mount, version = root / "sys/fs/cgroup", 2
        elif controller in controllers.split(","):
            mount, version = root / "sys/fs/cgroup" / controller, 1
        else:
            continue
        own = mount / path.lstrip("/")
        if not own.is_dir():
            # A container sees its own cgroup as the root of the mount, yet may see its path on the host.
            own = mount
        yield from ((group, version) for group in (own, *own.parents) if group.is_relative_to(mount))


def _quota_v2(group: Path) -> list[float]:
    match read_text(group / "cpu.max").split():
        case [quota, period] if quota != "max":
            return [int(quota) / int(period)]
    return []


def _quota_v1(group: Path) -> list[float]:
    quota, period = read_text(group / "cpu.cfs_quota_us"), read_text(group / "cpu.cfs_period_us")
    return [int(quota) / int(period)] if quota and period and int(quota) > 0 else []
