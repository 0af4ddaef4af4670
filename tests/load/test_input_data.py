"""Inputs from files in the forms of perf_analyzer."""

from __future__ import annotations

import base64
import json

import numpy as np
import pytest
from model_takes import array_of, taking

from yais.errors import InvalidArgument
from yais.load.input_data import read_input_data
from yais.protocol.tensor_codec import encode_bytes

PAIR = taking(("INPUT0", "INT32", (2, 2)), ("INPUT1", "INT32", (2, 2)), batch=8)


def written(tmp_path, content):
    path = tmp_path / "data.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def held(requests):
    """Return what requests hold: for each, lists by the name of the input."""
    return [{tensor.spec.name: array_of(tensor).tolist() for tensor in tensors} for tensors in requests]


def items(*values):
    return {"data": [{"INPUT0": [value] * 4, "INPUT1": {"content": [-value] * 4}} for value in values]}


def test_elements_in_row_major_order(tmp_path):
    data = {"data": [{"INPUT0": [1, 2, 3, 4], "INPUT1": {"content": [5, 6, 7, 8], "shape": [2, 2]}}]}
    assert held(read_input_data(written(tmp_path, data), PAIR)) == [
        {"INPUT0": [[[1, 2], [3, 4]]], "INPUT1": [[[5, 6], [7, 8]]]}
    ]


@pytest.mark.parametrize(
    ("batch", "expected"),
    [
        (1, [[1], [2], [3]]),
        (2, [[1, 2], [2, 3], [3, 1]]),
        (3, [[1, 2, 3], [2, 3, 1], [3, 1, 2]]),
        (5, [[1, 2, 3, 1, 2], [2, 3, 1, 2, 3], [3, 1, 2, 3, 1]]),
    ],
)
def test_requests_go_round_the_items(tmp_path, batch, expected):
    requests = held(read_input_data(written(tmp_path, items(1, 2, 3)), PAIR, batch))
    assert [[item[0][0] for item in request["INPUT0"]] for request in requests] == expected
    assert [[-item[1][1] for item in request["INPUT1"]] for request in requests] == expected


@pytest.mark.parametrize("wrapped", [False, True])
def test_memory_in_base64(tmp_path, wrapped):
    def coded(data):
        text = {"b64": base64.b64encode(data).decode()}
        return {"content": text, "shape": [3]} if wrapped else text

    model = taking(("x", "FP32", (3,)), ("t", "BYTES", (3,)))
    numbers, texts = np.array([1.5, -2, 3], np.float32), [b"a", b"", b"\0\xff"]
    data = {"data": [{"x": coded(numbers.tobytes()), "t": coded(encode_bytes(texts))}]}
    assert held(read_input_data(written(tmp_path, data), model)) == [{"x": [1.5, -2, 3], "t": texts}]


def test_shapes_of_the_file_or_asked_for(tmp_path):
    model = taking(("x", "INT8", (-1, -1)))
    data = {"data": [{"x": {"content": [1, 2, 3, 4], "shape": [4, 1]}}, {"x": [1, 2, 3, 4]}]}
    path = written(tmp_path, data)
    assert held(read_input_data(path, model, 1, {"x": (1, 4)})) == [
        {"x": [[1], [2], [3], [4]]},
        {"x": [[1, 2, 3, 4]]},
    ]
    with pytest.raises(InvalidArgument) as caught:
        read_input_data(path, model)
    assert str(caught.value) == (
        f"item 1 of {path}: got 4 elements for input 'x' of shape [1, 1], expected 1"
    )


def test_texts_booleans_and_what_is_no_number(tmp_path):
    model = taking(("t", "BYTES", (2,)), ("b", "BOOL", (2,)), ("f", "FP16", (2,)))
    path = written(tmp_path, '{"data": [{"t": ["a", "é"], "b": [true, false], "f": [NaN, Infinity]}]}')
    ((text, truth, number),) = read_input_data(path, model)
    assert array_of(text).tolist() == [b"a", "é".encode()]
    assert array_of(truth).tolist() == [True, False]
    np.testing.assert_array_equal(array_of(number), [np.nan, np.inf])


