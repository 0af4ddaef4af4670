"""The commands of a README, run with directories and ports of their own, and questions to its Prometheus."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
SOON = 60.0


class Session:
    """Runs the commands of the README, with directories and ports of its own in the place of those there."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        ports = {name: free_port() for name in ("grpc", "http", "metrics", "prometheus")}
        self.prometheus = f"http://127.0.0.1:{ports['prometheus']}"
        self._replaced = {
            "/tmp/prometheus": str(directory),
            ":8001": f":{ports['grpc']}",
            ":9090": f":{ports['prometheus']}",
        }
        self._metrics = f"127.0.0.1:{ports['metrics']}"
        here = {f"YAIS_SERVE_{name.upper()}_PORT": str(ports[name]) for name in ("grpc", "http", "metrics")}
        self._environment = {**os.environ, **here, "PYTHONWARNINGS": "error"}
        self._stack = ExitStack()

    def run(self, command: str) -> str:
        """Run a command to its end; return what it prints."""
        ended = subprocess.run(
            ["bash", "-c", self._here(command)],
            cwd=ROOT,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=SOON,
            check=False,
        )
        assert ended.returncode == 0, (command, ended.stdout, ended.stderr)
        if command.startswith("cp "):
            config = self.directory / "prometheus.yml"
            config.write_text(config.read_text().replace("127.0.0.1:8002", self._metrics))
        return ended.stdout

    def start(self, command: str) -> None:
        """Run a command until the end of the session."""
        self._stack.enter_context(self._running(f"exec {self._here(command)}"))

    def ready(self, url: str) -> None:
        """Wait until something answers."""
        eventually(lambda: answered(url))

    @property
    def metrics(self) -> str:
        """Where the server's metrics are."""
        return f"http://{self._metrics}/metrics"

    def close(self) -> None:
        """End what was started."""
        self._stack.close()

    def query(self, expression: str, path: str = "query") -> Any:
        """Ask Prometheus over its API."""
        asked = urllib.parse.urlencode({"query": expression})
        with urllib.request.urlopen(f"{self.prometheus}/api/v1/{path}?{asked}", timeout=SOON) as response:
            answer = json.load(response)
        assert answer["status"] == "success"
        return answer["data"]

    def _here(self, command: str) -> str:
        for there, here in self._replaced.items():
            command = command.replace(there, here)
        command = re.sub("^yais ", f"{sys.executable} -m yais.tools.main ", command)
        return re.sub("^python ", f"{sys.executable} ", command)

    @contextmanager
    def _running(self, command: str) -> Iterator[None]:
        with (self.directory / "log").open("ab") as log:
            process = subprocess.Popen(
                ["bash", "-c", command], cwd=ROOT, env=self._environment, stdout=log, stderr=log
            )
        try:
            yield
        finally:
            process.terminate()
            try:
                process.wait(SOON)
            finally:
                process.kill()


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def answered(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=SOON):
            return True
    except OSError:
        return False


def eventually(holds: Callable[[], object]) -> None:
    """Wait for what no event announces."""
    deadline = time.monotonic() + SOON
    while not holds():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
