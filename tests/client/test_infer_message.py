"""Answers over gRPC as servers of the protocol may write them, other than those of yais and Triton do."""

from __future__ import annotations

import numpy as np
import pytest

from yais.client.infer_message import answer_of
from yais.errors import InvalidArgument
from yais.protocol import kserve_pb2 as pb


def typed(datatype, shape, **contents):
    """Return an answer with typed contents of the output "Y"."""
    message = pb.ModelInferResponse(model_name="m")
    output = message.outputs.add(name="Y", datatype=datatype, shape=shape)
    output.contents.SetInParent()
    for field, values in contents.items():
        getattr(output.contents, field).extend(values)
    return message


@pytest.mark.parametrize(
    ("datatype", "field", "values"),
    [
        ("BOOL", "bool_contents", [True, False]),
        ("INT8", "int_contents", [-128, 127]),
        ("INT32", "int_contents", [-(2**31), 3]),
        ("INT64", "int64_contents", [-(2**63), 3]),
        ("UINT16", "uint_contents", [0, 65535]),
        ("UINT64", "uint64_contents", [0, 2**64 - 1]),
        ("FP16", "fp32_contents", [0.5, -2]),
        ("BF16", "fp32_contents", [0.5, -2]),
        ("FP32", "fp32_contents", [0.5, np.inf]),
        ("FP64", "fp64_contents", [0.1, -1e300]),
    ],
)
def test_typed_contents(datatype, field, values):
    array = answer_of(typed(datatype, [2, 1], **{field: values})).outputs["Y"]
    expected = np.asarray(
        values, np.float32 if datatype == "BF16" else datatype.lower().replace("fp", "float")
    )
    np.testing.assert_array_equal(array, expected.reshape(2, 1), strict=True)


def test_typed_texts():
    message = typed("BYTES", [1, 2], bytes_contents=[b"a\0", b""])
    assert answer_of(message).outputs["Y"].tolist() == [[b"a\0", b""]]


def test_no_typed_contents_at_all():
    assert answer_of(typed("INT32", [2, 0])).outputs["Y"].shape == (2, 0)


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (
            typed("INT32", [3], int_contents=[1]),
            "got 1 typed contents for output 'Y', expected those of shape",
        ),
        (
            typed("INT32", [-1], int_contents=[]),
            "got 0 typed contents for output 'Y', expected those of shape",
        ),
        (
            typed("INT8", [1], int_contents=[300]),
            "got values from 300 to 300 for input 'Y', which INT8 cannot",
        ),
        (typed("INT32", [1], fp32_contents=[1]), "got an array of float64 for input 'Y', expected INT32"),
        (typed("FP32", [1], bytes_contents=[b"1"]), "got an array of .* for input 'Y', expected FP32"),
        (typed("FP8", [1], fp32_contents=[1]), "got data type 'FP8' for tensor 'Y', expected one of BOOL, "),
    ],
)
def test_contents_that_do_not_fit(message, text):
    with pytest.raises(InvalidArgument, match=text):
        answer_of(message)


def test_neither_raw_nor_typed_contents():
    message = pb.ModelInferResponse(model_name="m")
    message.outputs.add(name="Y", datatype="FP32", shape=[1])
    with pytest.raises(InvalidArgument, match="got 0 raw contents in the answer of model 'm', expected one"):
        answer_of(message)


def test_parameters_without_a_value():
    message = pb.ModelInferResponse()
    message.parameters["nothing"].SetInParent()
    assert answer_of(message).parameters == {"nothing": None}