def test_optional_inputs_may_be_missing(tmp_path):
    model = taking(("x", "INT8", (1,)), ("y", "INT8", (1,)), y={"optional": True})
    data = {"data": [{"x": [1]}, {"x": [2], "y": [3]}]}
    assert held(read_input_data(written(tmp_path, data), model)) == [{"x": [1]}, {"x": [2], "y": [3]}]


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("{", "{}: Expecting property name"),
        ("[]", 'got {} without items, expected {{"data": [{{...}}, ...]}}'),
        ({"data": []}, 'got {} without items, expected {{"data": [{{...}}, ...]}}'),
        (
            {**items(1), "validation_data": []},
            "got 'validation_data' in {}, expected none: outputs are not validated",
        ),
        ({"data": [[{}]]}, "got a stream of a sequence as item 0 of {}, expected an object"),
        ({"data": [5]}, "item 0 of {}: got 5, expected an object with the inputs"),
        ({"data": [{"X": []}]}, "item 0 of {}: got an input 'X', expected INPUT0, INPUT1"),
        ({"data": [{"INPUT0": [1] * 4}]}, "item 0 of {}: got no input 'INPUT1' for model 'm'"),
        (
            {"data": [*items(1)["data"], {"INPUT0": [1]}]},
            "item 1 of {}: got 1 elements for input 'INPUT0' of shape [2, 2], expected 4",
        ),
        ({"data": [{"INPUT0": 5}]}, "item 0 of {}: input 'INPUT0': expected an array, 'content' or 'b64'"),
        ({"data": [{"INPUT0": {}}]}, "item 0 of {}: input 'INPUT0': expected an array, 'content' or 'b64'"),
        (
            {"data": [{"INPUT0": {"content": [], "shape": "2"}}]},
            "item 0 of {}: input 'INPUT0': got shape \"2\", expected a list of sizes",
        ),
        (
            {"data": [{"INPUT0": {"content": [], "shape": [-1, 2]}}]},
            "item 0 of {}: input 'INPUT0': got shape [-1, 2], expected a list of sizes",
        ),
        (
            {"data": [{"INPUT0": {"b64": "AAAA"}}]},
            "item 0 of {}: input 'INPUT0': got 3 bytes for a INT32 tensor of shape [2, 2]",
        ),
        ({"data": [{"INPUT0": {"b64": "?"}}]}, "item 0 of {}: input 'INPUT0': Only base64 data is"),
        (
            {"data": [{"INPUT0": ["a"] * 4, "INPUT1": [1] * 4}]},
            "item 0 of {}: got an array of <U1 for input 'INPUT0'",
        ),
        ({"data": [{"INPUT0": [[1], [2, 3]]}]}, "item 0 of {}: input 'INPUT0': setting an array element"),
        (
            {"data": [{"INPUT0": {"content": [1] * 4, "shape": [4]}, "INPUT1": [1] * 4}]},
            "item 0 of {}: got shape [4] for input 'INPUT0', expected [2, 2]",
        ),
    ],
)
def test_what_is_none(tmp_path, content, text):
    path = written(tmp_path, content)
    with pytest.raises(InvalidArgument) as caught:
        read_input_data(path, PAIR)
    assert str(caught.value).startswith(text.format(path))


def test_batches_of_different_shapes(tmp_path):
    model = taking(("x", "INT8", (-1,)), batch=4)
    data = {"data": [{"x": {"content": [1], "shape": [1]}}, {"x": {"content": [1, 2], "shape": [2]}}]}
    path = written(tmp_path, data)
    assert held(read_input_data(path, model)) == [{"x": [[1]]}, {"x": [[1, 2]]}]
    with pytest.raises(InvalidArgument) as caught:
        read_input_data(path, model, 2)
    assert str(caught.value) == f"got items of different shapes in {path}, expected one for a batch"


def test_a_directory(tmp_path):
    model = taking(("x", "INT16", (-1,)), ("t", "BYTES", (2,)), batch=4)
    (tmp_path / "x").write_bytes(b"\1\0\2\0")
    (tmp_path / "t").write_bytes(b"first line\nsecond\n")
    expected = {"x": [[1, 2]] * 2, "t": [[b"first line", b"second"]] * 2}
    assert held(read_input_data(tmp_path, model, 2, {"x": (2,)})) == [expected]


@pytest.mark.parametrize(
    ("files", "text"),
    [
        ({"x": b"\1"}, "input 'x': got 1 bytes for a INT16 tensor of shape [2]"),
        ({"x": b"\1\0\2\0"}, "got no input 't' for model 'm', expected x, t"),
        ({"x": b"\1\0\2\0", "t": b"one"}, "got 1 elements for input 't' of shape [2], expected 2"),
        ({"y": b""}, "got {}/y, expected only files named x, t"),
    ],
)
def test_directories_that_are_none(tmp_path, files, text):
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    with pytest.raises(InvalidArgument) as caught:
        read_input_data(tmp_path, taking(("x", "INT16", (2,)), ("t", "BYTES", (2,))))
    assert str(caught.value) == text.format(tmp_path)


def test_nothing_there(tmp_path):
    with pytest.raises(InvalidArgument) as caught:
        read_input_data(tmp_path / "none.json", PAIR)
    assert str(caught.value) == f"{tmp_path}/none.json: No such file or directory"


def test_more_items_than_the_model_takes(tmp_path):
    with pytest.raises(InvalidArgument, match="got a batch of 9, but model 'm' takes batches of at most 8"):
        read_input_data(written(tmp_path, items(1)), PAIR, 9)
