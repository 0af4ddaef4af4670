"""Servers with frontend processes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from far_gates import serve_gates
from gated_models import gates

from yais.serving.frontends.supervisor import Supervisor
from yais.serving.http.options import HttpOptions
from yais.serving.options import ServerOptions


@contextmanager
def frontends_serving(*repositories: Path, **options: Any) -> Iterator[Supervisor]:
    """Serve the models of repositories with two frontends on free ports while the block lasts.

    Their gates are those of this process.
    """
    serve_gates(gates)
    all_options = {
        "grpc_address": "127.0.0.1",
        "grpc_port": 0,
        "http": HttpOptions("127.0.0.1", 0),
        "metrics_address": "127.0.0.1",
        "metrics_port": None,
        "frontends": 2,
        **options,
    }
    with Supervisor(ServerOptions(repositories, **all_options)) as server:
        yield server
