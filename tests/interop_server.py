"""The server of gRPC's interoperability cases: `python -m tests.interop_server --port 50051`.

`grpc.testing.TestService` with every kind of context. docs/interop.md says which cases it serves and how to
point another language's client at it.

Whether a message came compressed is known only to gRPC core, which decompresses it before anybody sees it.
Here core is told not to, so that the codec below sees the message as it came.
"""

from __future__ import annotations

import argparse
import asyncio
import zlib
from collections.abc import AsyncIterator, Callable
from typing import Any, Generic, NamedTuple, TypeVar

from google.protobuf.message_factory import GetMessageClass

import yais
from tests.interop.interop_pb2 import (
    COMPRESSABLE,
    DESCRIPTOR,
    BoolValue,
    EchoStatus,
    Empty,
    Payload,
    ResponseParameters,
    SimpleRequest,
    SimpleResponse,
    StreamingInputCallRequest,
    StreamingInputCallResponse,
    StreamingOutputCallRequest,
    StreamingOutputCallResponse,
)
from yais.errors import error_of
from yais.rpc.base_context import BaseContext

INITIAL = "x-grpc-test-echo-initial"
TRAILING = "x-grpc-test-echo-trailing-bin"

AS_SENT = ("grpc.per_message_decompression", 0)
"""Channel argument: messages reach the codec as they were sent, compressed or not."""

# How gzip's and zlib's formats begin. No message of this service does: 0x1f is no tag at all, and 0x78 is
# the one of a field 15.
_COMPRESSED = (b"\x1f\x8b", b"\x78")

MessageT = TypeVar("MessageT")


class Received(NamedTuple, Generic[MessageT]):
    """A message, and whether it was sent compressed."""

    message: MessageT
    compressed: bool

    @classmethod
    def parser(cls, parse: Callable[[bytes], MessageT]) -> Callable[[bytes], Received[MessageT]]:
        """Return a codec for what comes with `AS_SENT`."""

        def received(data: bytes) -> Received[MessageT]:
            if data.startswith(_COMPRESSED):
                return cls(parse(zlib.decompress(data, wbits=47)), True)  # 47: gzip or zlib
            return cls(parse(data), False)

        return received

    def must_be_as(self, expected: BoolValue) -> None:
        """Check what the caller says of its message."""
        if expected.value != self.compressed:
            names = {False: "an uncompressed", True: "a compressed"}
            raise yais.InvalidArgument(
                f"got {names[self.compressed]} message, expected {names[expected.value]} one"
            )


def payload(kind: int, size: int) -> Payload:
    """Make a payload as the caller wants it."""
    if kind != COMPRESSABLE:
        raise yais.InvalidArgument(f"got response_type {kind}, expected COMPRESSABLE (0)")
    if size < 0:
        raise yais.InvalidArgument(f"got a response of {size} bytes, expected at least 0")
    return Payload(type=COMPRESSABLE, body=bytes(size))


def end_with(status: EchoStatus) -> None:
    """End the RPC if the caller wants it to fail."""
    if status.code:
        try:
            code = yais.Code(status.code)
        except ValueError:
            raise yais.InvalidArgument(f"got status code {status.code}, expected one of gRPC's") from None
        raise error_of(code, status.message)


class Echoing(BaseContext[Any, Any, yais.Resources]):
    """What every RPC does first: send two entries of the metadata back."""

    def on_start(self) -> None:
        for key, sent_back in ((INITIAL, self.initial_metadata), (TRAILING, self.trailing_metadata)):
            sent_back.extend((key, value) for value in self.metadata.get_all(key))


class EmptyCall(Echoing, yais.Context[Received[Empty], Empty, yais.Resources]):
    """Nothing for nothing."""

    def execute(self, received: Received[Empty]) -> Empty:
        return received.message


