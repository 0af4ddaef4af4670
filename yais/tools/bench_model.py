"""The model that `yais bench` is given: an ONNX file, or a model directory of a repository."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from yais.core.cgroup import concurrency
from yais.engines.engine import Engine
from yais.engines.onnx import OnnxOptions
from yais.errors import InvalidArgument, NotFound, Unimplemented
from yais.inference.layout import Signature
from yais.inference.loading import load_engine, signature_of
from yais.inference.manager import InferenceManager
from yais.inference.profile import Profile
from yais.protocol.model_config_pb2 import ModelConfig
from yais.repository.backends import backend_of
from yais.repository.config import complete, read_config, signature
from yais.repository.directory import ModelDirectory
from yais.tools.random_inputs import Shapes, check_batch, item_shapes

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
        Of an item of each input.
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
        Of an ONNX file, or of a directory with versions of a model and perhaps a config.pbtxt.
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
        There is none, it cannot be loaded, or it is decoupled. The message says why.
    ClickException
        It does not take such requests.
    """
    share = max(1, concurrency() // executions)
    config = None
    if path.is_dir():
        config, engine = _from_directory(ModelDirectory(path.resolve()), threads, share)
    elif path.exists():
        engine = load_engine(path, (), (), OnnxOptions(intra_op_threads=threads or share))
    else:
        raise NotFound("there is no such file, expected an ONNX file or a model directory")
    try:
        described = _signature(path, engine, config)
        name, limit = described.name, described.max_batch
        if getattr(engine, "decoupled", False):
            raise Unimplemented(f"model '{name}' is decoupled: it answers a request any number of times")
        if config is not None or not limit:  # that of a bare file is a guess
            check_batch(name, batch, limit)
        return BenchModel(name, engine, item_shapes(described.inputs, shapes), batch if limit else 0)
    except BaseException:
        engine.close()
        raise


def _from_directory(directory: ModelDirectory, threads: int | None, share: int) -> tuple[ModelConfig, Engine]:
    config = read_config(directory.config, directory.name)
    version = directory.latest_version()
    backend = backend_of(config)
    if backend.name == "onnxruntime":
        if threads is not None or _THREADS not in config.parameters:
            config.parameters[_THREADS].string_value = str(threads or share)
    elif threads is not None:
        raise InvalidArgument(
            f"got {threads} intra-op threads for model '{config.name}', which is no ONNX model"
        )
    path = directory.file(version, config.default_model_filename or backend.filename)
    return config, backend.load(config, str(version), path)


def _signature(path: Path, engine: Engine, config: ModelConfig | None) -> Signature:
    if config is None:
        return signature_of(path.stem, engine, None, {})
    complete(config, engine)
    engine.select([tensor.name for tensor in config.input], [tensor.name for tensor in config.output])
    return signature(config)
