"""Models whose engines are of a kind: of yais itself, or of an installed package."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx_models import identity, write
from plugin_packages import installed, write_package
from repositories import READY, SOON, UNAVAILABLE

from yais.core.tensor import DataType, TensorSpec
from yais.engines.kinds import EngineKind, EngineSettings
from yais.errors import FailedPrecondition, InvalidArgument
from yais.inference.request import InferRequest
from yais.protocol.model_config_pb2 import ModelConfig
from yais.repository.backends import backend_of
from yais.repository.config import complete, parse_config, read_config, signature
from yais.repository.devices import Devices
from yais.repository.instances import places
from yais.repository.kind_backend import kind_backend
from yais.testing import FakeEngine

TENSORS = "input { name: 'x' data_type: TYPE_FP32 dims: 2 } output { name: 'y' data_type: TYPE_FP32 dims: 2 }"


@pytest.fixture(autouse=True)
def package(tmp_path: Path) -> Iterator[None]:
    """Have a package with engines that multiply by the number in their file."""
    points = {"scale": "scale_engines:KIND", "broken": "no_such_module:KIND"}
    with installed(write_package(tmp_path / "packages", points)):
        yield


def put(root: Path, name: str, config: str | None = None, file: str = "model.scale", text: str = "3") -> Path:
    """Write a model that multiplies by a number; return where its file is."""
    version = root / name / "1"
    version.mkdir(parents=True)
    (version / file).write_text(text)
    if config is not None:
        (root / name / "config.pbtxt").write_text(config)
    return version / file


def times(repository: Any, name: str) -> float:
    """Return what a model multiplies with."""
    ones = np.ones((1, 2), np.float32)
    request = InferRequest([TensorSpec("x", DataType.FP32, ones.shape)], [ones.tobytes()])
    response = repository.find(name).model.submit(request).result(SOON)
    return float(np.frombuffer(bytes(response.data[0]), np.float32)[0])


# --- Which backend a model has ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("files", "text", "backend", "filename"),
    [
        (["model.plan"], "", "tensorrt", "model.plan"),
        (["model.pt"], "", "pytorch", "model.pt"),
        (["model.pt2"], "", "pytorch", "model.pt2"),
        (["model.pt", "model.pt2"], "", "pytorch", "model.pt"),
        (["model.pt2"], "backend: 'pytorch'", "pytorch", "model.pt2"),
        (["model.pt2"], "platform: 'pytorch_libtorch'", "pytorch", "model.pt2"),
        (["model.scale"], "", "scale", "model.scale"),
        (["number.txt"], "", "scale", "number.txt"),
        (["number.txt"], "backend: 'scale'", "scale", "number.txt"),
        (["number.txt", "model.scale"], "backend: 'scale'", "scale", "model.scale"),
        (["model.onnx", "model.plan"], "", "onnxruntime", "model.onnx"),
        (["model.plan"], "optimization { cuda { graphs: true } }", "tensorrt", "model.plan"),
        (["model.plan"], "instance_group { profile: '0' }", "tensorrt", "model.plan"),
        (["model.py", "model.pt"], "", "python", "model.py"),
        (["a.plan"], "default_model_filename: 'a.plan'", "tensorrt", "a.plan"),
        (["a.pt2"], "default_model_filename: 'a.pt2'", "pytorch", "a.pt2"),
        (["a.txt"], "default_model_filename: 'a.txt'", "onnxruntime", "a.txt"),
        (["a.txt"], "backend: 'scale' default_model_filename: 'a.txt'", "scale", "a.txt"),
        ([], "platform: 'tensorrt_plan'", "tensorrt", "model.plan"),
        ([], "", "onnxruntime", "model.onnx"),
    ],
)
def test_what_says_the_backend(
    files: list[str], text: str, backend: str, filename: str, tmp_path: Path
) -> None:
    (tmp_path / "m" / "1").mkdir(parents=True)
    for file in files:
        (tmp_path / "m" / "1" / file).write_text("")
    (tmp_path / "m" / "config.pbtxt").write_text(text)
    config = read_config(tmp_path / "m" / "config.pbtxt", "m")
    found = backend_of(config)
    assert (found.name, config.default_model_filename or found.filename) == (backend, filename)


def test_a_backend_whose_package_is_broken() -> None:
    with pytest.raises(FailedPrecondition) as caught:
        parse_config("backend: 'broken'", "m")
    assert str(caught.value).startswith(
        "backend 'broken' of model 'm': no_such_module:KIND cannot be used: ModuleNotFoundError: "
    )


# --- What an engine is told -------------------------------------------------------------------------------


class Recorder:
    """A kind of engine that keeps what its engines were made with."""

    def __init__(self, fail_at: int | None = None, **options: Any) -> None:
        self.settings: list[EngineSettings] = []
        self.engines: list[FakeEngine] = []
        self._fail_at = fail_at
        self.kind = EngineKind("scale", "scale_number", "model.scale", (), self.load, **options)

    def load(self, path: Path, settings: EngineSettings) -> FakeEngine:
        """Return an engine with the configured tensors."""
        if len(self.engines) == self._fail_at:
            raise InvalidArgument("no such number")
        self.settings.append(settings)
        engine = FakeEngine(settings.inputs, settings.outputs, lambda x: [x])
        self.engines.append(engine)
        return engine


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> Devices:
    """Have two GPUs that every backend can use."""
    devices = Devices((0, 1), frozenset(), why_not=lambda backend: "")
    monkeypatch.setattr(Devices, "here", lambda: devices)
    return devices


def load(recorder: Recorder, text: str) -> tuple[ModelConfig, Any]:
    """Load a model with a configuration."""
    config = parse_config(f"backend: 'scale' {text}", "m")
    path = Path("/models/m/7/model.scale")
    return config, kind_backend(recorder.kind).load(config, "7", path)


def test_an_engine_is_told_what_the_configuration_says() -> None:
    recorder = Recorder(parameters=("colour",))
    slo = (
        "parameters { key: 'yais.slo_batching.latency_ms' value { string_value: '9' } } dynamic_batching { }"
    )
    _, engine = load(
        recorder,
        f"max_batch_size: 8 {TENSORS} instance_group {{ count: 2 profile: '1' profile: 'wide' }} "
        "instance_group { profile: '1' profile: '0' } optimization { cuda { graphs: true } } "
        f"parameters {{ key: 'colour' value {{ string_value: 'red' }} }} {slo}",
    )
    (settings,) = recorder.settings
    assert engine is recorder.engines[0]
    assert (settings.name, settings.version, settings.gpu, settings.instances) == ("m", "7", None, 3)
    assert (settings.max_batch, settings.graphs) == (8, True)
    assert settings.parameters == {"colour": "red"}
    assert settings.profiles == ("1", "wide", "0")
    assert [str(spec) for spec in (*settings.inputs, *settings.outputs)] == [
        "x: FP32[-1, 2]",
        "y: FP32[-1, 2]",
    ]


def test_an_engine_for_each_gpu(two_gpus: Devices) -> None:
    recorder = Recorder(uses_gpus=True)
    groups = (
        "instance_group { kind: KIND_GPU count: 2 gpus: [1, 0] profile: 'a' } "
        "instance_group { kind: KIND_CPU } instance_group { kind: KIND_GPU gpus: 1 profile: 'b' }"
    )
    config, engine = load(recorder, TENSORS + groups)
    assert [(each.gpu, each.instances, each.profiles) for each in recorder.settings] == [
        (1, 4, ("a", "b")),
        (0, 2, ("a",)),
        (None, 1, ()),
    ]
    placement = kind_backend(recorder.kind).placement
    gpus = places(config, placement, two_gpus)
    assert gpus == [1, 1, 0, 0, None, 1, 1]
    assert [recorder.engines.index(engine.at(instance)) for instance in range(7)] == [0, 0, 1, 1, 2, 0, 0]
    engine.close()
    assert [each.closed for each in recorder.engines] == [1, 1, 1]


def test_an_engine_that_fails_closes_the_ones_before(two_gpus: Devices) -> None:
    recorder = Recorder(fail_at=1, uses_gpus=True)
    with pytest.raises(InvalidArgument, match="no such number"):
        load(recorder, TENSORS)
    assert [each.closed for each in recorder.engines] == [1]


def test_a_kind_for_gpus_only() -> None:
    recorder = Recorder(uses_gpus=True, uses_cpus=False)
    for groups in ("", "instance_group { kind: KIND_CPU }", "instance_group { kind: KIND_GPU }"):
        with pytest.raises(InvalidArgument, match="GPUs"):
            load(recorder, groups)
    assert not recorder.engines


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (
            "parameters { key: 'size' value { string_value: '1' } }",
            "got parameter 'size' for model 'm', expected one of backend 'scale': colour",
        ),
        (
            "optimization { graph { level: 1 } }",
            "model 'm' is configured with 'optimization.graph', a model of backend 'scale' has none",
        ),
        (
            "optimization { execution_accelerators { cpu_execution_accelerator { name: 'openvino' } } }",
            (
                "model 'm' is configured with 'optimization.execution_accelerators', a model of backend "
                "'scale' has none"
            ),
        ),
        (
            "instance_group { kind: KIND_GPU }",
            (
                "instance group m_0 of model m has kind KIND_GPU but a model of backend 'scale' chooses its "
                "device itself, expected KIND_CPU or KIND_MODEL"
            ),
        ),
    ],
)
def test_what_a_backend_does_not_have(text: str, error: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        load(Recorder(parameters=("colour",)), text)
    assert str(caught.value) == error


# --- Completion -------------------------------------------------------------------------------------------


class Bounded(FakeEngine):
    """An engine that takes batches of up to 3, of up to 9 numbers."""

    max_batch = 3
    largest = {"x": (3, 9), "y": (3, 9)}
    smallest = {"x": (1, 2), "y": (1, 2)}

    def __init__(self) -> None:
        x, y = (TensorSpec(name, DataType.FP32, (-1, -1)) for name in "xy")
        super().__init__([x], [y], lambda x: [x])


def test_the_largest_batch_of_an_engine() -> None:
    config = parse_config("backend: 'scale'", "m")
    complete(config, Bounded())
    assert config.max_batch_size == 3
    assert config.HasField("dynamic_batching")
    assert signature(config, Bounded()).profiles["x"].largest == (9,)
    assert not signature(config).profiles
    more = parse_config("backend: 'scale' max_batch_size: 4", "m")
    with pytest.raises(InvalidArgument) as caught:
        complete(more, Bounded())
    assert str(caught.value) == (
        "got max_batch_size 4 for model 'm', expected at most 3, the largest batch that the model takes"
    )


def test_bounds_of_a_tensor_that_is_reshaped_are_not_those_of_requests() -> None:
    reshaped = TENSORS.replace("dims: 2 }", "dims: [-1] reshape { shape: [-1] } }", 1)
    config = parse_config(
        f"backend: 'scale' max_batch_size: 2 {reshaped}".replace("dims: 2", "dims: -1"), "m"
    )
    complete(config, Bounded())
    assert set(signature(config, Bounded()).profiles) == {"y"}


def test_an_input_that_the_engine_does_not_know_to_be_optional() -> None:
    text = TENSORS.replace("dims: 2 }", "dims: -1 optional: true }", 1).replace("dims: 2", "dims: -1")
    config = parse_config(f"backend: 'scale' max_batch_size: 2 {text}", "m")
    with pytest.raises(InvalidArgument, match="input 'x' of model 'm' is configured as optional"):
        complete(config, Bounded())


# --- In a repository --------------------------------------------------------------------------------------


def test_models_of_a_package_are_served(make_repository: Callable[..., Any], tmp_path: Path) -> None:
    root = tmp_path / "models"
    put(root, "three")
    put(root, "four", f"max_batch_size: 8 {TENSORS} backend: 'scale'", "number.txt", "4")
    put(root, "wrong", None, text="much")
    put(root, "unknown", "backend: 'broken'")
    write(root, "onnx", identity("FP32"))
    directory = root / "folder" / "1" / "model.scale"
    directory.mkdir(parents=True)
    (directory / "number").write_text("5")
    repository = make_repository(root)
    repository.load_all()
    entries = {entry.name: entry for entry in repository.entries}
    assert {name: entry.state for name, entry in entries.items()} == {
        "three": READY,
        "four": READY,
        "folder": READY,
        "onnx": READY,
        "wrong": UNAVAILABLE,
        "unknown": UNAVAILABLE,
    }
    assert "could not convert string to float: 'much'" in entries["wrong"].reason
    assert "no_such_module:KIND cannot be used" in entries["unknown"].reason
    assert [times(repository, name) for name in ("three", "four", "folder")] == [3, 4, 5]
    config = repository.find("four").config
    assert (config.backend, config.platform) == ("scale", "scale_number")
    assert config.default_model_filename == "number.txt"
    assert config.instance_group[0].count == 3  # what the kind says
