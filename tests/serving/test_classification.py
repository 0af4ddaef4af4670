"""The classification extension: the texts that clients split at their colons."""

from __future__ import annotations

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
from onnx_models import EXAMPLES
from serving_models import SOON, infer_request

from yais.serving.infer import _heads

HUGE = b"300000000549775575777803994281145270272.000000"  # what C's %f makes of the float nearest to 3e38

# The third line of the label file is empty: as in Triton, no label.
TEXTS = [
    ((0.25, 0.5), 1, [b"0.500000:1:second:half"]),
    ((0.25, 0.5), 2, [b"0.500000:1:second:half", b"0.250000:0:first"]),
    ((0.25, 0.5), 9, [b"0.500000:1:second:half", b"0.250000:0:first"]),
    ((0.1, 1e-7), 2, [b"0.100000:0:first", b"0.000000:1:second:half"]),
    ((1, 3, -4), 3, [b"3.000000:1:second:half", b"1.000000:0:first", b"-4.000000:2"]),
    ((0, 0, 0, 0, 2), 2, [b"2.000000:4", b"0.000000:0:first"]),
    ((7, 7, 7), 2, [b"7.000000:0:first", b"7.000000:1:second:half"]),
    ((0, 7, 0, 7), 3, [b"7.000000:1:second:half", b"7.000000:3:fourth", b"0.000000:0:first"]),
    ((3e38, np.inf), 2, [b"inf:1:second:half", HUGE + b":0:first"]),
]


def classify(client, model, array, count, datatype="FP32"):
    tensor = triton.InferInput("X", array.shape, datatype)
    tensor.set_data_from_numpy(array)
    outputs = [triton.InferRequestedOutput("Y", class_count=count)]
    return client.infer(model, [tensor], outputs=outputs, client_timeout=SOON)


def refused(wire, array, model="identity_fp32", datatype=None, **parameter):
    request = infer_request(model, {"X": array}, datatype)
    output = request.outputs.add(name="Y")
    for kind, value in parameter.items():
        setattr(output.parameters["classification"], kind, value)
    return wire.refusal(request)


@pytest.mark.parametrize(("values", "count", "texts"), TEXTS)
def test_texts(client, values, count, texts):
    result = classify(client, "labelled", np.array([values], np.float32), count)
    output = result.get_output("Y")
    assert (output.datatype, list(output.shape)) == ("BYTES", [1, len(texts)])
    assert result.as_numpy("Y").tolist() == [texts]


def test_responses_of_one_form_leave_one_head_behind(client):
    array = np.array([[1, 2, 3]], np.float32)
    classify(client, "labelled", array, 2)
    before = len(_heads)
    for _ in range(20):
        assert classify(client, "labelled", array, 2).as_numpy("Y").shape == (1, 2)
    assert len(_heads) == before


def test_each_row_of_a_batch_has_its_own_classes(client):
    array = np.array([[1, 2, 3], [3, 2, 1], [2, 3, 1]], np.float32)
    result = classify(client, "labelled", array, 1)
    assert list(result.get_output("Y").shape) == [3, 1]
    assert result.as_numpy("Y").tolist() == [
        [b"3.000000:2"],
        [b"3.000000:0:first"],
        [b"3.000000:1:second:half"],
    ]


def test_without_a_batch_dimension_the_whole_tensor_is_one_row(client):
    result = classify(client, "scores", np.array([[1, 2, 3], [6, 5, 4]], np.float32), 2)
    assert list(result.get_output("Y").shape) == [2]
    assert result.as_numpy("Y").tolist() == [b"6.000000:3:fourth", b"5.000000:4"]


def test_without_elements_there_are_no_classes(client):
    result = classify(client, "labelled", np.zeros((2, 0), np.float32), 3)
    assert list(result.get_output("Y").shape) == [2, 0]


def test_without_labels_there_are_only_values_and_indices(client):
    result = classify(client, "identity_fp32", np.array([[0.5, 1.5]], np.float32), 2)
    assert result.as_numpy("Y").tolist() == [[b"1.500000:1", b"0.500000:0"]]


