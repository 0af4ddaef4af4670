"""What only streams have: many answers to a request, errors within, and ids of their own."""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
from endpoint_calls import Asked, ask, call_of, connected, row, serving
from gated_models import gates
from serving_models import SOON, eventually

from yais.client.connection import Connection
from yais.client.endpoint import connect
from yais.errors import Code, InvalidArgument, Unimplemented
from yais.protocol import kserve_pb2 as pb
from yais.testing import FaultyNetwork


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("models")) as running:
        yield running


@pytest.fixture
def endpoint(server):
    with connected("grpc", server) as endpoint:
        yield endpoint


@pytest.fixture(params=[1, 3])
def transport(request, endpoint):
    return endpoint.stream_transport(request.param)


@pytest.fixture
def gate():
    return gates["gated"]


def counting(times, **options):
    return call_of("counting", {"x": np.array([times], np.float32)}, **options)


@pytest.mark.parametrize("times", [0, 1, 5])
def test_all_answers_of_a_decoupled_model(transport, times):
    asked = ask(transport, counting(times, id="mine"))
    answers = asked.answers()
    assert [answer.outputs["y"].tolist() for answer in answers] == [[float(each)] for each in range(times)]
    assert {answer.id for answer in answers} <= {"mine"}
    assert len(asked.told) == 1


def test_answers_of_many_requests_are_told_apart(transport):
    several = {times: transport.encode(counting(times, id="same")) for times in range(1, 6)}
    asked = [(times, Asked(transport, request)) for _ in range(40) for times, request in several.items()]
    for times, each in asked:
        assert [answer.outputs["y"].item() for answer in each.answers()] == list(range(times))


def test_an_error_in_a_stream_ends_its_request_and_nothing_else(transport, gate):
    with gate.shut(7.0):
        # Before the others: of models that answer once, answers keep the order of requests.
        wrong = [ask(transport, counting(1, version="9")) for _ in range(3)]
        held = [ask(transport, call_of("gated", row(7.0))) for _ in range(3)]
        for each in wrong:
            assert each.status()[0] is Code.UNKNOWN
            assert "version 9" in each.status()[1]
        assert not any(each.ended for each in held)
    for each in held:
        assert each.answer().outputs["y"].tolist() == [[7.0]]


def test_streams_are_taken_in_turn(server, endpoint):
    eventually(lambda: server.in_flight == 0)
    transport = endpoint.stream_transport(2)
    for opened in (1, 2, 2, 2):
        assert ask(transport, call_of("gated", row(1.0))).status() == (Code.OK, "")
        assert server.in_flight == opened
    transport.close()
    eventually(lambda: server.in_flight == 0)


def test_streams_that_break_end_their_requests_only(server, gate):
    with contextlib.ExitStack() as stack:
        network = stack.enter_context(FaultyNetwork(server.port))
        through = stack.enter_context(connected("grpc", server, address=f"127.0.0.1:{network.port}"))
        direct = stack.enter_context(connected("grpc", server)).stream_transport()
        transport = through.stream_transport(2)
        with gate.shut(7.0):
            lost = [ask(transport, call_of("gated", row(7.0))) for _ in range(4)]
            kept = ask(direct, call_of("gated", row(7.0)))
            gate.wait_for(5)
            network.reset()
            assert {each.status()[0] for each in lost} == {Code.UNAVAILABLE}
        assert kept.status() == (Code.OK, "")
        eventually(lambda: ask(transport, call_of("gated", row(1.0))).status()[0] is Code.OK)


def test_an_answer_that_comes_too_late_is_nobody_s(server, gate):
    with connected("grpc", server, timeout=1.5) as endpoint:
        transport = endpoint.stream_transport()
        with gate.shut(7.0):
            late = ask(transport, call_of("gated", row(7.0)))
            assert late.status() == (Code.DEADLINE_EXCEEDED, "no answer within 1.5 s")
        assert ask(transport, call_of("gated", row(2.0))).answer().outputs["y"].item() == 2.0
    assert len(late.told) == 1


def test_a_request_that_is_sent_while_the_time_of_others_is_looked_at(server, gate, monkeypatch):
    """It is seen by then, or nobody would look again."""
    with connected("grpc", server, timeout=1.5) as endpoint:
        transport = endpoint.stream_transport()
        assert ask(transport, call_of("gated", row(1.0))).status()[0] is Code.OK
        stream = transport._streams[0]
        send = stream.send

        def looked_at_and_sent(*request):
            assert transport._alarm.cancel()  # as it goes off here
            transport._end_overdue()
            send(*request)

        monkeypatch.setattr(stream, "send", looked_at_and_sent)
        with gate.shut(7.0):
            late = ask(transport, call_of("gated", row(7.0)))
            assert late.status() == (Code.DEADLINE_EXCEEDED, "no answer within 1.5 s")


def test_the_message_is_encoded_once_and_asks_for_its_end(endpoint):
    request = endpoint.stream_transport().encode(counting(2, id="mine", version="1"))
    message = pb.ModelInferRequest.FromString(request.message)
    assert (message.id, request.id) == ("mine", "mine")
    assert message.parameters["triton_enable_empty_final_response"].bool_param


def test_a_server_that_ends_the_stream():
    opened = []

    def hasty(requests, _context):
        opened.append(next(requests))
        return iter(())

    method = grpc.stream_stream_rpc_method_handler(hasty)
    handler = grpc.method_handlers_generic_handler(
        "inference.GRPCInferenceService", {"ModelStreamInfer": method}
    )
    server = grpc.server(ThreadPoolExecutor(1), handlers=[handler])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with connect(Connection(f"127.0.0.1:{port}", timeout=SOON)) as endpoint:
            transport = endpoint.stream_transport()
            for _ in range(2):
                told = ask(transport, counting(1)).status()
                assert told == (Code.UNAVAILABLE, "the server ended the stream")
    finally:
        server.stop(None).wait(SOON)
    assert len(opened) == 2


def test_wrong_counts_and_protocols(endpoint, server):
    for streams in (0, -1):
        with pytest.raises(InvalidArgument, match=f"got {streams} streams, expected at least 1"):
            endpoint.stream_transport(streams)
    with connect(Connection(f"127.0.0.1:{server.http_port}"), "http") as over_http:  # noqa: SIM117
        with pytest.raises(Unimplemented, match="expected gRPC"):
            over_http.stream_transport()
