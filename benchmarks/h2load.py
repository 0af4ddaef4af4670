"""Load by h2load, of the Debian package nghttp2-client: many connections for a tenth of what others cost.

It knows HTTP/2, not gRPC: that calls ended with OK is seen in the server's own statistics.
"""

from __future__ import annotations

import os
import re
import shutil
import struct
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.processes import BenchmarkError, output_of

_PROGRAM = "h2load"
_METHOD = "/inference.GRPCInferenceService/ModelInfer"
_WARM_UP = 1
"""Seconds, of which it takes whole ones."""
_SPARE_SECONDS = 30.0
_WINDOW_BITS = 30
_CORES_PER_THREAD = 4
_RATE = re.compile(r"finished in [^,]+, ([\d.]+) req/s")
_COUNTS = re.compile(r"(\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout")


@dataclass(frozen=True)
class Loaded:
    """What h2load saw: requests/s and latencies in µs, after its warm-up."""

    rate: float
    p50: float
    p99: float


def has_h2load() -> bool:
    """Return whether it is installed."""
    return shutil.which(_PROGRAM) is not None


def load(target: str, request: bytes, connections: int, streams: int, seconds: int) -> Loaded:
    """Keep requests in flight for a while.

    Parameters
    ----------
    request
        A ModelInferRequest, sent again and again.
    connections, streams
        How many, and requests in flight on each.

    Raises
    ------
    BenchmarkError
        It failed, or an answer was none of HTTP.
    """
    with tempfile.TemporaryDirectory(prefix="yais-bench-") as folder:
        body, log = Path(folder) / "body", Path(folder) / "log"
        body.write_bytes(struct.pack(">?I", False, len(request)) + request)
        command = [_PROGRAM, "-c", str(connections), "-m", str(streams)]
        command += ["-D", str(seconds), "--warm-up-time", str(_WARM_UP)]
        command += ["-t", str(max(1, min(connections, (os.cpu_count() or 1) // _CORES_PER_THREAD)))]
        command += ["-w", str(_WINDOW_BITS), "-W", str(_WINDOW_BITS), "-d", str(body), f"--log-file={log}"]
        command += ["-H", "content-type: application/grpc", "-H", "te: trailers", f"http://{target}{_METHOD}"]
        text = output_of(command, seconds + _WARM_UP + _SPARE_SECONDS)
        rate, counts = _RATE.search(text), _COUNTS.search(text)
        if rate is None or counts is None or not int(counts[1]) or any(map(int, counts.groups()[1:])):
            raise BenchmarkError(f"h2load says:\n{text[-800:]}")
        p50, p99 = _latencies(log)
    return Loaded(float(rate[1]), p50, p99)


def _latencies(log: Path) -> tuple[float, float]:
    """Return median and 99th percentile after the warm-up, from lines of when, what and how long."""
    started, _, taken = np.loadtxt(log, dtype=np.int64, unpack=True, ndmin=2)
    counted = taken[started >= started.min() + _WARM_UP * 1_000_000]
    p50, p99 = np.percentile(counted if counted.size else taken, (50, 99))
    return float(p50), float(p99)
