"""Trace files of a server that Triton's client asks."""

from __future__ import annotations

import numpy as np
import pytest
import tritonclient.grpc as triton
from gated_models import Sent, gates, row, tensors
from server_state import in_flight, pending
from serving_models import SOON, Wire, eventually, infer_request, one_process
from traced_models import ask, fill_traced, read_traces, tracing

from yais.core.clock import NEVER
from yais.core.future import Future
from yais.inference.request import InferRequest, InferResponse, ResponseForm
from yais.protocol import kserve_pb2 as pb
from yais.rpc.metadata import Metadata
from yais.serving.call_trace import CallTrace
from yais.serving.trace_settings import TraceOptions
from yais.serving.tracer import Tracer

CALL = ["GRPC_WAITREAD_START", "GRPC_WAITREAD_END"]
COMPUTE = ["COMPUTE_START", "COMPUTE_INPUT_END", "COMPUTE_OUTPUT_START", "COMPUTE_END"]
ANSWER = ["INFER_RESPONSE_COMPLETE", "REQUEST_END", "GRPC_SEND_START", "GRPC_SEND_END"]


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    return fill_traced(tmp_path_factory.mktemp("models"))


@pytest.fixture
def traced(repository, tmp_path):
    """Return what a server writes of what some callable asks of it."""

    def traced(use, **options):
        path = tmp_path / "trace.json"
        with tracing(repository, file=str(path), **options) as (server, client):
            use(client, server)
        return read_traces(path)

    return traced


def times_are_ordered(trace):
    times = [at for _, at in trace.moments]
    return times == sorted(times)


def test_every_moment_in_its_order(traced):
    (trace,) = traced(lambda client, _: ask(client, "plain", 1, request_id="mine"))
    assert (trace.model, trace.version, trace.request_id, trace.parent) == ("plain", 1, "mine", 0)
    assert trace.names == [*CALL, "REQUEST_START", "QUEUE_START", *COMPUTE, *ANSWER]
    assert times_are_ordered(trace)


def test_time_in_the_queue_and_in_the_model(traced):
    """The second request waits for the first, which takes as long as its gate is shut."""

    def use(client, server):
        with gates["plain"].shut():
            first = Sent(client, "plain", {"x": row(1)}, request_id="first")
            gates["plain"].wait_for(1)
            second = Sent(client, "plain", {"x": row(2)}, request_id="second")
            eventually(lambda: pending(server, "plain"))
        first.result(), second.result()

    first, second = sorted(traced(use), key=lambda trace: trace.request_id)
    assert second.at("QUEUE_START") < first.at("COMPUTE_OUTPUT_START") <= second.at("COMPUTE_START")


def test_steps_of_ensembles_and_of_pipelines(traced):
    def use(client, _):
        ask(client, "twice", 1, request_id="ensemble")
        ask(client, "nested", 1, request_id="pipeline")

    ensemble, one, two, pipeline, inner, three, four, five = traced(use)
    assert [each.model for each in (ensemble, one, two)] == ["twice", "plain", "plain"]
    assert ensemble.parent == 0
    assert one.parent == two.parent == ensemble.id
    assert inner.parent == five.parent == pipeline.id
    assert three.parent == four.parent == inner.id
    assert one.request_id == "ensemble"
    assert five.request_id == "pipeline"
    assert one.names == ["REQUEST_START", "QUEUE_START", *COMPUTE, "REQUEST_END"]
    assert ensemble.names == [*CALL, "REQUEST_START", "QUEUE_START", *ANSWER]
    assert pipeline.names == [*CALL, "REQUEST_START", "QUEUE_START", *COMPUTE, *ANSWER]
    assert ensemble.at("QUEUE_START") <= one.at("REQUEST_START")
    assert one.at("REQUEST_END") <= two.at("REQUEST_START")
    assert two.at("REQUEST_END") <= ensemble.at("REQUEST_END")
    assert pipeline.at("COMPUTE_START") <= inner.at("REQUEST_START")
    assert five.at("REQUEST_END") <= pipeline.at("COMPUTE_END")


