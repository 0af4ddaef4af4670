"""Inputs as they are typed."""

from __future__ import annotations

import numpy as np
import pytest
from model_takes import array_of, taking

from yais.errors import InvalidArgument
from yais.load.input_text import parse_input
from yais.load.inputs import from_arrays


def typed(text, datatype, shape, batch=0):
    """Return what a model with the one input "x" gets."""
    model = taking(("x", datatype, shape), batch=batch)
    name, array = parse_input(text, model)
    (tensor,) = from_arrays(model, {name: array})
    return array_of(tensor)


@pytest.mark.parametrize(
    ("text", "datatype", "shape", "expected"),
    [
        ("x=1,-2,3", "INT32", (3,), [1, -2, 3]),
        ("x=1, 2, 3, 4", "INT64", (2, 2), [[1, 2], [3, 4]]),
        ("x=18446744073709551615", "UINT64", (1,), [18446744073709551615]),
        ("x=0,18446744073709551615", "UINT64", (2,), [0, 18446744073709551615]),
        ("x=[0,18446744073709551615]", "UINT64", (2,), [0, 18446744073709551615]),
        ("x=1e300", "FP32", (1,), [np.inf]),
        ("x=1.5,nan,-inf", "FP32", (-1,), [1.5, np.nan, -np.inf]),
        ("x=1,2", "FP64", (2,), [1.0, 2.0]),
        ("x=0.5", "BF16", (1,), [0.5]),
        ("x=true,0,False,1", "BOOL", (4,), [True, False, False, True]),
        ("x=a,b c,", "BYTES", (3,), [b"a", b"b c", b""]),
        ("x=é=1", "BYTES", (1,), ["é=1".encode()]),
        ("x=1,2,3,4,5,6", "INT8", (-1, 3), [[1, 2, 3], [4, 5, 6]]),
        ("x=7", "INT8", (-1, -1), [[7]]),
        ("x=7,8", "INT8", (-1, 2, -1), [[[7], [8]]]),
        ("x=7", "INT8", (), 7),
        ("x=[[1,2],[3,4]]", "INT16", (-1, -1), [[1, 2], [3, 4]]),
        ('x=["a,b", "c"]', "BYTES", (2,), [b"a,b", b"c"]),
        ("x=[]", "FP32", (-1,), []),
        ("x=[true]", "BOOL", (1,), [True]),
    ],
)
def test_values(text, datatype, shape, expected):
    got = typed(text, datatype, shape)
    if datatype == "BYTES":
        assert got.tolist() == expected
    else:
        np.testing.assert_array_equal(got, np.asarray(expected, got.dtype), strict=True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x=1,2", [[1, 2]]),
        ("x=1,2,3,4", [[1, 2], [3, 4]]),
        ("x=[1,2]", [[1, 2]]),
        ("x=[[1,2],[3,4]]", [[1, 2], [3, 4]]),
    ],
)
def test_batches(text, expected):
    assert typed(text, "INT32", (2,), batch=2).tolist() == expected


@pytest.mark.parametrize(
    ("name", "data", "datatype", "shape", "expected"),
    [
        ("a.raw", b"\1\0\2\0", "INT16", (2,), [1, 2]),
        ("a.raw", b"\1\0\2\0", "INT16", (-1, 1), [[1], [2]]),
        ("a.raw", b"\0\x3f\0\xbf", "BF16", (2,), [0.5, -0.5]),
        ("photo.jpg", b"\xff\xd8\0", "BYTES", (1,), [b"\xff\xd8\0"]),
        ("a.raw", b"", "INT16", (-1,), []),
    ],
)
def test_files(tmp_path, name, data, datatype, shape, expected):
    (tmp_path / name).write_bytes(data)
    assert typed(f"x=@{tmp_path / name}", datatype, shape).tolist() == expected


def test_arrays_of_numpy(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(6.0).reshape(2, 3))
    assert typed(f"x=@{tmp_path / 'a.npy'}", "FP64", (3,), batch=4).tolist() == [[0, 1, 2], [3, 4, 5]]
    np.save(tmp_path / "texts.npy", np.array([b"a", b"bc"]))
    assert typed(f"x=@{tmp_path / 'texts.npy'}", "BYTES", (2,)).tolist() == [b"a", b"bc"]


