"""The load generators, each run as a process of its own against a running server."""

from __future__ import annotations

import csv
import json
import os
import sys
import tempfile
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

from benchmarks.cpu_time import cpu_seconds, ended_children_seconds
from benchmarks.processes import ROOT, BenchmarkError, output_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.servers import Running
    from benchmarks.workloads import Workload

PERF_ANALYZER = ROOT / "benchmarks" / ".venvs" / "perf_analyzer" / "perf_analyzer"
OVER_GRPC = ("-i", "grpc", "--async")
WINDOWS = 3
SPARE_SECONDS = 30.0


@dataclass(frozen=True)
class Measurement:
    """One server under one load: requests/s, latencies in µs, CPU µs of server and load for each request."""

    rate: float
    p50: float
    p99: float
    server_cpu: float
    load_cpu: float


def own(
    server: Running, workload: Workload, concurrency: int, seconds: float, cpu: int | None
) -> Measurement:
    """Load the server with `benchmarks/load.py`."""
    command = [sys.executable, str(ROOT / "benchmarks" / "load.py"), "--workload", workload.name]
    command += ["--target", server.target, "--server-pid", str(server.pid)]
    command += ["--concurrency", str(concurrency), "--seconds", str(seconds)]
    result = json.loads(output_of(command, seconds + SPARE_SECONDS, cpu))
    return Measurement(**{field.name: result[field.name] for field in fields(Measurement)})


def perf_analyzer(
    server: Running,
    model: str,
    concurrency: int,
    seconds: float,
    cpu: int | None,
    options: Sequence[str] = OVER_GRPC,
    program: Sequence[str] = (str(PERF_ANALYZER),),
) -> Measurement:
    """Load the server with perf_analyzer: three windows that together last as long as asked.

    Parameters
    ----------
    options
        More of perf_analyzer's own: which protocol, and how.
    program
        Another that takes the same options and writes the same table.
    """
    url = server.http if "http" in options else server.target
    with tempfile.TemporaryDirectory(prefix="yais-bench-") as folder:
        table = Path(folder) / "table.csv"
        command = [*program, "-m", model, "-u", url, *options]
        command += ["--concurrency-range", str(concurrency), "--measurement-mode", "time_windows"]
        # It wants three windows in a row within the given percentage of each other. Rounds are what levels
        # out a noisy machine here, so three windows are taken as they are.
        command += ["-p", str(max(100, round(seconds * 1000 / WINDOWS))), "-r", str(WINDOWS), "-s", "1000"]
        command += ["-f", str(table)]
        requests, used, own = (
            inferences(server.target, model),
            cpu_seconds(server.pid),
            ended_children_seconds(),
        )
        output_of(command, seconds + SPARE_SECONDS, cpu)
        requests = inferences(server.target, model) - requests
        used, own = cpu_seconds(server.pid) - used, ended_children_seconds() - own
        if not table.exists() or not requests:
            raise BenchmarkError(f"{Path(program[0]).name} measured nothing")
        with table.open(newline="", encoding="utf-8") as lines:
            row = next(csv.DictReader(lines))
    # It does not tell which requests fell into its windows, so CPU time and the server's own count are both
    # taken around the whole run, warm-up included.
    return Measurement(
        rate=float(row["Inferences/Second"]),
        p50=float(row["p50 latency"]),
        p99=float(row["p99 latency"]),
        server_cpu=used * 1e6 / requests,
        load_cpu=own * 1e6 / requests,
    )


def has_perf_analyzer() -> bool:
    """Return whether `benchmarks/fetch-perf-analyzer` has been run."""
    return os.access(PERF_ANALYZER, os.X_OK)


def inferences(target: str, model: str) -> int:
    """Return how many requests the server has answered since it started, by its own statistics."""
    return batched(target, model)[0]


def batched(target: str, model: str) -> tuple[int, int]:
    """Return how many requests the server has answered since it started, and in how many batches."""
    with grpc.insecure_channel(target) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        reply = stub.ModelStatistics(service_pb2.ModelStatisticsRequest(name=model), timeout=5.0)
    stats = reply.model_stats
    return sum(each.inference_stats.success.count for each in stats), sum(
        each.execution_count for each in stats
    )