def test_answers_of_the_cache(traced):
    def use(client, _):
        ask(client, "cached", 1)
        ask(client, "cached", 1)

    missed, hit = traced(use)
    assert [*COMPUTE] == [name for name in missed.names if name.startswith("CO")]
    looked = ["CACHE_HIT_LOOKUP_START", "CACHE_HIT_LOOKUP_END"]
    assert hit.names == [*CALL, "REQUEST_START", "QUEUE_START", *looked, *ANSWER]


def test_what_fails_ends_too(traced):
    def use(client, _):
        for model, datatype in (("failing", np.float32), ("plain", np.int32)):
            given = tensors({"x": np.ones((1, 1), datatype)})
            with pytest.raises(triton.InferenceServerException):
                client.infer(model, given, client_timeout=SOON)

    failed, refused = traced(use)
    assert failed.names == [
        *CALL,
        "REQUEST_START",
        "QUEUE_START",
        "COMPUTE_START",
        "COMPUTE_INPUT_END",
        "COMPUTE_END",
        *ANSWER[1:],
    ]
    assert refused.names == [*CALL, "REQUEST_START", *ANSWER[1:]]


def test_what_is_cancelled_ends_too(traced):
    def use(client, server):
        with gates["plain"].shut():
            first = Sent(client, "plain", {"x": row(1)}, request_id="first")
            gates["plain"].wait_for(1)
            second = Sent(client, "plain", {"x": row(2)}, request_id="second")
            eventually(lambda: pending(server, "plain"))
            second.cancel()
            assert second.error()[0] == "CANCELLED"
            eventually(lambda: in_flight(server) == 1)  # it has heard of it
        first.result()

    first, second = sorted(traced(use), key=lambda trace: trace.request_id)
    assert first.names[-1] == "GRPC_SEND_END"
    assert second.names[:4] == [*CALL, "REQUEST_START", "QUEUE_START"]
    assert second.names[-3:] == ["REQUEST_END", "GRPC_SEND_START", "GRPC_SEND_END"]
    assert "INFER_RESPONSE_COMPLETE" not in second.names


def test_contents_of_tensors(traced):
    def use(client, _):
        ask(client, "twice", 0.1, 2, request_id="mine")

    ensemble, first, _ = traced(use, level=("TIMESTAMPS", "TENSORS"))
    tensor = {"data": "0.1,2.0", "shape": "1,2", "dtype": "FP32"}
    expected = [
        ("TENSOR_QUEUE_INPUT", {"name": "x", **tensor}),
        ("TENSOR_BACKEND_OUTPUT", {"name": "y", **tensor}),
    ]
    assert ensemble.tensors == first.tensors == expected
    assert "REQUEST_START" in ensemble.names


def test_every_answer_of_a_decoupled_model(traced):
    def use(client, _):
        answers = []
        client.start_stream(lambda result, error: answers.append(error or result))
        client.async_stream_infer("counting", tensors({"x": row(3)}), request_id="mine")
        client.stop_stream()
        assert len(answers) == 3

    (trace,) = traced(use, level=("TIMESTAMPS", "TENSORS"))
    outputs = [tensor["data"] for activity, tensor in trace.tensors if activity == "TENSOR_BACKEND_OUTPUT"]
    assert outputs == ["0.0", "1.0", "2.0"]
    assert trace.names.count("INFER_RESPONSE_COMPLETE") == 4  # and that there are no more
    assert trace.names[:2] == CALL
    assert trace.names[-3:] == ANSWER[1:]
    assert [name for name in trace.names if name.startswith("COMPUTE")] == COMPUTE


def test_one_of_so_many(traced):
    def use(client, _):
        for number in range(10):
            ask(client, "plain", number, request_id=str(number))

    assert [trace.request_id for trace in traced(use, rate=3)] == ["2", "5", "8"]


def test_nothing_by_default(repository, tmp_path):
    path = tmp_path / "trace.json"
    with tracing(repository, file=str(path), level=("OFF",)) as (_, client):
        ask(client, "plain", 1)
    assert list(tmp_path.iterdir()) == []


