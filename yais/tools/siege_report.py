"""What `yais siege` prints."""

from __future__ import annotations

import textwrap
from dataclasses import asdict, dataclass
from typing import Any

from yais.load.objective import Objective
from yais.load.rate_finding import RateFound
from yais.load.recording import Recording
from yais.tools.arrival_options import Arrivals
from yais.tools.latency_summary import errors_by_status, errors_text, latency_summary

__all__ = ["SiegeResult", "siege_report", "siege_text"]

_PERCENTS = (50, 90, 95, 99, 99.9)
_COLUMNS = 80


@dataclass(frozen=True, slots=True)
class SiegeResult:
    """What came of a siege.

    Attributes
    ----------
    arrivals, recording
        The run; after a search the best one.
    objective
        What it is held against, if anything.
    found
        What a search came to, if there was one.
    """

    address: str
    model: str
    arrivals: Arrivals
    recording: Recording
    objective: Objective | None
    found: RateFound | None

    @property
    def title(self) -> str:
        """What was done."""
        return f"{self.model} at {self.address}: {self.arrivals}"

    @property
    def well(self) -> bool:
        """Whether the objective was kept; without one, whether each request was sent and answered with OK."""
        if self.objective is None:
            return not self.recording.failed and not self.recording.unsent
        return self.objective.kept(self.recording)


def siege_report(result: SiegeResult) -> dict[str, Any]:
    """Return it as `--json` prints it.

    Rates are in requests/s, times in seconds. `latency_ms` is from the moment at which requests were due,
    `service_ms` from that at which they were sent.
    """
    recording, objective = result.recording, result.objective
    report: dict[str, Any] = {"address": result.address, "model": result.model, "func": result.arrivals.func}
    if result.found is not None:
        report |= {"max_qps": result.found.rate, "tries": [asdict(one) for one in result.found.tries]}
    report |= _run_report(recording)
    if objective is not None:
        value, kept = objective.value(recording), objective.kept(recording)
        report["objective"] = {"slo": str(objective), "value_ms": value, "kept": kept}
    return report


def siege_text(result: SiegeResult) -> str:
    """Return it as lines for people."""
    recording, objective = result.recording, result.objective
    parts = [textwrap.wrap(result.title, _COLUMNS, subsequent_indent="    ")]
    if result.found is not None and objective is not None:
        parts.insert(0, _search(result.found, objective))
    parts += [_rates(recording), _punctuality(recording), _latencies(recording)]
    parts.append(errors_text(errors_by_status(recording)))
    if objective is not None:
        parts.append([_verdict(recording, objective)])
    if recording.interrupted:
        parts.append(["Interrupted: this is what was measured so far."])
    return "\n\n".join("\n".join(lines) for lines in parts if lines)


def _run_report(recording: Recording) -> dict[str, Any]:
    return {
        "rate_asked": recording.rate_asked,
        "rate_sent": recording.rate_sent,
        "rate_completed": recording.rate_completed,
        "seconds": recording.seconds,
        "scheduled": recording.scheduled,
        "sent": recording.sent,
        "completed": recording.completed,
        "failed": recording.failed.total(),
        "late": recording.late,
        "held_back": recording.held_back,
        "unsent": recording.unsent,
        "unanswered": recording.outstanding,
        "latency_ms": latency_summary(recording.latency, _PERCENTS),
        "service_ms": latency_summary(recording.service, _PERCENTS),
        "statuses": _statuses(recording),
        "errors": errors_by_status(recording),
        "interrupted": recording.interrupted,
    }


def _search(found: RateFound, objective: Objective) -> list[str]:
    highest = "none" if found.rate is None else f"{found.rate:.1f}/s"
    lines = [f"highest rate with {objective}: {highest}", "", _row("tried", "completed", "ms")]
    for one in found.tries:
        value = "-" if one.value is None else f"{one.value:.3f}"
        kept = "kept" if one.kept else "not kept"
        lines.append(_row(f"{one.rate:.1f}/s", f"{one.completed:.1f}/s", value, kept))
    return lines


def _verdict(recording: Recording, objective: Objective) -> str:
    kept = "kept" if objective.kept(recording) else "not kept"
    value = objective.value(recording)
    return f"{objective}: {kept}, " + ("beyond what was measured" if value is None else f"{value:.3f} ms")


def _statuses(recording: Recording) -> dict[str, int]:
    failed = {code.name: number for code, number in recording.failed.most_common()}
    return {"OK": recording.completed, **failed} if recording.completed else failed


def _rates(recording: Recording) -> list[str]:
    rates = (recording.rate_asked, recording.rate_sent, recording.rate_completed)
    numbers = (recording.scheduled, recording.sent, recording.completed, recording.failed.total())
    return [
        _row("", "asked", "sent", "completed", "failed"),
        _row("requests", *map(str, numbers)),
        _row("per second", *(f"{rate:.1f}" for rate in rates)),
    ]


def _punctuality(recording: Recording) -> list[str]:
    share = 100 * recording.late / recording.sent if recording.sent else 0.0
    lines = [f"{recording.late} sent more than 1 ms late ({share:.2f} %)"]
    if recording.held_back:
        lines[0] += f", {recording.held_back} held back: too many outstanding"
    if recording.unsent:
        lines.append(f"{recording.unsent} could not be sent in time")
    if recording.outstanding:
        lines.append(f"{recording.outstanding} without an answer at the end")
    return lines


def _latencies(recording: Recording) -> list[str]:
    due = latency_summary(recording.latency, _PERCENTS)
    sent = latency_summary(recording.service, _PERCENTS)
    if due is None or sent is None:
        return []
    return [
        _row("latency in ms", *due),
        _row("since due", *(f"{value:.3f}" for value in due.values())),
        _row("since sent", *(f"{value:.3f}" for value in sent.values())),
    ]


def _row(name: str, *cells: str) -> str:
    return f"{name:<14}" + "".join(f"{cell:>11}" for cell in cells)
