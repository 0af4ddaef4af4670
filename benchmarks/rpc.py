"""Compare every kind of RPC with bare grpcio, sync and aio: unary and 1 MiB echo, ping-pong, many replies.

Tables go to stdout as markdown, progress to stderr. See benchmarks/README.md for the method.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.compare import main
from benchmarks.report import MISSING, Case, Goal, Results, medians, reached, table
from benchmarks.servers import AIO, SYNC
from benchmarks.workloads import WORKLOADS

_LARGE = 1 << 20


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
    return reached(results, GOALS)


if __name__ == "__main__":
    workloads = "echo,large,ping-pong,replies"
    sys.exit(main(__doc__, (figures, ratios, goals), rounds=3, seconds=1.0, workload=workloads))
