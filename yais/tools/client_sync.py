"""`yais client-sync`: how fast a model answers one caller."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import click

from yais.client.remote import InferRemoteRunner, RemoteInferenceManager
from yais.errors import Code, YaisError
from yais.tools.latencies import latency_text, percentiles
from yais.tools.progress import progress
from yais.tools.random_inputs import parsed_shapes, random_inputs, shape_option

__all__ = ["client_sync"]


@click.command()
@click.argument("address")
@click.argument("model")
@click.option(
    "--count", type=click.IntRange(min=1), default=1000, show_default=True, help="Requests to send."
)
@click.option("--batch", type=click.IntRange(min=1), default=1, show_default=True, help="Items per request.")
@shape_option("CLIENT_SYNC")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=30.0,
    show_default=True,
    help="Seconds a request may take.",
)
@click.option(
    "--json", "as_json", envvar="YAIS_CLIENT_SYNC_JSON", is_flag=True, help="Print the result as JSON."
)
def client_sync(
    address: str, model: str, count: int, batch: int, shapes: tuple[str, ...], timeout: float, as_json: bool
) -> None:
    """Send random input to MODEL at ADDRESS (host:port), one request at a time, and measure.

    Any server of the KServe v2 protocol will do. The exit status is 1 if a request failed.
    """
    wanted = parsed_shapes(shapes)
    with RemoteInferenceManager(address, timeout=timeout) as manager:
        try:
            runner = manager.infer_runner(model)
        except YaisError as error:
            raise click.ClickException(f"{address}: {error}") from None
        inputs = random_inputs(runner, batch, wanted)
        result = _measure(runner, inputs, count)
    report = _report(result, batch)
    if as_json:
        click.echo(json.dumps({"address": address, "model": model, "batch": batch, **report}))
    else:
        click.echo(_text(report))
    if result.errors:
        raise click.exceptions.Exit(1)


@dataclass(slots=True)
class _Result:
    """What came of the requests.

    Attributes
    ----------
    seconds
        From the first request to the last answer.
    latencies
        Of the requests that succeeded, seconds.
    errors
        Failed requests by status.
    texts
        The first message of each status.
    """

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    errors: Counter[Code] = field(default_factory=Counter)
    texts: dict[Code, str] = field(default_factory=dict)


def _measure(runner: InferRemoteRunner, inputs: Mapping[str, Any], count: int) -> _Result:
    result = _Result()
    start = time.perf_counter()
    with progress(count) as numbers:
        for _ in numbers:
            sent = time.perf_counter()
            try:
                runner.infer(**inputs).result()
            except YaisError as error:
                result.errors[error.code] += 1
                result.texts.setdefault(error.code, str(error))
            else:
                result.latencies.append(time.perf_counter() - sent)
    result.seconds = time.perf_counter() - start
    return result


def _report(result: _Result, batch: int) -> dict[str, Any]:
    succeeded = len(result.latencies)
    return {
        "requests": succeeded + result.errors.total(),
        "failed": result.errors.total(),
        "seconds": result.seconds,
        "inferences_per_second": succeeded * batch / result.seconds,
        "requests_per_second": succeeded / result.seconds,
        "latency_ms": percentiles(result.latencies),
        "errors": {
            code.name: {"count": number, "first": result.texts[code]}
            for code, number in result.errors.most_common()
        },
    }


def _text(report: Mapping[str, Any]) -> str:
    lines = [
        f"{report['requests']} requests in {report['seconds']:.3f} s, {report['failed']} failed",
        f"{report['inferences_per_second']:.1f} inferences/s, {report['requests_per_second']:.1f} requests/s",
    ]
    if report["latency_ms"] is not None:
        lines.append(latency_text(report["latency_ms"]))
    lines += [f"{status}: {error['count']}, {error['first']}" for status, error in report["errors"].items()]
    return "\n".join(lines)