@pytest.mark.parametrize("datatype", [f"{sign}INT{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64)])
def test_whole_numbers_are_printed_whole(client, datatype):
    limits = np.iinfo(datatype.lower())
    array = np.array([[limits.min, 5, limits.max]], datatype.lower())
    result = classify(client, f"identity_{datatype.lower()}", array, 3, datatype)
    assert result.as_numpy("Y").tolist() == [[b"%d:2" % limits.max, b"5:1", b"%d:0" % limits.min]]


def test_double_precision(client):
    result = classify(client, "identity_fp64", np.array([[0.1234567, 1e300]]), 2, "FP64")
    assert result.as_numpy("Y").tolist() == [[f"{1e300:f}:1".encode(), b"0.123457:0"]]


@pytest.mark.parametrize("kinds", [3, 10**6])
@pytest.mark.parametrize(("size", "count"), [(999, 10), (1000, 1), (1000, 999), (1000, 1000), (5000, 7)])
def test_many_elements(client, size, count, kinds):
    """Few kinds of values make for many ties, also at the end of what is returned."""
    values = np.random.default_rng(size + count).integers(0, kinds, size).astype(np.float32)
    expected = sorted(range(size), key=lambda index: (-values[index], index))[:count]
    result = classify(client, "identity_fp32", values[None], count)
    assert [int(text.split(b":")[1]) for text in result.as_numpy("Y")[0]] == expected


@pytest.mark.parametrize("size", [4, 1004])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_what_is_no_number_comes_first(client, size, count):
    values = np.zeros((1, size), np.float32)
    values[0, [1, 3]] = np.nan
    result = classify(client, "identity_fp32", values, count)
    assert result.as_numpy("Y").tolist() == [[b"nan:1", b"nan:3", b"0.000000:0"][:count]]


def test_one_output_of_two(client):
    a, b = np.arange(32, dtype=np.int32).reshape(2, 1, 16)
    inputs = [triton.InferInput(name, [1, 16], "INT32") for name in ("INPUT0", "INPUT1")]
    inputs[0].set_data_from_numpy(a)
    inputs[1].set_data_from_numpy(b)
    outputs = [triton.InferRequestedOutput("OUTPUT1"), triton.InferRequestedOutput("OUTPUT0", class_count=1)]
    result = client.infer("simple", inputs, outputs=outputs, request_id="7", client_timeout=SOON)
    response = result.get_response()
    assert [(output.name, output.datatype) for output in response.outputs] == [
        ("OUTPUT1", "INT32"),
        ("OUTPUT0", "BYTES"),
    ]
    assert (response.id, response.model_name, response.model_version) == ("7", "simple", "1")
    np.testing.assert_array_equal(result.as_numpy("OUTPUT1"), a - b)
    assert result.as_numpy("OUTPUT0").tolist() == [[b"46:15"]]


def test_digits_by_name(client):
    with np.load(EXAMPLES / "digits" / "held_out.npz") as file:
        images, labels = file["images"][:32], file["labels"][:32]
    names = (EXAMPLES / "digits" / "labels.txt").read_text().splitlines()
    tensor = triton.InferInput("image", [32, 1, 8, 8], "FP32")
    tensor.set_data_from_numpy(images[:, None].astype(np.float32))
    outputs = [triton.InferRequestedOutput("probabilities", class_count=1)]
    result = client.infer("digits", [tensor], outputs=outputs, client_timeout=SOON)
    found = [text.decode().split(":") for text in result.as_numpy("probabilities")[:, 0]]
    assert all(name == names[int(index)] for _, index, name in found)
    assert np.mean([int(index) == label for (_, index, _), label in zip(found, labels, strict=True)]) >= 0.9


@pytest.mark.parametrize(
    ("parameter", "shown"),
    [
        ({"int64_param": 0}, "0"),
        ({"int64_param": -1}, "-1"),
        ({"bool_param": True}, "True"),
        ({"string_param": "3"}, "'3'"),
        ({"double_param": 3.0}, "3.0"),
    ],
)
def test_a_count_that_is_none(wire, parameter, shown):
    code, text = refused(wire, np.zeros((1, 2), np.float32), **parameter)
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert text == (
        f"invalid value for 'classification' parameter of output 'Y': got {shown}, "
        "expected an int64_param of at least 1"
    )


@pytest.mark.parametrize("datatype", ["BOOL", "FP16", "BF16", "BYTES"])
def test_types_without_classes(wire, datatype):
    array = np.empty((1, 1), np.object_) if datatype == "BYTES" else np.zeros((1, 1), np.float16)
    array[0, 0] = b"x" if datatype == "BYTES" else 0
    array = array.astype(np.bool_) if datatype == "BOOL" else array
    assert refused(wire, array, f"identity_{datatype.lower()}", datatype, int64_param=1) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        f"class result not available for output due to unsupported type '{datatype}'",
    )


def test_more_elements_than_are_sorted(wire):
    code, text = refused(wire, np.zeros((1, 1_000_001), np.float32), int64_param=1)
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert text == "classification output tensor too large: 1000001 elements"
