"""Run perf_analyzer and perf_client against yais serve in every way they can ask, each to a stable result.

Prints a table; the exit status says whether all rows are ok. See benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import csv
import signal
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.compare import say, terminate
from benchmarks.generators import PERF_ANALYZER
from benchmarks.processes import BenchmarkError, output_of
from benchmarks.report import MISSING, table
from benchmarks.servers import YAIS
from benchmarks.serving_models import IDENTITY, LARGE, SEQUENCE
from benchmarks.serving_servers import serving

if TYPE_CHECKING:
    from benchmarks.servers import Running

LIMIT_SECONDS = 60.0
WINDOW_MS, STABLE_PERCENT = 500, 50
"""Short windows, and how far three in a row may be apart: what counts is that there is a result."""

UNSTABLE, ATTEMPTS = "Failed to obtain stable measurement", 3
"""What it says when they are further apart, as they are when others use the machine, and how often to try."""

_SYSTEM = "--shared-memory system --output-shared-memory-size"


@dataclass(frozen=True)
class Row:
    """One run; its options are words on a command line."""

    name: str
    options: str
    model: str = "simple"
    program: str = "perf_analyzer"


ROWS = (
    Row("gRPC", "-i grpc --concurrency-range 4"),
    Row("gRPC, async", "-i grpc --async --concurrency-range 8"),
    Row("gRPC, streaming", "-i grpc --streaming --async --concurrency-range 8"),
    Row("gRPC, batches of 8", "-i grpc --async -b 8 --concurrency-range 4"),
    Row("gRPC, request rate", "-i grpc --async --request-rate-range 300"),
    Row("gRPC, Poisson", "-i grpc --async --request-rate-range 500 --request-distribution poisson"),
    Row("gRPC, compressed", "-i grpc --async --grpc-compression-algorithm gzip --concurrency-range 4"),
    Row("gRPC, shared memory", f"-i grpc --async {_SYSTEM} 64 --concurrency-range 4"),
    Row("gRPC, shared memory, batches", f"-i grpc --async {_SYSTEM} 512 -b 8 --concurrency-range 4"),
    Row("gRPC, streaming, shared memory", f"-i grpc --streaming --async {_SYSTEM} 64 --concurrency-range 4"),
    Row("gRPC, 600 KB shared", f"-i grpc --async {_SYSTEM} {4 * LARGE} --concurrency-range 4", IDENTITY),
    Row("gRPC, sequences", "-i grpc --async --sequence-length 8 --concurrency-range 4", SEQUENCE),
    Row("gRPC, sequences in a stream", "-i grpc --streaming --async --concurrency-range 4", SEQUENCE),
    Row(
        "gRPC, sequences at a rate", "-i grpc --async --request-rate-range 300 --num-of-sequences 8", SEQUENCE
    ),
    Row("gRPC, traces", "-i grpc --async --trace-level TIMESTAMPS --trace-rate 100 --concurrency-range 4"),
    Row("HTTP", "-i http --concurrency-range 4"),
    Row("HTTP, async", "-i http --async --concurrency-range 8"),
    Row("HTTP, JSON", "-i http --input-tensor-format json --output-tensor-format json --concurrency-range 4"),
    Row("HTTP, batches of 8", "-i http --async -b 8 --concurrency-range 4"),
    Row("HTTP, request rate", "-i http --async --request-rate-range 300"),
    Row("HTTP, shared memory", f"-i http --async {_SYSTEM} 64 --concurrency-range 4"),
    Row("HTTP, sequences", "-i http --sequence-length 8 --concurrency-range 4", SEQUENCE),
    Row("perf_client, gRPC", "-i grpc --async --concurrency-range 8", program="perf_client"),
    Row("perf_client, HTTP", "-i http --async --concurrency-range 8", program="perf_client"),
)


def check(row: Row, server: Running, folder: Path) -> float:
    """Make one run; return its requests/s.

    Raises
    ------
    BenchmarkError
        It failed, or came to no stable result.
    """
    results = folder / "results.csv"
    results.unlink(missing_ok=True)
    url = server.http if "http" in row.options.split() else server.target
    command = [str(PERF_ANALYZER.with_name(row.program)), "-m", row.model, "-u", url, *row.options.split()]
    command += ["-p", str(WINDOW_MS), "-s", str(STABLE_PERCENT), "-f", str(results)]
    for attempts_left in reversed(range(ATTEMPTS)):
        try:
            output_of(command, LIMIT_SECONDS)
            break
        except BenchmarkError as error:
            if not attempts_left or UNSTABLE not in str(error):
                raise
    with results.open(newline="", encoding="utf-8") as lines:
        rate = float(next(csv.DictReader(lines))["Inferences/Second"])
    if not rate:
        raise BenchmarkError("no request was answered")
    return rate


def run(rows: list[Row]) -> list[tuple[Row, float | None]]:
    """Make the runs against one server, one after another; a failed one has no rate."""
    done: list[tuple[Row, float | None]] = []
    with (
        tempfile.TemporaryDirectory(prefix="yais-check-") as folder,
        serving(YAIS, {}, None, ["--trace-config", f"triton,file={folder}/trace"]) as server,
    ):
        for row in rows:
            rate = None
            try:
                rate = check(row, server, Path(folder))
                say(f"  {row.name}: {rate:.0f} inferences/s")
            except BenchmarkError as error:
                say(f"  {row.name}: failed: {error}")
            done.append((row, rate))
    return done


def main() -> int:
    """Run and print."""
    signal.signal(signal.SIGTERM, terminate)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    names = ", ".join(row.name for row in ROWS)
    parser.add_argument("rows", nargs="*", help=f"parts of the names of rows to run; there are {names}")
    wanted = parser.parse_args().rows
    rows = [row for row in ROWS if not wanted or any(word in row.name for word in wanted)]
    if not rows:
        parser.error(f"no row is named so; there are {names}")
    try:
        done = run(rows)
    except BenchmarkError as error:
        say(f"yais serve does not come up: {error}")
        return 1
    lines = (
        (
            row.name,
            row.options,
            "failed" if rate is None else "ok",
            MISSING if rate is None else f"{rate:.0f}",
        )
        for row, rate in done
    )
    print(table(("run", "options", "result", "inferences/s"), lines, words=3))
    return int(any(rate is None for _, rate in done))


if __name__ == "__main__":
    sys.exit(main())
