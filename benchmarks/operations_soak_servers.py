"""What benchmarks/operations_soak.py operates: servers, and clients that vanish."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.cpu_time import cpu_by_process
from benchmarks.frontends import Roles
from benchmarks.processes import BenchmarkError, child, free_port, tail, wait_until_ready
from benchmarks.serving_models import FIRST, write_onnx
from benchmarks.workloads import WORKLOADS
from yais.client.connection import Connection
from yais.client.grpc_endpoint import GrpcEndpoint
from yais.protocol import kserve_pb2 as pb

LOCAL = "127.0.0.1"
RELOADED, SLOW = "simple", "slow"
"""Models: the one that is loaded again, and one that takes half a second."""

_YAIS = (sys.executable, "-m", "yais.tools.main")
HEALTH_SECONDS, _DRAIN_DELAY = 0.5, 4.0
"""The balancer takes a server out after two looks at its health, each of which may take a second; the server
keeps on for longer."""
_PATIENCE = 60.0
"""Seconds for what must come about: a server that drains takes up to 33."""
_STARTED = "Started GRPCInferenceService"
"""What it says once all its processes are ready."""

_SLOW_CONFIG = """
backend: "python"
max_batch_size: 8
instance_group { count: 8 }
input { name: "X" data_type: TYPE_FP32 dims: [ 1 ] }
output { name: "Y" data_type: TYPE_FP32 dims: [ 1 ] }
"""
_SLOW_MODEL = """
import time


class Model:
    def execute(self, inputs):
        time.sleep(0.5)
        return {"Y": inputs["X"]}
"""


def write_models(repository: Path) -> None:
    """Write `simple`, `first_fp32` of 600 KB, and `slow`."""
    write_onnx(repository)
    model = repository / SLOW
    (model / "1").mkdir(parents=True)
    (model / "config.pbtxt").write_text(_SLOW_CONFIG, encoding="utf-8")
    (model / "1" / "model.py").write_text(_SLOW_MODEL, encoding="utf-8")


def until(true: Callable[[], bool], what: str) -> None:
    """Wait for something. Raises BenchmarkError where it does not come about."""
    end = time.monotonic() + _PATIENCE
    while not true():
        if time.monotonic() > end:
            raise BenchmarkError(f"{what}: not within {_PATIENCE:.0f} s")
        time.sleep(0.05)


class Server:
    """A `yais serve` on a port of its own, which is started, stopped and started again.

    Attributes
    ----------
    pid, roles
        Of its first process, and what the others are.
    spared
        Processes that are not killed.
    """

    def __init__(self, name: str, frontends: int, repository: Path, folder: Path) -> None:
        self.name = name
        self.frontends = frontends
        self.target = f"{LOCAL}:{free_port()}"
        self.spared: set[int] = set()
        self._repository = repository
        self._folder = folder
        self._stack = contextlib.ExitStack()
        self._logs: list[Path] = []

    def start(self) -> None:
        """Start it, and wait until it answers and has all its processes."""
        log = self._folder / f"{self.name}-{len(self._logs)}.log"
        self._logs.append(log)
        command = [*_YAIS, "serve", "--model-repository", str(self._repository)]
        command += ["--model-control-mode", "explicit", "--load-model", "*"]
        command += ["--frontends", str(self.frontends)]
        command += ["--grpc-address", LOCAL, "--grpc-port", self.target.rpartition(":")[2]]
        command += ["--allow-http", "false", "--allow-metrics", "false"]
        command += ["--drain-delay-secs", str(_DRAIN_DELAY), "--log-info", "false"]
        self._process = self._stack.enter_context(child(command, log))
        self.pid = self._process.pid
        self.roles = Roles(self.pid)
        wait_until_ready(self._process, self.target, WORKLOADS["simple"], log)
        # One frontend answers before the others are ready, and a server ends if one of them ends until then.
        until(lambda: _STARTED in log.read_text(encoding="utf-8"), f"{self.name}: '{_STARTED}'")

    def whole(self) -> None:
        """Wait until as many frontends run as are wanted, and all models are ready."""
        until(lambda: len(self.processes("frontend")) == self.frontends, f"{self.name}: all frontends")
        until(self._ready, f"{self.name}: ready")

    def processes(self, role: str | None = None) -> list[int]:
        """Return those that run, of one role or all, the oldest first."""
        return sorted(pid for pid in cpu_by_process(self.pid) if role in {None, self.roles.of(pid)})

    def kill(self, pid: int) -> None:
        """Kill one of them with SIGKILL, and wait until there is another in its place."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        until(lambda: pid not in self.processes(), f"{self.name}: the end of {pid}")
        self.whole()

    def reload(self) -> None:
        """Have a model loaded again, whose file has changed."""
        (self._repository / RELOADED / "1" / "model.onnx").touch()
        with GrpcEndpoint(Connection(self.target, timeout=_PATIENCE)) as endpoint:
            endpoint.call("RepositoryModelLoad", pb.RepositoryModelLoadRequest(model_name=RELOADED))

    def drain(self) -> None:
        """Stop it as Kubernetes does. Raises BenchmarkError if it does not end in time, and well."""
        processes = self.processes()
        self._process.send_signal(signal.SIGTERM)
        try:
            code = self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            raise BenchmarkError(f"{self.name} has not drained within {_PATIENCE:.0f} s") from None
        left = [pid for pid in processes if Path(f"/proc/{pid}").exists()]
        self._stack.close()
        if code or left:
            log = tail(self._logs[-1].read_text(encoding="utf-8", errors="replace"))
            raise BenchmarkError(f"{self.name} ended with {code}, and left processes {left} behind:\n{log}")

    def unexpected(self) -> list[str]:
        """Return what it has logged that points to an error of its own."""
        found = []
        for log in self._logs:
            text = log.read_text(encoding="utf-8", errors="replace")
            at = text.find("Traceback")
            found += [f"{log.name}: {text[at : at + 2000]}"] if at >= 0 else []
        return found

    def end(self) -> None:
        """Be sure that it is gone."""
        self._stack.close()

    def _ready(self) -> bool:
        with GrpcEndpoint(Connection(self.target, timeout=1.0)) as endpoint, contextlib.suppress(Exception):
            return bool(endpoint.call("ServerReady", pb.ServerReadyRequest()).ready)
        return False


class Vanishing:
    """A client that is killed while its requests are on their way, and replaced."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._models = (SLOW, FIRST)
        self._started = 0
        self._replace()

    def vanish(self) -> None:
        """Kill it with SIGKILL, and start another."""
        self.end()
        self._replace()

    def end(self) -> None:
        """Be sure that it is gone."""
        self._process.kill()
        self._process.wait()

    def _replace(self) -> None:
        model = self._models[self._started % len(self._models)]
        self._started += 1
        command = [*_YAIS, "siege", self._target, model, "--rate", "10", "--duration", "86400"]
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
