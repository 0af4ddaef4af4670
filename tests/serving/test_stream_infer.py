"""ModelStreamInfer with messages made by hand: order, errors, ends, and what is held back."""

from __future__ import annotations

import threading
import time

import grpc
import numpy as np
import pytest
from infer_streams import FINAL, Conversation, fill_streams, gate, item, told, with_end
from onnx_models import EXAMPLES
from server_state import in_flight, pending
from serving_models import SOON, Wire, eventually, infer_request, one_process, serving_models
from traced_models import read_traces

from yais.protocol import kserve_pb2 as pb
from yais.serving.stream_infer import ModelStreamInferContext
from yais.serving.trace_settings import TraceOptions

UNKNOWN = "Request for unknown model: 'nobody' is not found"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with serving_models(EXAMPLES, fill_streams(tmp_path_factory.mktemp("streams"))) as running:
        yield running


@pytest.fixture
def wire(server):
    with Wire(server.port) as connected:
        yield connected


@pytest.fixture
def stream(wire):
    with Conversation(wire.channel) as opened:
        yield opened


def wait_for_the_rest(server):
    """Wait until nothing waits at the first gate; what was cancelled is thrown away then, or has run."""
    eventually(lambda: not pending(server, "first"))


def executed(wire, model):
    (statistics,) = wire.call("ModelStatistics", pb.ModelStatisticsRequest(name=model)).model_stats
    return statistics.inference_count


# --- Responses ----------------------------------------------------------------------------------------


def test_a_response_is_that_of_model_infer(wire, stream):
    request = item("first", "mine", 1, 2)
    stream.send(request)
    response = stream.next().infer_response
    assert response.parameters[FINAL].bool_param is True
    del response.parameters[FINAL]
    assert response == wire.infer(request)


def test_order_among_models(server, stream):
    """What is ready waits for what was asked before."""
    first, second = gate("first"), gate("second")
    with first.shut():
        stream.send(item("first", "1", 1), item("second", "2", 2), item("second", "3", 3))
        second.wait_for(1)
        eventually(lambda: sum(map(len, second.batches)) == 2 and not pending(server, "second"))
        stream.send(item("nobody", "4"), item("second", "5", 5))
        eventually(lambda: sum(map(len, second.batches)) == 3 and not pending(server, "second"))
    assert stream.take(5) == [("1", [1]), ("2", [2]), ("3", [3]), ("4", UNKNOWN), ("5", [5])]


def test_decoupled_models_do_not_wait_for_others(stream):
    with gate("first").shut():
        stream.send(item("first", "1", 1), item("repeat", "2", 7, 8))
        assert stream.take(2) == [("2", [7]), ("2", [8])]
    assert stream.take(1) == [("1", [1])]


def test_others_do_not_wait_for_decoupled_models(stream):
    with gate("repeat").shut(8):
        stream.send(item("repeat", "1", 7, 8), item("first", "2", 2), item("nobody", "3"))
        assert sorted(stream.take(3)) == [("1", [7]), ("2", [2]), ("3", UNKNOWN)]
    assert stream.rest() == [("1", [8])]


@one_process  # frontends bundle what comes together, so that batches may be others
def test_requests_of_a_stream_run_together(server, stream):
    first = gate("first")
    with first.shut():
        stream.send(item("first", "0", 0))
        first.wait_for(1)
        stream.send(*(item("first", str(number), number) for number in range(1, 17)))
        eventually(lambda: pending(server, "first") == 16)
    assert stream.take(17) == [(str(number), [number]) for number in range(17)]
    assert [len(batch) for batch in first.batches] == [1, 8, 8]


def test_many_short_requests(wire, stream):
    before = executed(wire, "simple")
    request = pb.ModelInferRequest(model_name="simple")
    for name in ("INPUT0", "INPUT1"):
        request.inputs.add(name=name, datatype="INT32", shape=[1, 16])
        request.raw_input_contents.append(bytes(64))
    for number in range(3000):
        request.id = str(number)
        stream.send(request)
    stream.half_close()
    assert [response.infer_response.id for response in stream] == [str(number) for number in range(3000)]
    assert executed(wire, "simple") == before + 3000


def test_a_request_is_as_old_as_its_message(wire):
    """Not as its stream."""

    def total():
        (statistics,) = wire.call("ModelStatistics", pb.ModelStatisticsRequest(name="second")).model_stats
        return statistics.inference_stats.success.ns

    gate("second")
    with Conversation(wire.channel) as stream:
        stream.send(item("first", "open", 1))
        assert stream.take(1) == [("open", [1])]
        before, began = total(), time.monotonic_ns()
        for number in range(50):
            stream.send(item("second", "", number))
            stream.next()
        assert total() - before <= time.monotonic_ns() - began


