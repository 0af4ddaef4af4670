"""Run perf_analyzer and perf_client against yais serve in every way they can ask, each to a stable result.

Prints a table; the exit status says whether every row was answered. See benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import csv
import http.client
import json
import signal
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.compare import say, terminate
from benchmarks.generators import PERF_ANALYZER
from benchmarks.processes import BenchmarkError, output_of
from benchmarks.report import MISSING, table
from benchmarks.servers import YAIS
from benchmarks.serving_models import FIRST, LARGE, SEQUENCE
from benchmarks.serving_servers import serving

if TYPE_CHECKING:
    from benchmarks.servers import Running

LIMIT_SECONDS = 60.0
WINDOW_MS, STABLE_PERCENT = 500, 50
"""Short windows, and how far three in a row may be apart: what counts is that there is a result."""

UNSTABLE, ATTEMPTS = "Failed to obtain stable measurement", 3
"""What it says when they are further apart, as they are when others use the machine, and how often to try."""

OK, UNSETTLED, FAILED = "ok", "unstable", "failed"
"""How a run may end. An unstable one was answered in full, but others kept the machine busy."""

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
    Row("gRPC, 600 KB shared", f"-i grpc --async {_SYSTEM} {4 * LARGE} --concurrency-range 4", FIRST),
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


class Answered(NamedTuple):
    """Requests that a server has answered, by its own count."""

    well: int
    badly: int


def answered(server: Running, model: str) -> Answered:
    """Return what a server has answered for a model so far. Raises BenchmarkError."""
    connection = http.client.HTTPConnection(server.http, timeout=LIMIT_SECONDS)
    try:
        connection.request("GET", f"/v2/models/{model}/stats")
        reply = json.load(connection.getresponse())
    except (OSError, ValueError) as error:
        raise BenchmarkError(f"there are no statistics of {model}: {error}") from error
    finally:
        connection.close()
    if "error" in reply:
        raise BenchmarkError(reply["error"])
    statistics = reply["model_stats"][0]["inference_stats"]
    return Answered(statistics["success"]["count"], statistics["fail"]["count"])


def check(row: Row, server: Running, folder: Path) -> float | None:
    """Make one run; return its requests/s, or None if they were never stable, but all answered.

    Raises
    ------
    BenchmarkError
        It failed.
    """
    before = answered(server, row.model)
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
            if UNSTABLE not in str(error):
                raise
            if not attempts_left:
                after = answered(server, row.model)
                if after.badly > before.badly or after.well == before.well:
                    raise
                return None
    with results.open(newline="", encoding="utf-8") as lines:
        rate = float(next(csv.DictReader(lines))["Inferences/Second"])
    if not rate:
        raise BenchmarkError("no request was answered")
    return rate


def run(rows: list[Row]) -> list[tuple[Row, str, float | None]]:
    """Make the runs against one server, one after another; return how each ended, and at what rate."""
    done: list[tuple[Row, str, float | None]] = []
    with (
        tempfile.TemporaryDirectory(prefix="yais-check-") as folder,
        serving(YAIS, {}, None, ["--trace-config", f"triton,file={folder}/trace"]) as server,
    ):
        for row in rows:
            state, rate = FAILED, None
            try:
                rate = check(row, server, Path(folder))
                state = UNSETTLED if rate is None else OK
                say(f"  {row.name}: {state if rate is None else f'{rate:.0f} inferences/s'}")
            except BenchmarkError as error:
                say(f"  {row.name}: {FAILED}: {error}")
            done.append((row, state, rate))
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
        (row.name, row.options, state, MISSING if rate is None else f"{rate:.0f}")
        for row, state, rate in done
    )
    print(table(("run", "options", "result", "inferences/s"), lines, words=3))
    return int(any(state == FAILED for _, state, _ in done))


if __name__ == "__main__":
    sys.exit(main())
