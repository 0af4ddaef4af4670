"""Shell scripts of the examples, as their users run them; `yais` is that of these tests."""

from __future__ import annotations

import os
import queue
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from programs import ROOT, TIMEOUT


def environment(**more: object) -> dict[str, str]:
    """Return the environment of these tests with this Python's programs before others, and `more`."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, **{name: str(value) for name, value in more.items()}}


class Script:
    """A script that runs, until `end`, in a group of processes of its own."""

    def __init__(self, command: list[str], env: Mapping[str, str]) -> None:
        self.process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def line(self, pattern: str) -> re.Match[str]:
        """Wait for a line that it prints."""
        seen = []
        while True:
            seen.append(self._lines.get(timeout=TIMEOUT))
            if found := re.search(pattern, seen[-1]):
                return found
            assert seen[-1], f"it ended without {pattern!r}: {seen}"

    def interrupt(self) -> None:
        """Send SIGINT to all of its processes, as a terminal does for Ctrl-C."""
        os.killpg(self.process.pid, signal.SIGINT)

    def end(self) -> int:
        """Send it SIGTERM, and wait; return its status."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(TIMEOUT)
        finally:
            self.process.kill()
            self.process.wait()
            self._reader.join(TIMEOUT)

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as output:
            for line in output:
                self._lines.put(line)
        self._lines.put("")


@contextmanager
def script(*command: object, **more: object) -> Iterator[Script]:
    """Run a script while the block lasts."""
    running = Script([*map(str, command)], environment(**more))
    try:
        yield running
    finally:
        if running.process.poll() is None:
            running.end()