def test_classification(stream):
    request = item("first", "1", 3, 9, 5)
    request.outputs.add(name="y").parameters["classification"].int64_param = 2
    several = item("repeat", "2", 4, 6)
    several.outputs.add(name="y").parameters["classification"].int64_param = 1
    gate("first")
    stream.send(request)
    assert (
        stream.next().infer_response.raw_output_contents[0] == b"\x0a\0\0\x009.000000:1\x0a\0\0\x005.000000:2"
    )
    gate("repeat")
    stream.send(several)
    texts = [stream.next().infer_response.raw_output_contents[0][4:] for _ in range(2)]
    assert texts == [b"4.000000:0", b"6.000000:0"]


def test_each_request_has_a_trace(tmp_path):
    path = tmp_path / "trace.json"
    repository = tmp_path / "models"
    repository.mkdir()
    trace = TraceOptions(level=("TIMESTAMPS",), rate=1, file=str(path))
    gate("first"), gate("repeat")
    with (
        serving_models(fill_streams(repository), trace=trace) as server,
        Wire(server.port) as wire,
        Conversation(wire.channel) as stream,
    ):
        wrong = infer_request("first", {"z": np.ones((1, 1), np.float32)}, id="wrong")
        stream.send(item("first", "1", 1), wrong, item("repeat", "2", 5, 6))
        assert len(stream.rest()) == 4
    traces = {trace.request_id: trace for trace in read_traces(path)}
    assert set(traces) == {"1", "wrong", "2"}
    began = [traces[request_id].at("GRPC_WAITREAD_START") for request_id in ("1", "wrong", "2")]
    assert began == sorted(set(began))  # not those of the stream
    assert all(each.names[-2:] == ["GRPC_SEND_START", "GRPC_SEND_END"] for each in traces.values())


# --- Decoupled models ---------------------------------------------------------------------------------


def test_only_the_end_is_final(stream):
    gate("repeat")
    stream.send(with_end(item("repeat", "1", 5, 6)))
    responses = [stream.next() for _ in range(3)]
    assert [each.infer_response.parameters[FINAL].bool_param for each in responses] == [False, False, True]
    end = pb.ModelInferResponse(model_name="repeat", model_version="1", id="1")
    end.parameters[FINAL].bool_param = True
    assert responses[2] == pb.ModelStreamInferResponse(infer_response=end)
    assert stream.rest() == []


@pytest.mark.parametrize("wanted", [True, False])
def test_no_response_at_all(stream, wanted):
    gate("repeat")
    request = item("repeat", "1")
    stream.send(with_end(request) if wanted else request)
    assert stream.rest() == ([("1", None)] if wanted else [])


def test_an_end_is_not_told_unless_it_is_wanted(stream):
    gate("repeat")
    stream.send(item("repeat", "1", 5))
    assert stream.rest() == [("1", [5])]


def test_a_model_that_answers_once_has_no_other_end(stream):
    gate("first")
    stream.send(with_end(item("first", "1", 5)))
    assert stream.rest() == [("1", [5])]


def test_an_error_between_responses(stream):
    gate("repeat")
    stream.send(with_end(item("repeat", "1", 5, -1)))
    assert stream.take(1) == [("1", [5])]
    failed = stream.next()
    assert "negative" in failed.error_message
    assert failed.infer_response.parameters[FINAL].bool_param is True
    stream.send(item("repeat", "2", 6))
    assert stream.rest() == [("2", [6])]


# --- Errors -------------------------------------------------------------------------------------------


def test_errors_are_told_in_the_stream(stream):
    gate("first")
    no_contents = item("first", "no contents", 1)
    del no_contents.raw_input_contents[:]
    wrong_name = item("first", "wrong name", 1)
    wrong_name.inputs[0].name = "z"
    reserved = item("first", "reserved", 1)
    reserved.parameters["triton_x"].bool_param = True
    stream.send(no_contents, wrong_name, reserved, item("first", "good", 1))
    assert stream.rest() == [
        ("no contents", "unable to find data for input tensor 'x' for model 'first' in request."),
        ("wrong name", "[request id: wrong name] unexpected inference input 'z' for model 'first'"),
        (
            "reserved",
            (
                "got parameter 'triton_x': parameter keys starting with 'triton_' are reserved for Triton "
                "usage"
            ),
        ),
        ("good", [1]),
    ]


