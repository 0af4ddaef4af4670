"""`yais bench`: how fast a model runs in this process."""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click

from yais.core.clock import NANOSECONDS
from yais.core.tensor import TensorSpec
from yais.errors import DeadlineExceeded, YaisError, error_of
from yais.infer_runner import AbstractInferRunner
from yais.inference.manager import InferenceManager
from yais.inference.plan import CapacityPlan
from yais.inference.servable import Servable
from yais.load.closed_load import ClosedLoad
from yais.load.input_sizes import Shapes
from yais.load.made_up import made_up
from yais.load.recording import Recording
from yais.tools.bench_model import load_bench_model
from yais.tools.latency_summary import latency_summary, milliseconds_text
from yais.tools.progress import progress
from yais.tools.runner_sender import RunnerSender
from yais.tools.seconds import Seconds
from yais.tools.shape_option import shape_option

__all__ = ["bench"]

_END = 30.0  # seconds that requests in flight may take to end
_STEP = 0.1  # seconds between two steps of the progress bar

_COUNT = click.IntRange(min=1)


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "--seconds",
    type=Seconds(zero=False),
    default=5.0,
    show_default=True,
    help="How long to measure.",
)
@click.option(
    "--warmup",
    type=Seconds(),
    default=0.5,
    show_default=True,
    help="Seconds to run before that.",
)
@click.option(
    "--concurrency", type=_COUNT, default=1, show_default=True, help="Execution tokens: batches at once."
)
@click.option("--buffers", type=_COUNT, help="Lanes, and requests in flight.  [default: twice --concurrency]")
@click.option("--batch", type=_COUNT, default=1, show_default=True, help="Items per request.")
@shape_option()
@click.option(
    "--intra-op-threads",
    "threads",
    envvar="YAIS_BENCH_INTRA_OP_THREADS",
    type=_COUNT,
    help="Threads of ONNX Runtime.  [default: as the configuration says, else usable CPUs // --concurrency]",
)
@click.option("--json", "as_json", envvar="YAIS_BENCH_JSON", is_flag=True, help="Print the result as JSON.")
def bench(
    model: Path,
    seconds: float,
    warmup: float,
    concurrency: int,
    buffers: int | None,
    batch: int,
    shape: Shapes,
    threads: int | None,
    as_json: bool,
) -> None:
    """Run MODEL on random input in this process, with requests in flight all the time, and measure.

    MODEL is an ONNX file, or the directory of a model in a repository. Ctrl-C ends the measurement early.
    """
    try:
        with InferenceManager(concurrency, buffers) as manager:
            loaded = load_bench_model(
                model, executions=concurrency, threads=threads, batch=batch, shapes=shape
            )
            loaded.register(manager)
            plan = manager.allocate()
            if not as_json:
                click.echo(str(plan))
            runner = manager.infer_runner(loaded.name)
            inputs = _inputs(runner, batch, loaded.shapes)
            load = ClosedLoad(RunnerSender(runner.infer), [inputs], plan.lanes, until_failure=True)
            window = _measured(load, manager.find(loaded.name), warmup, seconds)
    except (YaisError, OSError, MemoryError) as error:
        raise click.ClickException(f"{model}: {error}") from None
    report = _report(window, plan, batch)
    click.echo(json.dumps({"model": str(model), "batch": batch, **report}) if as_json else _text(report))


def _inputs(runner: AbstractInferRunner[Any], batch: int, shapes: Shapes) -> dict[str, Any]:
    leading = (batch,) if runner.max_batch_size() else ()
    specs = [
        TensorSpec(spec.name, spec.datatype, spec.shape[len(leading) :])
        for spec in runner.input_bindings().values()
    ]
    return made_up(specs, leading, shapes)


@dataclass(frozen=True, slots=True)
class _Moment:
    """What clocks and counters say; all but `time` grow only with work. Seconds."""

    time: float
    cpu: float
    compute: float
    queue: float
    buffers: float
    token: float

    @classmethod
    def now(cls, model: Servable) -> _Moment:
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
class _Window:
    """What was measured between two moments."""

    before: _Moment
    after: _Moment
    recording: Recording


def _measured(load: ClosedLoad, model: Servable, warmup: float, seconds: float) -> _Window:
    window = None
    load.start()
    try:
        if not load.wait(warmup):
            before = _Moment.now(model)
            load.take()
            with contextlib.suppress(KeyboardInterrupt):
                _watch(load, seconds)
            window = _Window(before, _Moment.now(model), load.take())
    finally:
        whole = load.stop(_END)
    if whole.texts:
        raise error_of(*next(iter(whole.texts.items())))
    if window is None or whole.outstanding:
        raise DeadlineExceeded(f"the last requests did not end within {_END} s")
    return window


def _watch(load: ClosedLoad, seconds: float) -> None:
    """Let it run, and show how far it is."""
    steps = math.ceil(seconds / _STEP)
    end = time.monotonic() + seconds
    with progress(steps, numbers=False) as numbers:
        for number in numbers:
            left = end - time.monotonic()
            if left <= 0 or load.wait(left / (steps - number)):
                break


def _report(window: _Window, plan: CapacityPlan, batch: int) -> dict[str, Any]:
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


def _text(report: Mapping[str, Any]) -> str:
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
