"""PyTorch models on the CPU."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch_models import (
    NAMES,
    Affine,
    ByName,
    Constant,
    InPlace,
    Listed,
    Pair,
    Picky,
    Several,
    Wrong,
    export,
    identity,
    script,
    spec,
)

from yais.core.tensor import DataType
from yais.engines.kinds import EngineSettings, engine_kinds
from yais.engines.torch import TorchEngine
from yais.errors import FailedPrecondition, Internal, InvalidArgument
from yais.inference.loading import load_engine
from yais.inference.manager import InferenceManager

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")

SOON = 20.0
X, Y = spec("x", -1, 3), spec("y", -1, 3)


def engine_of(
    path: Path, inputs: Sequence[Any] = (), outputs: Sequence[Any] = (), **given: str
) -> TorchEngine:
    """Load a model."""
    return TorchEngine(
        path, EngineSettings("m", parameters=given, inputs=tuple(inputs), outputs=tuple(outputs))
    )


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with models."""
    path = tmp_path_factory.mktemp("models")
    ones, twos = torch.ones(2, 3), torch.full((2, 3), 2.0)  # one given twice would be one input
    export(path / "affine.pt2", Affine(), [ones])
    export(path / "bounded.pt2", Affine(), [ones], most=6)
    export(path / "fixed.pt2", Affine(), [ones], dynamic=False)
    export(path / "several.pt2", Several(), [ones], {"more": {"q": twos}})
    export(path / "pair.pt2", Pair(), [ones, twos])
    export(path / "inplace.pt2", InPlace(), [ones])
    export(path / "constant.pt2", Constant(), [ones], dynamic=False)
    for name, module in {
        "affine": Affine(),
        "pair": Pair(),
        "named": ByName(),
        "listed": Listed(),
        "inplace": InPlace(),
        "picky": Picky(),
        "wrong": Wrong(),
    }.items():
        script(path / f"{name}.pt", module)
    return path


# --- ExportedProgram --------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [0, 1, 2, 7, 100])
def test_a_program_takes_any_batch(files: Path, batch: int) -> None:
    engine = engine_of(files / "affine.pt2")
    assert (engine.inputs, engine.outputs) == ((spec("x", -1, 3),), (spec("OUTPUT__0", -1, 3),))
    assert engine.max_batch == 0
    x = np.arange(3 * batch, dtype=np.float32).reshape(batch, 3)
    (y,) = engine.execute([x])
    np.testing.assert_array_equal(y, 2 * x + [0, 1, 2])
    engine.close()
    with pytest.raises(FailedPrecondition, match="closed"):
        engine.execute([x])
    engine.close()


def test_the_range_of_a_program(files: Path) -> None:
    engine = engine_of(files / "bounded.pt2")
    assert engine.max_batch == 6
    assert (engine.smallest, engine.largest) == ({"x": (1, 3)}, {"x": (6, 3)})
    assert engine.execute([np.ones((6, 3), np.float32)])[0].shape == (6, 3)
    for shape in ((7, 3), (2, 4)):
        with pytest.raises(InvalidArgument, match=r"was not exported for these shapes: .*x"):
            engine.execute([np.ones(shape, np.float32)])
    assert engine.execute([np.ones((1, 3), np.float32)])[0].shape == (1, 3)


def test_a_program_without_a_batch(files: Path) -> None:
    engine = engine_of(files / "fixed.pt2")
    assert engine.inputs == (spec("x", 2, 3),)


def test_names_of_what_is_nested(files: Path) -> None:
    engine = engine_of(files / "several.pt2")
    assert list(map(str, engine.inputs)) == ["x: FP32[-1, 3]", "more_q: FP32[-1, 3]"]
    assert [output.name for output in engine.outputs] == ["total", "pair.0", "pair.1", "same"]
    assert engine.outputs[2].datatype is DataType.INT64
    engine.select(["more_q", "x"], ["same", "pair.0", "total"])
    x, q = np.full((2, 3), 5, np.float32), np.full((2, 3), 2, np.float32)
    same, difference, total = engine.execute([q, x])
    assert (same[0, 0], difference[0, 0], total[0, 0]) == (5, 3, 7)
    assert not np.shares_memory(same, x)
    with pytest.raises(InvalidArgument, match="got outputs"):
        engine.select(["x", "more_q"], ["pair"])


