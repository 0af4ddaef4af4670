"""Compare yais serve with Triton, MLServer and bare grpc.aio, side by side: the same load on each in turn.

Tables go to stdout as markdown, progress to stderr. See benchmarks/README.md for the method.
"""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import generators
from benchmarks.compare import say, terminate, write_json
from benchmarks.processes import BenchmarkError
from benchmarks.report import Case, Results, figures, machine, medians, reached
from benchmarks.servers import YAIS
from benchmarks.serving_parts import GOALS, PARTS, Part
from benchmarks.serving_servers import serving
from benchmarks.workloads import WORKLOADS
from yais.load.chart import picture
from yais.load.plot import Axis, Line
from yais.load.scales import LinearScale

if TYPE_CHECKING:
    from benchmarks.servers import Running
    from yais.load.chart_style import Colour

WARM_UP = 0.5
COLOURS: tuple[Colour, ...] = ("blue", "orange", "green")


@dataclass(frozen=True)
class Plan:
    """What to measure, from the command line; without `concurrency`, the parts' own is taken."""

    rounds: int
    seconds: float
    concurrency: list[int] | None
    parts: list[Part]
    environment: dict[str, str]
    server_cpu: int | None
    load_cpu: int | None
    json: Path | None
    picture: Path | None

    def levels(self, part: Part) -> tuple[int, ...]:
        """Return how many requests are to be in flight, in the measurements of a part."""
        return tuple(each for each in part.concurrency if not self.concurrency or each in self.concurrency)


def measure(
    plan: Plan, part: Part, concurrency: int, seconds: float, server: Running
) -> generators.Measurement:
    """Load a running server once."""
    if part.options is None:
        return generators.own(server, WORKLOADS[part.model], concurrency, seconds, plan.load_cpu)
    return generators.perf_analyzer(server, part.model, concurrency, seconds, plan.load_cpu, part.options)


def visit(plan: Plan, part: Part, name: str, results: Results) -> None:
    """Start one server, measure it at every concurrency, and stop it."""
    levels = plan.levels(part)
    with serving(name, plan.environment, plan.server_cpu) as server:
        # So that what a server does only once (allocate, specialise, start threads) is not measured.
        measure(plan, part, max(levels), WARM_UP, server)
        for concurrency in levels:
            one = measure(plan, part, concurrency, plan.seconds, server)
            results.setdefault(Case(part.name, concurrency, name), []).append(one)
            say(
                f"  {part.name}, {concurrency} in flight, {name}: {one.rate:.0f} requests/s, "
                f"p50 {one.p50:.0f} µs, p99 {one.p99:.0f} µs, server CPU {one.server_cpu:.0f} µs/request"
            )


def run(plan: Plan) -> Results:
    """Measure everything, the servers taking turns inside each round."""
    results: Results = {}
    for turn in range(plan.rounds):
        say(f"round {turn + 1} of {plan.rounds}")
        for part in filter(plan.levels, plan.parts):
            # A server measured first in one round is measured last in the next.
            first = turn % len(part.servers)
            for name in part.servers[first:] + part.servers[:first]:
                try:
                    visit(plan, part, name, results)
                except BenchmarkError as error:
                    say(f"  {part.name}, {name}: not measured: {error}")
    cases = (
        Case(part.name, each, name)
        for part in plan.parts
        for each in plan.levels(part)
        for name in part.servers
    )
    return {case: results[case] for case in cases if case in results}


def throughput_picture(results: Results) -> str:
    """Return a chart of requests/s on `simple`, over the requests in flight."""
    part = PARTS["simple"]
    rates = {
        name: [
            (float(case.concurrency), medians(rounds).rate)
            for case, rounds in results.items()
            if (case.workload, case.server) == (part.name, name)
        ]
        for name in part.servers
    }
    lines = [
        Line(name, points, colour) for (name, points), colour in zip(rates.items(), COLOURS, strict=False)
    ]
    levels = part.concurrency
    return picture(
        "ModelInfer on simple",
        Axis("requests in flight", LinearScale(levels[0], levels[-1], levels)),
        Axis(
            "requests/s", LinearScale.upto(max((y for each in rates.values() for _, y in each), default=1.0))
        ),
        lines,
    )


def parse() -> Plan:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0, help="measured time for each figure")
    parser.add_argument("--concurrency", help="only these numbers of requests in flight, comma-separated")
    parser.add_argument("--parts", default=",".join(PARTS), help=f"comma-separated, of {', '.join(PARTS)}")
    parser.add_argument("--yais-only", action="store_true", help="leave the other servers out")
    parser.add_argument(
        "--env", action="append", default=[], metavar="NAME=VALUE", help="set for every server; repeatable"
    )
    parser.add_argument("--pin", action="store_true", help="servers on core 0, load generators on core 1")
    parser.add_argument("--json", type=Path, help="write every measurement to this file")
    parser.add_argument("--picture", type=Path, help="draw requests/s on `simple` into this SVG file")
    options = parser.parse_args()
    names = options.parts.split(",")
    if unknown := set(names) - set(PARTS):
        parser.error(f"unknown part: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    if not generators.has_perf_analyzer():
        parser.error("perf_analyzer is not there: run benchmarks/fetch-perf-analyzer")
    parts = [PARTS[name] for name in names]
    return Plan(
        rounds=options.rounds,
        seconds=options.seconds,
        concurrency=[int(each) for each in options.concurrency.split(",")] if options.concurrency else None,
        parts=[replace(part, servers=(YAIS,)) for part in parts] if options.yais_only else parts,
        environment=dict(pair.split("=", 1) for pair in options.env),
        server_cpu=0 if options.pin else None,
        load_cpu=1 if options.pin else None,
        json=options.json,
        picture=options.picture,
    )


def main() -> int:
    """Measure and print."""
    signal.signal(signal.SIGTERM, terminate)
    plan = parse()
    command = shlex.join(["python", "benchmarks/serving.py", *sys.argv[1:]])
    try:
        results = run(plan)
    except KeyboardInterrupt:
        say("interrupted")
        return 130
    if not results:
        say("nothing could be measured")
        return 1
    print(f"{machine()}\n\n    {command}\n\n{figures(results)}\n\n{reached(results, GOALS)}")
    write_json(plan.json, command, "perf_analyzer; own for MLServer", results)
    if plan.picture:
        plan.picture.write_text(throughput_picture(results), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
