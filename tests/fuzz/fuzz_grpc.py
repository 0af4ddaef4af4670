"""Attacks over gRPC: inference, streams of it, and every other RPC."""

from __future__ import annotations

import re
import socket
from collections.abc import Sequence
from random import Random
from typing import Any

import grpc
from fuzz_bytes import ODD_NUMBERS, ODD_TEXTS, damaged, damaged_message
from fuzz_infer import bad_infer
from fuzz_models import REGION, VICTIMS
from fuzz_target import Target, half_close
from google.protobuf.message import DecodeError, Message
from serving_models import SOON

from yais.protocol import kserve_pb2 as pb

Code = grpc.StatusCode

_ALLOWED = {Code.OK, Code.INVALID_ARGUMENT, Code.NOT_FOUND, Code.UNIMPLEMENTED, Code.ALREADY_EXISTS}

# What Triton says with another status, although it is the request that is wrong, and what is nobody's fault.
_PRESCRIBED = {
    Code.INTERNAL: re.compile(
        "cannot decode the |Error parsing message|model 'table' failed: "
        "|shared memory size specified with the request for output"
        "|Unable to open shared memory region|failed to poll from model repository"
    ),
    Code.UNAVAILABLE: re.compile("Request timeout expired|is not at ready state"),
}


def judge(code: grpc.StatusCode, text: str) -> str:
    """Return the name of a status; raise AssertionError if a wrong request must not end with it."""
    prescribed = _PRESCRIBED.get(code)
    assert code in _ALLOWED or (prescribed is not None and prescribed.search(text)), f"{code}: {text}"
    return code.name


Metadata = tuple[tuple[str, str | bytes], ...]


def call(target: Target, rpc: str, message: bytes, metadata: Metadata = (), timeout: float = SOON) -> str:
    """Call an RPC; return its status, which is judged, as is its response."""
    try:
        response = target.wire.method(rpc)(message, metadata=metadata, timeout=timeout)
    except grpc.RpcError as error:
        if error.code() is Code.DEADLINE_EXCEEDED and timeout < SOON:
            return "left"
        return judge(error.code(), error.details())
    answer = getattr(pb, f"{rpc}Response").FromString(response)
    if isinstance(answer, pb.ModelInferResponse):
        assert len(answer.outputs) == len(answer.raw_output_contents)
    return "OK"


_METADATA: Metadata = (
    ("traceparent", "00-" + "f" * 32 + "-" + "f" * 16 + "-ff"),
    ("traceparent", "00-" + "1" * 32 + "-" + "2" * 16 + "-01"),
    ("traceparent", "\x20"),
    ("tracestate", "=,=,,"),
    ("authorization", "Bearer"),
    ("triton_grpc_error", "true"),
    ("odd-bin", b"\0\xff"),
    ("grpc-encoding", "x"),
    ("long", "x" * 4000),
)


def attack_infer(target: Target, random: Random) -> str:
    """Send a wrong ModelInfer; return its status."""
    message = bad_infer(random)
    metadata = tuple(random.choices(_METADATA, k=random.choice((0, 0, 0, 1, 3))))
    timeout = SOON if random.randrange(20) else random.choice((0.0, 0.0005, 0.002))
    ended = call(target, "ModelInfer", message, metadata, timeout)
    assert ended in {"INTERNAL", "left"} or decoded(message) is not None, ended
    return ended


def decoded(message: bytes) -> pb.ModelInferRequest | None:
    """Return a request, None if the bytes are none."""
    try:
        return pb.ModelInferRequest.FromString(message)
    except DecodeError:
        return None


def attack_stream(target: Target, random: Random) -> str:
    """Send wrong requests, and good ones, in a stream, and end it in one way or another; return how."""
    messages = [bad_infer(random) for _ in range(random.choice((0, 1, 2, 5, 12)))]
    requests = [decoded(message) for message in messages]
    strict = not random.randrange(4)
    method = target.wire.channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")
    metadata = (("triton_grpc_error", "true"),) if strict else ()
    stream = method(iter(messages), timeout=SOON, metadata=metadata)
    if not random.randrange(4):
        for _ in range(random.randrange(len(messages) + 1)):
            next(stream, None) if not strict and None not in requests else None
        stream.cancel()
        return "cancelled"
    if not random.randrange(4):  # the stream is not read while this one is asked
        attack_infer(target, random)
    replies: list[pb.ModelStreamInferResponse] = []
    try:
        replies.extend(map(pb.ModelStreamInferResponse.FromString, stream))
    except grpc.RpcError as error:
        ended = judge(error.code(), error.details())
    else:
        ended = "OK"
    decodable = [request for request in requests if request is not None]
    if ended == "OK":
        assert len(decodable) == len(requests)
        _check_order(decodable, replies)
    elif not strict:
        assert len(decodable) < len(requests), ended
    return ended


