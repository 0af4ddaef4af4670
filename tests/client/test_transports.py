"""What all transports have in common, each against a live server."""

from __future__ import annotations

import contextlib
import socket
import threading

import numpy as np
import pytest
from endpoint_calls import KINDS, Asked, ask, call_of, connected, given, row, serving, transport_of
from gated_models import gates
from onnx_models import TYPES
from serving_models import SOON, eventually

from yais.client.connection import Connection
from yais.client.endpoint import connect
from yais.client.infer_call import InferCall, InputTensor, SharedTensor, WantedOutput
from yais.core.tensor import DataType, TensorSpec
from yais.errors import Code, FailedPrecondition, InvalidArgument, Unavailable
from yais.memory.shared_region import SharedRegion
from yais.protocol import kserve_pb2 as pb
from yais.testing import FaultyNetwork


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("models")) as running:
        yield running


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture
def transport(kind, server):
    with connected(kind, server) as endpoint:
        yield transport_of(kind, endpoint)


@pytest.fixture
def gate():
    return gates["gated"]


def values_of(datatype):
    """Return values that survive a conversion to any type."""
    if datatype == "BYTES":
        return np.array([[b"", b"a\0b", "ä".encode(), b"x" * 300]], np.object_)
    if datatype == "BF16":
        return np.array([[0x3F80, 0xC000, 0, 0x7F80]], np.uint16)
    return np.array([[0, 1, 1, 0]]).astype(DataType(datatype).numpy)


@pytest.mark.parametrize("datatype", TYPES)
def test_tensors_of_every_type(transport, datatype):
    array = values_of(datatype)
    tensor = given("X", array, datatype)
    answer = ask(transport, InferCall(f"identity_{datatype.lower()}", [tensor], id="of mine")).answer()
    assert (answer.model, answer.version, answer.id, answer.final) == (
        f"identity_{datatype.lower()}",
        "1",
        "of mine",
        True,
    )
    (output,) = answer.outputs.values()
    if datatype == "BF16":
        np.testing.assert_array_equal(output, np.array([[1, -2, 0, np.inf]], np.float32))
    else:
        assert output.dtype == array.dtype
        np.testing.assert_array_equal(output, array)


def test_only_the_outputs_that_are_asked_for(transport):
    a, b = np.arange(16, dtype=np.int32)[None], np.full((1, 16), 3, np.int32)
    call = call_of("simple", {"INPUT0": a, "INPUT1": b}, outputs=[WantedOutput("OUTPUT1")], version="1")
    answer = ask(transport, call).answer()
    assert list(answer.outputs) == ["OUTPUT1"]
    np.testing.assert_array_equal(answer.outputs["OUTPUT1"], a - b)
    assert answer.id == ""
    every = ask(transport, call_of("simple", {"INPUT0": a, "INPUT1": b})).answer()
    np.testing.assert_array_equal(every.outputs["OUTPUT0"], a + b)
    np.testing.assert_array_equal(every.outputs["OUTPUT1"], a - b)


def test_an_empty_tensor(transport):
    answer = ask(transport, call_of("identity_fp32", {"X": np.empty((1, 0), np.float32)})).answer()
    assert answer.outputs["Y"].shape == (1, 0)


def test_classes(transport):
    array = np.array([[0.5, 2.0, 1.0]], np.float32)
    call = call_of("labelled", {"X": array}, outputs=[WantedOutput("Y", classes=2)])
    answer = ask(transport, call).answer()
    assert answer.outputs["Y"].tolist() == [[b"2.000000:1:second:half", b"1.000000:2"]]


def test_tensors_in_shared_memory(kind, server, transport):
    array = np.arange(6, dtype=np.float32)[None]
    with SharedRegion.create(64) as region, connected(kind, server) as control:
        control.call(
            "SystemSharedMemoryRegister",
            pb.SystemSharedMemoryRegisterRequest(name="r", key=region.name, byte_size=64),
        )
        try:
            memory = np.frombuffer(region.view(), np.float32)
            memory[:6] = array
            spec = TensorSpec("X", DataType.FP32, (1, 6))
            call = InferCall(
                "identity_fp32",
                [InputTensor(spec, SharedTensor("r", 24))],
                [WantedOutput("Y", shared=SharedTensor("r", 24, 32))],
            )
            assert ask(transport, call).answer().outputs == {}
            np.testing.assert_array_equal(memory[8:14], array[0])
            del memory
        finally:
            control.call("SystemSharedMemoryUnregister", pb.SystemSharedMemoryUnregisterRequest(name="r"))


def test_a_model_that_is_not_there(kind, transport):
    code, text = ask(transport, call_of("nothing", row(1.0))).status()
    assert code is (Code.UNKNOWN if kind.startswith("stream") else Code.NOT_FOUND)
    assert "nothing" in text
    code, text = ask(transport, call_of("gated", {"wrong": np.zeros((1, 1), np.float32)})).status()
    assert code is (Code.UNKNOWN if kind.startswith("stream") else Code.INVALID_ARGUMENT)
    assert "wrong" in text


