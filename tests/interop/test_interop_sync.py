"""gRPC's interoperability cases with grpcio's blocking client."""

from __future__ import annotations

import queue
import subprocess
import sys
import time
from pathlib import Path

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

from tests.interop.interop_pb2 import BoolValue, EchoStatus, Empty, SimpleRequest

ROOT = Path(__file__).parents[2]
GZIP = grpc.Compression.Gzip
DEFLATE = grpc.Compression.Deflate


@pytest.fixture
def channel(target):
    with grpc.insecure_channel(target, options=OWN) as channel:
        yield channel


@pytest.fixture
def stub(channel):
    return Stub(channel)


@pytest.fixture
def raw_stub(target):
    with grpc.insecure_channel(target, options=RAW) as channel:
        yield Stub(channel, raw=True)


class Pipe:
    """Requests as they are put in."""

    def __init__(self, *requests) -> None:
        self._queue = queue.SimpleQueue()
        for request in requests:
            self.put(request)

    def put(self, request) -> None:
        self._queue.put(request)

    def close(self) -> None:
        self._queue.put(None)

    def __iter__(self):
        return iter(self._queue.get, None)


@pytest.fixture
def pipe():
    """A pipe that is closed at the end: grpcio has a thread that reads it."""
    pipe = Pipe()
    yield pipe
    pipe.close()


def sizes(call) -> list[int]:
    return [size(response) for response in call]


def failure_of(call) -> grpc.Call:
    """Take what a stream still brings; return the error it must end with."""
    with pytest.raises(grpc.RpcError) as caught:
        list(call)
    return caught.value


def failure(method, request, **options) -> grpc.Call:
    """Call what must fail."""
    with pytest.raises(grpc.RpcError) as caught:
        list(method(request, timeout=SOON, **options))
    return caught.value


def test_empty_unary(stub, channel):
    assert stub.EmptyCall(Empty(), timeout=SOON) == Empty()
    raw = channel.unary_unary("/grpc.testing.TestService/EmptyCall")
    assert raw(b"", timeout=SOON) == b""


def test_large_unary(stub):
    assert size(stub.UnaryCall(large_request(), timeout=SOON)) == LARGE_RESPONSE


@pytest.mark.parametrize("algorithm", [GZIP, DEFLATE])
def test_client_compressed_unary(stub, algorithm):
    compressed = large_request(expect_compressed=BoolValue(value=True))
    probe = failure(stub.UnaryCall, compressed)
    assert probe.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert probe.details() == "got an uncompressed message, expected a compressed one"

    assert size(stub.UnaryCall(compressed, timeout=SOON, compression=algorithm)) == LARGE_RESPONSE
    uncompressed = large_request(expect_compressed=BoolValue(value=False))
    assert size(stub.UnaryCall(uncompressed, timeout=SOON)) == LARGE_RESPONSE

    wrong = failure(stub.UnaryCall, uncompressed, compression=algorithm)
    assert wrong.code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("value", [True, False])
def test_server_compressed_unary(stub, raw_stub, value):
    request = large_request(response_compressed=BoolValue(value=value))
    response, compressed = raw_stub.UnaryCall(request, timeout=SOON)
    assert (size(response), compressed) == (LARGE_RESPONSE, value)
    assert size(stub.UnaryCall(request, timeout=SOON)) == LARGE_RESPONSE


def test_client_streaming(stub):
    requests = [upload(size) for size in REQUEST_SIZES]
    assert stub.StreamingInputCall(iter(requests), timeout=SOON).aggregated_payload_size == 74922


def test_client_compressed_streaming(stub):
    compressed = upload(27182, compressed=True)
    probe = failure(stub.StreamingInputCall, iter([compressed]))
    assert probe.code() is grpc.StatusCode.INVALID_ARGUMENT

    requests = [compressed, incompressible_upload(45904)]
    response = stub.StreamingInputCall(iter(requests), timeout=SOON, compression=GZIP)
    assert response.aggregated_payload_size == 73086

    requests = [compressed, upload(45904, compressed=False)]  # says so and is compressed
    wrong = failure(stub.StreamingInputCall, iter(requests), compression=GZIP)
    assert wrong.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert wrong.details() == "got a compressed message, expected an uncompressed one"


def test_server_streaming(stub):
    call = stub.StreamingOutputCall(download(*RESPONSE_SIZES), timeout=SOON)
    assert sizes(call) == [*RESPONSE_SIZES]
    assert call.code() is grpc.StatusCode.OK


def test_server_compressed_streaming(stub, raw_stub):
    received = raw_stub.StreamingOutputCall(COMPRESSED_THEN_NOT, timeout=SOON)
    assert [(size(each.message), each.compressed) for each in received] == [(31415, True), (92653, False)]
    assert sizes(stub.StreamingOutputCall(COMPRESSED_THEN_NOT, timeout=SOON)) == [31415, 92653]


def test_ping_pong(stub, pipe):
    call = stub.FullDuplexCall(iter(pipe), timeout=SOON)
    received = []
    for request in PING_PONG:
        pipe.put(request)
        received.append(size(next(call)))
    pipe.close()
    assert list(call) == []
    assert received == [*RESPONSE_SIZES]
    assert call.code() is grpc.StatusCode.OK


