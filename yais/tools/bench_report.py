"""What `yais bench` reports: the numbers between two moments, and as text."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from yais.core.clock import NANOSECONDS
from yais.inference.plan import CapacityPlan
from yais.inference.servable import Servable
from yais.load.recording import Recording
from yais.tools.latency_summary import latency_summary, milliseconds_text

__all__ = ["Moment", "Window", "report", "text"]


@dataclass(frozen=True, slots=True)
class Moment:
    """What clocks and counters say; all but `time` grow only with work. Seconds."""

    time: float
    cpu: float
    compute: float
    queue: float
    buffers: float
    token: float

    @classmethod
    def now(cls, model: Servable) -> Moment:
        """Return what they say now."""
        counts = model.counts()
        return cls(
            time.perf_counter(),
            time.process_time(),
            counts.compute_infer.ns / NANOSECONDS,
            counts.queue_seconds.sum,
            counts.buffers_seconds.sum,
            counts.token_seconds.sum,
        )


@dataclass(frozen=True, slots=True)
class Window:
    """What was measured between two moments."""

    before: Moment
    after: Moment
    recording: Recording


def report(window: Window, plan: CapacityPlan, batch: int) -> dict[str, Any]:
    """Return what was measured, for JSON; `batch` items are a request."""
    before, after, batches = window.before, window.after, window.recording.completed
    seconds = after.time - before.time

    def mean(what: str) -> float | None:
        spent = getattr(after, what) - getattr(before, what)
        return spent * 1e3 / batches if batches else None

    return {
        "plan": {**asdict(plan), "host_total": plan.host_total},
        "seconds": seconds,
        "batches": batches,
        "batches_per_second": batches / seconds,
        "inferences_per_second": batches * batch / seconds,
        "ms_per_batch": mean("time"),
        "latency_ms": latency_summary(window.recording.latency, (50, 90, 99)),
        "mean_ms": {what: mean(what) for what in ("queue", "buffers", "token", "compute")},
        "cpu_seconds": after.cpu - before.cpu,
    }


def text(report: Mapping[str, Any]) -> str:
    """Return a report in lines."""
    lines = [
        f"{report['batches']} batches in {report['seconds']:.3f} s",
        f"{report['batches_per_second']:.1f} batches/s, {report['inferences_per_second']:.1f} inferences/s",
    ]
    if report["batches"]:
        lines[1] += f", {report['ms_per_batch']:.4f} ms per batch"
        lines += [
            f"latency in ms: {milliseconds_text(report['latency_ms'])}",
            f"of which, on average: {milliseconds_text(report['mean_ms'])}",
        ]
    cores = report["cpu_seconds"] / report["seconds"]
    return "\n".join([*lines, f"CPU time: {report['cpu_seconds']:.3f} s, {cores:.2f} CPUs"])