def test_the_names_of_triton(files: Path) -> None:
    inputs = [spec("INPUT__1", -1, 3), spec("INPUT__0", -1, 3)]
    engine = engine_of(files / "pair.pt2", inputs, [spec("difference__1", -1, 3), spec("sum__0", -1, 3)])
    engine.select(["INPUT__1", "INPUT__0"], ["difference__1", "sum__0"])
    one, five = np.full((1, 3), 1, np.float32), np.full((1, 3), 5, np.float32)
    difference, total = engine.execute([one, five])
    assert (difference[0, 0], total[0, 0]) == (4, 6)


@pytest.mark.parametrize("name", ["inplace.pt2", "inplace.pt"])
@pytest.mark.parametrize("writeable", [False, True])
def test_a_model_that_writes_to_its_inputs_does_not_write_to_the_request(
    files: Path, name: str, writeable: bool
) -> None:
    engine = engine_of(files / name, [X], [spec("OUTPUT__0", -1, 3)])
    x = np.zeros((2, 3), np.float32)
    x.flags.writeable = writeable
    (y,) = engine.execute([x])
    assert (y == 1).all()
    assert (x == 0).all()


def test_what_is_the_models_own_is_copied(files: Path) -> None:
    engine = engine_of(files / "constant.pt2")
    _, constant = engine.execute([np.ones((2, 3), np.float32)])
    constant[:] = 7
    assert (engine.execute([np.ones((2, 3), np.float32)])[1] == 1).all()


@pytest.mark.parametrize("datatype", NAMES)
def test_every_type(datatype: DataType, tmp_path: Path) -> None:
    path = export(tmp_path / "m.pt2", identity(NAMES[datatype]), [torch.zeros(2, 5, dtype=NAMES[datatype])])
    engine = engine_of(path)
    assert engine.inputs[0].datatype is engine.outputs[0].datatype is datatype
    bits = np.random.default_rng(0).integers(0, 2, (3, 5)).astype(datatype.numpy)
    if datatype is DataType.BF16:
        bits[:] = 0x3F80 + bits  # 1.0 and the next
    for array in (bits, np.asfortranarray(bits), np.broadcast_to(bits[:1], (3, 5))):
        (result,) = engine.execute([array])
        assert result.dtype == datatype.numpy
        np.testing.assert_array_equal(result, array)


