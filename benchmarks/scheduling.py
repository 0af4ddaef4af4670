"""What scheduling costs, what batching gains, and whether a latency objective is kept.

Tables go to stdout as markdown, progress to stderr. Nothing but the costs and the part `real` depends on the
machine: the rest is simulated, with fixed seeds. See benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.report import machine, table
from benchmarks.scheduling_cases import (
    LOADS,
    NOISE,
    OBJECTIVE,
    Row,
    against_load,
    against_objectives,
    against_static,
)
from benchmarks.scheduling_cost import Cost, costs, costs_of_models
from benchmarks.scheduling_real import REAL, run_real
from yais.load.chart import picture
from yais.load.chart_style import Colour
from yais.load.plot import Axis, Line
from yais.load.scales import LinearScale

PICTURES = Path(__file__).parent / "pictures"
PARTS = ("cost", "batches", "slo", "real")
STATIC_LOADS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)


def say(text: str) -> None:
    """Report progress."""
    print(text, file=sys.stderr, flush=True)


def cost_tables() -> dict[str, Any]:
    """Print what schedulers cost."""
    alone, whole = costs(), costs_of_models()
    print("\n## CPU time per request\n")
    print(_costs("state machine alone", alone))
    print()
    print(_costs("`Model.submit` to answer, 64 in flight, an engine that does nothing", whole))
    worst = max(cost.us for cost in alone if cost.scheduler == "dynamic")
    print(f"\nDynamic batcher: {worst:.2f} µs at most, wanted at most 10: {_yes(worst <= 10)}.")
    return {"alone": [asdict(cost) for cost in alone], "model": [asdict(cost) for cost in whole]}


def _costs(head: str, found: Sequence[Cost]) -> str:
    rows = [[cost.scheduler, str(cost.batch), f"{cost.us:.2f}"] for cost in found]
    return table((head, "batch", "µs/request"), rows, words=1)


def batch_tables(requests: int, pictures: Path) -> dict[str, Any]:
    """Print batch sizes and latencies against the load."""
    rows = against_static(STATIC_LOADS, requests)
    print("\n## Batches against the load, without an objective\n")
    head = (
        "load",
        "scheduler",
        "answered",
        "batch",
        "p10",
        "p50",
        "p90",
        "latency p50 ms",
        "p90 ms",
        "p99 ms",
    )
    lines = [
        [
            f"{row.load:.0%}",
            row.scheduler,
            f"{row.throughput:.1%}",
            f"{row.sizes[0]:.1f}",
            *map(str, row.sizes[1:]),
            *(f"{latency:.1f}" for latency in (row.p50, row.p90, row.p99)),
        ]
        for row in rows
    ]
    print(table(head, lines, words=2))
    best = [row for row in rows if row.scheduler != "dynamic"]
    first = {load: next(row for row in best if row.load == load) for load in STATIC_LOADS}
    dynamic = [row for row in rows if row.scheduler == "dynamic"]
    load = Axis("load, % of capacity", LinearScale.upto(100))
    _save(
        pictures / "scheduling-batches.svg",
        picture(
            "Size of batches: T(b) = 2 ms + b/2 ms, one instance",
            load,
            Axis("mean size", LinearScale.upto(20)),
            [
                Line("dynamic", [(100 * row.load, row.sizes[0]) for row in dynamic], "orange"),
                Line("best fixed size", [(100 * at, row.sizes[0]) for at, row in first.items()], "green"),
            ],
        ),
    )
    _save(
        pictures / "scheduling-latency.svg",
        picture(
            "Latency without an objective",
            load,
            Axis("p90, ms", LinearScale.upto(100)),
            [
                Line("dynamic", [(100 * row.load, row.p90) for row in dynamic], "orange"),
                Line("best fixed size", [(100 * at, row.p90) for at, row in first.items()], "green"),
                Line(
                    "always 16",
                    [(100 * row.load, row.p90) for row in best if row.scheduler == "fixed 16"],
                    "blue",
                ),
            ],
        ),
    )
    return {"rows": [row.as_dict() for row in rows]}


def slo_tables(requests: int, pictures: Path) -> dict[str, Any]:
    """Print whether the objective is kept."""
    kept: dict[str, list[Row]] = {}
    for name, noise, instances in (("exact", 0.0, 1), ("noisy", NOISE, 1), ("noisy, 3 instances", NOISE, 3)):
        kept[name] = against_load(noise, requests, instances)
        print(f"\n## An objective of {OBJECTIVE:g} T(16) = 20 ms, at p90: times {name}\n")
        print(_slo_table(kept[name], by_objective=False))
    for name, noise in (("exact", 0.0), ("noisy", NOISE)):
        kept[f"objectives, {name}"] = against_objectives(noise, requests)
        print(f"\n## Objectives, at 95 % of capacity: times {name}\n")
        print(_slo_table(kept[f"objectives, {name}"], by_objective=True))
    dynamic, slo = (row for row in kept["exact"] if row.load == 0.95)
    ratio = slo.throughput / dynamic.throughput
    good = slo.p90 <= 20 < dynamic.p90 and ratio >= 0.95
    print(
        f"\nAt 95 % of capacity: p90 {slo.p90:.1f} ms with the SLO scheduler, {dynamic.p90:.1f} ms with the "
        f"dynamic batcher; wanted at most 20, and not so with the dynamic batcher. Throughput {ratio:.1%} of "
        f"it, wanted at least 95 %. Reached: {_yes(good)}."
    )
    marks = [round(100 * load) for load in LOADS]
    share = Axis("share of all requests", LinearScale(0, 1, percent=True))
    _save(
        pictures / "scheduling-slo.svg",
        picture(
            "Of all requests, answered within 20 ms = 2 T(16)",
            Axis("load, % of capacity", LinearScale(40, marks[-1], [40, *marks])),
            share,
            _kept(kept["exact"], kept["noisy"], lambda row: 100 * row.load),
        ),
    )
    _save(
        pictures / "scheduling-objectives.svg",
        picture(
            "Of all requests, answered within the objective, at 95 % of capacity",
            Axis("objective, times T(16)", LinearScale(1, 4)),
            share,
            _kept(kept["objectives, exact"], kept["objectives, noisy"], lambda row: row.objective),
        ),
    )
    return {name: [row.as_dict() for row in rows] for name, rows in kept.items()}


def _kept(exact: Sequence[Row], noisy: Sequence[Row], x: Callable[[Row], float]) -> list[Line]:
    """Return how many requests of all are answered in time."""
    colours: dict[str, Colour] = {"SLO": "blue", "dynamic": "orange"}
    return [
        Line(
            f"{name}{suffix}",
            [(x(row), row.all_in_time) for row in rows if row.scheduler == name],
            colour,
            dashed,
        )
        for rows, suffix, dashed in ((exact, "", False), (noisy, ", noisy", True))
        for name, colour in colours.items()
    ]


def _slo_table(rows: Sequence[Row], *, by_objective: bool) -> str:
    head = ["objective" if by_objective else "load", "scheduler", "p50 ms", "p90 ms", "p99 ms", "throughput"]
    head += ["refused", "in time, of the answered", "in time, of all"]
    lines = [
        [
            f"{row.objective:g} T(16)" if by_objective else f"{row.load:.0%}",
            row.scheduler,
            *(f"{latency:.1f}" for latency in (row.p50, row.p90, row.p99)),
            *(
                f"{share:.1%}"
                for share in (row.throughput, row.refused, row.answered_in_time, row.all_in_time)
            ),
        ]
        for row in rows
    ]
    return table(head, lines, words=2)


def real_table(seconds: float) -> dict[str, Any]:
    """Print the same for a real model."""
    objective = round(OBJECTIVE * REAL.time(REAL.max_batch))
    print(f"\n## Real threads: T(b) = 8 ms + 2b ms, an objective of {objective / 1e6:g} ms\n")
    lines, kept = [], []
    for load in LOADS:
        for name, wanted in (("dynamic", None), ("SLO", objective)):
            say(f"real: {name} at {load:.0%} ...")
            outcome = run_real(wanted, load, seconds, seed=4)
            answered, every = outcome.within(objective)
            shares = (outcome.throughput / REAL.capacity, outcome.refused_share, answered, every)
            latencies = [outcome.percentile(percent) / 1e6 for percent in (50, 90, 99)]
            lines.append(
                [
                    f"{load:.0%}",
                    name,
                    *(f"{ms:.1f}" for ms in latencies),
                    *(f"{share:.1%}" for share in shares),
                ]
            )
            kept.append({"scheduler": name, "load": load, "latencies_ms": latencies, "shares": shares})
    head = ("load", "scheduler", "p50 ms", "p90 ms", "p99 ms", "throughput", "refused")
    print(table((*head, "in time, of the answered", "in time, of all"), lines, words=2))
    return {"rows": kept}


def _save(path: Path, picture: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(picture, encoding="utf-8")


def _yes(good: bool) -> str:
    return "yes" if good else "no"


def main() -> None:
    """Run the parts asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=PARTS, action="append", help="a part; may be repeated")
    parser.add_argument("--requests", type=int, default=40_000, help="of each simulation")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement with real threads")
    parser.add_argument("--pictures", type=Path, default=PICTURES, help="where pictures go")
    parser.add_argument("--json", type=Path, help="write everything there, too")
    arguments = parser.parse_args()
    parts = arguments.only or PARTS
    results: dict[str, Any] = {"machine": machine()}
    print(results["machine"])
    for part in PARTS:
        if part not in parts:
            continue
        say(f"{part} ...")
        if part == "cost":
            results[part] = cost_tables()
        elif part == "batches":
            results[part] = batch_tables(arguments.requests, arguments.pictures)
        elif part == "slo":
            results[part] = slo_tables(arguments.requests, arguments.pictures)
        else:
            results[part] = real_table(arguments.seconds)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
