"""Several servers of the same model, each a process of its own."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

MODELS = Path(__file__).parents[1] / "models"
PATIENCE = 60.0
"""Seconds that a server may take to start, or to stop."""

_STARTED = re.compile(r"Started GRPCInferenceService at (\S+)")


@contextmanager
def copies(count: int, model: str) -> Iterator[list[str]]:
    """Run so many servers of a model, of one execution each, while the block lasts; yield their addresses."""
    with ExitStack() as stack:
        servers = [stack.enter_context(_server(model)) for _ in range(count)]
        yield [_address(server) for server in servers]


@contextmanager
def _server(model: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "yais.tools.main", "serve", "--model-repository", str(MODELS)]
    command += ["--model-control-mode", "explicit", "--load-model", model]
    command += ["--set", f"{model}.instance_group.0.count=1", "--gpu-executions", "1", "--log-info", "0"]
    command += [
        "--grpc-address",
        "127.0.0.1",
        "--grpc-port",
        "0",
        "--allow-http",
        "0",
        "--allow-metrics",
        "0",
    ]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield server
        server.send_signal(signal.SIGTERM)
        server.communicate(timeout=PATIENCE)
    finally:
        server.kill()
        server.communicate()


def _address(server: subprocess.Popen[str]) -> str:
    """Wait until a server has started; return where it listens."""
    watchdog = threading.Timer(PATIENCE, server.kill)
    watchdog.start()
    try:
        assert server.stdout is not None
        for line in server.stdout:
            if found := _STARTED.search(line):
                return found[1]
    finally:
        watchdog.cancel()
    raise SystemExit("a server did not start")