def test_empty_stream(stub):
    call = stub.FullDuplexCall(iter([]), timeout=SOON)
    assert list(call) == []
    assert call.code() is grpc.StatusCode.OK


def check_metadata(call) -> None:
    assert (INITIAL, "test_initial_metadata_value") in call.initial_metadata()
    assert (TRAILING, b"\xab\xab\xab") in call.trailing_metadata()


def test_custom_metadata(stub):
    response, call = stub.UnaryCall.with_call(large_request(), timeout=SOON, metadata=METADATA)
    assert size(response) == LARGE_RESPONSE
    check_metadata(call)

    request = download(314159, body=271828)
    call = stub.FullDuplexCall(iter([request]), timeout=SOON, metadata=METADATA)
    assert sizes(call) == [314159]
    check_metadata(call)


def test_custom_metadata_comes_with_a_failure_too(stub):
    request = SimpleRequest(response_status=STATUS)
    check_metadata(failure(stub.UnaryCall, request, metadata=METADATA))
    request = ask_for_status(STATUS)
    check_metadata(failure(stub.FullDuplexCall, iter([request]), metadata=METADATA))


def check_status(error, status) -> None:
    assert error.code().value[0] == status.code
    assert error.details() == status.message


def test_status_code_and_message(stub):
    check_status(failure(stub.UnaryCall, SimpleRequest(response_status=STATUS)), STATUS)
    check_status(failure(stub.FullDuplexCall, iter([ask_for_status(STATUS)])), STATUS)


def test_special_status_message(stub):
    request = SimpleRequest(response_status=SPECIAL_STATUS)
    check_status(failure(stub.UnaryCall, request), SPECIAL_STATUS)


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code.value[0]])
def test_every_status(stub, code):
    status = EchoStatus(code=code.value[0], message=f"this is {code.name}")
    check_status(failure(stub.UnaryCall, SimpleRequest(response_status=status)), status)


def test_nothing_is_processed_after_a_status(stub):
    requests = [download(1, 2), ask_for_status(STATUS), download(3)]
    call = stub.FullDuplexCall(iter(requests), timeout=SOON)
    assert [size(next(call)), size(next(call))] == [1, 2]
    check_status(failure_of(call), STATUS)


def test_unimplemented_method(stub):
    error = failure(stub.UnimplementedCall, Empty())
    assert error.code() is grpc.StatusCode.UNIMPLEMENTED


def test_unimplemented_service(channel):
    stub = Stub(channel, "UnimplementedService")
    error = failure(stub.UnimplementedCall, Empty())
    assert error.code() is grpc.StatusCode.UNIMPLEMENTED


def test_cancel_after_begin(stub, pipe):
    call = stub.StreamingInputCall.future(iter(pipe), timeout=SOON)
    call.cancel()
    assert call.cancelled()
    assert call.code() is grpc.StatusCode.CANCELLED


def test_cancel_after_first_response(stub, pipe):
    call = stub.FullDuplexCall(iter(pipe), timeout=SOON)
    pipe.put(PING_PONG[0])
    assert size(next(call)) == 31415
    call.cancel()
    assert failure_of(call).code() is grpc.StatusCode.CANCELLED


def test_timeout_on_sleeping_server(stub, pipe):
    call = stub.FullDuplexCall(iter(pipe), timeout=0.001)
    pipe.put(download(body=27182))
    assert failure_of(call).code() is grpc.StatusCode.DEADLINE_EXCEEDED


def test_timeout_while_the_server_sleeps_between_responses(stub):
    call = stub.StreamingOutputCall(download(1, 2, interval_us=60_000_000), timeout=0.1)
    assert failure_of(call).code() is grpc.StatusCode.DEADLINE_EXCEEDED


def test_intervals_are_kept(stub):
    request = download(1, 2, interval_us=10_000)
    for method, argument in ((stub.StreamingOutputCall, request), (stub.FullDuplexCall, iter([request]))):
        begin = time.monotonic()
        assert sizes(method(argument, timeout=SOON)) == [1, 2]
        assert time.monotonic() - begin >= 0.02


def test_half_duplex(stub):
    requests = [download(1, 2), download(3), download(), download(4)]
    assert sizes(stub.HalfDuplexCall(iter(requests), timeout=SOON)) == [1, 2, 3, 4]


def test_an_unknown_response_type_is_refused(stub):
    error = failure(stub.UnaryCall, SimpleRequest(response_type=1))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert error.details() == "got response_type 1, expected COMPRESSABLE (0)"


def test_the_program():
    """What docs/interop.md says to start."""
    command = [sys.executable, "-m", "tests.interop_server", "--port", "0", "--use_tls=false"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as program:
        try:
            port = int(program.stdout.readline())
            with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
                call = Stub(channel).EmptyCall
                assert call(Empty(), timeout=SOON, wait_for_ready=True) == Empty()
        finally:
            program.terminate()
            program.wait(SOON)
