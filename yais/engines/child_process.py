"""A child process of the server: started, watched, ended for sure."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import IO

from yais.core.clock import Deadline

__all__ = ["ChildProcess"]

_log = logging.getLogger("yais.engines")

_TERMINATE_SECONDS = 1.0  # between SIGTERM and SIGKILL
_REAP_SECONDS = 5.0  # that the kernel may take to end a process after SIGKILL
_POLL_SECONDS = 0.005
_LINE = 8192  # bytes of output in one record of the log


class ChildProcess:
    """A Python module that runs as a program, in a session of its own.

    What it prints goes to the log: stdout as INFO, stderr as WARNING. Or, without a label, where this process
    prints.

    Parameters
    ----------
    module
        Called with the number of a file descriptor as its argument.
    connection
        That file descriptor.
    label
        Leads its lines in the log.
    """

    def __init__(self, module: str, connection: socket.socket, label: str | None) -> None:
        output = None if label is None else subprocess.PIPE
        self._process = subprocess.Popen(
            # Unbuffered, so that its output is in the log at once, and with nothing imported from the
            # directory where it happens to run.
            [sys.executable, "-uPm", module, str(connection.fileno())],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=[connection.fileno()],
            start_new_session=True,  # signals of the terminal are for the server, which ends it in order
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        for lines, level in ((self._process.stdout, logging.INFO), (self._process.stderr, logging.WARNING)):
            if lines is not None:
                threading.Thread(
                    target=_log_lines, args=(label, lines, level), name="output", daemon=True
                ).start()

    @property
    def pid(self) -> int:
        """Number of the process."""
        return self._process.pid

    @property
    def exited(self) -> bool:
        """Whether it has ended."""
        if self._process.returncode is not None:
            return True
        # Without reaping it, see `signal`.
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    @property
    def status(self) -> int | None:
        """Its exit status, once `end` has returned; negative for the signal that ended it."""
        return self._process.returncode

    def wait(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds for its end; return whether it has ended."""
        deadline = Deadline.after(timeout)
        while not self.exited and not deadline.expired():
            time.sleep(_POLL_SECONDS)
        return self.exited

    def signal(self, number: int) -> None:
        """Send a signal to it and to all that it started. From any thread."""
        # The number of the group is given to nobody else before the process is reaped.
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, number)

    def end(self) -> str:
        """End it and all that it started, within seconds, and return how it ended. Idempotent."""
        if not self.exited:
            self.signal(signal.SIGTERM)
            self.wait(_TERMINATE_SECONDS)
        self.signal(signal.SIGKILL)
        status = self._process.wait(_REAP_SECONDS)
        return f"ended with exit status {status}" if status >= 0 else f"was ended by {_signal_name(-status)}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _log_lines(label: str, output: IO[bytes], level: int) -> None:
    with output:
        while line := output.readline(_LINE):
            _log.log(level, "%s: %s", label, line.decode(errors="replace").rstrip())
