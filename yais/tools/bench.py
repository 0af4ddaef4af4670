"""`yais bench`: how fast a model runs in this process."""

from __future__ import annotations

import contextlib
import json
import math
import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from yais.core.tensor import TensorSpec
from yais.errors import DeadlineExceeded, YaisError, error_of
from yais.infer_runner import AbstractInferRunner
from yais.inference.batch_timeline import BatchTimeline
from yais.inference.infer_runner import InferRunner
from yais.inference.manager import InferenceManager
from yais.inference.servable import Servable
from yais.load.closed_load import ClosedLoad
from yais.load.input_sizes import Shapes
from yais.load.made_up import made_up
from yais.tools.bench_model import load_bench_model
from yais.tools.bench_report import Moment, Window, report, text
from yais.tools.bench_simulated import simulated_gpu, simulated_model
from yais.tools.bench_trace import trace_file, write_trace
from yais.tools.progress import progress
from yais.tools.runner_sender import RunnerSender
from yais.tools.seconds import Seconds
from yais.tools.shape_option import shape_option
from yais.tools.simulated_gpu_option import SimulatedGpuType, Simulation

if TYPE_CHECKING:
    from yais.testing import FakeDevice

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
@click.option(
    "--simulated-gpu",
    "simulation",
    envvar="YAIS_BENCH_SIMULATED_GPU",
    type=SimulatedGpuType(),
    metavar="STAGES",
    help="Run the model's tensors on a GPU that is not there: how long each stage of a batch takes, and for "
    "how many batches at once (1), such as copy_in=2ms,compute=6ms*4,copy_out=1ms.",
)
@click.option(
    "--trace",
    callback=trace_file,
    metavar="FILE",
    help="Write what batches did and waited for: FILE.json for Perfetto or chrome://tracing, FILE.svg for a "
    "picture.",
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
    simulation: Simulation | None,
    trace: Path | None,
    as_json: bool,
) -> None:
    """Run MODEL on random input in this process, with requests in flight all the time, and measure.

    MODEL is a model file, or the directory of a model in a repository. Ctrl-C ends the measurement early.
    """
    batches = None if trace is None else BatchTimeline()
    try:
        with _gpu(simulation) as device, _manager(concurrency, buffers, device) as manager:
            loaded = load_bench_model(
                model, executions=concurrency, threads=threads, batch=batch, shapes=shape
            )
            if simulation is not None:
                loaded = simulated_model(loaded, simulation)
            loaded.register(manager)
            plan = manager.allocate()
            if not as_json:
                click.echo(str(plan))
            runner = manager.infer_runner(loaded.name)
            lanes = manager.max_copy_concurrency
            inputs = _inputs(runner, batch, loaded.shapes)
            load = ClosedLoad(RunnerSender(runner.infer), [inputs], lanes, until_failure=True)
            window = _measured(load, manager.find(loaded.name), warmup, seconds, runner, batches)
    except (YaisError, OSError, MemoryError) as error:
        raise click.ClickException(f"{model}: {error}") from None
    found = report(window, plan, batch)
    click.echo(json.dumps({"model": str(model), "batch": batch, **found}) if as_json else text(found))
    if trace is not None and batches is not None:
        gpu = None if device is None else device.gpu
        title = f"{loaded.name}: execution tokens {concurrency}, lanes {lanes}"
        click.echo(write_trace(trace, title, batches, gpu, lanes), err=as_json)


def _gpu(simulation: Simulation | None) -> AbstractContextManager[FakeDevice | None]:
    return contextlib.nullcontext() if simulation is None else simulated_gpu(simulation)


def _manager(concurrency: int, buffers: int | None, device: FakeDevice | None) -> InferenceManager:
    gpus = None if device is None else lambda _: device
    return InferenceManager(concurrency, buffers, gpus=gpus)


def _inputs(runner: AbstractInferRunner[Any], batch: int, shapes: Shapes) -> dict[str, Any]:
    leading = (batch,) if runner.max_batch_size() else ()
    specs = [
        TensorSpec(spec.name, spec.datatype, spec.shape[len(leading) :])
        for spec in runner.input_bindings().values()
    ]
    return made_up(specs, leading, shapes)


def _measured(
    load: ClosedLoad,
    model: Servable,
    warmup: float,
    seconds: float,
    runner: InferRunner,
    batches: BatchTimeline | None,
) -> Window:
    window = None
    load.start()
    try:
        if not load.wait(warmup):
            before = Moment.now(model)
            runner.trace = batches
            load.take()
            with contextlib.suppress(KeyboardInterrupt):
                _watch(load, seconds)
            window = Window(before, Moment.now(model), load.take())
            runner.trace = None
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
