"""What is asked of the inference servers, and what yais is to reach."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.generators import OVER_GRPC
from benchmarks.report import Goal
from benchmarks.servers import AIO, YAIS
from benchmarks.serving_models import FIRST, LARGE
from benchmarks.serving_servers import MLSERVER, TRITON


@dataclass(frozen=True)
class Part:
    """One kind of load, for the servers that can take it.

    Attributes
    ----------
    concurrency
        Requests in flight that are measured.
    options
        Of perf_analyzer; None is a load by `benchmarks/load.py`, which asks no server for a configuration.
    """

    name: str
    model: str
    concurrency: tuple[int, ...]
    options: tuple[str, ...] | None
    servers: tuple[str, ...] = (YAIS, TRITON)


_SHARED = ("--shared-memory", "system", "--output-shared-memory-size", str(4 * LARGE))

PARTS = {
    part.name: part
    for part in (
        Part("simple", "simple", (1, 8, 32, 128), OVER_GRPC, (YAIS, TRITON, AIO)),
        Part("streams", "simple", (8, 32), (*OVER_GRPC, "--streaming")),
        Part("HTTP", "simple", (8, 32), ("-i", "http", "--async")),
        Part("600 KB", FIRST, (8,), OVER_GRPC),
        Part("shared memory", FIRST, (8,), (*OVER_GRPC, *_SHARED)),
        Part("MLServer", "simple", (1, 8, 32), None, (YAIS, MLSERVER)),
    )
}

GOALS = (
    Goal("simple", 1, "p50", 0.6, TRITON),
    Goal("simple", 8, "rate", 1.7, TRITON),
    Goal("simple", 32, "rate", 1.8, TRITON),
    Goal("simple", 128, "rate", 2.0, TRITON),
    *(Goal("simple", each, "server_cpu", 0.45, TRITON) for each in (1, 8, 32, 128)),
    *(Goal("streams", each, "rate", 2.0, TRITON) for each in (8, 32)),
    *(Goal("HTTP", each, "rate", 0.5, TRITON) for each in (8, 32)),
    Goal("600 KB", 8, "rate", 1.5, TRITON),
    Goal("shared memory", 8, "rate", 2.0, TRITON),
    *(Goal("MLServer", each, "rate", 8.0, MLSERVER) for each in (8, 32)),
)
