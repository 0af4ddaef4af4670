"""`yais client-sync`: how fast a model answers one caller."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import click
import numpy as np
import numpy.typing as npt

from yais.client.remote import InferRemoteRunner, RemoteInferenceManager
from yais.core.tensor import DataType, TensorSpec
from yais.errors import Code, YaisError

__all__ = ["client_sync"]

Array = npt.NDArray[Any]
Shapes = Mapping[str, tuple[int, ...]]


@click.command()
@click.argument("address")
@click.argument("model")
@click.option(
    "--count", type=click.IntRange(min=1), default=1000, show_default=True, help="Requests to send."
)
@click.option("--batch", type=click.IntRange(min=1), default=1, show_default=True, help="Items per request.")
@click.option(
    "--shape",
    "shapes",
    envvar="YAIS_CLIENT_SYNC_SHAPE",
    multiple=True,
    metavar="NAME:D1,D2,...",
    help="Shape of an input with dimensions of any size, without the batch; such dimensions are 1 by "
    "default. May be given more than once.",
)
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
    wanted = _parsed(shapes)
    with RemoteInferenceManager(address, timeout=timeout) as manager:
        try:
            runner = manager.infer_runner(model)
        except YaisError as error:
            raise click.ClickException(f"{address}: {error}") from None
        inputs = _random_inputs(runner, batch, wanted)
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
    with _progress(count) as numbers:
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


def _progress(count: int) -> AbstractContextManager[Iterable[int]]:
    if not sys.stderr.isatty():
        return contextlib.nullcontext(range(count))
    every = max(1, count // 200)
    return click.progressbar(range(count), file=sys.stderr, show_pos=True, update_min_steps=every)


def _report(result: _Result, batch: int) -> dict[str, Any]:
    succeeded = len(result.latencies)
    latency = None
    if succeeded:
        milliseconds = np.array(result.latencies) * 1e3
        p50, p90, p99 = np.percentile(milliseconds, (50, 90, 99)).tolist()
        latency = {"p50": p50, "p90": p90, "p99": p99, "max": milliseconds.max().item()}
    return {
        "requests": succeeded + result.errors.total(),
        "failed": result.errors.total(),
        "seconds": result.seconds,
        "inferences_per_second": succeeded * batch / result.seconds,
        "requests_per_second": succeeded / result.seconds,
        "latency_ms": latency,
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
        values = ", ".join(f"{name} {value:.3f}" for name, value in report["latency_ms"].items())
        lines.append(f"latency in ms: {values}")
    lines += [f"{status}: {error['count']}, {error['first']}" for status, error in report["errors"].items()]
    return "\n".join(lines)


def _parsed(shapes: Sequence[str]) -> Shapes:
    parsed: dict[str, tuple[int, ...]] = {}
    for text in shapes:
        name, colon, sizes = text.rpartition(":")
        if not colon or not all(size.isdecimal() for size in sizes.split(",")):
            raise click.UsageError(
                f"got --shape {text}, expected an input and sizes, such as image:3,224,224"
            )
        parsed[name] = tuple(map(int, sizes.split(",")))
    return parsed


def _random_inputs(runner: InferRemoteRunner, batch: int, shapes: Shapes) -> dict[str, Array]:
    """Make up one request. Raises ClickException for what the model does not take."""
    specs = runner.input_bindings()
    limit = runner.max_batch_size()
    if batch > max(limit, 1):
        takes = f"batches of at most {limit}" if limit else "no batches"
        raise click.ClickException(f"got --batch {batch}, but model '{runner.name}' takes {takes}")
    for name in shapes:
        if name not in specs:
            raise click.ClickException(f"got --shape for '{name}', expected one of {', '.join(specs)}")
    random = np.random.default_rng()
    leading = (batch,) if limit else ()
    return {
        name: _random_array(random, spec.datatype, (*leading, *_shape(spec, len(leading), shapes)))
        for name, spec in specs.items()
    }


def _shape(spec: TensorSpec, batch_dimensions: int, shapes: Shapes) -> tuple[int, ...]:
    """Return the shape of one item."""
    sizes = spec.shape[batch_dimensions:]
    wanted = shapes.get(spec.name, tuple(1 if size < 0 else size for size in sizes))
    if len(wanted) != len(sizes) or any(
        size not in {-1, want} for size, want in zip(sizes, wanted, strict=True)
    ):
        raise click.ClickException(
            f"got --shape {list(wanted)} for '{spec.name}', expected {list(sizes)} (-1: any size)"
        )
    return wanted


def _random_array(random: np.random.Generator, datatype: DataType, shape: tuple[int, ...]) -> Array:
    # Small numbers: valid as indices and tokens of most models, and as elements of every type.
    if datatype is DataType.BYTES:
        return np.asarray(random.integers(0, 100, shape)).astype(np.str_).astype(np.object_)
    if datatype is DataType.BF16 or datatype.numpy.kind == "f":
        return np.asarray(random.random(shape, np.float32))
    return np.asarray(random.integers(0, 2 if datatype is DataType.BOOL else 100, shape)).astype(
        datatype.numpy
    )