def test_settings_through_the_client(repository, tmp_path):
    path = tmp_path / "trace.json"
    start = {
        "trace_level": ["OFF"],
        "trace_rate": ["1000"],
        "trace_count": ["-1"],
        "log_frequency": ["0"],
        "trace_file": [str(path)],
        "trace_mode": ["triton"],
    }
    with tracing(repository, file=str(path), level=("OFF",), rate=1000) as (_, client):

        def settings(model=None, **update):
            said = client.update_trace_settings(model, update) if update else client.get_trace_settings(model)
            return {name: list(setting.value) for name, setting in said.settings.items()}

        assert settings() == settings("plain") == start
        assert settings(trace_rate="1") == {**start, "trace_rate": ["1"]}
        own = {"trace_level": ["TIMESTAMPS", "TENSORS"], "trace_count": ["2"]}
        assert settings("plain", **own) == {**start, "trace_rate": ["1"], **own}
        assert settings() == {**start, "trace_rate": ["1"]}
        for number in range(3):
            ask(client, "plain", number, request_id=f"own {number}")
            ask(client, "cached", number)
        assert settings("plain")["trace_count"] == ["0"]
        cleared = settings("plain", trace_level=None, trace_count=None)
        assert cleared == settings() == {**start, "trace_rate": ["1"]}
        eventually((tmp_path / "trace.json.0").exists)
        settings(trace_level=["TIMESTAMPS"])
        ask(client, "plain", 1, request_id="all")
        ask(client, "cached", 1, request_id="all")
    assert [trace.request_id for trace in read_traces(tmp_path / "trace.json.0")] == ["own 0", "own 1"]
    assert [trace.model for trace in read_traces(path)] == ["plain", "cached"]


def test_files_by_log_frequency(repository, tmp_path):
    path = tmp_path / "trace.json"
    with tracing(repository, file=str(path), log_frequency=2) as (_, client):
        for number in range(5):
            ask(client, "plain", number, request_id=str(number))
        eventually((tmp_path / "trace.json.1").exists)
        assert not (tmp_path / "trace.json.2").exists()
        client.update_trace_settings(settings={"log_frequency": "3"})
        eventually((tmp_path / "trace.json.2").exists)
        ask(client, "plain", 5, request_id="5")
    files = [[trace.request_id for trace in read_traces(tmp_path / f"trace.json.{n}")] for n in range(4)]
    assert files == [["0", "1"], ["2", "3"], ["4"], ["5"]]
    assert not path.exists()


@one_process
def test_a_file_that_cannot_be_written(repository, tmp_path, caplog):
    """Requests are answered all the same; the log says it once."""
    with tracing(repository, file=str(tmp_path / "missing" / "trace.json")) as (_, client):
        for number in range(3):
            ask(client, "plain", number)
    (record,) = [record for record in caplog.records if record.name == "yais.serving"]
    assert "missing/trace.json" in record.getMessage()


