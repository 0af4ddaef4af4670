"""Which CPUs threads may run on. Linux only."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from yais.core.cpu_set import MOST_CPUS, CpuSet
from yais.core.sysfs import read_cpus, read_text

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["affinity", "allowed_cpus", "set_affinity", "usable_cpus"]


@contextlib.contextmanager
def affinity(cpus: CpuSet | str) -> Iterator[None]:
    """Keep the calling thread on `cpus` inside the block; threads it starts there inherit that.

    Raises
    ------
    ValueError
        As `set_affinity` does.
    """
    before = allowed_cpus()
    set_affinity(CpuSet(cpus) if isinstance(cpus, str) else cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def allowed_cpus() -> CpuSet:
    """Return the CPUs the calling thread may run on."""
    return CpuSet(os.sched_getaffinity(0))


def set_affinity(cpus: CpuSet) -> None:
    """Let the calling thread run on `cpus` only; threads it starts later inherit that.

    Raises
    ------
    ValueError
        `cpus` is empty, or some of it is not allowed by the cpuset of the process. Nothing changed then.
    """
    before = allowed_cpus()
    try:
        os.sched_setaffinity(0, cpus)
        # The kernel drops what is not allowed without a word, and fails only if nothing remains.
        accepted = allowed_cpus() == cpus
    except OSError:
        accepted = False
    if not accepted:
        within = _cpuset_cpus()
        os.sched_setaffinity(0, before)
        raise ValueError(f"got CPUs '{cpus}', expected at least one and only such as are in '{within}'")


def _cpuset_cpus() -> CpuSet:
    """Return what the cpuset allows, by asking for every CPU: leaves the thread with that affinity."""
    os.sched_setaffinity(0, range(MOST_CPUS))
    return allowed_cpus()


def usable_cpus(root: Path = Path("/")) -> CpuSet:
    """Return the CPUs given to the process: those its main thread may run on.

    The kernel keeps them within the cgroup's cpuset.

    Parameters
    ----------
    root
        The directory that holds `proc` and `sys`. Those of another machine are read from `proc/self/status`
        (proc_pid_status(5)), which may list CPUs that are offline; without it they are all that are online.
    """
    if root == Path("/"):
        return CpuSet(os.sched_getaffinity(os.getpid()))
    online = read_cpus(root / "sys/devices/system/cpu/online")
    for line in read_text(root / "proc/self/status").splitlines():
        if line.startswith("Cpus_allowed_list:"):
            allowed = CpuSet(line.partition(":")[2])
            return allowed & online if online else allowed
    return online
