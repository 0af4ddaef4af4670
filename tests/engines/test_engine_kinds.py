"""Kinds of engines: those of yais, and those that packages add."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from plugin_packages import installed, write_package

from yais.core.tensor import DataType, TensorSpec
from yais.engines.kinds import EngineKind, EngineSettings, broken_kinds, engine_kinds
from yais.errors import FailedPrecondition, InvalidArgument
from yais.inference.loading import engine_profiles, load_engine, signature_of
from yais.inference.manager import InferenceManager
from yais.testing import FakeEngine

X = TensorSpec("x", DataType.FP32, (-1, 2))


def test_the_kinds_of_yais() -> None:
    kinds = engine_kinds()
    assert list(kinds)[:2] == ["tensorrt", "pytorch"]
    plan, torch = kinds["tensorrt"], kinds["pytorch"]
    assert (plan.platform, plan.filename, plan.suffixes) == (
        "tensorrt_plan",
        "model.plan",
        (".plan", ".engine", ".trt"),
    )
    assert (plan.uses_gpus, plan.uses_cpus) == (True, False)
    assert (torch.platform, torch.filename, torch.alternatives) == (
        "pytorch_libtorch",
        "model.pt",
        ("model.pt2",),
    )
    assert (torch.uses_gpus, torch.uses_cpus) == (True, True)
    assert engine_kinds() is kinds  # read once


def test_neither_yais_nor_its_kinds_import_what_their_engines_need() -> None:
    code = (
        "import sys, yais, yais.engines.kinds as kinds; kinds.engine_kinds(); "
        "print(sorted({'torch', 'tensorrt', 'tensorrt_rtx', 'cuda', 'onnxruntime'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=110, check=True
    )
    assert done.stdout.strip() == "[]"


def test_a_package_adds_a_kind(tmp_path: Path) -> None:
    with installed(write_package(tmp_path, {"scale": "scale_engines:KIND"})):
        assert list(engine_kinds()) == ["tensorrt", "pytorch", "scale"]
        assert not broken_kinds()
        kind = engine_kinds()["scale"]
        (tmp_path / "three.scale").write_text("3")
        engine = kind.load(tmp_path / "three.scale", EngineSettings("three"))
        np.testing.assert_array_equal(engine.execute([np.ones((1, 2), np.float32)])[0], [[3, 3]])
    assert "scale" not in engine_kinds()


@pytest.mark.parametrize(
    ("entry_point", "reason"),
    [
        (
            {"gone": "no_such_module:KIND"},
            "no_such_module:KIND cannot be used: ModuleNotFoundError",
        ),
        ({"gone": "scale_engines:NOTHING"}, "AttributeError"),
        ({"gone": "scale_engines:NUMBER"}, "TypeError: got 3, expected an EngineKind"),
        (
            {"gone": "scale_engines:KIND"},
            "'gone' for the kind 'scale', expected the same name",
        ),
        ({"python": "scale_engines:PYTHON"}, "there is a backend or platform 'python' already"),
        ({"nowhere": "scale_engines:NOWHERE"}, "for neither CPUs nor GPUs"),
        ({"tensorrt": "scale_engines:KIND"}, "expected the same name"),
        ({"scale": "scale_engines:KIND", "other": "scale_engines:OTHER"}, "platform 'scale_number' already"),
    ],
)
def test_a_kind_that_cannot_be_used_is_logged_and_left_out(
    entry_point: dict[str, str], reason: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with installed(write_package(tmp_path, entry_point)):
        with caplog.at_level(logging.WARNING, "yais.engines"):
            kinds = engine_kinds()
        ((name, said),) = broken_kinds().items()
        assert {"tensorrt", "pytorch"} <= set(kinds)
        assert name in entry_point
        assert isinstance(kinds.get(name, engine_kinds()["tensorrt"]), EngineKind)
        assert reason in said
        (record,) = caplog.records
        assert (record.name, record.levelname) == ("yais.engines", "WARNING")
        assert f"'{name}'" in record.getMessage()
        engine_kinds()
        assert len(caplog.records) == 1


def test_a_package_that_ends_the_import_otherwise(tmp_path: Path) -> None:
    source = "raise OSError('libfast.so.3: cannot open shared object file')"
    with installed(write_package(tmp_path, {"fast": "fast:KIND"}, "fast", source)):
        assert "libfast.so.3" in broken_kinds()["fast"]
        assert "fast" not in engine_kinds()


def test_threads_that_ask_at_once_find_the_same(tmp_path: Path) -> None:
    with installed(write_package(tmp_path, {"scale": "scale_engines:KIND"})):
        found: list[object] = []
        threads = [threading.Thread(target=lambda: found.append(dict(engine_kinds()))) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert found == [dict(engine_kinds())] * 8


# --- InferenceManager.register --------------------------------------------------------------------------


def test_a_manager_takes_the_files_of_a_package(tmp_path: Path) -> None:
    with installed(write_package(tmp_path, {"scale": "scale_engines:KIND"})):
        (tmp_path / "four.scale").write_text("4")
        with InferenceManager(max_exec_concurrency=2) as manager:
            manager.register("four", tmp_path / "four.scale", options={"most": 8})
            manager.register("five", str(tmp_path / "four.scale"), inputs=[X], outputs=[X], concurrency=1)
            manager.allocate()
            assert manager.find("four").signature.max_batch == 8
            runner = manager.infer_runner("four")
            answer = runner.infer(x=np.ones((3, 2), np.float32)).result(20)
            np.testing.assert_array_equal(answer["y"], np.full((3, 2), 4))
        from scale_engines import LOADED  # type: ignore[import-not-found]

        assert [engine.settings.parameters for engine in LOADED] == [{"most": "8"}, {}]
        assert [engine.settings.name for engine in LOADED] == ["four", "four"]
        assert LOADED[1].settings.inputs == (X,)
        assert [engine.closed for engine in LOADED] == [True, True]


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"options": {"size": 3}}, r"got options \['size'\], expected some of scale's: most, colour"),
        ({"options": 7}, "got options 7, expected a dict of parameters of scale"),
        ({"gpu": 0}, r"got GPU 0 for .*four\.scale, and scale models use none"),
    ],
)
def test_what_a_kind_does_not_take(given: dict[str, object], error: str, tmp_path: Path) -> None:
    with installed(write_package(tmp_path, {"scale": "scale_engines:KIND"})):
        (tmp_path / "four.scale").write_text("4")
        options = given.pop("options", None)
        with pytest.raises(InvalidArgument, match=error):
            load_engine(tmp_path / "four.scale", [], [], options, **given)  # type: ignore[arg-type]


def test_a_file_whose_engine_lacks_its_package(tmp_path: Path) -> None:
    (tmp_path / "model.pt2").write_bytes(b"")
    if "torch" in sys.modules:
        pytest.skip("PyTorch is there")
    with pytest.raises((FailedPrecondition, InvalidArgument), match=r"torch|PyTorch"):
        load_engine(tmp_path / "model.pt2", [], [], None)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    for name in ("no.onnx", "no.plan", "no"):
        with pytest.raises(InvalidArgument, match="expected a file, an engine or a callable"):
            load_engine(tmp_path / name, [], [], None)
    with pytest.raises(InvalidArgument, match="expected a file, an engine or a callable"):
        load_engine(tmp_path, [], [], None)


# --- What engines say of their sizes --------------------------------------------------------------------


class Bounded(FakeEngine):
    """An engine with bounds."""

    max_batch = 6
    smallest = {"x": (1, 2), "y": (1, 2)}
    largest = {"x": (6, 9), "y": (6, 18)}

    def __init__(self) -> None:
        x, y = (TensorSpec(name, DataType.FP32, (-1, -1)) for name in "xy")
        super().__init__([x], [y], lambda x: [x])


class Placed:
    """An engine whose instances have others."""

    def __init__(self) -> None:
        self.first = Bounded()
        self.inputs, self.outputs = self.first.inputs, self.first.outputs

    def at(self, instance: int) -> Bounded:
        assert instance == 0
        return self.first


@pytest.mark.parametrize("make", [Bounded, Placed])
def test_a_model_has_the_bounds_of_its_engine(make: type) -> None:
    engine = make()
    signature = signature_of("m", engine, None, {})
    assert signature.max_batch == 6
    assert signature.profiles["x"].largest == (9,)
    assert (signature.profiles["y"].smallest, signature.profiles["y"].largest) == ((2,), (18,))
    assert signature_of("m", engine, 4, {}).max_batch == 4
    with pytest.raises(InvalidArgument, match="got max_batch_size=7 for model 'm', expected at most 6"):
        signature_of("m", engine, 7, {})
    assert engine_profiles(engine, engine.inputs, batching=False)["x"].largest == (6, 9)


def test_profiles_that_are_given_go_first() -> None:
    from yais.inference.profile import Profile

    signature = signature_of("m", Bounded(), None, {"x": Profile((2,), (3,))})
    assert signature.profiles["x"].largest == (3,)
    assert signature.profiles["y"].largest == (18,)