BAD = {
    "file": (
        {"trace_file": ["x"]},
        "UNIMPLEMENTED",
        "trace file location can not be updated through network protocol",
    ),
    "mode": (
        {"trace_mode": ["x"]},
        "UNIMPLEMENTED",
        "trace mode can not be updated through network protocol",
    ),
    "other": (
        {"rate": ["1"]},
        "INVALID_ARGUMENT",
        "got trace setting 'rate', expected one of trace_level, trace_rate, trace_count, log_frequency",
    ),
    "no rate": (
        {"trace_rate": ["0"], "trace_level": ["TIMESTAMPS"]},
        "INVALID_ARGUMENT",
        "Attempting to set invalid trace setting :sample rate must be non-zero",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_set(repository, tmp_path, name):
    settings, code, text = BAD[name]
    with tracing(repository, file=str(tmp_path / "trace.json"), level=("OFF",)) as (server, _):
        request = pb.TraceSettingRequest()
        for key, values in settings.items():
            request.settings[key].value.extend(values)
        with Wire(server.port) as wire:
            before = wire.call("TraceSetting")
            refused, said = wire.refusal(request, "TraceSetting")
            assert (refused.name, said) == (code, text)
            assert wire.call("TraceSetting") == before


def test_models_that_are_not_there(repository):
    with tracing(repository, level=("OFF",)) as (server, _), Wire(server.port) as wire:
        request = pb.TraceSettingRequest(model_name="other")
        assert wire.refusal(request, "TraceSetting")[1] == "Request for unknown model : other"
        request.settings["trace_rate"].value.append("5")
        assert wire.refusal(request, "TraceSetting")[1] == "Request for unknown model : other"
        request.model_name = ""
        request.settings["trace_level"].value.append("TIMESTAMPS")
        text = "Attempting to set invalid trace setting :trace file name is not given"
        assert wire.refusal(request, "TraceSetting")[1] == text


def test_what_cannot_be_traced_is_said_at_the_start(caplog):
    tracer = Tracer(TraceOptions(level=("TIMESTAMPS",)), lambda *_: None)
    assert not tracer.active
    (record,) = caplog.records
    assert record.getMessage() == "requests are not traced: trace file name is not given"


def test_a_tracer_rests_when_it_has_made_all_traces(tmp_path):
    options = TraceOptions(level=("TIMESTAMPS",), rate=1, count=1, file=str(tmp_path / "trace.json"))
    tracer = Tracer(options, lambda *_: None)
    assert tracer.active
    call = HttpCall()
    assert tracer.begin("model", "1", InferRequest([], []), call) is not None
    assert not tracer.active
    tracer.update("model", {"trace_count": ["1"]})
    assert tracer.active
    tracer.close()
    assert not tracer.active


class HttpCall:
    """A `TracedCaller`."""

    protocol = "HTTP"
    trace: CallTrace | None = None
    accepted = waited = 0
    deadline = NEVER
    metadata = Metadata([])


def test_changing_settings_writes_what_is_left(tmp_path):
    options = TraceOptions(level=("TIMESTAMPS",), rate=1, log_frequency=5, file=str(tmp_path / "trace.json"))
    tracer = Tracer(options, lambda *_: None)
    call = HttpCall()
    tracer.begin("model", "1", InferRequest([], []), call)
    call.trace.sent()
    eventually(lambda: "1 not complete" in repr(tracer) and "0 traces waiting" in repr(tracer))
    tracer.update("", {"trace_rate": ["2"]})
    eventually((tmp_path / "trace.json.0").exists)
    tracer.close()


def test_moments_of_http(tmp_path):
    path = tmp_path / "trace.json"
    tracer = Tracer(TraceOptions(level=("TIMESTAMPS",), rate=1, file=str(path)), lambda *_: None)
    call = HttpCall()
    trace = tracer.begin("model", "1", InferRequest([], []), call)
    trace.follow(answered := Future())
    answered.set_result(InferResponse(ResponseForm("model", "1", ()), "", ()))
    call.trace.sent()
    tracer.close()
    (traced,) = read_traces(path)
    answer = [name.replace("GRPC", "HTTP") for name in ANSWER]
    assert traced.names == ["HTTP_RECV_START", "HTTP_RECV_END", "REQUEST_START", *answer]


@pytest.mark.parametrize("first", ["request", "front door"])
def test_a_trace_has_two_ends(tmp_path, first):
    """A front door may be gone before its request, which reads its inputs still."""
    path = tmp_path / "trace.json"
    tracer = Tracer(TraceOptions(level=("TIMESTAMPS",), rate=1, file=str(path)), lambda *_: None)
    call, answered = HttpCall(), Future()
    tracer.begin("model", "1", InferRequest([], []), call).follow(answered)
    if first == "front door":
        call.trace.sent()
    answered.set_exception(ValueError("broken"))
    if first == "request":
        call.trace.sent()
    tracer.close()
    (traced,) = read_traces(path)
    assert "REQUEST_END" in traced.names
    assert ("HTTP_SEND_END" in traced.names) == (first == "request")


def test_a_request_without_an_id(traced):
    def use(_, server):
        with Wire(server.port) as wire:
            wire.infer(infer_request("plain", {"x": row(1)}))

    (trace,) = traced(use)
    assert trace.request_id == ""
