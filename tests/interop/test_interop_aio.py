"""gRPC's interoperability cases with grpcio's asyncio client."""

from __future__ import annotations

import asyncio

import grpc
import pytest
from interop_cases import (
    COMPRESSED_THEN_NOT,
    INITIAL,
    LARGE_RESPONSE,
    METADATA,
    OWN,
    PING_PONG,
    RAW,
    REQUEST_SIZES,
    RESPONSE_SIZES,
    SOON,
    SPECIAL_STATUS,
    STATUS,
    TRAILING,
    Stub,
    ask_for_status,
    download,
    incompressible_upload,
    large_request,
    size,
    upload,
)

from tests.interop.interop_pb2 import BoolValue, Empty, SimpleRequest

GZIP = grpc.Compression.Gzip
DEFLATE = grpc.Compression.Deflate


@pytest.fixture
async def channel(target):
    async with grpc.aio.insecure_channel(target, options=OWN) as channel:
        yield channel


@pytest.fixture
async def stub(channel):
    return Stub(channel)


@pytest.fixture
async def raw_stub(target):
    async with grpc.aio.insecure_channel(target, options=RAW) as channel:
        yield Stub(channel, raw=True)


async def sizes(call) -> list[int]:
    return [size(response) async for response in call]


async def collected(call) -> list:
    return [response async for response in call]


