"""Plans built from ONNX models."""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from yais.build.builder_config import builder_config, check_options
from yais.build.builder_log import BuilderMessages, collecting
from yais.build.builder_package import BuilderPackage, builder_package
from yais.build.network import Network, parse_onnx
from yais.build.onnx_description import onnx_tensors
from yais.build.onnx_source import OnnxSource, check_inputs, read_onnx
from yais.build.options import BuildOptions
from yais.build.plan_record import PlanRecord
from yais.build.precision import in_precision
from yais.build.progress import Cancelling, Reporting, progress_monitor
from yais.build.shape_ranges import Profile, largest_batch, profiles
from yais.build.timing_cache import read_timing_cache, write_timing_cache
from yais.errors import Cancelled, Internal

__all__ = ["BuiltPlan", "build_plan"]


@dataclass(frozen=True, slots=True)
class BuiltPlan:
    """A plan.

    Attributes
    ----------
    contents
        Of its file.
    record
        What it is.
    warnings
        What the builder had to say against it.
    """

    contents: bytes
    record: PlanRecord
    warnings: tuple[str, ...]


def build_plan(
    path: Path,
    options: BuildOptions | None = None,
    *,
    package: BuilderPackage | None = None,
    report: Reporting = lambda _name, _part: None,
    cancelled: Cancelling = lambda: False,
    clock: Callable[[], float] = time.monotonic,
) -> BuiltPlan:
    """Build a plan; this may take minutes.

    One is built at a time; more wait for each other. It is to be called on a thread that takes no signals:
    a handler would run in the middle of the builder.

    Parameters
    ----------
    path
        Of the ONNX model.
    options
        What the plan is to be.
    package
        What builds it; by default as the options say.
    report, cancelled
        Called now and then on threads of the builder.
    clock
        Of seconds.

    Raises
    ------
    NotFound, InvalidArgument, Unimplemented
        The model is not there, wrong, or has what the builder does not; or the options do not fit it.
    FailedPrecondition
        A package is not installed, or the builder wants a GPU and there is none.
    Cancelled
        `cancelled` returned true.
    Internal
        The builder failed.
    """
    options = options or BuildOptions()
    if package is None:
        package = builder_package(options.builder or ("tensorrt-rtx" if options.targets else None))
    check_options(package, options)
    source = read_onnx(path)
    check_inputs(source)
    started = clock()
    with tempfile.TemporaryDirectory(prefix="yais-build-") as folder, collecting(package.module) as messages:
        file = in_precision(source, options.precision, options.keep, Path(folder))
        network = parse_onnx(package, file, path, messages.errors)
        made = profiles(network.shapes(), options.batches, options.shapes)
        # What the plan will be, first: what is wrong with it is not to be found after minutes of building.
        record = _planned(package, source, options, network, made)
        config = builder_config(package, network, options, made)
        read_timing_cache(config, options.timing_cache)
        contents = _built(package, network, config, messages, report, cancelled)
        write_timing_cache(config, options.timing_cache)
        record = replace(
            record,
            memory={"plan": len(contents)} | messages.memory,
            sha256=hashlib.sha256(contents).hexdigest(),
            seconds=round(clock() - started, 3),
        )
        return BuiltPlan(contents, record, (*messages.warnings, *_changed_types(source, record)))


def _built(
    package: BuilderPackage,
    network: Network,
    config: Any,
    messages: BuilderMessages,
    report: Reporting,
    cancelled: Cancelling,
) -> bytes:
    monitor = progress_monitor(package.module, report, cancelled)
    config.progress_monitor = monitor
    built = None if cancelled() else network.builder.build_serialized_network(network.definition, config)
    if monitor.error is not None:
        raise monitor.error
    if cancelled():
        raise Cancelled("the build was cancelled")
    if built is None:
        said = "; ".join(messages.errors) or "it does not say why"
        raise Internal(f"{package.title} {package.version} could not build the plan: {said}")
    return bytes(memoryview(built))


def _planned(
    package: BuilderPackage,
    source: OnnxSource,
    options: BuildOptions,
    network: Network,
    made: tuple[Profile, ...],
) -> PlanRecord:
    inputs, outputs = network.inputs(), network.outputs()
    batched = all(each.shape and each.shape[0] == -1 for each in outputs)
    settings = {key: value for key, value in asdict(options).items() if key in _SETTINGS}
    return PlanRecord(
        builder=package.name,
        version=package.version,
        source={"file": source.path.name, "sha256": source.digest(), "opset": source.opset},
        targets=options.targets,
        settings=settings | {"precision": options.precision.value},
        inputs=inputs,
        outputs=outputs,
        max_batch=largest_batch(network.shapes(), made) if batched else 0,
        profiles=made,
        layers=network.layers(),
        memory={},
        sha256="",
        seconds=0.0,
    )


def _changed_types(source: OnnxSource, record: PlanRecord) -> Iterator[str]:
    """Yield what the parser makes of types that the builder does not have."""
    inputs, outputs = onnx_tensors(source.model)
    before = {each.name: each.datatype for each in (*inputs, *outputs)}
    for each in (*record.inputs, *record.outputs):
        if before.get(each.name) == "FP64":
            yield f"'{each.name}' is FP64 in the model, and {each.datatype} in the plan"


_SETTINGS = (
    "keep",
    "tf32",
    "workspace",
    "level",
    "weight_streaming",
    "version_compatible",
    "compatibility",
)
