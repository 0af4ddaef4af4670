"""Measure the open-loop generator: alone, at 5,000 requests/s against an echo server, and as fast as it can.

Tables go to stdout as markdown, progress to stderr. See benchmarks/README.md for the method.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

# As `yais siege` starts itself: see benchmarks/load.py for what it brings.
os.environ.setdefault("GRPC_EXPERIMENTS", "-event_engine_client,-event_engine_listener")
sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.cpu_time import cpu_seconds
from benchmarks.report import table
from benchmarks.servers import YAIS, Running, serving
from benchmarks.workloads import WORKLOADS
from yais.client.connection import Connection
from yais.client.grpc_endpoint import GrpcEndpoint
from yais.load.base_load import Sender
from yais.load.closed_load import ClosedLoad
from yais.load.null_transport import NullTransport
from yais.load.open_load import OpenLoad
from yais.load.rate_search import RateSearch
from yais.load.schedule import Constant
from yais.tools.load_run import without_pauses

_ALL_AT_ONCE = 1e9  # requests/s that nothing can keep up with
_MANY = 300_000
_LATE, _RATE_ERROR = 0.01, 0.005
_TOLERANCE = 0.05
_SEARCH_SECONDS = 3.0
_LOWEST = 500.0  # requests/s
_WARM_UP = 5_000
_END = 10.0
_AS_SHIPPED = {
    "GRPC_EXPERIMENTS": "-event_engine_listener"
}  # the server, not as the generator in this process


@dataclass(frozen=True)
class Figures:
    """One run.

    Attributes
    ----------
    asked, sent
        Requests/s.
    late
        The part of the requests that was sent more than 1 ms after they were due.
    failed
        Requests that ended otherwise than with OK, or not in time.
    p50, p99, p999, max
        Latency from when they were due, ms.
    own_cpu, server_cpu
        Microseconds for each request.
    """

    name: str
    asked: float
    sent: float
    late: float
    failed: int
    p50: float | None
    p99: float | None
    p999: float | None
    max: float | None
    own_cpu: float
    server_cpu: float | None

    @property
    def kept(self) -> bool:
        """Whether the generator did what was asked."""
        error = abs(self.sent / self.asked - 1)
        return not self.failed and self.late <= _LATE and error <= _RATE_ERROR


def run(
    name: str, sender: Sender, rate: float, *, seconds: float | None, count: int | None, server: int | None
) -> Figures:
    """Send at a rate, for a time or a number of requests."""
    load = OpenLoad(sender, [WORKLOADS["echo"].request], Constant(rate), duration=seconds, count=count)
    cpu, own = cpu_seconds(server) if server else 0.0, time.process_time()
    with without_pauses():
        load.start()
        load.wait((seconds or 0) + _END)
    own = time.process_time() - own
    server_cpu = cpu_seconds(server) - cpu if server else 0.0
    recording = load.stop(_END)
    p50, p99, p999, highest = recording.percentiles(50, 99, 99.9, 100)
    return Figures(
        name=name,
        asked=rate,
        sent=recording.rate_sent,
        late=recording.late / recording.sent,
        failed=recording.failed.total() + recording.outstanding,
        p50=p50,
        p99=p99,
        p999=p999,
        max=highest,
        own_cpu=own * 1e6 / recording.sent,
        server_cpu=server_cpu * 1e6 / recording.sent if server else None,
    )


def alone(rate: float) -> Iterator[Figures]:
    """Measure the generator with a transport that answers at once."""
    yield run("alone, all due at once", NullTransport(), _ALL_AT_ONCE, seconds=None, count=_MANY, server=None)
    yield run("alone", NullTransport(), rate, seconds=_SEARCH_SECONDS, count=None, server=None)


def against(server: Running, rate: float, seconds: float) -> Iterator[Figures]:
    """Measure it with an echo server: at a rate, then at others until the highest that it holds is found."""
    with GrpcEndpoint(Connection(server.target)) as endpoint:
        echo = WORKLOADS["echo"]
        sender = endpoint.method_transport(echo.method)
        warm_up = ClosedLoad(sender, [echo.request], 8, count=_WARM_UP)
        warm_up.start()
        warm_up.wait(_END)
        yield run("echo", sender, rate, seconds=seconds, count=None, server=server.pid)
        search = RateSearch(rate, _TOLERANCE, lowest=_LOWEST)
        best: Figures | None = None
        while (tried := search.rate) is not None:
            figures = run("", sender, tried, seconds=_SEARCH_SECONDS, count=None, server=server.pid)
            search.tell(figures.kept)
            print(f"{tried:.0f}/s: {'held' if figures.kept else 'not held'}", file=sys.stderr)
            if figures.kept:
                best = figures
        if best is not None:
            yield Figures(**{**asdict(best), "name": "echo, highest held"})


def text(found: list[Figures]) -> str:
    """Return the table."""

    def number(value: float | None, form: str) -> str:
        return "-" if value is None else format(value, form)

    rows = [
        [
            one.name,
            "all" if one.asked == _ALL_AT_ONCE else f"{one.asked:.0f}",
            f"{one.sent:.0f}",
            "-" if one.asked == _ALL_AT_ONCE else f"{100 * (one.sent / one.asked - 1):+.2f}%",
            "-" if one.asked == _ALL_AT_ONCE else f"{100 * one.late:.2f}%",
            str(one.failed),
            *(number(value, ".2f") for value in (one.p50, one.p99, one.p999, one.max)),
            f"{one.own_cpu:.1f}",
            number(one.server_cpu, ".1f"),
        ]
        for one in found
    ]
    head = ["", "asked/s", "sent/s", "error", "late", "failed", "p50 ms", "p99", "p99.9", "max"]
    return table([*head, "own CPU µs/request", "server's"], rows, words=1)


def main() -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=5000.0, help="requests/s against the echo server")
    parser.add_argument("--seconds", type=float, default=30.0, help="for how long")
    parser.add_argument("--alone", type=float, default=50_000.0, help="requests/s of the generator alone")
    parser.add_argument("--pin", action="store_true", help="the server on core 0, the generator on core 1")
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    options = parser.parse_args()
    if options.pin:
        os.sched_setaffinity(0, {1})
    found = list(alone(options.alone))
    with serving(YAIS, WORKLOADS["echo"], Path(), _AS_SHIPPED, 0 if options.pin else None) as server:
        found += against(server, options.rate, options.seconds)
    print(text(found))
    if options.json is not None:
        options.json.write_text(json.dumps([asdict(one) for one in found]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
