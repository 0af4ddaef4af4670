"""Compare every kind of RPC with bare grpcio, sync and aio: unary and 1 MiB echo, ping-pong, many replies.

Tables go to stdout as markdown, progress to stderr. See benchmarks/README.md for the method.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.compare import main
from benchmarks.report import MISSING, Case, Results, medians, table
from benchmarks.servers import AIO, SYNC, YAIS
from benchmarks.workloads import WORKLOADS

_LARGE = 1 << 20


@dataclass(frozen=True)
class Goal:
    """A ratio of yais to grpc.aio that is to be reached; `figure` names a field of `Measurement`."""

    workload: str
    concurrency: int
    figure: str
    bound: float

    def __str__(self) -> str:
        """Describe what is measured."""
        names = {"rate": "messages/s", "p50": "p50", "server_cpu": "server CPU/message"}
        return f"`{self.workload}`, {self.concurrency} in flight, {names[self.figure]}"

    @property
    def wanted(self) -> str:
        """Say what is to be reached: a rate is at least that, a cost at most."""
        return f"at {'least' if self.figure == 'rate' else 'most'} {self.bound}"


GOALS = (
    Goal("echo", 8, "rate", 2.3),
    Goal("echo", 32, "rate", 2.3),
    Goal("echo", 1, "p50", 0.6),
    Goal("ping-pong", 32, "rate", 1.5),
    Goal("ping-pong", 32, "server_cpu", 0.45),
    Goal("large", 1, "rate", 1.2),
    Goal("large", 8, "rate", 1.2),
)


def figures(results: Results) -> str:
    """Return the table of medians, a row for each case."""
    rows = []
    for case, rounds in results.items():
        one = medians(rounds)
        size = len(WORKLOADS[case.workload].request)
        rows.append(
            [
                case.workload,
                str(case.concurrency),
                case.server,
                f"{one.rate:.0f}",
                f"{one.rate * size / 1e6:.0f}" if size > _LARGE else MISSING,
                f"{one.p50:.0f}",
                f"{one.server_cpu:.1f}",
                f"{one.rate * one.load_cpu / 1e4:.0f}%",
                str(len(rounds)),
            ]
        )
    head = ["workload", "in flight", "server", "messages/s", "MB/s", "p50 µs"]
    return table([*head, "server CPU µs/message", "load's thread busy", "rounds"], rows, words=3)


def ratios(results: Results) -> str:
    """Return the table of yais, in each of its forms, to its peers."""
    rows = []
    for case, rounds in results.items():
        if case.server in {SYNC, AIO}:
            continue
        one = medians(rounds)
        row = [case.workload, str(case.concurrency), case.server]
        for peer in (AIO, SYNC):
            other = results.get(Case(case.workload, case.concurrency, peer))
            if other is None:
                row += [MISSING] * 3
                continue
            of = medians(other)
            pairs = ((one.rate, of.rate), (one.p50, of.p50), (one.server_cpu, of.server_cpu))
            row += [f"{ours / theirs:.2f}" for ours, theirs in pairs]
        rows.append(row)
    head = ["workload", "in flight", "server"]
    for peer in ("grpc.aio", "sync"):
        head += [f": {peer}, messages/s", f": {peer}, p50", f": {peer}, CPU"]
    return table(head, rows, words=3)


def goals(results: Results) -> str:
    """Return the table of what is to be reached."""
    rows = []
    for goal in GOALS:
        ours, theirs = (results.get(Case(goal.workload, goal.concurrency, name)) for name in (YAIS, AIO))
        if ours and theirs:
            ratio = getattr(medians(ours), goal.figure) / getattr(medians(theirs), goal.figure)
            rows.append([str(goal), goal.wanted, f"{ratio:.2f}"])
    return table(["figure, yais : grpc.aio", "wanted", "this run"], rows, words=2)


if __name__ == "__main__":
    workloads = "echo,large,ping-pong,replies"
    sys.exit(main(__doc__, (figures, ratios, goals), rounds=3, seconds=1.0, workload=workloads))