WRONG = pb.ModelInferRequest(model_name="first", inputs=[{"name": "x", "datatype": "NONE"}])


@one_process
@pytest.mark.parametrize("garbage", [b"this is no protobuf", WRONG.SerializeToString() + b"\x0a\x01\xff"])
def test_what_is_no_message_ends_the_stream(server, stream, garbage):
    first = gate("first")
    with first.shut():
        stream.send(item("first", "1", 1))
        first.wait_for(1)
        stream.send(item("first", "2", 2))
        eventually(lambda: pending(server, "first") == 1)
        stream.send(garbage)
        code, text = stream.status()
        eventually(lambda: not in_flight(server))
    assert code is grpc.StatusCode.INTERNAL
    assert text.startswith("cannot decode the ModelInferRequest")
    wait_for_the_rest(server)
    assert first.batches == [[1.0]]


@one_process
def test_the_first_error_as_a_status(server, wire):
    """After what was asked before; what was asked later does not run."""
    first, second = gate("first"), gate("second")
    with Conversation(wire.channel, (("triton_grpc_error", "true"),)) as stream, second.shut():
        with first.shut():
            stream.send(item("first", "1", 1), item("nobody", "2"), item("second", "3", 3))
            second.wait_for(1)
            stream.send(item("second", "4", 4))
            eventually(lambda: pending(server, "second") == 1)
            assert not stream.call.done()
        assert stream.take(1) == [("1", [1])]
        assert stream.status() == (grpc.StatusCode.NOT_FOUND, UNKNOWN)
        eventually(lambda: not in_flight(server))
    eventually(lambda: not pending(server, "second"))
    assert second.batches == [[3.0]]


@pytest.mark.parametrize("value", ["false", "True", "1"])
def test_other_values_mean_errors_in_the_stream(wire, value):
    with Conversation(wire.channel, (("triton_grpc_error", value),)) as stream:
        stream.send(item("nobody", "1"))
        assert stream.rest() == [("1", UNKNOWN)]


# --- Ends ---------------------------------------------------------------------------------------------


def test_half_close(stream):
    """What is outstanding is still answered."""
    first = gate("first")
    with first.shut(), gate("repeat").shut(6):
        stream.send(item("first", "1", 1), item("first", "2", 2), item("repeat", "3", 6, 7))
        stream.half_close()
        first.wait_for(1)
    assert sorted(stream.rest()) == [("1", [1]), ("2", [2]), ("3", [6]), ("3", [7])]
    assert stream.call.code() is grpc.StatusCode.OK


def test_half_close_with_nothing_asked(stream):
    assert stream.rest() == []
    assert stream.call.code() is grpc.StatusCode.OK


@one_process
def test_cancel(server, stream):
    """What has not begun does not run."""
    first = gate("first")
    with first.shut():
        stream.send(item("first", "1", 1))
        first.wait_for(1)
        stream.send(*(item("first", str(number), number) for number in range(2, 9)))
        eventually(lambda: pending(server, "first") == 7)
        stream.call.cancel()
        eventually(lambda: not in_flight(server))
    wait_for_the_rest(server)
    assert first.batches == [[1.0]]


def test_cancel_stops_a_decoupled_model(server, stream):
    flood = gate("flood")
    stream.send(item("flood", "1", 1e9, 1))
    stream.take(3)
    stream.call.cancel()
    eventually(lambda: flood.batches[-1] == "ended")
    eventually(lambda: not in_flight(server))


@one_process
def test_the_deadline_of_the_stream(server, wire):
    first = gate("first")
    method = wire.channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")
    with first.shut():
        call = method(iter([item("first", str(n), n).SerializeToString() for n in range(20)]), timeout=0.3)
        with pytest.raises(grpc.RpcError) as caught:
            list(call)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        eventually(lambda: not in_flight(server))
    wait_for_the_rest(server)
    assert sum(map(len, first.batches)) < 20


