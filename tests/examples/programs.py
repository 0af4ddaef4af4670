"""Examples as their users run them: servers as processes on free ports, clients that end by themselves."""

from __future__ import annotations

import importlib
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[2]
TIMEOUT = 60.0


@contextmanager
def server(program: str, *arguments: str) -> Iterator[int]:
    """Run a server program, given by its path in examples/, and yield its port; it must end when told."""
    command = [sys.executable, "-W", "error", f"examples/{program}", "--port", "0", *arguments]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    watchdog = threading.Timer(2 * TIMEOUT, process.kill)
    watchdog.start()
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        port = re.search(r"port (\d+)", line)
        assert port is not None, f"{program} printed {line!r}"
        yield int(port[1])
        process.send_signal(signal.SIGTERM)
        assert process.wait(TIMEOUT) == 0
    finally:
        process.kill()
        process.communicate()
        watchdog.cancel()
        watchdog.join()


def client(program: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a client program to its end."""
    command = [sys.executable, "-W", "error", f"examples/{program}", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT, check=False)


def lines(program: str, *arguments: object) -> list[str]:
    """Return what a client prints that must succeed."""
    ended = client(program, *arguments)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.splitlines()


def module(example: str, name: str) -> ModuleType:
    """Import a module of an example as its programs do."""
    folder = str(ROOT / "examples" / example)
    sys.path.insert(0, folder)
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(folder)


def eventually(holds: Callable[[], object]) -> None:
    """Wait for what no event announces."""
    deadline = time.monotonic() + TIMEOUT
    while not holds():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.001)