def test_inputs_that_cannot_be_written_are_neither_copied_nor_warned_of(files: Path) -> None:
    engine = engine_of(files / "affine.pt2")
    array = np.frombuffer(np.ones(6, np.float32).tobytes(), np.float32).reshape(2, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (y,) = engine.execute([array])
    np.testing.assert_array_equal(y, 2 * array + [0, 1, 2])


def test_a_tensor_of_a_type_that_the_protocol_lacks(tmp_path: Path) -> None:
    path = export(tmp_path / "m.pt2", identity(torch.complex64), [torch.zeros(2, 5, dtype=torch.complex64)])
    with pytest.raises(InvalidArgument, match=r"tensor 'x' is of torch\.complex64, expected one of bool"):
        engine_of(path)


# --- TorchScript ------------------------------------------------------------------------------------------


def test_torchscript_is_as_it_is_configured(files: Path) -> None:
    engine = engine_of(files / "affine.pt", [X], [Y])
    assert (engine.inputs, engine.outputs) == ((X,), (Y,))
    (y,) = engine.execute([np.ones((2, 3), np.float32)])
    np.testing.assert_array_equal(y, [[2, 3, 4]] * 2)


@pytest.mark.parametrize(
    ("name", "inputs", "outputs", "expected"),
    [
        ("pair.pt", "a b", "sum difference", [7, -3]),
        ("pair.pt", "b a", "sum difference", [7, 3]),
        ("pair.pt", "INPUT__1 INPUT__0", "OUTPUT__1 OUTPUT__0", [3, 7]),
        ("pair.pt", "INPUT__1 a", "OUTPUT__1", [3]),
        ("named.pt", "x w", "z y", [6, 4]),
        ("listed.pt", "INPUT__1 INPUT__0", "OUTPUT__1 OUTPUT__0", [5, 7]),
    ],
)
def test_how_tensors_are_named(
    files: Path, name: str, inputs: str, outputs: str, expected: list[float]
) -> None:
    takes = [spec(each, -1, 3) for each in inputs.split()]
    gives = [spec(each, -1, 3) for each in outputs.split()]
    engine = engine_of(files / name, takes, gives)
    results = engine.execute([np.full((1, 3), 2, np.float32), np.full((1, 3), 5, np.float32)])
    assert [float(result[0, 0]) for result in results] == expected


@pytest.mark.parametrize(
    ("name", "inputs", "outputs", "error"),
    [
        (
            "pair.pt",
            [],
            [],
            "got no inputs or no outputs for pair.pt, expected both: TorchScript does not say",
        ),
        ("pair.pt", [X], [Y], "got input 'x', expected an argument of the module's forward, which are a, b"),
        ("pair.pt", [spec("a", 1)], [Y], r"got inputs for the arguments \['a'\] of the module's forward"),
        ("pair.pt", [spec("a", 1), spec("x__0", 1)], [Y], r"for the arguments \['a', 'a'\]"),
        ("pair.pt", [spec("a", 1), spec("x__2", 1)], [Y], "got input 'x__2'.* INPUT__0 to INPUT__1"),
        ("listed.pt", [spec("a__0", 1), spec("a__2", 1)], [Y], r"of places \[0, 2\], expected them to count"),
        ("pair.pt", [spec("a", 1, kind=DataType.BYTES)], [Y], "PyTorch has no tensors of BYTES"),
    ],
)
def test_a_configuration_that_does_not_fit(
    files: Path, name: str, inputs: list[Any], outputs: list[Any], error: str
) -> None:
    with pytest.raises(InvalidArgument, match=error):
        engine_of(files / name, inputs, outputs)


@pytest.mark.parametrize(
    ("name", "outputs", "error"),
    [
        ("wrong.pt", ["y"], "the model gave torch.float64 for output 'y', expected torch.float32"),
        ("affine.pt", ["a", "b"], "the model gave 1 outputs, expected 2 outputs or more"),
        ("named.pt", ["q"], r"the model gave outputs \['y', 'z'\], expected \['q'\], too"),
    ],
)
def test_a_model_that_gives_something_else(files: Path, name: str, outputs: list[str], error: str) -> None:
    inputs = [X, spec("w", -1, 3)] if name == "named.pt" else [X]
    engine = engine_of(files / name, inputs, [spec(each, -1, 3) for each in outputs])
    with pytest.raises(Internal, match=error):
        engine.execute([np.ones((1, 3), np.float32)] * len(inputs))


@pytest.mark.parametrize("shape", [(-1, 5), (-1,), (-1, 3, 1), (2, 3)])
def test_a_model_that_gives_other_shapes_than_configured(files: Path, shape: tuple[int, ...]) -> None:
    engine = engine_of(files / "affine.pt", [X], [spec("y", *shape)])
    with pytest.raises(Internal, match=r"the model gave \[1, 3\] for output 'y', expected \["):
        engine.execute([np.ones((1, 3), np.float32)])


# --- Files, parameters and errors -------------------------------------------------------------------------


def test_files_that_are_no_models(tmp_path: Path, files: Path) -> None:
    (tmp_path / "text.pt").write_text("no model")
    torch.save({"weight": torch.ones(2)}, tmp_path / "weights.pt")
    (tmp_path / "cut.pt2").write_bytes((files / "affine.pt2").read_bytes()[:-1000])
    for name in ("text.pt", "weights.pt", "cut.pt2", "missing.pt"):
        with pytest.raises(InvalidArgument, match=f"PyTorch cannot load {name}"):
            engine_of(tmp_path / name, [X], [Y])
    with pytest.raises(InvalidArgument, match=r"it is what torch\.save writes, expected a program"):
        engine_of(tmp_path / "weights.pt", [X], [Y])


def test_the_file_says_itself_what_it_is(files: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes((files / "affine.pt2").read_bytes())
    assert engine_of(path).outputs[0].name == "OUTPUT__0"


@pytest.mark.parametrize(
    ("parameters", "error"),
    [
        ({"INTRA_OP_THREAD_COUNT": "0"}, "got '0' for parameter 'INTRA_OP_THREAD_COUNT', expected 1 to 1024"),
        ({"INTER_OP_THREAD_COUNT": "many"}, "got 'many'"),
        ({"INFERENCE_MODE": "1"}, "got '1' for parameter 'INFERENCE_MODE', expected 'true' or 'false'"),
        ({"DISABLE_OPTIMIZED_EXECUTION": "no"}, "got 'no'"),
    ],
)
def test_parameters_that_are_wrong(files: Path, parameters: dict[str, str], error: str) -> None:
    with pytest.raises(InvalidArgument, match=error):
        engine_of(files / "affine.pt2", **parameters)


def test_parameters(files: Path, caplog: pytest.LogCaptureFixture) -> None:
    before = torch.get_num_threads()
    wanted = before + 1
    try:
        engine = engine_of(
            files / "affine.pt",
            [X],
            [Y],
            INTRA_OP_THREAD_COUNT=str(wanted),
            DISABLE_OPTIMIZED_EXECUTION="true",
            INFERENCE_MODE="false",
        )
        assert torch.get_num_threads() == wanted
        assert f"INTRA_OP_THREAD_COUNT of the process from {before} to {wanted}" in caplog.text
    finally:
        torch.set_num_threads(before)
    assert (engine.execute([np.zeros((1, 3), np.float32)])[0] == [0, 1, 2]).all()


def test_profiles_and_graphs_are_not_pytorchs(files: Path) -> None:
    with pytest.raises(InvalidArgument, match="expected none for PyTorch"):
        TorchEngine(files / "affine.pt2", EngineSettings("m", graphs=True))


def test_a_request_that_makes_the_model_fail_fails_alone(files: Path) -> None:
    engine = engine_of(files / "picky.pt", [X], [Y])
    good, bad = np.full((1, 3), 4, np.float32), np.full((1, 3), -1, np.float32)
    with pytest.raises(Internal, match="negative numbers are not for me"):
        engine.execute([bad])
    assert (engine.execute([good])[0] == 2).all()


# --- Many threads -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["affine.pt2", "affine.pt", "inplace.pt2"])
def test_threads_do_not_disturb_each_other(files: Path, name: str) -> None:
    engine = engine_of(files / name, [X], [spec("OUTPUT__0", -1, 3)])
    expected = 1 if "inplace" in name else None
    wrong: list[object] = []

    def work(number: int) -> None:
        x = np.full((1 + number % 3, 3), number, np.float32)
        for _ in range(100):
            (y,) = engine.execute([x])
            right = x + 1 if expected else 2 * x + [0, 1, 2]
            if not np.array_equal(y, right):
                wrong.append((number, y))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SOON)
    assert not wrong
    assert not any(thread.is_alive() for thread in threads)


def test_threads_may_load_at_once(files: Path) -> None:
    loaded: list[TorchEngine] = []
    threads = [
        threading.Thread(target=lambda: loaded.append(engine_of(files / "affine.pt2"))) for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SOON)
    assert len(loaded) == 6


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batch=st.integers(1, 9), seed=st.integers(0, 1000), order=st.permutations(["x", "more_q"]))
def test_answers_are_pytorchs_own(files: Path, batch: int, seed: int, order: list[str]) -> None:
    engine = engine_of(files / "several.pt2")
    engine.select(order, ["total", "pair.1"])
    x, q = np.random.default_rng(seed).standard_normal((2, batch, 3)).astype(np.float32)
    total, count = engine.execute([{"x": x, "more_q": q}[name] for name in order])
    wanted = Several()(torch.from_numpy(x), more={"q": torch.from_numpy(q)})
    np.testing.assert_array_equal(total, wanted["total"].numpy())
    np.testing.assert_array_equal(count, wanted["pair"][1].numpy())


