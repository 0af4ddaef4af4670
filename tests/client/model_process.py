"""The program `model_site` as a process."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path

from both_managers import SOON

PROGRAM = str(Path(__file__).with_name("model_site.py"))


class Site:
    """A server of the model `where`, whose answer is the server's number.

    Attributes
    ----------
    port, address
        Where it listens; unknown to one that blocks.
    """

    def __init__(self, number: int, *arguments: object) -> None:
        command = [sys.executable, "-W", "error", PROGRAM, str(number), *map(str, arguments)]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        self._watchdog = threading.Timer(2 * SOON, self._process.kill)
        self._watchdog.start()
        if "--block" not in arguments:
            host = arguments[arguments.index("--address") + 1] if "--address" in arguments else "127.0.0.1"
            self.port = int(self.line().removeprefix("port "))
            self.address = f"{host}:{self.port}"

    def line(self) -> str:
        """Wait for the next line that it prints."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline().strip()
        if not line:
            raise AssertionError(f"it ended: {self.end()}")
        return line

    def go_on(self) -> None:
        """Send it a line."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")

    def terminate(self) -> None:
        """Send it SIGTERM."""
        self._process.send_signal(signal.SIGTERM)

    def end(self) -> tuple[int, str]:
        """Wait for its end; return its status and what it said of errors."""
        try:
            _, errors = self._process.communicate(timeout=SOON)
            return self._process.returncode, errors
        finally:
            self.kill()

    def kill(self) -> None:
        """Send it SIGKILL, and wait. Idempotent."""
        self._process.kill()
        if self._process.stdout is not None and not self._process.stdout.closed:
            self._process.communicate()
        self._watchdog.cancel()
        self._watchdog.join()
