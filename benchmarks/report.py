"""Medians over rounds, and the markdown tables made of them."""

from __future__ import annotations

import platform
import re
import subprocess
from dataclasses import dataclass, fields
from importlib.metadata import version
from os import cpu_count
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, TypeVar

from benchmarks.generators import Measurement
from benchmarks.servers import AIO, PEERS_PYTHON, SERVERS, SYNC, YAIS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from _typeshed import DataclassInstance

MISSING = "-"

_Figures = TypeVar("_Figures", bound="DataclassInstance")


@dataclass(frozen=True)
class Case:
    """What was measured: one server, one workload, one number of requests in flight."""

    workload: str
    concurrency: int
    server: str


Results = dict[Case, list[Measurement]]


@dataclass(frozen=True)
class Goal:
    """A ratio of yais to a peer that is to be reached; `figure` names a field of `Measurement`."""

    workload: str
    concurrency: int
    figure: str
    bound: float
    peer: str = AIO

    def __str__(self) -> str:
        """Describe what is measured."""
        names = {"rate": "throughput", "p50": "p50", "server_cpu": "server CPU"}
        return f"`{self.workload}`, {self.concurrency} in flight, {names[self.figure]}"

    @property
    def wanted(self) -> str:
        """Say what is to be reached: a rate is at least that, a cost at most."""
        return f"at {'least' if self.figure == 'rate' else 'most'} {self.bound}"

    def met(self, ratio: float) -> bool:
        """Return whether a ratio is enough."""
        return ratio >= self.bound if self.figure == "rate" else ratio <= self.bound


def medians(rounds: Sequence[_Figures]) -> _Figures:
    """Return the median of each figure by itself, of measurements that are dataclasses of numbers."""
    names = [field.name for field in fields(rounds[0])]
    return type(rounds[0])(**{name: median(getattr(one, name) for one in rounds) for name in names})


def table(head: Sequence[str], rows: Iterable[Sequence[str]], words: int) -> str:
    """Return a markdown table whose first columns are words and whose others are numbers."""
    rule = ["---"] * words + ["--:"] * (len(head) - words)
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, rule, *rows))


def figures(results: Results) -> str:
    """Return the table of medians, a row for each case."""
    rows = []
    for case, rounds in results.items():
        one = medians(rounds)
        numbers = (one.rate, one.p50, one.p99, one.server_cpu)
        row = [case.workload, str(case.concurrency), case.server, *(f"{number:.0f}" for number in numbers)]
        rows.append([*row, str(len(rounds))])
    head = ("workload", "in flight", "server", "requests/s", "p50 µs", "p99 µs", "CPU µs/request", "rounds")
    return table(head, rows, words=3)


def ratios(results: Results) -> str:
    """Return the table of yais to its peers: more is better for requests/s, less for p50."""
    rows = []
    for workload, concurrency in dict.fromkeys((case.workload, case.concurrency) for case in results):
        of = {
            server: medians(results[case])
            for server in SERVERS
            if (case := Case(workload, concurrency, server)) in results
        }
        row = [workload, str(concurrency)]
        for peer in (AIO, SYNC):
            if peer in of and YAIS in of:
                row += [f"{of[YAIS].rate / of[peer].rate:.2f}", f"{of[YAIS].p50 / of[peer].p50:.2f}"]
            else:
                row += [MISSING, MISSING]
        rows.append(row)
    head = ["workload", "in flight"]
    for peer in ("grpc.aio", "sync"):
        head += [f"yais : {peer}, requests/s", f"yais : {peer}, p50"]
    return table(head, rows, words=2)


def reached(results: Results, goals: Iterable[Goal]) -> str:
    """Return the table of what is to be reached, and of what this run did."""
    rows = []
    for goal in goals:
        ours, theirs = (
            results.get(Case(goal.workload, goal.concurrency, name)) for name in (YAIS, goal.peer)
        )
        row = [str(goal), goal.peer, goal.wanted]
        if ours and theirs:
            ratio = getattr(medians(ours), goal.figure) / getattr(medians(theirs), goal.figure)
            rows.append([*row, f"{ratio:.2f}", "yes" if goal.met(ratio) else "no"])
    return table(["figure", "yais to", "wanted", "this run", "reached"], rows, words=3)


def _peers_grpcio() -> str:
    """Return the grpcio version of the peers' environment."""
    code = "from importlib.metadata import version; print(version('grpcio'))"
    try:
        answer = subprocess.run(
            [PEERS_PYTHON, "-c", code], capture_output=True, text=True, timeout=20, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return answer.stdout.strip()


def machine() -> str:
    """Return one line about the machine and the versions that matter."""
    text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    model = found[1] if found else platform.machine()
    return (
        f"{cpu_count()} cores, {model}, Linux {platform.release()}, Python {platform.python_version()}, "
        f"grpcio {version('grpcio')} (peers: {_peers_grpcio()})"
    )