# --- Through a manager ------------------------------------------------------------------------------------


def test_a_manager_serves_both_kinds_of_files(files: Path) -> None:
    with InferenceManager(max_exec_concurrency=2) as manager:
        manager.register("exported", files / "bounded.pt2")
        manager.register("scripted", files / "picky.pt", inputs=[X], outputs=[Y])
        manager.allocate()
        assert manager.find("exported").signature.max_batch == 6
        assert manager.find("scripted").signature.max_batch == 32
        exported, scripted = manager.infer_runner("exported"), manager.infer_runner("scripted")
        futures = [exported.infer(x=np.full((2, 3), number, np.float32)) for number in range(20)]
        bad = scripted.infer(x=np.full((1, 3), -1, np.float32))
        good = scripted.infer(x=np.full((1, 3), 9, np.float32))
        for number, future in enumerate(futures):
            assert float(future.result(SOON)["OUTPUT__0"][0, 0]) == 2 * number
        with pytest.raises(
            Internal, match=r"^model 'scripted' failed: builtins\.ValueError: negative numbers"
        ):
            bad.result(SOON)
        assert float(good.result(SOON)["y"][0, 0]) == 3


def test_the_kind_loads_by_the_suffix(files: Path) -> None:
    assert {".pt", ".pt2"} == set(engine_kinds()["pytorch"].suffixes)
    engine = load_engine(files / "affine.pt2", [], [], {"INFERENCE_MODE": True})
    assert isinstance(engine, TorchEngine)
    with pytest.raises(
        InvalidArgument, match=r"got options \['speed'\], expected some of pytorch's: INTRA_OP"
    ):
        load_engine(files / "affine.pt2", [], [], {"speed": 1})
    with pytest.raises(FailedPrecondition, match=r"got GPU 7, and this PyTorch \S+ has"):
        load_engine(files / "affine.pt2", [], [], None, gpu=7)
