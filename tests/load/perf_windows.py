"""Windows and results of `yais.load.perf` that no machine has measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from yais.load.perf.profiler import LevelResult
from yais.load.perf.server_times import ServerTimes, Total
from yais.load.perf.window import Window
from yais.load.recording import Recording

TIMES = ServerTimes(
    inferences=30,
    executions=10,
    success=Total(10, 1_005_000),
    queue=Total(10, 300_000),
    compute_input=Total(10, 59_990),
    compute_infer=Total(10, 250_000),
    compute_output=Total(10, 110_000),
)
"""What a server counted of ten requests: 100 us each, of which 29 are left over."""

CACHED = ServerTimes(
    inferences=1,
    executions=1,
    success=Total(3, 300_000),
    queue=Total(3, 30_000),
    compute_input=Total(1, 10_000),
    compute_infer=Total(1, 20_000),
    compute_output=Total(1, 30_000),
    cache_hit=Total(2, 15_000),
    cache_miss=Total(1, 6_000),
)

ENSEMBLE = ServerTimes(
    inferences=10,
    executions=10,
    success=Total(10, 4_000_000),
    composing={
        ("first", "1"): TIMES,
        ("second", "3"): ServerTimes(
            inferences=10, executions=10, success=Total(10, 900_000), composing={("first", "1"): TIMES}
        ),
    },
)


def window(
    latencies_us: Sequence[float] = (100.5, 200.5, 300.5, 400.5),
    *,
    seconds: float = 0.5,
    batch: int = 1,
    sent: int | None = None,
    late: int = 0,
    responses: int | None = None,
    sending_us: float = 5.0,
    cpu: float = 0.05,
    server: ServerTimes | None = TIMES,
) -> Window:
    """Return a window in which requests took so long."""
    count = len(latencies_us)
    recording = Recording(completed=count, sent=count if sent is None else sent, late=late)
    recording.sending = int(recording.sent * sending_us * 1000)
    for latency in latencies_us:
        recording.latency.record_value(int(latency * 1000))
        recording.service.record_value(int(latency * 1000))
    return Window(seconds, batch, recording, count if responses is None else responses, cpu, server)


def result(level: float, measured: Window | None = None, **fields: Any) -> LevelResult:
    """Return a level that was met."""
    return LevelResult(level, measured or window(), **{"stable": True, "over": False, **fields})
