"""What is in a plan: from its header and the record beside it, or, where there is a GPU, from its engine."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from yais.build.description import ModelDescription
from yais.build.plan_record import RECORD, Layer, PlanRecord, Tensor
from yais.build.shape_ranges import ShapeRange
from yais.engines.tensorrt_plan import PlanHeader
from yais.engines.tensorrt_profiles import plan_profiles
from yais.engines.tensorrt_runtime import TensorRTRuntime, tensorrt_runtime
from yais.engines.tensorrt_tensors import plan_tensors
from yais.errors import InvalidArgument, NotFound

__all__ = ["describe_plan"]


def describe_plan(
    path: Path, *, load: bool = False, runtime: Callable[[Any], TensorRTRuntime] = tensorrt_runtime
) -> ModelDescription:
    """Return what is in a plan.

    Parameters
    ----------
    path
        Of the plan; `yais build` writes a record beside it.
    load
        Whether to load it on the GPU, and ask its engine.
    runtime
        Finds the TensorRT for it.

    Raises
    ------
    NotFound, InvalidArgument
        There is no such file, it is no plan, or its record is none.
    FailedPrecondition
        To load it, the TensorRT that built it lacks.
    MemoryError
        To load it, device memory lacks.
    """
    try:
        contents = path.read_bytes()
    except OSError as error:
        raise NotFound(f"{path}: {error.strerror}") from None
    try:
        header = PlanHeader.of(contents)
    except InvalidArgument as error:
        raise InvalidArgument(f"{path}: {error}") from None
    described = _recorded(path, header, contents)
    return _loaded(described, runtime(header.flavour), contents, header) if load else described


def _recorded(path: Path, header: PlanHeader, contents: bytes) -> ModelDescription:
    memory = {"plan": len(contents)}
    bare = ModelDescription("plan", f"plan of {header}", {}, memory=memory)
    file = path.parent / RECORD
    if not file.exists():
        note = f"there is no {RECORD} beside it, as yais build writes it: --load asks the engine, on a GPU"
        return replace(bare, notes=(note,))
    record = PlanRecord.read(file)
    if record.sha256 != hashlib.sha256(contents).hexdigest():
        return replace(bare, notes=(f"the {RECORD} beside it is of another plan",))
    settings = {
        name: value for name, value in record.settings.items() if value not in (None, False, "", [], ())
    }
    return replace(
        bare,
        facts={
            "source": f"{record.source['file']}, opset {record.source['opset']}",
            "sha256": record.source["sha256"],
            "builder": f"{record.builder} {record.version}, in {record.seconds} s",
            "targets": list(record.targets) or _anywhere(record),
            **{name.replace("_", " "): value for name, value in settings.items()},
            "max batch": record.max_batch,
        },
        inputs=record.inputs,
        outputs=record.outputs,
        profiles=record.profiles,
        layers=record.layers,
        memory=memory | dict(record.memory),
    )


def _anywhere(record: PlanRecord) -> str:
    return "GPUs from Ampere on" if record.builder == "tensorrt-rtx" else "the GPU it was built on"


def _loaded(
    described: ModelDescription, runtime: TensorRTRuntime, contents: bytes, header: PlanHeader
) -> ModelDescription:
    native, engine = runtime.load(contents, header)
    try:
        return _of_engine(described, runtime.trt, engine)
    finally:
        del engine  # before what it is of
        del native


def _of_engine(described: ModelDescription, trt: Any, engine: Any) -> ModelDescription:
    tensors = plan_tensors(trt, engine)
    both = [
        tuple(
            Tensor(each.name, each.datatype.value, each.shape) for each in tensors if each.is_input is wanted
        )
        for wanted in (True, False)
    ]
    ranges = [profile.ranges for profile in plan_profiles(engine, tensors, ())]
    open_inputs = {each.name for each in both[0] if -1 in each.shape}
    return replace(
        described,
        inputs=both[0],
        outputs=both[1],
        profiles=tuple(
            {name: ShapeRange(*shapes) for name, shapes in each.items() if name in open_inputs}
            for each in ranges
        ),
        layers=_layers(trt, engine),
        memory=dict(described.memory or {})
        | {
            "activation": engine.device_memory_size_v2,
            "weights": engine.get_engine_stat(trt.EngineStat.TOTAL_WEIGHTS_SIZE),
            "streamable weights": engine.streamable_weights_size,
        },
        notes=(),
    )


def _layers(trt: Any, engine: Any) -> tuple[Layer, ...]:
    if not hasattr(trt, "EngineInspector"):  # the lean runtime
        return ()
    text = engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON)
    # Objects where the plan was built with details, else names alone.
    layers = json.loads(text)["Layers"]
    return tuple(
        Layer(each["Name"], each.get("LayerType", "")) if isinstance(each, dict) else Layer(each, "")
        for each in layers
    )
