"""Inference requests with something wrong."""

from __future__ import annotations

from random import Random
from typing import Any

from fuzz_bytes import ODD_NUMBERS, ODD_TEXTS, damaged, damaged_message
from fuzz_models import REGION, REGION_SIZE, good_requests

from yais.protocol import kserve_pb2 as pb

GOOD = good_requests()

DATATYPES = (
    "BOOL",
    "INT8",
    "UINT16",
    "INT32",
    "INT64",
    "FP16",
    "FP32",
    "FP64",
    "BF16",
    "BYTES",
    "STRING",
    "",
)

KEYS = (
    *("sequence_id", "sequence_start", "sequence_end", "priority", "timeout", "classification"),
    *("shared_memory_region", "shared_memory_offset", "shared_memory_byte_size", "binary_data"),
    *("triton_enable_empty_final_response", "triton_", "traceparent", "mine", ""),
)


def odd_name(random: Random) -> str:
    """Return a name of a tensor or a model, or what is none."""
    return random.choice((*("X", "Y", "INPUT0", "OUTPUT1", "simple", "sum", "words", REGION), *ODD_TEXTS))


def odd_value(random: Random, parameter: Any) -> None:
    """Set a parameter to anything."""
    number = random.choice(ODD_NUMBERS)
    match random.randrange(6):
        case 0:
            parameter.bool_param = bool(random.randrange(2))
        case 1:
            parameter.int64_param = number
        case 2:
            parameter.uint64_param = number % 2**64
        case 3:
            parameter.double_param = random.choice((0.0, -1.5, 1e308, float("nan"), float("inf")))
        case 4:
            parameter.string_param = odd_name(random)
        case _:
            parameter.SetInParent()


def _change(random: Random, request: pb.ModelInferRequest) -> None:
    inputs, outputs, raw = request.inputs, request.outputs, request.raw_input_contents
    tensor = random.choice(inputs) if inputs else inputs.add(name="X", datatype="FP32", shape=[1, 1])
    output = random.choice(outputs) if outputs else outputs.add(name=random.choice(("Y", "OUTPUT0", "sum")))
    place = random.choice((tensor, output)).parameters
    match random.randrange(17):
        case 0:
            tensor.shape[:] = [random.choice(ODD_NUMBERS) for _ in range(random.randrange(5))]
        case 1:
            tensor.shape[random.randrange(len(tensor.shape) or 1) :] = [random.choice(ODD_NUMBERS)]
        case 2:
            tensor.datatype = random.choice(DATATYPES)
        case 3:
            random.choice((tensor, output)).name = odd_name(random)
        case 4:
            request.model_name = random.choice(GOOD).model_name
        case 5:
            request.model_name = odd_name(random)
        case 6:
            request.model_version = random.choice(("1", "2", "-1", "01", "9" * 30, *ODD_TEXTS))
        case 7:
            request.id = odd_name(random)
        case 8:
            odd_value(random, request.parameters[random.choice(KEYS)])
        case 9:
            odd_value(random, place[random.choice(KEYS)])
        case 10:
            place["shared_memory_region"].string_param = random.choice((REGION, REGION, "none", ""))
            place["shared_memory_byte_size"].int64_param = random.choice((REGION_SIZE, 32, *ODD_NUMBERS))
            place["shared_memory_offset"].int64_param = random.choice((0, REGION_SIZE, *ODD_NUMBERS))
        case 11:
            output.parameters["classification"].int64_param = random.choice(ODD_NUMBERS)
        case 12:
            del raw[:]
        case 13:
            raw.append(random.randbytes(random.choice((0, 1, 4, 64))))
        case 14 if raw:
            at = random.randrange(len(raw))
            raw[at] = damaged(random, raw[at])
        case 15:
            copy = random.choice(inputs) if random.randrange(2) else random.choice(outputs)
            (inputs if isinstance(copy, type(tensor)) else outputs).add().CopyFrom(copy)
        case _:
            _fill(random, tensor.contents)


def _fill(random: Random, contents: Any) -> None:
    count = random.choice((0, 1, 16))
    match random.randrange(5):
        case 0:
            contents.int_contents.extend([random.choice((0, -1, 2**31 - 1, -(2**31)))] * count)
        case 1:
            contents.uint64_contents.extend([random.choice(ODD_NUMBERS) % 2**64] * count)
        case 2:
            contents.bytes_contents.extend([random.randbytes(3)] * count)
        case 3:
            contents.fp64_contents.extend([float("nan")] * count)
        case _:
            contents.bool_contents.extend([True] * count)


def bad_infer(random: Random) -> bytes:
    """Return a ModelInferRequest: a good one with changes to what it says, to its bytes, or to both."""
    request = pb.ModelInferRequest()
    request.CopyFrom(random.choice(GOOD))
    how = random.randrange(6)
    if how:
        for _ in range(random.choice((1, 1, 1, 2, 4))):
            _change(random, request)
    message = request.SerializeToString()
    if how < 2:
        for _ in range(random.choice((1, 1, 1, 3))):
            message = damaged_message(random, message)
    return message