def test_each_of_many_gets_its_own_answer(transport):
    requests = [transport.encode(call_of("gated", row(float(number)))) for number in range(16)]
    asked: list[tuple[int, Asked]] = []

    def send(begin):
        for number in range(begin, begin + 100):
            each = Asked(transport, requests[number % 16])
            asked.append((number % 16, each))

    threads = [threading.Thread(target=send, args=(begin,)) for begin in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SOON)
    assert len(asked) == 400
    for number, each in asked:
        assert each.answer().outputs["y"].tolist() == [[number]]


def test_a_callback_sends_the_next(transport):
    request = transport.encode(call_of("identity_int32", {"X": np.ones((1, 1), np.int32)}))
    told, ended = [], threading.Event()

    def done(*outcome):
        told.append(outcome)
        if len(told) < 500:
            transport.send(request, done)
        else:
            ended.set()

    transport.send(request, done)
    assert ended.wait(SOON)
    assert {code for code, _, _ in told} == {Code.OK}


def test_a_request_may_take_its_timeout_and_no_longer(kind, server, gate):
    with connected(kind, server, timeout=2.0) as endpoint:  # those that are not held up are answered by then
        transport = transport_of(kind, endpoint)
        assert ask(transport, call_of("gated", row(1.0))).status() == (Code.OK, "")
        with gate.shut(7.0):
            late = [ask(transport, call_of("gated", row(7.0))) for _ in range(3)]
            assert {each.status()[0] for each in late} == {Code.DEADLINE_EXCEEDED}
        assert ask(transport, call_of("identity_fp32", {"X": row(1.0)["x"]})).status() == (Code.OK, "")
    assert all(len(each.told) == 1 for each in late)


def test_close_ends_what_is_in_flight(kind, server, gate):
    with connected(kind, server) as endpoint:
        transport, other = transport_of(kind, endpoint), transport_of(kind, endpoint)
        with gate.shut(7.0):
            asked = [ask(transport, call_of("gated", row(7.0))) for _ in range(5)]
            gate.wait_for(1)
            transport.close()
            assert all(each.ended for each in asked)
            assert {each.status()[0] for each in asked} == {Code.CANCELLED}
        with pytest.raises(FailedPrecondition):
            ask(transport, call_of("gated", row(1.0)))
        transport.close()
        # Neither the other transport nor the endpoint is touched.
        assert ask(other, call_of("gated", row(1.0))).status() == (Code.OK, "")
        assert endpoint.call("ServerLive", pb.ServerLiveRequest()).live
    with pytest.raises(FailedPrecondition):
        ask(other, call_of("gated", row(1.0)))
    with pytest.raises(FailedPrecondition):
        endpoint.call("ServerLive", pb.ServerLiveRequest())


def test_a_callback_that_raises_keeps_no_other_from_being_told(kind, server, gate, caplog):
    with connected(kind, server) as endpoint:
        transport = transport_of(kind, endpoint)
        request = transport.encode(call_of("gated", row(7.0)))

        def again(*_outcome):
            transport.send(request, again)  # raises FailedPrecondition when the transport is closed

        with gate.shut(7.0):
            transport.send(request, again)
            asked = Asked(transport, request)
            gate.wait_for(1)
            transport.close()
            assert asked.status()[0] is Code.CANCELLED
    (record,) = caplog.records
    assert "unexpected error in the callback" in record.message


def test_an_unreachable_server(kind, server):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with connected(kind, server, address=f"127.0.0.1:{port}") as endpoint:
        request = transport_of(kind, endpoint), call_of("gated", row(1.0))
        for _ in range(2):
            code, text = ask(*request).status()
            assert code is Code.UNAVAILABLE
            assert "connect" in text
        with pytest.raises(Unavailable, match="connect"):
            endpoint.call("ServerLive", pb.ServerLiveRequest())


def test_a_connection_that_breaks(kind, server, gate):
    with contextlib.ExitStack() as stack:
        network = stack.enter_context(FaultyNetwork(server.http_port if kind == "http" else server.port))
        endpoint = stack.enter_context(connected(kind, server, address=f"127.0.0.1:{network.port}"))
        transport = transport_of(kind, endpoint)
        with gate.shut(7.0):
            lost = [ask(transport, call_of("gated", row(7.0))) for _ in range(4)]
            gate.wait_for(4)
            network.reset()
            assert {each.status()[0] for each in lost} == {Code.UNAVAILABLE}
        eventually(lambda: ask(transport, call_of("gated", row(1.0))).status()[0] is Code.OK)
    assert all(len(each.told) == 1 for each in lost)


def test_a_server_that_stops(kind, tmp_path):
    with contextlib.ExitStack() as stack:
        running = stack.enter_context(serving(tmp_path))
        endpoint = stack.enter_context(connected(kind, running))
        transport = transport_of(kind, endpoint)
        assert ask(transport, call_of("gated", row(1.0))).status() == (Code.OK, "")
        running.stop()
        assert ask(transport, call_of("gated", row(1.0))).status()[0] is Code.UNAVAILABLE


def test_headers_that_cannot_be_sent(kind, server):
    for header in (("a b", "x"), ("a", "x\r\nb: y"), ("", "x")):
        with pytest.raises(InvalidArgument, match="header"):  # noqa: SIM117
            with connected(kind, server, headers=[header]):
                pass


def test_a_protocol_that_is_none(server):
    with pytest.raises(InvalidArgument, match="got protocol 'ftp', expected 'grpc' or 'http'"):
        connect(Connection(f"127.0.0.1:{server.port}"), "ftp")