async def failure(call) -> grpc.aio.AioRpcError:
    """Take what comes, one response or many; return the error the call must end with."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await (collected(call) if hasattr(call, "__aiter__") else call)
    return caught.value


async def test_empty_unary(stub, channel):
    assert await stub.EmptyCall(Empty(), timeout=SOON) == Empty()
    raw = channel.unary_unary("/grpc.testing.TestService/EmptyCall")
    assert await raw(b"", timeout=SOON) == b""


async def test_large_unary(stub):
    assert size(await stub.UnaryCall(large_request(), timeout=SOON)) == LARGE_RESPONSE


@pytest.mark.parametrize("algorithm", [GZIP, DEFLATE])
async def test_client_compressed_unary(stub, algorithm):
    compressed = large_request(expect_compressed=BoolValue(value=True))
    probe = await failure(stub.UnaryCall(compressed, timeout=SOON))
    assert probe.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert probe.details() == "got an uncompressed message, expected a compressed one"

    response = await stub.UnaryCall(compressed, timeout=SOON, compression=algorithm)
    assert size(response) == LARGE_RESPONSE
    uncompressed = large_request(expect_compressed=BoolValue(value=False))
    assert size(await stub.UnaryCall(uncompressed, timeout=SOON)) == LARGE_RESPONSE

    wrong = await failure(stub.UnaryCall(uncompressed, timeout=SOON, compression=algorithm))
    assert wrong.code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("value", [True, False])
async def test_server_compressed_unary(stub, raw_stub, value):
    request = large_request(response_compressed=BoolValue(value=value))
    response, compressed = await raw_stub.UnaryCall(request, timeout=SOON)
    assert (size(response), compressed) == (LARGE_RESPONSE, value)
    assert size(await stub.UnaryCall(request, timeout=SOON)) == LARGE_RESPONSE


async def test_client_streaming(stub):
    call = stub.StreamingInputCall(timeout=SOON)
    for each in REQUEST_SIZES:
        await call.write(upload(each))
    await call.done_writing()
    assert (await call).aggregated_payload_size == 74922


async def test_client_compressed_streaming(stub):
    compressed = upload(27182, compressed=True)
    probe = await failure(stub.StreamingInputCall(iter([compressed]), timeout=SOON))
    assert probe.code() is grpc.StatusCode.INVALID_ARGUMENT

    requests = [compressed, incompressible_upload(45904)]
    response = await stub.StreamingInputCall(iter(requests), timeout=SOON, compression=GZIP)
    assert response.aggregated_payload_size == 73086

    requests = [compressed, upload(45904, compressed=False)]  # says so and is compressed
    wrong = await failure(stub.StreamingInputCall(iter(requests), timeout=SOON, compression=GZIP))
    assert wrong.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert wrong.details() == "got a compressed message, expected an uncompressed one"


async def test_server_streaming(stub):
    call = stub.StreamingOutputCall(download(*RESPONSE_SIZES), timeout=SOON)
    assert await sizes(call) == [*RESPONSE_SIZES]
    assert await call.code() is grpc.StatusCode.OK


async def test_server_compressed_streaming(stub, raw_stub):
    call = raw_stub.StreamingOutputCall(COMPRESSED_THEN_NOT, timeout=SOON)
    received = [(size(each.message), each.compressed) async for each in call]
    assert received == [(31415, True), (92653, False)]
    assert await sizes(stub.StreamingOutputCall(COMPRESSED_THEN_NOT, timeout=SOON)) == [31415, 92653]


async def test_ping_pong(stub):
    call = stub.FullDuplexCall(timeout=SOON)
    received = []
    for request in PING_PONG:
        await call.write(request)
        received.append(size(await call.read()))
    await call.done_writing()
    assert await call.read() is grpc.aio.EOF
    assert received == [*RESPONSE_SIZES]
    assert await call.code() is grpc.StatusCode.OK


async def test_empty_stream(stub):
    call = stub.FullDuplexCall(timeout=SOON)
    await call.done_writing()
    assert await call.read() is grpc.aio.EOF
    assert await call.code() is grpc.StatusCode.OK


async def check_metadata(call) -> None:
    assert (INITIAL, "test_initial_metadata_value") in tuple(await call.initial_metadata())
    assert (TRAILING, b"\xab\xab\xab") in tuple(await call.trailing_metadata())


async def test_custom_metadata(stub):
    call = stub.UnaryCall(large_request(), timeout=SOON, metadata=METADATA)
    assert size(await call) == LARGE_RESPONSE
    await check_metadata(call)

    request = download(314159, body=271828)
    call = stub.FullDuplexCall(iter([request]), timeout=SOON, metadata=METADATA)
    assert await sizes(call) == [314159]
    await check_metadata(call)


def check_status(error, status) -> None:
    assert error.code().value[0] == status.code
    assert error.details() == status.message


async def test_status_code_and_message(stub):
    request = SimpleRequest(response_status=STATUS)
    check_status(await failure(stub.UnaryCall(request, timeout=SOON)), STATUS)
    call = stub.FullDuplexCall(iter([ask_for_status(STATUS)]), timeout=SOON)
    check_status(await failure(call), STATUS)


async def test_special_status_message(stub):
    request = SimpleRequest(response_status=SPECIAL_STATUS)
    check_status(await failure(stub.UnaryCall(request, timeout=SOON)), SPECIAL_STATUS)


async def test_unimplemented_method(stub):
    error = await failure(stub.UnimplementedCall(Empty(), timeout=SOON))
    assert error.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_unimplemented_service(channel):
    stub = Stub(channel, "UnimplementedService")
    error = await failure(stub.UnimplementedCall(Empty(), timeout=SOON))
    assert error.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_cancel_after_begin(stub):
    call = stub.StreamingInputCall(timeout=SOON)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert call.cancelled()
    assert await call.code() is grpc.StatusCode.CANCELLED


async def test_cancel_after_first_response(stub):
    call = stub.FullDuplexCall(timeout=SOON)
    await call.write(PING_PONG[0])
    assert size(await call.read()) == 31415
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call.read()
    assert await call.code() is grpc.StatusCode.CANCELLED


async def test_timeout_on_sleeping_server(stub):
    async def requests():
        yield download(body=27182)
        await asyncio.Event().wait()

    call = stub.FullDuplexCall(requests(), timeout=0.001)
    assert (await failure(call)).code() is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_timeout_while_the_server_sleeps_between_responses(stub):
    call = stub.StreamingOutputCall(download(1, 2, interval_us=60_000_000), timeout=0.1)
    assert (await failure(call)).code() is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_half_duplex(stub):
    call = stub.HalfDuplexCall(timeout=SOON)
    for request in (download(1, 2), download(3), download(), download(4)):
        await call.write(request)
    await call.done_writing()
    assert await sizes(call) == [1, 2, 3, 4]
