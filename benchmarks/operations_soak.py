"""Besiege two servers behind HAProxy and operate them meanwhile: see that nothing is lost, and nothing grows.

At 60 % of what they can do, models are loaded again, frontends are killed, one server is drained and started
again, and clients vanish in the middle of their requests. Every request must be answered, rightly, or refused
with a status, and only those that a kill explains may fail; memory and descriptors must stay as they were.
What was found is printed as JSON, progress goes to stderr, and the exit status is 1 if anything is wrong.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

# As `yais siege` starts itself: see benchmarks/load.py for what it brings.
os.environ.setdefault("GRPC_EXPERIMENTS", "-event_engine_client,-event_engine_listener")
sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.compare import say, terminate
from benchmarks.operations_soak_events import (
    DRAIN,
    ENGINE,
    FRONTEND,
    RELOAD,
    VANISH,
    Event,
    Operator,
    unexplained,
)
from benchmarks.operations_soak_load import by_status, capacity, questions
from benchmarks.operations_soak_picture import soak_picture
from benchmarks.operations_soak_samples import Sample, Usage, grown, kept
from benchmarks.operations_soak_servers import until
from benchmarks.operations_soak_world import World, world
from benchmarks.processes import BenchmarkError
from yais.load.open_load import OpenLoad
from yais.load.schedule import Constant

_SAMPLES, _PROGRESS = 300, 10.0
"""How many there are of a run, at least a second apart; seconds between lines of progress."""
_SETTLE, _LAST_ANSWERS, _OPERATOR = 2.0, 35.0, 120.0
_OUTSTANDING = 400
"""What one server, and HAProxy before it, takes at once while the other is away."""
_SPARE = 6
"""Descriptors that may be there for connections that HAProxy keeps for later."""


@dataclass(frozen=True)
class Plan:
    """How long, in seconds, what happens how often, and how much memory may differ under the same load."""

    seconds: float
    every: float
    share: float
    frontends: int
    engine_kills: bool
    growth: float
    seed: int

    @property
    def kinds(self) -> tuple[str, ...]:
        """What happens."""
        kills = (FRONTEND, ENGINE) if self.engine_kills else (FRONTEND,)
        return (RELOAD, DRAIN, VANISH, *(kills if self.frontends else ()))


@dataclass
class Report:
    """What was found.

    Attributes
    ----------
    capacity, rate
        Requests/s: what the servers can do, and what was asked of them.
    sent, answered, failed, texts
        Requests; those that failed by status, and by what was said.
    late, unsent
        Of requests that were due: held back because too many were in flight, to the end of the run or not.
    p99
        From when a request was due, ms.
    happened
        How often what did.
    resident, descriptors
        Memory of each process at even intervals, MiB; what it had open before and after.
    wrong
        What should not have been.
    """

    capacity: float = 0.0
    rate: float = 0.0
    sent: int = 0
    answered: int = 0
    failed: dict[str, int] = field(default_factory=dict)
    texts: dict[str, int] = field(default_factory=dict)
    late: int = 0
    unsent: int = 0
    p99: float | None = None
    happened: dict[str, int] = field(default_factory=dict)
    resident: dict[str, list[float]] = field(default_factory=dict)
    descriptors: dict[str, tuple[int, int]] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)


def besiege(plan: Plan, running: World, report: Report) -> tuple[list[Sample], list[Event], float]:
    """Send requests at a rate while things happen; return samples, what happened, and when it began."""
    rate = Constant(report.rate)
    load = OpenLoad(running.sender, questions(), rate, duration=plan.seconds, max_outstanding=_OUTSTANDING)
    operator = Operator(running.servers, running.vanishing, plan.kinds, plan.every, plan.seed)
    start = time.monotonic()
    load.start()
    operator.start()
    try:
        samples = list(sampled(load, running, max(1.0, plan.seconds / _SAMPLES), operator))
    finally:  # who is interrupted leaves nothing that starts servers
        operator.finish(_OPERATOR)
        recording = load.stop(_LAST_ANSWERS)
    report.sent, report.answered = recording.sent, recording.completed
    report.late, report.unsent = recording.late, recording.unsent
    report.p99 = recording.percentile(99)
    report.wrong += operator.wrong
    if recording.outstanding:
        report.wrong.append(f"{recording.outstanding} requests have got no answer and no status")
    return samples, operator.events, start


def sampled(load: OpenLoad, running: World, gap: float, operator: Operator) -> Iterator[Sample]:
    """Yield a sample after each gap until the load is over, and say now and then how things are."""
    start = told = time.monotonic()
    counted: collections.Counter[str] = collections.Counter()
    while not load.wait(gap):
        window, failed = load.take(), by_status(running.sender.failures())
        rates = {name: number / window.seconds for name, number in (failed - counted).items()}
        counted = failed
        moment, rate, p99 = time.monotonic() - start, window.completed / window.seconds, window.percentile(99)
        yield Sample(moment, rate, rates, p99, running.usages())
        if time.monotonic() > told + _PROGRESS:
            told = time.monotonic()
            happened = collections.Counter(event.kind for event in operator.events)
            many = ", ".join(f"{kind} {number}" for kind, number in happened.items())
            say(
                f"{moment:.0f} s: {rate:.0f}/s answered, p99 {p99 or 0:.0f} ms, failed {dict(failed)}; {many}"
            )


def judge(running: World, before: dict[tuple[str, int], Usage], report: Report) -> None:
    """Compare the servers that have nothing to do any more with how they were before, and end them."""
    with contextlib.suppress(BenchmarkError):  # said below
        until(lambda: not kept(before, running.usages(), _SPARE), "descriptors as before")
    after = running.usages()
    report.wrong += kept(before, after, _SPARE)
    report.descriptors = {
        name: (usage.descriptors, after[name, pid].descriptors)
        for (name, pid), usage in before.items()
        if (name, pid) in after
    }
    for server in running.servers:
        try:
            server.drain()
        except BenchmarkError as error:
            report.wrong.append(str(error))
        report.wrong += server.unexpected()


def soak(plan: Plan, picture: Path | None = None) -> Report:
    """Do all of it."""
    report = Report()
    with world(plan.frontends) as running:
        report.capacity = capacity(running.sender)
        report.rate = plan.share * report.capacity
        say(f"capacity {report.capacity:.0f} requests/s; {report.rate:.0f}/s for {plan.seconds:.0f} s")
        time.sleep(_SETTLE)
        before = running.usages()
        samples, events, start = besiege(plan, running, report)
        running.vanishing.end()
        report.happened = dict(collections.Counter(event.kind for event in events))
        failed = running.sender.failures()
        report.failed = dict(by_status(failed))
        for failure, number in failed.items():
            text = f"{failure.code.name}: {failure.text}"
            report.texts[text] = report.texts.get(text, 0) + number
        report.wrong += unexplained(failed, events) + grown(samples, plan.growth)
        sixth = max(1, len(samples) // 6)
        for each in samples[::sixth]:
            for (name, pid), usage in each.processes.items():
                report.resident.setdefault(f"{name}, {pid}", []).append(round(usage.resident, 1))
        judge(running, before, report)
        if picture:
            title = f"Two servers behind HAProxy, at {plan.share:.0%} of what they can do"
            picture.write_text(soak_picture(title, samples, events, start), encoding="utf-8")
    return report


def main() -> int:
    """Read the command line, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument(
        "--every", type=float, default=12.0, help="seconds from one thing that happens to the next"
    )
    parser.add_argument(
        "--share", type=float, default=0.6, help="of the capacity, to besiege the servers with"
    )
    parser.add_argument(
        "--frontends", type=int, default=2, help="of each server; 0: one process does everything"
    )
    parser.add_argument("--engine-kills", action="store_true", help="kill engines, too")
    parser.add_argument("--growth", type=float, default=0.1, help="share by which memory may grow")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--picture", type=Path, help="draw what happened into this SVG file")
    options = vars(parser.parse_args())
    picture = options.pop("picture")
    plan = Plan(seconds=options.pop("minutes") * 60.0, **options)
    signal.signal(signal.SIGTERM, terminate)
    report = soak(plan, picture)
    print(json.dumps(vars(plan) | vars(report), indent=2))
    return 1 if report.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
