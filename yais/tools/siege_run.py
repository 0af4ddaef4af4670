"""Runs of `yais siege`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from yais.client.transport import Transport
from yais.load.open_load import OpenLoad
from yais.load.recording import Recording
from yais.load.schedule import Schedule
from yais.tools.load_run import LiveLine, run_load

__all__ = ["SiegeRun", "live_text"]

_BACK_OFF = "Initiated Backoff - (Siege Rate > Server Compute Rate) - Server Queues are full."
_TIMES = 10  # that it is said, as in the original


class SiegeRun:
    """Runs that have everything but the schedule in common.

    Parameters
    ----------
    requests
        As `transport.encode` returns them, sent in turn.
    duration, count
        When a run ends: after so many seconds, or requests.
    warn
        Whether to say on stderr when requests are held back.
    """

    def __init__(
        self,
        transport: Transport,
        requests: Sequence[Any],
        *,
        duration: float | None,
        count: int | None,
        max_outstanding: int,
        warn: bool,
    ) -> None:
        self._transport = transport
        self._requests = requests
        self._duration = duration
        self._count = count
        self._max_outstanding = max_outstanding
        self._live = LiveLine()
        self._warnings = _TIMES if warn else 0

    def __repr__(self) -> str:
        return f"<SiegeRun: at most {self._max_outstanding} outstanding>"

    def __call__(self, schedule: Schedule) -> Recording:
        """Run once."""
        load = OpenLoad(
            self._transport,
            self._requests,
            schedule,
            duration=self._duration,
            count=self._count,
            max_outstanding=self._max_outstanding,
            on_back_off=self._back_off,
        )
        return run_load(load, live_text, self._live)

    def _back_off(self) -> None:
        if self._warnings:
            self._warnings -= 1
            self._live.say(_BACK_OFF)


def live_text(recording: Recording) -> str:
    """Return what goes on, as a line of about 80 characters: rates and latencies are of the last second."""
    if not recording.slices:
        return ""
    now = recording.slices[-2 if len(recording.slices) > 1 else -1]  # the last is not over
    parts = [
        f"{recording.seconds:.0f} s: {now.scheduled / now.seconds:.0f}/s asked",
        f"{now.sent / now.seconds:.0f}/s sent",
        f"{recording.outstanding} outstanding",
    ]
    parts += [f"{code.name} {number}" for code, number in recording.failed.most_common()]
    if now.p50 is not None and now.p99 is not None:
        parts.append(f"p50 {_short(now.p50)} p99 {_short(now.p99)} ms")
    return ", ".join(parts)


def _short(milliseconds: float) -> str:
    return f"{milliseconds:.{2 if milliseconds < 10 else 0}f}"
