"""Compare yais with bare grpcio, side by side: the same load on each server in turn, over several rounds.

This is the inference server and a unary echo; benchmarks/rpc.py compares every kind of RPC.

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
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import generators
from benchmarks.processes import ROOT, BenchmarkError
from benchmarks.report import Case, Results, figures, machine, ratios
from benchmarks.servers import servers_of, serving
from benchmarks.workloads import WORKLOADS, Workload

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from benchmarks.servers import Running


@dataclass(frozen=True)
class Plan:
    """What to measure, from the command line; without `concurrency`, the workloads' own is taken."""

    rounds: int
    seconds: float
    concurrency: list[int] | None
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
    if plan.load == "perf_analyzer" and workload.name == "simple":
        return generators.perf_analyzer(server, workload.name, concurrency, plan.seconds, plan.load_cpu)
    return generators.own(server, workload, concurrency, plan.seconds, plan.load_cpu)


def levels(plan: Plan, workload: Workload) -> tuple[int, ...]:
    """Return how many requests are to be in flight, in the measurements of a workload."""
    return tuple(plan.concurrency or workload.concurrency)


def visit(plan: Plan, workload: Workload, name: str, results: Results) -> None:
    """Start one server, measure it at every concurrency, and stop it."""
    with serving(name, workload, plan.models, plan.environment, plan.server_cpu) as server:
        # So that what a server does only once (allocate, specialise, start threads) is not measured.
        generators.own(server, workload, max(levels(plan, workload)), 0.5, plan.load_cpu)
        for concurrency in levels(plan, workload):
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
        for concurrency in levels(plan, workload)
        for server in servers_of(workload)
    }
    for turn in range(plan.rounds):
        say(f"round {turn + 1} of {plan.rounds}")
        for workload in plan.workloads:
            # A server measured first in one round is measured last in the next.
            names = servers_of(workload)
            first = turn % len(names)
            for name in names[first:] + names[:first]:
                try:
                    visit(plan, workload, name, results)
                except BenchmarkError as error:
                    say(f"  {workload.name}, {name}: not measured: {error}")
    return {case: rounds for case, rounds in results.items() if rounds}


def write_json(path: Path | None, command: str, load: str, results: Results) -> None:
    """Write every measurement of every round, if there is a path."""
    if path is None:
        return
    cases = [asdict(case) | {"rounds": [asdict(one) for one in results[case]]} for case in results]
    document = {"command": command, "machine": machine(), "load": load, "cases": cases}
    path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def parse(description: str | None, defaults: Mapping[str, Any]) -> Plan:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--seconds", type=float, help="measured time for each figure")
    parser.add_argument("--concurrency", help="requests in flight, comma-separated, for every workload")
    parser.add_argument("--workload", help=f"of {', '.join(WORKLOADS)}")
    parser.add_argument(
        "--load",
        choices=("perf_analyzer", "own"),
        help="load generator for `simple` (default: perf_analyzer if fetched, else own); others have own",
    )
    parser.add_argument("--models", type=Path, default=ROOT / "examples" / "models")
    parser.add_argument(
        "--env", action="append", default=[], metavar="NAME=VALUE", help="set for every server; repeatable"
    )
    parser.add_argument("--pin", action="store_true", help="servers on core 0, load generators on core 1")
    parser.add_argument("--json", type=Path, help="write every measurement to this file")
    parser.set_defaults(**defaults)
    options = parser.parse_args()
    names = options.workload.split(",")
    if unknown := set(names) - set(WORKLOADS):
        parser.error(f"unknown workload: {', '.join(sorted(unknown))}")
    if options.load == "perf_analyzer" and not generators.has_perf_analyzer():
        parser.error("perf_analyzer is not there: run benchmarks/fetch-perf-analyzer, or use --load own")
    return Plan(
        rounds=options.rounds,
        seconds=options.seconds,
        concurrency=[int(each) for each in options.concurrency.split(",")] if options.concurrency else None,
        workloads=[WORKLOADS[name] for name in names],
        load=options.load or ("perf_analyzer" if generators.has_perf_analyzer() else "own"),
        models=options.models,
        environment=dict(pair.split("=", 1) for pair in options.env),
        server_cpu=0 if options.pin else None,
        load_cpu=1 if options.pin else None,
        json=options.json,
    )


def terminate(*_: object) -> None:
    """Handle a signal: leave every block that has something to end."""
    raise SystemExit(143)


def main(description: str | None, tables: Sequence[Callable[[Results], str]], **defaults: str | float) -> int:
    """Measure and print: the program, also of benchmarks/rpc.py, with the defaults of its options."""
    signal.signal(signal.SIGTERM, terminate)
    plan = parse(description, defaults)
    command = shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]])
    try:
        results = run(plan)
    except KeyboardInterrupt:
        say("interrupted")
        return 130
    if not results:
        say("nothing could be measured")
        return 1
    print(f"{machine()}\n\n    {command}\n")
    print(*(each(results) for each in tables), sep="\n\n")
    write_json(plan.json, command, plan.load, results)
    return 0


if __name__ == "__main__":
    sys.exit(main(__doc__, (figures, ratios), rounds=5, seconds=4.0, workload="simple,echo"))
