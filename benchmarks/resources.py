"""Compare the costs of pools, threads, memory and runners with those of the nearest other thing.

A table goes to stdout as markdown, progress to stderr. What is measured is in resources_cases.py and
resources_infer.py.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.report import MISSING, machine, table
from benchmarks.resources_cases import CASES, Case, Goal, Work
from benchmarks.resources_infer import INFER_CASES

ALL_CASES = [*CASES, *INFER_CASES]


@dataclass(frozen=True)
class Cost:
    """What one piece of work took, in microseconds: by the clock, and of CPU time of all threads."""

    wall: float
    cpu: float


@dataclass(frozen=True)
class Result:
    """All rounds of a case; the two of a round follow each other directly."""

    case: Case
    yais: list[Cost]
    other: list[Cost]


def say(text: str) -> None:
    """Report progress."""
    print(text, file=sys.stderr, flush=True)


def measure(work: Work, count: int) -> Cost:
    """Do the work so many times."""
    wall, cpu = time.perf_counter(), time.process_time()
    work(count)
    scale = 1e6 / count
    return Cost((time.perf_counter() - wall) * scale, (time.process_time() - cpu) * scale)


def calibrate(work: Work, seconds: float) -> int:
    """Return how often the work can be done in so many seconds; warms it up, too."""
    count = 1
    while (wall := measure(work, count).wall * count / 1e6) < seconds / 4:
        count *= 4
    return max(1, int(count * seconds / wall))


def visit(result: Result, seconds: float, turn: int) -> None:
    """Measure both sides of a case once; who is first changes from round to round."""
    sides = [(result.case.yais, result.yais), (result.case.other, result.other)]
    for open_side, costs in sides[:: 1 if turn % 2 else -1]:
        with open_side() as work:
            costs.append(measure(work, calibrate(work, seconds)))


def run(cases: list[Case], rounds: int, seconds: float) -> list[Result]:
    """Measure everything, each case once inside each round."""
    results = [Result(case, [], []) for case in cases]
    for turn in range(rounds):
        say(f"round {turn + 1} of {rounds}")
        for result in results:
            visit(result, seconds, turn)
    return results


def shortened(number: float) -> str:
    """Write a number with three digits or more."""
    return f"{number:.{0 if number >= 100 else 1 if number >= 10 else 2 if number >= 1 else 3}f}"


def verdict(goal: Goal | None, yais: float, other: float) -> str:
    """Say what was to be reached, and whether it was."""
    if goal is None:
        return MISSING
    figure = yais / other if goal.figure == "ratio" else yais - other
    return f"{goal}: {'yes' if figure <= goal.bound else 'no'}"


def figures(results: list[Result]) -> str:
    """Return the table of medians, a row for each case."""
    rows = []
    for result in results:
        (yais, yais_cpu), (other, other_cpu) = (
            (median(cost.wall for cost in costs), median(cost.cpu for cost in costs))
            for costs in (result.yais, result.other)
        )
        rows.append(
            [
                result.case.name,
                result.case.against,
                verdict(result.case.goal, yais, other),
                *map(shortened, (yais, other, yais / other, yais_cpu, other_cpu, yais_cpu / other_cpu)),
            ]
        )
    head = ("work", "against", "wanted", "yais µs", "other µs", "ratio", "CPU µs", "other CPU µs", "ratio")
    return table(head, rows, words=3)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.2, help="measured time for each figure")
    parser.add_argument("--only", default="", metavar="TEXT", help="the cases whose name contains this")
    parser.add_argument("--json", type=Path, help="write every measurement to this file")
    options = parser.parse_args()
    cases = [case for case in ALL_CASES if options.only in case.name]
    if not cases:
        parser.error(
            f"got --only {options.only!r}, expected a part of: {', '.join(c.name for c in ALL_CASES)}"
        )
    command = shlex.join(["python", "benchmarks/resources.py", *sys.argv[1:]])
    try:
        results = run(cases, options.rounds, options.seconds)
    except KeyboardInterrupt:
        say("interrupted")
        return 130
    print(f"{machine()}\n\n    {command}\n\n{figures(results)}")
    if options.json is not None:
        document = {
            "command": command,
            "machine": machine(),
            "cases": [
                {
                    "name": result.case.name,
                    "against": result.case.against,
                    "yais": [asdict(cost) for cost in result.yais],
                    "other": [asdict(cost) for cost in result.other],
                }
                for result in results
            ],
        }
        options.json.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
