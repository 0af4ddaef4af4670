"""Compare yais with bare grpcio, side by side: the same load on each server in turn, over several rounds.

Tables go to stdout as markdown, progress to stderr. See benchmarks/README.md for the method.
"""

from __future__ import annotations

import argparse
import json
import shlex
import signal
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import generators
from benchmarks.processes import ROOT, BenchmarkError
from benchmarks.report import Case, Results, figures, machine, ratios
from benchmarks.servers import SERVERS, serving
from benchmarks.workloads import WORKLOADS, Workload

if TYPE_CHECKING:
    from benchmarks.servers import Running


@dataclass(frozen=True)
class Plan:
    """What to measure, from the command line."""

    rounds: int
    seconds: float
    concurrency: list[int]
    workloads: list[Workload]
    load: str
    models: Path
    environment: dict[str, str]
    server_cpu: int | None
    load_cpu: int | None
    json: Path | None


def say(text: str) -> None:
    """Report progress."""
    print(text, file=sys.stderr, flush=True)


def measure(plan: Plan, workload: Workload, concurrency: int, server: Running) -> generators.Measurement:
    """Load a running server once; perf_analyzer speaks KServe v2 only."""
    by_perf_analyzer = plan.load == "perf_analyzer" and workload.name == "simple"
    generate = generators.perf_analyzer if by_perf_analyzer else generators.own
    return generate(server, workload, concurrency, plan.seconds, plan.load_cpu)


def visit(plan: Plan, workload: Workload, name: str, results: Results) -> None:
    """Start one server, measure it at every concurrency, and stop it."""
    with serving(name, workload, plan.models, plan.environment, plan.server_cpu) as server:
        # So that what a server does only once (allocate, specialise, start threads) is not measured.
        generators.own(server, workload, max(plan.concurrency), 0.5, plan.load_cpu)
        for concurrency in plan.concurrency:
            one = measure(plan, workload, concurrency, server)
            results[Case(workload.name, concurrency, name)].append(one)
            say(
                f"  {workload.name}, {concurrency} in flight, {name}: {one.rate:.0f} requests/s, "
                f"p50 {one.p50:.0f} µs, p99 {one.p99:.0f} µs, server CPU {one.server_cpu:.0f} µs/request"
            )


def run(plan: Plan) -> Results:
    """Measure everything, the servers taking turns inside each round."""
    results: Results = {
        Case(workload.name, concurrency, server): []
        for workload in plan.workloads
        for concurrency in plan.concurrency
        for server in SERVERS
    }
    for turn in range(plan.rounds):
        say(f"round {turn + 1} of {plan.rounds}")
        # A server measured first in one round is measured later in the next.
        order = [SERVERS[(turn + index) % len(SERVERS)] for index in range(len(SERVERS))]
        for workload in plan.workloads:
            for name in order:
                try:
                    visit(plan, workload, name, results)
                except BenchmarkError as error:
                    say(f"  {workload.name}, {name}: not measured: {error}")
    return {case: rounds for case, rounds in results.items() if rounds}


def write_json(plan: Plan, command: str, results: Results) -> None:
    """Write every measurement of every round."""
    if plan.json is None:
        return
    cases = [asdict(case) | {"rounds": [asdict(one) for one in results[case]]} for case in results]
    document = {"command": command, "machine": machine(), "load": plan.load, "cases": cases}
    plan.json.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def parse() -> Plan:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0, help="measured time for each figure")
    parser.add_argument("--concurrency", default="1,8,32", help="requests in flight, comma-separated")
    parser.add_argument("--workload", default="simple,echo", help=f"of {', '.join(WORKLOADS)}")
    parser.add_argument(
        "--load",
        choices=("perf_analyzer", "own"),
        help="load generator for `simple` (default: perf_analyzer if fetched, else own); echo always has own",
    )
    parser.add_argument("--models", type=Path, default=ROOT / "examples" / "models")
    parser.add_argument(
        "--env", action="append", default=[], metavar="NAME=VALUE", help="set for every server; repeatable"
    )
    parser.add_argument("--pin", action="store_true", help="servers on core 0, load generators on core 1")
    parser.add_argument("--json", type=Path, help="write every measurement to this file")
    options = parser.parse_args()
    names = options.workload.split(",")
    if unknown := set(names) - set(WORKLOADS):
        parser.error(f"unknown workload: {', '.join(sorted(unknown))}")
    if options.load == "perf_analyzer" and not generators.has_perf_analyzer():
        parser.error("perf_analyzer is not there: run benchmarks/fetch-perf-analyzer, or use --load own")
    return Plan(
        rounds=options.rounds,
        seconds=options.seconds,
        concurrency=[int(number) for number in options.concurrency.split(",")],
        workloads=[WORKLOADS[name] for name in names],
        load=options.load or ("perf_analyzer" if generators.has_perf_analyzer() else "own"),
        models=options.models,
        environment=dict(pair.split("=", 1) for pair in options.env),
        server_cpu=0 if options.pin else None,
        load_cpu=1 if options.pin else None,
        json=options.json,
    )


def _terminate(*_: object) -> None:
    raise SystemExit(143)


def main() -> int:
    """Measure and print."""
    signal.signal(signal.SIGTERM, _terminate)
    plan = parse()
    command = shlex.join(["python", "benchmarks/compare.py", *sys.argv[1:]])
    try:
        results = run(plan)
    except KeyboardInterrupt:
        say("interrupted")
        return 130
    if not results:
        say("nothing could be measured")
        return 1
    print(f"{machine()}; load for simple: {plan.load}\n\n    {command}\n")
    print(figures(results), ratios(results), sep="\n\n")
    write_json(plan, command, results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
