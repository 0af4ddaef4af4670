"""The inference servers that are compared, and how each is started with the models."""

from __future__ import annotations

import contextlib
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.processes import ROOT, child, free_port, wait_until_ready
from benchmarks.servers import PEERS_PYTHON, YAIS, Running, existing
from benchmarks.serving_models import write_mlserver, write_onnx, write_triton
from benchmarks.workloads import WORKLOADS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

TRITON, MLSERVER = "Triton, Python backend", "MLServer"

_VENVS = ROOT / "benchmarks" / ".venvs"
_LOCAL = "127.0.0.1"


@contextlib.contextmanager
def serving(
    server: str, environment: Mapping[str, str], cpu: int | None, options: Sequence[str] = ()
) -> Iterator[Running]:
    """Start a server on free ports, wait until it answers rightly, and end it when the block is left.

    Parameters
    ----------
    options
        More of the server's own, for its command.
    """
    with tempfile.TemporaryDirectory(prefix="yais-bench-") as folder:
        log, grpc_port, http_port = Path(folder) / "log", free_port(), free_port()
        command = _command(server, Path(folder) / "models", grpc_port, http_port)
        with child([*command, *options], log, cpu=cpu, environment=environment) as process:
            target = f"{_LOCAL}:{grpc_port}"
            wait_until_ready(process, target, WORKLOADS["simple"], log)
            yield Running(target, process.pid, f"{_LOCAL}:{http_port}")


def _command(server: str, models: Path, grpc_port: int, http_port: int) -> list[str]:
    """Write the models for a server and return the command that serves them."""
    ports = ["--grpc-port", str(grpc_port), "--http-port", str(http_port)]
    ports += ["--grpc-address", _LOCAL, "--http-address", _LOCAL, "--allow-metrics=false"]
    if server == YAIS:
        write_onnx(models)
        program = existing(
            Path(sys.executable).with_name("yais"), "install yais into the environment that runs this"
        )
        return [program, "serve", "--model-repository", str(models), *ports]
    if server == TRITON:
        write_triton(models)
        program = existing(_VENVS / "triton" / "tritonserver", "run benchmarks/make-triton")
        return [program, "--model-repository", str(models), *ports]
    if server == MLSERVER:
        write_mlserver(models, grpc_port, http_port)
        program = existing(_VENVS / "mlserver" / "bin" / "mlserver", "run benchmarks/make-mlserver")
        return [program, "start", str(models)]
    command = [existing(PEERS_PYTHON, "run benchmarks/make-peers"), "-m", "benchmarks.peers.aio_server"]
    return [*command, "--port", str(grpc_port), "--service", "kserve"]