def _check_order(
    requests: Sequence[pb.ModelInferRequest], replies: Sequence[pb.ModelStreamInferResponse]
) -> None:
    """Raise AssertionError unless requests that are answered once were, in their order."""
    expected = [request.id for request in requests if request.model_name != "words"]
    got = [reply.infer_response.id for reply in replies]
    if len(expected) == len(requests):
        assert got == expected, (got, expected)
    rest = iter(got)
    assert all(each in rest for each in expected), (got, expected)


_NAMES = (*VICTIMS, REGION, "other", *ODD_TEXTS)

_KEYS = (
    "config",
    "file:1/model.onnx",
    "file:../x",
    "file:",
    "unload_dependents",
    "trace_level",
    "trace_rate",
)
_SETTINGS = ("trace_count", "log_frequency", "trace_file", "trace_mode", "log_info", "log_verbose_level")
_VALUES = ("OFF", "TIMESTAMPS", "TENSORS", "10", "-1", "{}", '{"max_batch_size":"4"}', "ISO8601", "default")


def anything(random: Random, message: Message, target: Target, depth: int = 0) -> Any:
    """Fill a message at random; return it."""
    for field in message.DESCRIPTOR.fields:
        if not random.randrange(3):
            continue
        value = getattr(message, field.name)
        if _is_map(field):
            for _ in range(random.randrange(3)):
                key = random.choice((*_KEYS, *_SETTINGS, "log_format", "log_file", *ODD_TEXTS))
                anything(random, value[key], target, depth + 1)
        elif field.message_type is not None:
            anything(random, value.add() if field.is_repeated else value, target, depth + 1)
        elif field.is_repeated:
            value.extend([_scalar(random, field, target) for _ in range(random.randrange(3))])
        else:
            setattr(message, field.name, _scalar(random, field, target))
    return message


def _is_map(field: Any) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def _scalar(random: Random, field: Any, target: Target) -> Any:
    match field.cpp_type:
        case field.CPPTYPE_STRING if field.type == field.TYPE_BYTES:
            return random.randbytes(random.choice((0, 1, 64, 65)))
        case field.CPPTYPE_STRING:
            own = {"key": (target.key, "nowhere"), "model_name": _NAMES, "name": _NAMES}
            return random.choice((*own.get(field.name, ()), *_VALUES, *ODD_TEXTS))
        case field.CPPTYPE_BOOL:
            return bool(random.randrange(2))
        case field.CPPTYPE_DOUBLE | field.CPPTYPE_FLOAT:
            return random.choice((0.0, float("nan"), -1e308))
    number = random.choice(ODD_NUMBERS)
    bits = 32 if field.cpp_type in {field.CPPTYPE_INT32, field.CPPTYPE_UINT32} else 64
    number %= 1 << bits
    signed = field.cpp_type in {field.CPPTYPE_INT32, field.CPPTYPE_INT64}
    return number - (1 << bits) if signed and number >> (bits - 1) else number


_RPCS = tuple(
    rpc
    for rpc in pb.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods_by_name
    if rpc not in {"ModelInfer", "ModelStreamInfer"}
)


def attack_admin(target: Target, random: Random) -> str:
    """Call any other RPC with anything; return its status."""
    rpc = random.choice(_RPCS)
    message = anything(random, getattr(pb, f"{rpc}Request")(), target).SerializeToString()
    for _ in range(random.choice((0, 0, 1, 2))):
        message = damaged_message(random, message)
    return call(target, rpc, message)


_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"


def attack_connection(target: Target, random: Random) -> str:
    """Send what is no HTTP/2, or no gRPC, to the port of gRPC; return how the connection ends."""
    frames = _PREFACE * random.randrange(2)
    for _ in range(random.randrange(4)):
        payload = random.randbytes(random.choice((0, 4, 5, 8, 40)))
        kind, flags = random.randrange(12), random.choice((0, 1, 4, 5, 0xFF))
        stream = random.choice((0, 1, 2, 3, 2**31 - 1)).to_bytes(4, "big")
        frames += len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream + payload
    if not random.randrange(3):
        frames = damaged(random, frames)
    with socket.create_connection(("127.0.0.1", target.port), timeout=SOON) as connection:
        try:
            connection.sendall(frames)
            half_close(connection)
            while connection.recv(1 << 16):
                pass
        except ConnectionError:  # it was closed with something unread
            return "reset"
    return "closed"