class UnaryCall(Echoing, yais.Context[Received[SimpleRequest], SimpleResponse, yais.Resources]):
    """One response of the size asked for."""

    def execute(self, received: Received[SimpleRequest]) -> SimpleResponse:
        request = received.message
        if request.HasField("expect_compressed"):
            received.must_be_as(request.expect_compressed)
        end_with(request.response_status)
        if request.response_compressed.value:
            self.compression = "gzip"
        return SimpleResponse(payload=payload(request.response_type, request.response_size))


class StreamingInputCall(
    Echoing,
    yais.BatchingContext[Received[StreamingInputCallRequest], StreamingInputCallResponse, yais.Resources],
):
    """The size of all requests together."""

    def on_item(self, received: Received[StreamingInputCallRequest]) -> None:
        if received.message.HasField("expect_compressed"):
            received.must_be_as(received.message.expect_compressed)

    def execute(self, requests: list[Received[StreamingInputCallRequest]]) -> StreamingInputCallResponse:
        size = sum(len(received.message.payload.body) for received in requests)
        return StreamingInputCallResponse(aggregated_payload_size=size)


async def responses(
    request: StreamingOutputCallRequest,
) -> AsyncIterator[tuple[ResponseParameters, StreamingOutputCallResponse]]:
    """Make the responses that a request describes, each when it is due."""
    end_with(request.response_status)
    for parameters in request.response_parameters:
        response = StreamingOutputCallResponse(payload=payload(request.response_type, parameters.size))
        if parameters.interval_us > 0:
            await asyncio.sleep(parameters.interval_us / 1e6)
        yield parameters, response


class StreamingOutputCall(
    Echoing,
    yais.ServerStreamingContext[
        Received[StreamingOutputCallRequest], StreamingOutputCallResponse, yais.Resources
    ],
):
    """The responses that the request describes; written, since each may be compressed or not."""

    async def execute(self, received: Received[StreamingOutputCallRequest]) -> None:
        request = received.message
        if any(parameters.compressed.value for parameters in request.response_parameters):
            self.compression = "gzip"
        async for parameters, response in responses(request):
            await self.stream.awrite(response, compress=parameters.compressed.value)


class FullDuplexCall(
    Echoing,
    yais.StreamingContext[Received[StreamingOutputCallRequest], StreamingOutputCallResponse, yais.Resources],
):
    """The responses that each request describes, as it comes."""

    async def on_request(
        self,
        received: Received[StreamingOutputCallRequest],
        stream: yais.Stream[StreamingOutputCallResponse],
    ) -> None:
        async for _, response in responses(received.message):
            await stream.awrite(response)


class HalfDuplexCall(
    Echoing,
    yais.StreamingContext[Received[StreamingOutputCallRequest], StreamingOutputCallResponse, yais.Resources],
):
    """The responses that the requests describe, once all of these are there."""

    async def execute(
        self, requests: AsyncIterator[Received[StreamingOutputCallRequest]]
    ) -> AsyncIterator[StreamingOutputCallResponse]:
        for received in [received async for received in requests]:
            async for _, response in responses(received.message):
                yield response


CONTEXTS = (EmptyCall, UnaryCall, StreamingInputCall, StreamingOutputCall, FullDuplexCall, HalfDuplexCall)
"""By the names of their RPCs."""


def make_server(address: str) -> yais.Server:
    """Make the server; it is not started yet."""
    descriptor = DESCRIPTOR.services_by_name["TestService"]
    service = yais.Service(descriptor)
    for context in CONTEXTS:
        rpc = context.__name__
        request = GetMessageClass(descriptor.methods_by_name[rpc].input_type)
        service.register(rpc, context, deserialize=Received.parser(request.FromString))
    server = yais.Server(address, options=[AS_SENT])
    server.add(service)
    return server


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on, [::] for all")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one, which is printed")
    # gRPC's own test runners pass this.
    parser.add_argument("--use_tls", choices=["false"], help="there is no TLS here")
    arguments = parser.parse_args()
    server = make_server(f"{arguments.host}:{arguments.port}")
    server.start()
    print(server.port, flush=True)
    server.run()


if __name__ == "__main__":
    main()
