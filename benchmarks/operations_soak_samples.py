"""Memory, descriptors and threads of processes over time, and whether they stay as they are."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

_MIB = 1 << 10  # of the KiB that the kernel writes


@dataclass(frozen=True)
class Usage:
    """What a process has: resident memory in MiB, descriptors, threads."""

    resident: float
    descriptors: int
    threads: int


@dataclass(frozen=True)
class Sample:
    """One moment, in seconds from the start.

    Attributes
    ----------
    rate, failed
        Answered with OK, and otherwise, by status: requests/s since the last sample.
    p99
        Of those answered, ms.
    processes
        By name and id, such as ("A: engine", 4711).
    """

    moment: float
    rate: float
    failed: dict[str, float]
    p99: float | None
    processes: dict[tuple[str, int], Usage]


def usage(pid: int) -> Usage | None:
    """Return what a process has; None if it has ended."""
    process = Path(f"/proc/{pid}")
    try:
        status = (process / "status").read_text(encoding="utf-8")
        descriptors = len(os.listdir(process / "fd"))
    except OSError:
        return None
    found = {name: re.search(rf"^{name}:\s+(\d+)", status, re.MULTILINE) for name in ("VmRSS", "Threads")}
    resident, threads = (0 if each is None else int(each[1]) for each in found.values())
    return Usage(resident / _MIB, descriptors, threads) if resident else None


def usages(processes: Iterable[tuple[str, int]]) -> dict[tuple[str, int], Usage]:
    """Return what each has that runs."""
    found = {process: usage(process[1]) for process in processes}
    return {process: each for process, each in found.items() if each is not None}


def grown(samples: Sequence[Sample], growth: float) -> list[str]:
    """Return which of the processes that were there all the time have grown since a third of it.

    Parameters
    ----------
    growth
        The share by which memory may differ between two moments under the same load.
    """
    sixth = max(1, len(samples) // 6)
    wrong = []
    for process in samples[0].processes:
        if not all(process in each.processes for each in samples):
            continue
        resident = [each.processes[process].resident for each in samples]
        # The first third is the warm-up; the median of a sixth after it, and of the last one.
        early, late = median(resident[2 * sixth : 3 * sixth]), median(resident[-sixth:])
        if late > early * (1 + growth):
            wrong.append(f"{process[0]}: got {late:.0f} MiB resident at the end, expected {early:.0f}")
    return wrong


def kept(before: dict[tuple[str, int], Usage], after: dict[tuple[str, int], Usage], spare: int) -> list[str]:
    """Return which processes have more descriptors when idle again than when idle before.

    Parameters
    ----------
    spare
        Descriptors that a process may have more: of connections that are still to be closed.
    """
    return [
        f"{process[0]}: got {after[process].descriptors} descriptors, expected {then.descriptors} as before"
        for process, then in before.items()
        if process in after and after[process].descriptors > then.descriptors + spare
    ]
