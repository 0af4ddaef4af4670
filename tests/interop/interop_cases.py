"""What gRPC's interoperability cases send and expect, for both of grpcio's clients.

The cases are those of doc/interop-test-descriptions.md in gRPC's repository.
"""

from __future__ import annotations

import random
from typing import Any

from google.protobuf.message_factory import GetMessageClass

from tests.interop.interop_pb2 import (
    COMPRESSABLE,
    DESCRIPTOR,
    BoolValue,
    EchoStatus,
    Payload,
    ResponseParameters,
    SimpleRequest,
    SimpleResponse,
    StreamingInputCallRequest,
    StreamingOutputCallRequest,
    StreamingOutputCallResponse,
)
from tests.interop_server import AS_SENT, INITIAL, TRAILING, Received

SOON = 20.0
"""Seconds after which a call counts as lost."""

OWN = [("grpc.use_local_subchannel_pool", 1)]
"""Channel arguments: a connection of its own."""

RAW = [*OWN, AS_SENT]
"""Channel arguments with which `Received.compressed` tells how a response came."""

LARGE, LARGE_RESPONSE = 271828, 314159
REQUEST_SIZES = (27182, 8, 1828, 45904)
RESPONSE_SIZES = (31415, 9, 2653, 58979)

METADATA = ((INITIAL, "test_initial_metadata_value"), (TRAILING, b"\xab\xab\xab"))
STATUS = EchoStatus(code=2, message="test status message")
SPECIAL_STATUS = EchoStatus(
    code=2,
    message="\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n",
)


class Stub:
    """The methods of one service, by their names, on a channel of either client.

    Parameters
    ----------
    raw
        Whether responses are to be a `Received`; the channel must be made with `RAW`.
    """

    def __init__(self, channel: Any, service: str = "TestService", *, raw: bool = False) -> None:
        descriptor = DESCRIPTOR.services_by_name[service]
        for method in descriptor.methods:
            requests, responses = (
                "stream" if many else "unary" for many in (method.client_streaming, method.server_streaming)
            )
            parse = GetMessageClass(method.output_type).FromString
            callable_ = getattr(channel, f"{requests}_{responses}")(
                f"/{descriptor.full_name}/{method.name}",
                GetMessageClass(method.input_type).SerializeToString,
                Received.parser(parse) if raw else parse,
            )
            setattr(self, method.name, callable_)


def zeros(size: int) -> Payload:
    return Payload(body=bytes(size))


def large_request(**fields: Any) -> SimpleRequest:
    return SimpleRequest(response_size=LARGE_RESPONSE, payload=zeros(LARGE), **fields)


def upload(size: int, *, compressed: bool | None = None) -> StreamingInputCallRequest:
    """Make a request; `compressed` is what it says of itself."""
    expect = None if compressed is None else BoolValue(value=compressed)
    return StreamingInputCallRequest(payload=zeros(size), expect_compressed=expect)


def incompressible_upload(size: int) -> StreamingInputCallRequest:
    """Make a request that says that it is sent uncompressed.

    gRPC core sends what does not get smaller as it is. It is the only way to a single uncompressed message:
    grpcio's clients cannot say it by message.
    """
    body = random.Random(1).randbytes(size)
    return StreamingInputCallRequest(payload=Payload(body=body), expect_compressed=BoolValue(value=False))


def download(*sizes: int, body: int = 0, interval_us: int = 0) -> StreamingOutputCallRequest:
    """Ask for responses of these sizes."""
    parameters = [ResponseParameters(size=size, interval_us=interval_us) for size in sizes]
    return StreamingOutputCallRequest(response_parameters=parameters, payload=zeros(body))


def ask_for_status(status: EchoStatus) -> StreamingOutputCallRequest:
    return StreamingOutputCallRequest(response_status=status)


COMPRESSED_THEN_NOT = StreamingOutputCallRequest(
    response_parameters=[
        ResponseParameters(size=31415, compressed=BoolValue(value=True)),
        ResponseParameters(size=92653, compressed=BoolValue(value=False)),
    ]
)

PING_PONG = [
    download(response, body=request) for request, response in zip(REQUEST_SIZES, RESPONSE_SIZES, strict=True)
]


def size(response: SimpleResponse | StreamingOutputCallResponse) -> int:
    """Return how large the body of a response is, which must be zeros.

    Messages are not compared: the difference of two large ones is not to be read.
    """
    assert response.payload.type == COMPRESSABLE
    assert not response.payload.body.strip(b"\0")
    return len(response.payload.body)
