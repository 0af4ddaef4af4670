"""A number of requests, so many at a time: what `yais client-sync` and `yais client-async` do."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import click

from yais.client.connection import Connection
from yais.client.endpoint import connect
from yais.load.closed_load import ClosedLoad
from yais.load.recording import Recording
from yais.tools.exit_status import end
from yais.tools.failure import reported
from yais.tools.latency_summary import errors_by_status, errors_text, latency_summary, milliseconds_text
from yais.tools.load_run import run_load
from yais.tools.request_options import RequestOptions

__all__ = ["client_report", "client_text", "run_client"]

_BAR = 20  # characters


def run_client(
    address: str,
    model: str,
    connection: Callable[[str], Connection],
    requests: RequestOptions,
    in_flight: int,
    count: int,
    *,
    as_json: bool,
) -> None:
    """Send the requests, print what came of them, and end the command.

    Raises
    ------
    click.ClickException
        The server cannot be reached, or does not have the model, or that does not take such requests.
    click.exceptions.Exit
        See `yais.tools.exit_status.end`.
    """
    with reported(address), connect(connection(address)) as endpoint:
        calls = requests.calls(endpoint, model)
        transport = endpoint.transport()
        load = ClosedLoad(transport, [transport.encode(call) for call in calls], in_flight, count=count)
        recording = run_load(load, lambda so_far: _line(so_far, count))
        report = client_report(recording, requests.batch)  # before the end: Ctrl-C again must not lose it
        if as_json:
            facts = {"address": address, "model": model, "batch": requests.batch, "in_flight": in_flight}
            click.echo(json.dumps({**facts, **report}))
        else:
            click.echo(client_text(report, count))
    end(recording, well=not recording.failed)


def client_report(recording: Recording, batch: int) -> dict[str, Any]:
    """Return what came of the requests, as `--json` prints it: rates are of those that succeeded."""
    return {
        "requests": recording.completed + recording.failed.total(),
        "failed": recording.failed.total(),
        "seconds": recording.drained,
        "inferences_per_second": recording.rate_completed * batch,
        "requests_per_second": recording.rate_completed,
        "latency_ms": latency_summary(recording.latency, (50, 90, 99)),
        "errors": errors_by_status(recording),
        "interrupted": recording.interrupted,
    }


def client_text(report: Mapping[str, Any], count: int) -> str:
    """Return it as lines for people."""
    asked = f"{report['requests']} of {count}" if report["interrupted"] else str(report["requests"])
    lines = [
        f"{asked} requests in {report['seconds']:.3f} s, {report['failed']} failed",
        f"{report['inferences_per_second']:.1f} inferences/s, {report['requests_per_second']:.1f} requests/s",
    ]
    if report["latency_ms"] is not None:
        lines.append(f"latency in ms: {milliseconds_text(report['latency_ms'])}")
    return "\n".join([*lines, *errors_text(report["errors"])])


def _line(recording: Recording, count: int) -> str:
    done = recording.completed + recording.failed.total()
    bar = "#" * (_BAR * done // count)
    failed = f", {recording.failed.total()} failed" if recording.failed else ""
    return f"[{bar:-<{_BAR}}] {done}/{count}, {recording.rate_completed:.0f} requests/s{failed}"
