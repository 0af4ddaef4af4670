"""One manager for models here and elsewhere: what goes in, what comes out, and what is refused."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from both_managers import AWKWARD, DIGITS, RAISED, SOON, OnlyDlpack

import yais
from yais.core.tensor import DataType, TensorSpec
from yais.infer_runner import AbstractInferRunner

NUMBERS = [kind for kind in DataType if kind not in {DataType.BYTES, DataType.BF16}]
ROWS = {name: np.full((2, 3), number, np.int32) for number, name in enumerate(AWKWARD)}
WITHOUT_ID = "[request id: <id_unknown>] "


def ask(manager, model, *inputs, **arrays):
    return manager.infer_runner(model).infer(*inputs, **arrays).result(SOON)


def identity(manager, kind, values):
    return ask(manager, f"identity_{kind.value.lower()}", X=values)["Y"]


# What is there.


def test_the_models(manager):
    identities = [f"identity_{kind.value.lower()}" for kind in DataType]
    others = ["digits", "fixed", "gate", "raising", "soon", "sums", "text", "twice"]
    assert manager.get_models() == sorted([*identities, *others])


def test_what_a_model_takes_and_gives(manager):
    runner = manager.infer_runner("text", "1")
    assert isinstance(runner, AbstractInferRunner)
    assert (runner.name, runner.max_batch_size()) == ("text", 8)
    assert runner.input_bindings() == {"X": TensorSpec("X", DataType.BYTES, (-1,))}
    assert list(runner.output_bindings().values()) == [
        TensorSpec("length", DataType.INT64, (-1,)),
        TensorSpec("upper", DataType.BYTES, (-1,)),
    ]
    runner.input_bindings().clear()  # a copy
    assert list(runner.input_bindings()) == ["X"]
    fixed = manager.infer_runner("fixed")
    assert (fixed.max_batch_size(), fixed.input_bindings()["X"].shape) == (0, (2, 3))
    assert manager.infer_runner("digits").max_batch_size() == 32


def test_runners_and_managers_read_as_what_they_are(manager):
    runner = manager.infer_runner("text")
    remote = isinstance(manager, yais.RemoteInferenceManager)
    kind = "InferRemoteRunner" if remote else "InferRunner"
    assert repr(runner) == f"<{kind} text: (X: BYTES[-1]) -> (length: INT64[-1], upper: BYTES[-1])>"
    assert repr(manager).startswith(f"<{type(manager).__name__}")


@pytest.mark.parametrize(("name", "version"), [("none", ""), ("none", "1"), ("digits", "2"), ("", "")])
def test_a_model_that_is_not_there(manager, name, version):
    with pytest.raises(yais.NotFound, match=f"'{name}'"):
        manager.infer_runner(name, version)


# Types and values.


@pytest.mark.parametrize("kind", NUMBERS, ids=lambda kind: kind.value)
def test_every_type(manager, kind):
    numeric = kind.numpy.kind in "iu"
    extremes = [np.iinfo(kind.numpy).min, np.iinfo(kind.numpy).max] if numeric else [0, 1]
    sent = np.array([[0, 1, *extremes], [1, 0, *extremes[::-1]]], kind.numpy)
    got = identity(manager, kind, sent)
    assert got.dtype == kind.numpy
    np.testing.assert_array_equal(got, sent)


@pytest.mark.parametrize("kind", [DataType.FP16, DataType.FP32, DataType.FP64], ids=lambda kind: kind.value)
def test_numbers_that_are_none_or_endless(manager, kind):
    sent = np.array([[np.nan, np.inf, -np.inf, -0.0]], kind.numpy)
    assert identity(manager, kind, sent).tobytes() == sent.tobytes()


@pytest.mark.parametrize(
    "sent",
    [
        [[b"a\0", b"", b"\xff"], [b"x", b"y", b"z"]],
        [["ä\0", "€", "x" * 1000]],
        np.array([[b"a\0", "ä", b"\xfe", ""]], object),
        np.array([[b"ab", b"cde"]]),
        np.array([["ab", "äöü"]]),
    ],
    ids=["bytes", "text", "both", "array of bytes", "array of text"],
)
def test_bytes(manager, sent):
    got = identity(manager, DataType.BYTES, sent)
    expected = [[e.encode() if isinstance(e, str) else e for e in row] for row in sent]
    assert got.tolist() == expected


@pytest.mark.parametrize(
    "sent",
    [
        [[1.5, -0.0, 3.0e38]],
        np.array([[1, -2]], np.int64),
        np.array([[0.5, 256.0]], ml_dtypes.bfloat16),
        np.array([[0.5, np.nan]], np.float16),
        np.array([[1, 2]], np.uint16),  # numbers, not bits
    ],
    ids=["list", "int64", "bfloat16", "float16", "uint16"],
)
def test_bf16_is_float32_to_callers(manager, sent):
    got = identity(manager, DataType.BF16, sent)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, np.asarray(sent).astype(np.float32), rtol=2**-7)


@pytest.mark.parametrize("kind", list(DataType), ids=lambda kind: kind.value)
def test_no_elements(manager, kind):
    sent = np.empty((3, 0), np.float32 if kind is DataType.BF16 else kind.numpy)
    got = identity(manager, kind, sent)
    assert (got.shape, got.dtype) == ((3, 0), sent.dtype)


def test_several_inputs_and_outputs_in_a_batch(manager):
    outputs = ask(manager, "text", X=["one", "", "thirteen"])
    assert list(outputs) == ["length", "upper"]
    assert outputs["length"].tolist() == [3, 0, 8]
    assert outputs["upper"].tolist() == [b"ONE", b"", b"THIRTEEN"]


def test_a_batch_of_every_size(manager):
    for size in range(1, 9):
        sent = np.random.default_rng(size).random((size, 4), np.float32)
        np.testing.assert_array_equal(ask(manager, "twice", X=sent)["Y"], sent * 2)


def test_a_model_without_a_batch_dimension(manager):
    sent = np.arange(6, dtype=np.int32).reshape(2, 3)
    np.testing.assert_array_equal(ask(manager, "fixed", X=sent)["Y"], -sent)


def test_digits_are_recognised(manager):
    with np.load(DIGITS / "held_out.npz") as file:
        images, labels = file["images"][:32], file["labels"][:32]
    outputs = ask(manager, "digits", image=images[:, None].astype(np.float32))
    assert np.mean(outputs["probabilities"].argmax(axis=1) == labels) >= 0.9


# How inputs are said.


@pytest.mark.parametrize("split", range(len(AWKWARD) + 1))
def test_inputs_by_dict_and_by_keyword(manager, split):
    names = list(ROWS)
    by_dict = {name: ROWS[name] for name in names[:split]}
    by_keyword = {name: ROWS[name] for name in names[split:]}
    outputs = ask(manager, "sums", by_dict, **by_keyword)
    assert outputs["total"].tolist() == [45.0, 45.0]
    assert outputs["first"].tolist() == [[0, 0, 0]] * 2


def test_inputs_of_any_name_with_a_deadline(manager):
    runner = manager.infer_runner("sums")
    assert runner.infer_with_deadline(SOON, **ROWS).result(SOON)["total"].tolist() == [45.0, 45.0]
    assert runner.infer_with_deadline(SOON, ROWS).result(SOON)["total"].tolist() == [45.0, 45.0]


def test_a_keyword_wins(manager):
    outputs = ask(manager, "sums", ROWS, self=np.ones((2, 3), np.int32))
    assert outputs["total"].tolist() == [48.0, 48.0]


def test_what_is_sent_is_left_alone(manager):
    sent = {"X": np.ones((1, 4), np.float32)}
    sent["X"].flags.writeable = False
    first = ask(manager, "twice", sent)["Y"]
    assert list(sent) == ["X"] and sent["X"].tolist() == [[1.0] * 4]
    second = ask(manager, "twice", X=np.zeros((1, 4), np.float32))["Y"]
    assert first.tolist() == [[2.0] * 4] and second.tolist() == [[0.0] * 4]


@pytest.mark.parametrize(
    ("kind", "sent"),
    [
        ("FP32", [[1, 2, 3]]),
        ("FP32", [[0.1, 1e-3]]),
        ("FP64", np.ones((1, 2), np.float32)),
        ("FP16", np.ones((1, 2))),
        ("INT32", [[1, -2, 2**31 - 1]]),
        ("INT8", np.array([[-128, 127]])),
        ("UINT8", [[0, 255]]),
        ("INT64", np.array([[5]], np.uint8)),
        ("UINT64", np.array([[2**64 - 1, 0]], np.uint64)),
        ("INT32", np.array([[1, 256]], ">i4")),
        ("FP32", np.array([[1.5, 256]], ">f4")),
        ("FP32", np.arange(12.0).reshape(3, 4).T),
        ("FP32", np.arange(12, dtype=np.float32).reshape(3, 4)[:, ::-2]),
        ("INT64", np.arange(24).reshape(2, 3, 4)[:, :, 1]),
        ("BOOL", [[True, False]]),
        ("INT8", [[True, False]]),
        ("BYTES", np.array([["a", "b"], ["c", "d"]], object).T),
    ],
)
def test_what_converts_without_loss_of_kind(manager, kind, sent):
    got = identity(manager, DataType(kind), sent)
    expected = np.asarray(sent)
    if kind == "BYTES":
        expected = np.char.encode(expected.astype(str)).astype(object)
    np.testing.assert_array_equal(got, expected.astype(DataType(kind).numpy))


@pytest.mark.parametrize("kind", NUMBERS, ids=lambda kind: kind.value)
def test_arrays_of_other_libraries(manager, kind):
    array = np.array([[0, 1], [1, 0]], kind.numpy)
    np.testing.assert_array_equal(identity(manager, kind, OnlyDlpack(array)), array)
    np.testing.assert_array_equal(identity(manager, kind, OnlyDlpack(array.T)), array.T)


# What is refused before anything is sent, in the same words.


@pytest.mark.parametrize(
    ("kind", "sent", "text"),
    [
        ("INT32", [[0.5]], "got an array of float64 for input 'X', expected INT32"),
        ("BOOL", [[1]], "got an array of int64 for input 'X', expected BOOL"),
        ("FP32", [[1j]], "got an array of complex128 for input 'X', expected FP32"),
        ("FP32", [["1.5"]], "got an array of <U3 for input 'X', expected FP32"),
        ("FP32", [[None]], "got an array of object for input 'X', expected FP32"),
        ("BF16", [["1.5"]], "got an array of <U3 for input 'X', expected BF16"),
        ("INT32", OnlyDlpack(np.ones((1, 1))), "got an array of float64 for input 'X', expected INT32"),
        (
            "FP32",
            OnlyDlpack(np.ones((1, 1)), device=2),
            "input 'X': got a OnlyDlpack that numpy cannot take by DLPack: the memory is on another device",
        ),
        ("INT32", [[2**31, 0]], "got values from 0 to 2147483648 for input 'X', which INT32 cannot hold"),
        ("UINT8", [[-1, 3]], "got values from -1 to 3 for input 'X', which UINT8 cannot hold"),
        ("BYTES", [[b"a", 5]], "got 5 for input 'X', expected bytes or text"),
        ("BYTES", [[None]], "got None for input 'X', expected bytes or text"),
        ("BYTES", np.ones((1, 1)), "got 1.0 for input 'X', expected bytes or text"),
        (
            "INT64",
            np.array([[2**63]], np.uint64),
            f"got values from {2**63} to {2**63} for input 'X', which INT64 cannot hold",
        ),
    ],
)
def test_values_that_are_none_of_the_type(manager, kind, sent, text):
    runner = manager.infer_runner(f"identity_{kind.lower()}")
    with pytest.raises(yais.InvalidArgument) as caught:
        runner.infer(X=sent)
    assert str(caught.value) == text


@pytest.mark.parametrize("names", [[], ["Y"], ["X", "Y"], ["x"], ["X", "self"]])
def test_wrong_names(manager, names):
    runner = manager.infer_runner("twice")
    with pytest.raises(yais.InvalidArgument) as caught:
        runner.infer(dict.fromkeys(names, np.ones((1, 4), np.float32)))
    assert str(caught.value) == f"got inputs {sorted(names)} for model 'twice', expected ['X']"


def test_a_list_that_is_no_array(manager):
    runner = manager.infer_runner("identity_fp32")
    with pytest.raises(yais.InvalidArgument, match=r"^input 'X': .*inhomogeneous"):
        runner.infer(X=[[1.0], [1.0, 2.0]])


# What the model refuses.


@pytest.mark.parametrize(
    ("model", "arrays", "text"),
    [
        ("twice", {"X": np.ones((9, 4))}, "inference request batch-size must be <= 8 for 'twice'"),
        ("twice", {"X": np.ones((0, 4))}, "Expected [-1,4], got [0,4]."),
        ("twice", {"X": np.ones((1, 3))}, "Expected [-1,4], got [1,3]."),
        ("twice", {"X": np.ones(4)}, "Expected [-1,4], got [4]."),
        ("twice", {"X": 1.0}, "Expected [-1,4], got []."),
        ("fixed", {"X": np.ones((1, 2, 3), int)}, "Expected [2,3], got [1,2,3]."),
        (
            "sums",
            {**ROWS, "pre": np.ones((1, 3), int)},
            "input 'pre' batch size does not match other inputs for 'sums'",
        ),
    ],
)
def test_shapes_that_the_model_does_not_take(manager, model, arrays, text):
    future = manager.infer_runner(model).infer(arrays)
    with pytest.raises(yais.InvalidArgument) as caught:
        future.result(SOON)
    assert str(caught.value).startswith(WITHOUT_ID)
    assert text in str(caught.value)


@pytest.mark.parametrize("which", list(RAISED))
def test_what_a_callable_raises(manager, which):
    error = RAISED[which]()
    # Its own status, or Internal with the name of the model.
    kind = type(error) if isinstance(error, yais.YaisError) else yais.Internal
    named = kind is yais.Internal
    with pytest.raises(yais.YaisError) as caught:
        ask(manager, "raising", which=[which])
    assert type(caught.value) is kind
    assert str(error) in str(caught.value)
    if named:
        assert str(caught.value).startswith("model 'raising' failed: ")
    else:
        assert str(caught.value) == str(error)
    assert ask(manager, "raising", which=[0])["which"].tolist() == [0]  # and goes on