def test_drain(tmp_path):
    """What is in flight ends; what is idle does not hold the stop up."""
    repeat = gate("repeat")
    down = (grpc.StatusCode.UNAVAILABLE, "the server is shutting down")
    with (
        serving_models(fill_streams(tmp_path)) as server,
        Wire(server.port) as wire,
        Conversation(wire.channel) as idle,
        Conversation(wire.channel) as busy,
    ):
        idle.send(item("second", "0", 0))
        assert idle.take(1) == [("0", [0])]
        stops = []
        stopping = threading.Thread(target=lambda: stops.append(server.stop()))
        with repeat.shut():
            busy.send(item("repeat", "1", 1))
            repeat.wait_for(1)
            stopping.start()
            assert idle.status() == down
            busy.send(item("second", "2", 2))
            assert busy.take(1) == [("2", down[1])]
            assert stops == []
        assert busy.take(1) == [("1", [1])]
        assert busy.status() == down
        stopping.join(SOON)
    assert stops == [True]


@one_process
def test_drain_of_a_stream_that_ends(tmp_path, monkeypatch):
    """Its caller has sent its last request: there is nothing to refuse."""
    repeat, closed = gate("repeat"), threading.Event()
    requests_done = ModelStreamInferContext.on_requests_done

    def noted(context, stream):
        requests_done(context, stream)
        closed.set()

    monkeypatch.setattr(ModelStreamInferContext, "on_requests_done", noted)
    with (
        serving_models(fill_streams(tmp_path)) as server,
        Wire(server.port) as wire,
        Conversation(wire.channel) as idle,
        Conversation(wire.channel) as busy,
    ):
        idle.send(item("second", "0", 0))
        idle.take(1)
        with repeat.shut():
            busy.send(item("repeat", "1", 1))
            busy.half_close()
            repeat.wait_for(1)
            assert closed.wait(SOON)
            stopping = threading.Thread(target=server.stop)
            stopping.start()
            idle.status()
        assert [told(response) for response in busy] == [("1", [1])]
        assert busy.call.code() is grpc.StatusCode.OK
        stopping.join(SOON)


# --- What is held back --------------------------------------------------------------------------------


@one_process
def test_requests_in_flight_are_limited(server, wire, monkeypatch):
    monkeypatch.setattr(ModelStreamInferContext, "max_in_flight", 4)
    first = gate("first")
    with Conversation(wire.channel) as stream:
        with first.shut():
            stream.send(item("first", "0", 0))
            first.wait_for(1)
            stream.send(*(item("first", str(number), number) for number in range(1, 20)))
            eventually(lambda: pending(server, "first") == 3)
            for _ in range(20):  # the thread that would read has time to
                wire.call("ServerLive")
            assert pending(server, "first") == 3
        assert stream.take(20) == [(str(number), [number]) for number in range(20)]


@one_process
def test_cancel_while_the_limit_is_reached(server, wire, monkeypatch):
    monkeypatch.setattr(ModelStreamInferContext, "max_in_flight", 2)
    first = gate("first")
    with Conversation(wire.channel) as stream, first.shut():
        stream.send(*(item("first", str(number), number) for number in range(9)))
        first.wait_for(1)
        stream.call.cancel()
        eventually(lambda: not in_flight(server))


def test_a_decoupled_model_waits_for_its_reader(stream):
    flood = gate("flood")
    stream.send(with_end(item("flood", "1", 400, 100_000)))
    received = 0
    for response in stream:
        assert len(flood.batches) - received < 200
        received += 1
        if not response.infer_response.outputs:
            break
    assert received == 401


@one_process
def test_a_decoupled_model_whose_reader_has_stopped(stream, wire, monkeypatch):
    """It is stopped, and the others of the server go on meanwhile."""
    monkeypatch.setattr(ModelStreamInferContext, "patience", 1.5)
    flood = gate("flood")
    stream.send(item("flood", "1", 10_000, 100_000))
    eventually(lambda: len(flood.batches) > ModelStreamInferContext.max_unsent)
    assert wire.call("ServerLive").live
    eventually(lambda: flood.batches[-1] == "ended")
    produced = len(flood.batches) - 1
    assert produced < 1000
    responses = stream.rest()
    assert [values[0] for _, values in responses[:-1]] == list(range(produced - 1))
    assert responses[-1] == ("1", "no response was taken for 1.5 s, and the model was stopped")


def test_a_slow_reader(wire):
    """What it does not take is not computed."""
    second = gate("second")
    large = infer_request("second", {"x": np.ones((1, 50_000), np.float32)}).SerializeToString()
    with Conversation(wire.channel) as stream:
        stream.send(*[large] * 400)
        eventually(lambda: second.batches)
        for _ in range(100):  # the thread that would read has time to
            wire.call("ServerLive")
        assert sum(map(len, second.batches)) < 400
        assert len(stream.rest()) == 400
