"""The servers that are compared, and how each is started."""

from __future__ import annotations

import contextlib
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from shutil import copytree
from typing import TYPE_CHECKING

from benchmarks.processes import ROOT, BenchmarkError, child, free_port, wait_until_ready

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from benchmarks.workloads import Workload

PEERS_PYTHON = ROOT / "benchmarks" / ".venvs" / "peers" / "bin" / "python"
SYNC, AIO, YAIS = "grpcio sync", "grpc.aio + uvloop", "yais"
SERVERS = (SYNC, AIO, YAIS)
FORMS = {
    "ping-pong": {
        YAIS: "bidirectional",
        "yais, StreamingContext": "callbacks",
        "yais, asyncio": "asyncio",
    },
    "replies": {YAIS: "generator", "yais, asyncio": "asyncio"},
}
"""How a workload of streams can be written with yais: name of the server, and what the program calls it."""


@dataclass(frozen=True)
class Running:
    """A server that answers.

    Attributes
    ----------
    target, http
        HOST:PORT of gRPC and of HTTP, the latter empty where there is none.
    pid
        Of the process that was started; it leads a session.
    """

    target: str
    pid: int
    http: str = ""


def servers_of(workload: Workload) -> list[str]:
    """Return the names of the servers of a workload."""
    return list(dict.fromkeys((*SERVERS, *FORMS.get(workload.name, ()))))


def existing(path: Path, otherwise: str) -> str:
    """Return a path, or raise that it is missing and what to do about it."""
    if not path.exists():
        shown = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
        raise BenchmarkError(f"{shown} is missing: {otherwise}")
    return str(path)


def _command(server: str, workload: str, port: int, models: Path) -> list[str]:
    """Return the command that serves a workload; `models` is a repository with the add/sub model alone."""
    streams = FORMS.get(workload, {})
    if server in {SYNC, AIO}:
        module = "sync_server" if server == SYNC else "aio_server"
        command = [existing(PEERS_PYTHON, "run benchmarks/make-peers"), "-m", f"benchmarks.peers.{module}"]
        service = "kserve" if workload == "simple" else "streams" if streams else "echo"
        command += ["--port", str(port), "--service", service]
        return [*command, "--model", str(models / "simple" / "1" / "model.onnx")]
    if streams:
        script = ROOT / "benchmarks" / "stream_server.py"
        return [sys.executable, str(script), "--port", str(port), "--form", streams[server]]
    if workload != "simple":
        script = ROOT / "examples" / "01_basic_grpc" / "server.py"
        return [sys.executable, existing(script, "yais has no echo server yet"), "--port", str(port)]
    program = Path(sys.executable).with_name("yais")
    command = [existing(program, "install yais into the environment that runs this"), "serve"]
    command += ["--model-repository", str(models), "--grpc-address", "127.0.0.1"]
    return [*command, "--grpc-port", str(port), "--allow-http=false", "--allow-metrics=false"]


@contextlib.contextmanager
def serving(
    server: str, workload: Workload, models: Path, environment: Mapping[str, str], cpu: int | None
) -> Iterator[Running]:
    """Start a server on a free port, wait until it answers rightly, and end it when the block is left."""
    with tempfile.TemporaryDirectory(prefix="yais-bench-") as folder:
        repository = Path(folder) / "models"
        if workload.name == "simple":
            model = models / "simple"
            existing(model / "1" / "model.onnx", "make the example's model, or name its folder with --models")
            copytree(model, repository / "simple")
        port, log = free_port(), Path(folder) / "log"
        command = _command(server, workload.name, port, repository)
        with child(command, log, cpu=cpu, environment=environment) as process:
            target = f"127.0.0.1:{port}"
            wait_until_ready(process, target, workload, log)
            yield Running(target, process.pid)