FORMS = "expected NAME=1,2,3, NAME=[[1,2],[3,4]], NAME=@FILE.npy or NAME=@FILE"


@pytest.mark.parametrize(
    ("text", "datatype", "shape", "refused"),
    [
        ("x", "INT32", (3,), f"got input 'x', {FORMS}"),
        ("y=1", "INT32", (3,), "got an input 'y' for model 'm', expected x"),
        (
            "x=1,2",
            "INT32",
            (3,),
            "got 2 elements for input 'x', expected 3, or that for each item of a batch",
        ),
        ("x=1,2,3", "INT32", (-1, 2), "got 3 elements for input 'x', expected a multiple of 2"),
        (
            "x=1,2,3",
            "INT32",
            (-1, -1),
            "got 3 elements for input 'x' of shape [-1, -1], expected nested lists or a .npy file",
        ),
        ("x=1,b", "INT32", (2,), "got '1,b' for input 'x', expected INT32 values and commas"),
        ("x=1.5", "INT32", (1,), "got '1.5' for input 'x', expected INT32 values and commas"),
        ("x=", "FP32", (1,), "got '' for input 'x', expected FP32 values and commas"),
        ("x=yes", "BOOL", (1,), "got 'yes' for input 'x', expected BOOL values and commas"),
        ("x=300", "UINT8", (1,), "got values from 300 to 300 for input 'x', which UINT8 cannot hold"),
        (
            "x=99999999999999999999",
            "UINT64",
            (1,),
            "got '99999999999999999999' for input 'x', expected UINT64",
        ),
        ("x=" + "[" * 9999, "INT32", (1,), "input 'x': maximum recursion depth exceeded"),
        ("x=[1,", "INT32", (1,), "input 'x': Expecting value: line 1 column 4 (char 3)"),
        ("x=[[1],[2,3]]", "INT32", (2,), "input 'x': setting an array element with a sequence."),
        ("x=[1]", "BYTES", (1,), "got 1 for input 'x', expected bytes or text"),
    ],
)
def test_what_is_none(text, datatype, shape, refused):
    with pytest.raises(InvalidArgument) as caught:
        typed(text, datatype, shape, batch=8)
    assert str(caught.value).startswith(refused)


def test_without_batches_there_is_one_item():
    with pytest.raises(InvalidArgument) as caught:
        typed("x=1,2,3,4", "INT32", (2,))
    assert str(caught.value) == "got 4 elements for input 'x', expected 2"


def test_files_that_are_none(tmp_path):
    def refused(name, datatype="INT32", shape=(2,)):
        with pytest.raises(InvalidArgument) as caught:
            typed(f"x=@{tmp_path / name}", datatype, shape)
        return str(caught.value)

    assert refused("none.raw") == f"input 'x': {tmp_path}/none.raw: No such file or directory"
    assert refused("none.npy") == f"input 'x': {tmp_path}/none.npy: No such file or directory"
    (tmp_path / "odd.raw").write_bytes(b"12345")
    assert (
        refused("odd.raw") == f"got 5 bytes in {tmp_path}/odd.raw for input 'x', expected elements of 4 bytes"
    )
    (tmp_path / "empty.raw").write_bytes(b"")
    assert refused("empty.raw", shape=(-1, -1)).startswith("got 0 elements for input 'x' of shape [-1, -1], ")
    (tmp_path / "empty.npy").write_bytes(b"")
    assert refused("empty.npy").startswith(f"input 'x': {tmp_path}/empty.npy: ")
    (tmp_path / "text.npy").write_text("no array")
    assert refused("text.npy").startswith(f"input 'x': {tmp_path}/text.npy: ")
    np.save(tmp_path / "objects.npy", np.array([b"a", None]), allow_pickle=True)
    assert "Object arrays cannot be loaded" in refused("objects.npy", "BYTES")
