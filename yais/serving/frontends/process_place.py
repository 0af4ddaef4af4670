"""Where one process of a server runs, and after it the next."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess

from yais.engines.child_process import ChildProcess
from yais.serving.frontends.control import ControlChannel, FrontendCounts, Message

__all__ = ["ProcessPlace"]

_PATIENCE = 10.0  # seconds that a process may be deaf to the supervisor, which then ends it
_ENDING = 1.0  # seconds between the end of its connection and that of a process


class ProcessPlace:
    """The place of a process. Used by one thread.

    Parameters
    ----------
    name
        What it is called in the log.
    module
        The program.

    Attributes
    ----------
    up
        Whether its process has said that it does what it is for.
    ready
        Whether it has said that it knows of the models.
    channel
        To its process, if it has one.
    exit
        File descriptor that is readable once its process has ended; None where the system has none.
    """

    def __init__(self, name: str, module: str) -> None:
        self.name = name
        self.up = self.ready = False
        self.channel: ControlChannel | None = None
        self.exit: int | None = None
        self._module = module
        self._process: ChildProcess | None = None
        self._counts = FrontendCounts()
        self._earlier = 0

    def __repr__(self) -> str:
        return f"<ProcessPlace {self.name}: {self.pid or 'no process'}{', up' if self.up else ''}>"

    @property
    def pid(self) -> int | None:
        """Number of its process, if it has one."""
        return None if self._process is None else self._process.pid

    @property
    def counts(self) -> FrontendCounts:
        """What its process has said last; requests include those of the processes before."""
        return FrontendCounts(self._counts.in_flight, self._earlier + self._counts.requests)

    def launch(self, setup: Message) -> ControlChannel:
        """Start a process, and say what it is to do. Raises OSError if none can be started."""
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                self._process = ChildProcess(self._module, theirs, None)
            except BaseException:
                ours.close()
                raise
        with contextlib.suppress(OSError):
            self.exit = os.pidfd_open(self._process.pid)
        self.channel = ControlChannel(ours, _PATIENCE)
        self.channel.send(setup)
        return self.channel

    def send(self, message: Message, *connections: socket.socket) -> None:
        """Tell its process something, if it has one that still listens."""
        if self.channel is not None:
            self.channel.send(message, *connections)

    def count(self, counts: FrontendCounts) -> None:
        """Take what its process says."""
        self._counts = counts

    def kill(self) -> None:
        """End its process now, if it has one; its connection tells when that has happened."""
        if self._process is not None:
            self._process.signal(signal.SIGKILL)

    def end(self) -> tuple[bool, str]:
        """End its process, within seconds; return whether that had ended in order, and how it has ended."""
        process, channel = self._process, self.channel
        assert process is not None
        assert channel is not None
        process.wait(_ENDING)
        self.kill()
        try:
            how = process.end()
        except subprocess.TimeoutExpired:  # it is in the kernel, which does not let it go
            how = f"does not end, not even by SIGKILL; process {process.pid} is left behind"
        channel.close()
        if self.exit is not None:
            os.close(self.exit)
        self._process = self.channel = self.exit = None
        self.up = self.ready = False
        self._earlier = self.counts.requests
        self._counts = FrontendCounts()
        return process.status == 0, how
