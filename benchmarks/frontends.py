"""The processes of `yais serve --frontends N`."""

from __future__ import annotations

from pathlib import Path

_ROLES = {"frontend_process": "frontend", "engine_process": "engine"}


class Roles:
    """Tells what the processes of a server do, by their command lines; also those that have ended since.

    Parameters
    ----------
    pid
        Of the process that was started.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._known: dict[int, str] = {}

    def of(self, pid: int) -> str:
        """Return "frontend", "engine" (which a process that they have started is part of), or "server"."""
        if pid == self._pid:
            return "server"
        line = _command_line(pid)
        if pid not in self._known and line != _command_line(self._pid):  # as it is until it executes its own
            self._known[pid] = next((role for word, role in _ROLES.items() if word in line), "engine")
        return self._known.get(pid, "server")


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
