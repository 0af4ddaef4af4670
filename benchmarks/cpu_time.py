"""How much CPU time a program has used."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

_TICK = 1.0 / os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float:
    """Return the user and system time of a process and of its session, in seconds (to a clock tick, 10 ms).

    Parameters
    ----------
    pid
        Of the process. If it leads a session, as those started by `processes.child` do, what it has started
        counts too, also after it has ended.
    """
    ticks = 0
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            with contextlib.suppress(OSError):
                # The second field is the program's name in parentheses, which may itself hold spaces.
                fields = (process / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()
                if pid in {int(process.name), int(fields[3])}:
                    ticks += sum(map(int, fields[11:15]))
    return ticks * _TICK
