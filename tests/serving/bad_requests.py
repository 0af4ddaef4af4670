"""Requests with something wrong, and what the server must say of each.

The texts are Triton's where it has one for the case.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np
from serving_models import infer_request

from yais.protocol import kserve_pb2 as pb

NOT_FOUND = grpc.StatusCode.NOT_FOUND
INVALID_ARGUMENT = grpc.StatusCode.INVALID_ARGUMENT
INTERNAL = grpc.StatusCode.INTERNAL

NO_ID = "[request id: <id_unknown>] "

BATCH_NOTE = (
    "NOTE: Setting a non-zero max_batch_size in the model config requires a batch dimension to be "
    "prepended to each input shape. If you want to specify the full shape including the batch dim in your "
    "input dims config, try setting max_batch_size to zero. See the model "
    "configuration docs for more info on max_batch_size."
)

NO_MESSAGE = (
    "cannot decode the ModelInferRequest: Error parsing message with type 'inference.ModelInferRequest'"
)

UNIMPLEMENTED = ("NoSuchMethod",)


@dataclass(frozen=True)
class Bad:
    """One bad request and its answer."""

    message: Any
    code: grpc.StatusCode
    text: str
    rpc: str = "ModelInfer"


BAD: dict[str, Bad] = {}
"""All of them, by a name."""


def simple(**fields: Any) -> pb.ModelInferRequest:
    """Return a good request to break."""
    zeros = np.zeros((1, 16), np.int32)
    return infer_request("simple", {"INPUT0": zeros, "INPUT1": zeros}, **fields)


def texts(*elements: bytes, shape: tuple[int, ...] | None = None) -> pb.ModelInferRequest:
    """Return a request of text, to break."""
    array = np.empty(len(elements), np.object_)
    array[:] = elements
    return infer_request("identity_bytes", {"X": array.reshape(shape or (1, -1))})


def bad(
    code: grpc.StatusCode, text: str, make: Callable[[], pb.ModelInferRequest] = simple
) -> Callable[[Callable[[pb.ModelInferRequest], Any]], None]:
    """Make a function that breaks a good request one of `BAD`, by the name of the function."""

    def register(breaks: Callable[[pb.ModelInferRequest], Any]) -> None:
        request = make()
        instead = breaks(request)
        BAD[breaks.__name__] = Bad(request if instead is None else instead, code, text)

    return register


def shape_text(name: str, expected: str, got: str) -> str:
    """Return what is said of a wrong shape for `simple`."""
    return (
        f"{NO_ID}unexpected shape for input '{name}' for model 'simple'. Expected {expected}, got {got}. "
        f"{BATCH_NOTE}"
    )


@bad(NOT_FOUND, "Request for unknown model: 'other' is not found")
def unknown_model(request):
    request.model_name = "other"


@bad(NOT_FOUND, "Request for unknown model: 'simple' version 2 is not found")
def unknown_version(request):
    request.model_version = "2"


@bad(
    INVALID_ARGUMENT,
    "failed to get model version from specified version string 'latest' (details: stol), version should be "
    "an integral value > 0",
)
def version_that_is_no_number(request):
    request.model_version = "latest"


@bad(
    INVALID_ARGUMENT,
    f"{NO_ID}inference input 'INPUT0' data-type is 'FP32', but model 'simple' expects 'INT32'",
)
def wrong_type(request):
    request.inputs[0].datatype = "FP32"


@bad(
    INVALID_ARGUMENT,
    "inference input 'INPUT0' data-type is 'FLOAT', which is none of BOOL, UINT8, UINT16, UINT32, UINT64, "
    "INT8, INT16, INT32, INT64, FP16, FP32, FP64, BF16, BYTES",
)
def unknown_type(request):
    request.inputs[0].datatype = "FLOAT"


@bad(INVALID_ARGUMENT, shape_text("INPUT0", "[-1,16]", "[1,17]"))
def wrong_shape(request):
    request.inputs[0].shape[:] = [1, 17]


@bad(INVALID_ARGUMENT, shape_text("INPUT1", "[-1,16]", "[16]"))
def no_batch_dimension(request):
    request.inputs[1].shape[:] = [16]


@bad(INVALID_ARGUMENT, shape_text("INPUT0", "[-1,16]", "[]"))
def no_shape(request):
    request.inputs[0].shape[:] = []


@bad(INVALID_ARGUMENT, shape_text("INPUT0", "[-1,16]", "[-1,16]"))
def negative_dimension(request):
    request.inputs[0].shape[:] = [-1, 16]


@bad(INVALID_ARGUMENT, shape_text("INPUT0", "[-1,16]", "[0,16]"))
def empty_batch(request):
    request.inputs[0].shape[:] = [0, 16]


@bad(INVALID_ARGUMENT, shape_text("INPUT0", "[-1,16]", f"[{-(2**63)},16]"))
def most_negative_dimension(request):
    request.inputs[0].shape[:] = [-(2**63), 16]


@bad(
    INVALID_ARGUMENT,
    f"{NO_ID}shape [1,{2**62}] of input 'X' for model 'identity_fp32' causes total element count to exceed "
    "maximum size of 2^63-1 bytes",
    lambda: infer_request("identity_fp32", {"X": np.zeros((1, 4), np.float32)}),
)
def dimensions_that_overflow(request):
    request.inputs[0].shape[:] = [1, 2**62]


@bad(
    INVALID_ARGUMENT,
    f"{NO_ID}shape [{2**32},{2**32}] of input 'X' for model 'scores' causes total element count to exceed "
    "maximum size of 2^63-1 bytes",
    lambda: infer_request("scores", {"X": np.zeros((1, 4), np.float32)}),
)
def dimensions_whose_product_wraps_to_zero(request):
    request.inputs[0].shape[:] = [2**32, 2**32]
    request.raw_input_contents[0] = b""


@bad(
    INVALID_ARGUMENT,
    f"{NO_ID}input byte size mismatch for input 'X' for model 'identity_fp32'. Expected {4 * 2**60}, got 16",
    lambda: infer_request("identity_fp32", {"X": np.zeros((1, 4), np.float32)}),
)
def dimensions_beyond_all_memory(request):
    request.inputs[0].shape[:] = [1, 2**60]


@bad(
    INVALID_ARGUMENT,
    f"{NO_ID}shape [1,{2**60}] of input 'X' for model 'identity_bytes' causes total element count to exceed "
    "maximum size of 2^63-1 bytes",
    lambda: texts(b"a"),
)
def more_texts_than_any_memory_holds(request):
    request.inputs[0].shape[:] = [1, 2**60]


@bad(
    INVALID_ARGUMENT,
    f"{NO_ID}expected 2 inputs but got 1 inputs for model 'simple'. Got input(s) ['INPUT0'], but missing "
    "required input(s) ['INPUT1']. Please provide all required input(s).",
)
def missing_input(request):
    del request.inputs[1], request.raw_input_contents[1]


@bad(
    INVALID_ARGUMENT,
    f"{NO_ID}expected 2 inputs but got 0 inputs for model 'simple'. Got input(s) [], but missing required "
    "input(s) ['INPUT0','INPUT1']. Please provide all required input(s).",
)
def no_inputs(request):
    del request.inputs[:], request.raw_input_contents[:]


@bad(
    INVALID_ARGUMENT,
    f"{NO_ID}expected 2 inputs but got 3 inputs for model 'simple'. Got input(s) "
    "['INPUT0','INPUT1','EXTRA']. Expected ['INPUT0','INPUT1'].",
)
def extra_input(request):
    request.inputs.add(name="EXTRA", datatype="INT32", shape=[1, 16])
    request.raw_input_contents.append(bytes(64))


@bad(INVALID_ARGUMENT, f"{NO_ID}unexpected inference input 'INPUT2' for model 'simple'")
def unknown_input(request):
    request.inputs[1].name = "INPUT2"


@bad(INVALID_ARGUMENT, f"{NO_ID}input 'INPUT0' already exists in request")
def repeated_input(request):
    request.inputs[1].name = "INPUT0"


@bad(INVALID_ARGUMENT, f"{NO_ID}input 'INPUT1' batch size does not match other inputs for 'simple'")
def unequal_batches(request):
    request.inputs[1].shape[:] = [2, 16]
    request.raw_input_contents[1] = bytes(128)


@bad(INVALID_ARGUMENT, f"{NO_ID}inference request batch-size must be <= 64 for 'simple'")
def batch_too_large(request):
    for index in range(2):
        request.inputs[index].shape[:] = [65, 16]
        request.raw_input_contents[index] = bytes(65 * 64)


@bad(
    INVALID_ARGUMENT,
    "[request id: 42 é] input byte size mismatch for input 'INPUT0' for model 'simple'. Expected 64, got 63",
    lambda: simple(id="42 é"),
)
def too_few_bytes(request):
    request.raw_input_contents[0] = bytes(63)


@bad(
    INVALID_ARGUMENT,
    f"{NO_ID}input byte size mismatch for input 'INPUT0' for model 'simple'. Expected 64, got 5000",
)
def too_many_bytes(request):
    request.raw_input_contents[0] = bytes(5000)


@bad(INVALID_ARGUMENT, f"{NO_ID}unexpected inference output 'OUTPUT2' for model 'simple'")
def unknown_output(request):
    request.outputs.add(name="OUTPUT2")


@bad(INVALID_ARGUMENT, f"{NO_ID}output 'OUTPUT0' already exists in request")
def repeated_output(request):
    request.outputs.add(name="OUTPUT0")
    request.outputs.add(name="OUTPUT0")


@bad(
    INVALID_ARGUMENT,
    "incomplete string data for inference input 'X' for model 'identity_bytes', expecting string of length "
    "4294967295 but only 3 bytes available",
    lambda: texts(b"abc"),
)
def text_shorter_than_its_length(request):
    request.raw_input_contents[0] = b"\xff\xff\xff\xffabc"


@bad(
    INVALID_ARGUMENT,
    "incomplete string length indicator for inference input 'X' for model 'identity_bytes', expecting 4 "
    "bytes but only 2 bytes available",
    lambda: texts(b"abc"),
)
def length_cut_short(request):
    request.raw_input_contents[0] = b"\1\0\0\0a\0\0"


@bad(
    INVALID_ARGUMENT,
    f"{NO_ID}expected 3 string elements for inference input 'X' for model 'identity_bytes', got 2",
    lambda: texts(b"a", b"b"),
)
def fewer_texts_than_the_shape_says(request):
    request.inputs[0].shape[:] = [1, 3]


@bad(
    INVALID_ARGUMENT,
    f"{NO_ID}unexpected number of string elements 2 for inference input 'X' for model 'identity_bytes', "
    "expecting 1",
    lambda: texts(b"a", b"b"),
)
def more_texts_than_the_shape_says(request):
    request.inputs[0].shape[:] = [1, 1]


@bad(
    INVALID_ARGUMENT,
    "contents field must not be specified when using raw_input_contents for 'INPUT0' for model 'simple'",
)
def raw_and_typed_contents(request):
    request.inputs[0].contents.int_contents.extend([0] * 16)


@bad(INVALID_ARGUMENT, "unable to find data for input tensor 'INPUT0' for model 'simple' in request.")
def no_contents(request):
    del request.raw_input_contents[:]


@bad(INVALID_ARGUMENT, "unable to find data for input tensor 'INPUT1' for model 'simple' in request.")
def too_few_raw_contents(request):
    del request.raw_input_contents[1]


@bad(INVALID_ARGUMENT, "got 3 raw_input_contents for model 'simple', expected one for each of 2 inputs")
def too_many_raw_contents(request):
    request.raw_input_contents.append(bytes(64))


@bad(
    INVALID_ARGUMENT,
    "unexpected explicit tensor data for input tensor 'INPUT0' for model 'simple' of type 'FP32', expected "
    "datatype 'INT32'",
)
def typed_contents_of_another_type(request):
    del request.raw_input_contents[:]
    request.inputs[0].contents.fp32_contents.extend([0.0] * 16)
    request.inputs[1].contents.int_contents.extend([0] * 16)


@bad(
    INVALID_ARGUMENT,
    "input tensor 'X' for model 'identity_int8': Python integer 128 out of bounds for int8",
    lambda: infer_request("identity_int8", {"X": np.zeros((1, 1), np.int8)}),
)
def typed_contents_out_of_range(request):
    del request.raw_input_contents[:]
    request.inputs[0].contents.int_contents.append(128)


@bad(
    INVALID_ARGUMENT,
    f"{NO_ID}input byte size mismatch for input 'X' for model 'identity_int8'. Expected 3, got 2",
    lambda: infer_request("identity_int8", {"X": np.zeros((1, 3), np.int8)}),
)
def too_few_typed_contents(request):
    del request.raw_input_contents[:]
    request.inputs[0].contents.int_contents.extend([1, 2])


@bad(
    INVALID_ARGUMENT,
    "unable to find data for input tensor 'X' for model 'identity_fp16' in request.",
    lambda: infer_request("identity_fp16", {"X": np.zeros((1, 1), np.float16)}),
)
def empty_typed_contents(request):
    del request.raw_input_contents[:]
    request.inputs[0].contents.SetInParent()


@bad(
    INVALID_ARGUMENT,
    "unexpected explicit tensor data for input tensor 'X' for model 'identity_fp16' of type 'FP32', expected "
    "datatype 'FP16'",
    lambda: infer_request("identity_fp16", {"X": np.zeros((1, 1), np.float16)}),
)
def half_precision_as_typed_contents(request):
    del request.raw_input_contents[:]
    request.inputs[0].contents.fp32_contents.append(1.0)


@bad(
    INVALID_ARGUMENT,
    "got parameter 'triton_final_response': parameter keys starting with 'triton_' are reserved for Triton "
    "usage",
)
def reserved_parameter(request):
    request.parameters["triton_final_response"].bool_param = True


def parameter_of_the_wrong_kind(key: str, expected: str, **value: Any) -> None:
    """Add a request with such a parameter to `BAD`."""
    request = simple()
    for kind, of in value.items():
        setattr(request.parameters[key], kind, of)
    text = f"invalid value type for '{key}' parameter, expected {expected}."
    BAD[f"{key}_of_the_wrong_kind"] = Bad(request, INVALID_ARGUMENT, text)


parameter_of_the_wrong_kind("sequence_id", "int64_param or string_param", bool_param=True)
parameter_of_the_wrong_kind("sequence_start", "bool_param", int64_param=1)
parameter_of_the_wrong_kind("sequence_end", "bool_param", string_param="true")
parameter_of_the_wrong_kind("priority", "int64_param or uint64_param", double_param=1.0)
parameter_of_the_wrong_kind("timeout", "int64_param", string_param="1000")
parameter_of_the_wrong_kind("triton_enable_empty_final_response", "bool_param", int64_param=1)


@bad(NOT_FOUND, "Unable to find shared memory region: 'mine'")
def input_in_unknown_shared_memory(request):
    request.inputs[0].parameters["shared_memory_region"].string_param = "mine"
    request.inputs[0].parameters["shared_memory_byte_size"].int64_param = 64
    del request.raw_input_contents[0]


@bad(NOT_FOUND, "Unable to find shared memory region: 'mine'")
def output_in_unknown_shared_memory(request):
    output = request.outputs.add(name="OUTPUT0")
    output.parameters["shared_memory_region"].string_param = "mine"
    output.parameters["shared_memory_byte_size"].int64_param = 64


@bad(
    INTERNAL,
    "model 'table' failed: [ONNXRuntimeError] : 2 : INVALID_ARGUMENT : Non-zero status code returned while "
    "running Gather node. Name:'' Status Message: indices element out of data bounds, idx=9 must be within "
    "the inclusive range [-4,3]",
    lambda: infer_request("table", {"index": np.array([[9]], np.int64)}),
)
def contents_that_the_engine_refuses(request):
    pass


@bad(
    INTERNAL,
    "cannot decode the ModelInferRequest: Error parsing message with type 'inference.ModelInferRequest'",
)
def no_protobuf(_request):
    return b"this is no protobuf"


@bad(
    INTERNAL,
    "cannot decode the ModelInferRequest: Error parsing message with type 'inference.ModelInferRequest'",
)
def protobuf_cut_short(request):
    return request.SerializeToString()[:-1]


@bad(
    INTERNAL,
    "cannot decode the ModelInferRequest: Error parsing message with type 'inference.ModelInferRequest'",
)
def a_name_that_is_no_text(_request):
    return b"\x0a\x02\xff\xfe"


@bad(INTERNAL, NO_MESSAGE)
def an_unknown_type_in_what_is_no_message(request):
    request.inputs[0].datatype = "FLOAT"
    return request.SerializeToString() + b"\x0a\x02\xff\xfe"


@bad(NOT_FOUND, "Request for unknown model: '' is not found")
def empty_message(_request):
    return b""
