"""How much CPU time a program has used."""

from __future__ import annotations

import contextlib
import os
import resource
from pathlib import Path

_TICK = 1.0 / os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float:
    """Return user and system time of a process and of what it has started, in seconds (to a tick, 10 ms).

    Parameters
    ----------
    pid
        Of the process. If it leads a session, as those started by `processes.child` do, what it has started
        counts too, also after it has ended.
    """
    return sum(cpu_by_process(pid).values())


def cpu_by_process(pid: int) -> dict[int, float]:
    """Return the same for each process; those that have ended count in the one that waited for them."""
    parents, used = {}, {}
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            with contextlib.suppress(OSError):
                # The second field is the program's name in parentheses, which may itself hold spaces.
                fields = (process / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()
                own, session = int(process.name), int(fields[3])
                parents[own] = pid if session == pid else int(fields[1])
                used[own] = sum(map(int, fields[11:15])) * _TICK
    return {each: seconds for each, seconds in used.items() if _descends(each, pid, parents)}


def ended_children_seconds() -> float:
    """Return the same of the child processes of this one that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _descends(process: int, ancestor: int, parents: dict[int, int]) -> bool:
    """Return whether a process is another one, or was started by it, or by what it has started."""
    while process != ancestor and process in parents:
        process = parents[process]
    return process == ancestor
