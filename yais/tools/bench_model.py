"""The model that `yais bench` is given: a file, or a model directory of a repository."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from yais.core.cgroup import concurrency
from yais.core.tensor import TensorSpec
from yais.engines.engine import Engine
from yais.engines.kinds import engine_kinds
from yais.engines.onnx import OnnxOptions
from yais.engines.placed_engine import PlacedEngine
from yais.engines.python_pipeline import PythonPipeline
from yais.errors import InvalidArgument, NotFound, Unimplemented
from yais.inference.loading import load_engine, signature_of
from yais.inference.manager import InferenceManager
from yais.inference.profile import Profile
from yais.load.input_sizes import Shapes, check_batch, item_shapes
from yais.protocol.model_config_pb2 import ModelConfig
from yais.repository.backends import backend_of
from yais.repository.config import complete, engine_tensors, read_config
from yais.repository.directory import ModelDirectory
from yais.repository.platforms import is_ensemble

__all__ = ["BenchModel", "load_bench_model"]

_THREADS = "intra_op_thread_count"


@dataclass(frozen=True, slots=True)
class BenchModel:
    """A loaded model, and the one form of request it is measured with.

    Attributes
    ----------
    name
        Of the file or the directory.
    engine
        Closed by the manager it is registered with.
    shapes
        Of an item of each input of the engine, which may be reshaped ones of the model's.
    max_batch_size
        The batch asked for; 0 for a model without a batch dimension.
    """

    name: str
    engine: Engine
    shapes: Mapping[str, tuple[int, ...]]
    max_batch_size: int

    def register(self, manager: InferenceManager) -> None:
        """Register it for this batch and these shapes, so that memory is planned for them and no more."""
        profiles = {name: Profile(shape, shape) for name, shape in self.shapes.items()}
        manager.register(self.name, self.engine, max_batch_size=self.max_batch_size, profiles=profiles)


def load_bench_model(
    path: Path, *, executions: int, threads: int | None, batch: int, shapes: Shapes
) -> BenchModel:
    """Load a model.

    Parameters
    ----------
    path
        Of a file of an engine kind, of an ONNX file, or of a directory with versions of a model and perhaps a
        config.pbtxt.
    executions
        How many will run at once.
    threads
        Of ONNX Runtime for each of them; by default what the configuration says, or else an even share of
        the usable CPUs, at least one.
    batch, shapes
        Items of a request, and the shapes of inputs with dimensions of any size, 1 by default.

    Raises
    ------
    YaisError
        There is none, it cannot be loaded, it is none that answers each request by itself, once, or it does
        not take such requests. The message says why.
    """
    share = max(1, concurrency() // executions)
    if path.is_dir():
        return _from_directory(ModelDirectory(path.resolve()), executions, threads, share, batch, shapes)
    if not path.exists():
        raise NotFound("there is no such file, expected a model file or a model directory")
    options = None
    if not any(path.suffix in kind.suffixes for kind in engine_kinds().values()):
        options = OnnxOptions(intra_op_threads=threads or share)
    elif threads is not None:
        raise _no_threads(threads, path.stem)
    engine = load_engine(path, (), (), options, instances=executions, max_batch=batch)
    try:
        described = signature_of(path.stem, engine, None, {})
        if not described.max_batch:  # else the largest batch is a guess
            check_batch(described.name, batch, 0)
        sizes = item_shapes(described.inputs, shapes)
        return BenchModel(described.name, engine, sizes, batch if described.max_batch else 0)
    except BaseException:
        engine.close()
        raise


def _from_directory(
    directory: ModelDirectory, executions: int, threads: int | None, share: int, batch: int, shapes: Shapes
) -> BenchModel:
    config = read_config(directory.config, directory.name)
    _refuse(
        config.name,
        {
            "is an ensemble: its steps are other models": is_ensemble(config),
            "has sequences: requests depend on those before them": config.HasField("sequence_batching"),
        },
    )
    version = directory.latest_version()
    backend = backend_of(config)
    if backend.name == "onnxruntime":
        if threads is not None or _THREADS not in config.parameters:
            config.parameters[_THREADS].string_value = str(threads or share)
    elif threads is not None:
        raise _no_threads(threads, config.name)
    if backend.name in engine_kinds():  # which may keep something for each instance
        for group in config.instance_group or [config.instance_group.add()]:
            group.count = executions
    path = directory.file(version, config.default_model_filename or backend.filename)
    engine = backend.load(config, str(version), path)
    try:
        inputs = _select(config, engine, directory.path)
        check_batch(config.name, batch, config.max_batch_size)
        sizes = item_shapes(inputs, shapes)
        return BenchModel(config.name, engine, sizes, batch if config.max_batch_size else 0)
    except BaseException:
        engine.close()
        raise


def _no_threads(threads: int, model: str) -> InvalidArgument:
    return InvalidArgument(f"got {threads} intra-op threads for model '{model}', which is no ONNX model")


def _select(config: ModelConfig, engine: Engine, directory: Path) -> list[TensorSpec]:
    """Let an engine have the tensors that it is configured with; return the inputs, without the batch."""
    complete(config, engine, directory=directory)
    _refuse(
        config.name,
        {
            "is a pipeline: it calls other models": isinstance(engine, PythonPipeline),
            "is decoupled: it answers a request any number of times": getattr(engine, "decoupled", False),
            "has instances on several devices": isinstance(engine, PlacedEngine),
        },
    )
    inputs, outputs = engine_tensors(config, directory)
    engine.select([spec.name for spec in inputs], [spec.name for spec in outputs])
    first = 1 if config.max_batch_size else 0
    return [TensorSpec(spec.name, spec.datatype, spec.shape[first:]) for spec in inputs]


def _refuse(model: str, reasons: Mapping[str, bool]) -> None:
    """Raise Unimplemented for the first reason that there is."""
    for reason, is_so in reasons.items():
        if is_so:
            raise Unimplemented(f"model '{model}' {reason}. Serve it, and measure it with a client")
