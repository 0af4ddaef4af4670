"""Do `yais perf` and perf_analyzer measure the same: both on the same yais serve, in turn.

Tables go to stdout as markdown, progress to stderr. See benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import generators
from benchmarks.compare import say, terminate, write_json
from benchmarks.processes import BenchmarkError
from benchmarks.report import Case, Results, machine, medians, table
from benchmarks.servers import YAIS, Running, existing
from benchmarks.serving_servers import serving

PERF_ANALYZER, PERF = "perf_analyzer", "yais perf"
LEVELS = (1, 8, 32)
CLOSE = 0.1
"""How far apart two throughputs may be that agree, of perf_analyzer's."""

PACED = "paced"
_MODEL = """
import time


class Model:
    def execute(self, inputs):
        time.sleep(0.004)
        return {"Y": inputs["X"]}
"""
_CONFIG = """
backend: "python"
max_batch_size: 8
input { name: "X" data_type: TYPE_FP32 dims: [ 1 ] }
output { name: "Y" data_type: TYPE_FP32 dims: [ 1 ] }
instance_group { count: 4 }
"""
# Requests are not gathered into batches: at most four at a time, of 4 ms each.


@dataclass(frozen=True)
class Part:
    """One kind of load; its options are those of both programs."""

    name: str
    model: str
    options: tuple[str, ...]


PARTS = {
    part.name: part
    for part in (
        Part("paced", PACED, ("-i", "grpc")),
        Part("gRPC", "simple", ("-i", "grpc")),
        Part("gRPC, async", "simple", ("-i", "grpc", "--async")),
        Part("streams", "simple", ("-i", "grpc", "--async", "--streaming")),
        Part("HTTP", "simple", ("-i", "http")),
        Part("HTTP, async", "simple", ("-i", "http", "--async")),
    )
}


@dataclass(frozen=True)
class Plan:
    """What to measure, from the command line."""

    rounds: int
    seconds: float
    concurrency: Sequence[int]
    parts: Sequence[Part]
    server_cpu: int | None
    load_cpu: int | None
    json: Path | None


def programs() -> Mapping[str, tuple[str, ...]]:
    """Return the commands of the two generators. Raises BenchmarkError."""
    yais = existing(
        Path(sys.executable).with_name("yais"), "install yais into the environment that runs this"
    )
    analyzer = existing(generators.PERF_ANALYZER, "run benchmarks/fetch-perf-analyzer")
    return {PERF_ANALYZER: (analyzer,), PERF: (yais, "perf")}


def write_paced(repository: Path) -> None:
    """Write a model for which the server alone sets the rate: some 200/s for one caller, 900/s for many."""
    (repository / PACED / "1").mkdir(parents=True)
    (repository / PACED / "config.pbtxt").write_text(_CONFIG, encoding="utf-8")
    (repository / PACED / "1" / "model.py").write_text(_MODEL, encoding="utf-8")


def visit(plan: Plan, part: Part, concurrency: int, turn: int, server: Running, results: Results) -> None:
    """Have both generators load a server; who is first changes from round to round."""
    commands = programs()
    for name in (PERF_ANALYZER, PERF) if turn % 2 else (PERF, PERF_ANALYZER):
        try:
            one = generators.perf_analyzer(
                server,
                part.model,
                concurrency,
                plan.seconds,
                plan.load_cpu,
                part.options,
                commands[name],
            )
        except BenchmarkError as error:
            say(f"  {part.name}, {concurrency} in flight, {name}: not measured: {error}")
            continue
        results.setdefault(Case(part.name, concurrency, name), []).append(one)
        say(
            f"  {part.name}, {concurrency} in flight, {name}: {one.rate:.0f} requests/s, "
            f"p50 {one.p50:.0f} µs, p99 {one.p99:.0f} µs, its CPU {one.load_cpu:.0f} µs/request"
        )


def run(plan: Plan) -> Results:
    """Measure everything, against one server for each round. Raises BenchmarkError if it does not start."""
    results: Results = {}
    for turn in range(plan.rounds):
        say(f"round {turn + 1} of {plan.rounds}")
        with tempfile.TemporaryDirectory(prefix="yais-bench-") as folder:
            write_paced(Path(folder))
            with serving(YAIS, {}, plan.server_cpu, ["--model-repository", folder]) as server:
                for part in plan.parts:
                    for concurrency in plan.concurrency:
                        visit(plan, part, concurrency, turn, server, results)
    return results


def verdict(ratio: float) -> str:
    """Say what a ratio of perf's throughput to perf_analyzer's means.

    A closed loop cannot be too fast: of two that differ, the slower one is its own limit.
    """
    if ratio < 1 - CLOSE:
        return f"`{PERF}` is the slower"
    return f"`{PERF_ANALYZER}` is the slower" if ratio > 1 + CLOSE else "agree"


def agreement(results: Results) -> str:
    """Return the table of both, a row for each load."""
    rows = []
    for part, concurrency in dict.fromkeys((case.workload, case.concurrency) for case in results):
        both = [results.get(Case(part, concurrency, name)) for name in (PERF_ANALYZER, PERF)]
        if both[0] and both[1]:
            theirs, ours = medians(both[0]), medians(both[1])
            ratio = ours.rate / theirs.rate
            pairs = _pairs(
                (getattr(theirs, name), getattr(ours, name)) for name in ("rate", "p50", "p99", "load_cpu")
            )
            rows.append([part, verdict(ratio), str(concurrency), f"{ratio:.2f}", *pairs])
    figures = ("requests/s", "p50 µs", "p99 µs", "CPU µs/request")
    return table(("load", "throughput", "in flight", "ratio", *figures), rows, words=2)


def _pairs(figures: Iterable[tuple[float, float]]) -> list[str]:
    return [f"{theirs:.0f} : {ours:.0f}" for theirs, ours in figures]


def parse() -> Plan:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=6.0, help="measured time for each figure")
    parser.add_argument("--concurrency", default=",".join(map(str, LEVELS)), help="requests in flight")
    parser.add_argument("--parts", help=f"semicolon-separated, of {'; '.join(PARTS)}")
    parser.add_argument("--pin", action="store_true", help="the server on core 0, generators on core 1")
    parser.add_argument("--json", type=Path, help="write every measurement to this file")
    options = parser.parse_args()
    names = [name.strip() for name in options.parts.split(";")] if options.parts else list(PARTS)
    if unknown := set(names) - set(PARTS):
        parser.error(f"unknown part: {', '.join(sorted(unknown))}; there are {'; '.join(PARTS)}")
    return Plan(
        rounds=options.rounds,
        seconds=options.seconds,
        concurrency=[int(each) for each in options.concurrency.split(",")],
        parts=[PARTS[name] for name in names],
        server_cpu=0 if options.pin else None,
        load_cpu=1 if options.pin else None,
        json=options.json,
    )


def main() -> int:
    """Measure and print."""
    signal.signal(signal.SIGTERM, terminate)
    plan = parse()
    command = shlex.join(["benchmarks/perf-agreement", *sys.argv[1:]])
    try:
        programs()
        results = run(plan)
    except BenchmarkError as error:
        say(str(error))
        return 1
    except KeyboardInterrupt:
        say("interrupted")
        return 130
    if not results:
        say("nothing could be measured")
        return 1
    print(f"{machine()}\n\n    {command}\n\nPairs are {PERF_ANALYZER} : {PERF}.\n\n{agreement(results)}")
    write_json(plan.json, command, f"{PERF_ANALYZER}, {PERF}", results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
