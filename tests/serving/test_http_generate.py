"""Generate and generate_stream: plain JSON in, plain JSON or server-sent events out."""

from __future__ import annotations

import asyncio
import json
import socket
import threading

import pytest
from gated_models import gates, write_gated
from http_models import fill_routed
from http_routed import connection_closing, routed
from server_state import in_flight
from serving_models import SOON, eventually

from yais.core.future import Future
from yais.errors import DeadlineExceeded
from yais.inference.request import InferResponse, ResponseForm
from yais.serving.http.response_queue import ResponseQueue

NOT_ONE = (
    "generate expects model to produce exactly 1 response, use generate stream for model that generates "
    "various number of responses"
)


@pytest.fixture(scope="module")
def http(tmp_path_factory):
    root = fill_routed(tmp_path_factory.mktemp("models"))
    write_gated(root, "gated", "max_batch_size: 1")
    with routed(root) as calls:
        yield calls


def told(http, model, fields):
    """Return what generate answers, which generate_stream must answer as its only event."""
    one = http.post(f"/v2/models/{model}/generate", fields)
    assert events(http, model, fields) == [one]
    assert http.post(f"/v2/models/{model}/versions/1/generate", fields) == one
    return one


def events(http, model, fields):
    """Return the events of generate_stream."""
    status, kind, body = http.call("POST", f"/v2/models/{model}/generate_stream", json.dumps(fields))
    assert (status, kind) == (200, "text/event-stream; charset=utf-8")
    *parts, end = body.decode().split("\n\n")
    assert not end
    assert all(part.startswith("data: ") for part in parts)
    return [json.loads(part.removeprefix("data: ")) for part in parts]


def test_keys_are_inputs_and_outputs(http):
    expected = {"model_name": "table", "model_version": "1", "value": 12}
    assert told(http, "table", {"index": 2}) == expected
    assert list(told(http, "table", {"index": 2, "id": "an id"})) == ["id", *expected]


@pytest.mark.parametrize(
    ("model", "given", "expected"),
    [
        ("text", "é", "é"),
        ("text", ["a"], "a"),
        ("text", ["a", "b"], ["a", "b"]),
        ("text", [["a"], ["b"]], ["a", "b"]),
        ("text", [], []),
        ("matrix", [[1, 2, 3], [4, 5, 6]], [1, 2, 3, 4, 5, 6]),
        ("matrix", [[0.5, -1, 1e30], [0, 0, 0]], [0.5, -1, pytest.approx(1e30), 0, 0, 0]),
    ],
)
def test_values_are_scalars_or_lists(http, model, given, expected):
    assert told(http, model, {"X": given})["Y"] == expected


def test_what_is_no_input_is_a_parameter(http):
    fields = {"index": 1, "mood": "good", "warmth": 0.5, "count": 3, "loud": True}
    assert told(http, "table", fields)["value"] == 11
    assert told(http, "table", {"parameters": {"index": 1, "mood": "good"}})["value"] == 11
    negative = http.refusal("/v2/models/table/generate", {"index": 1, "parameters": {"timeout": -1}})
    assert negative == (400, "got -1 for the parameter 'timeout', expected 0 or more")


@pytest.mark.parametrize(
    ("model", "fields", "status", "text"),
    [
        ("nix", {}, 404, "Request for unknown model: 'nix' is not found"),
        ("table/versions/7", {"index": 1}, 404, "Request for unknown model: 'table' version 7 is not found"),
        ("table", {}, 400, "expected 1 inputs but got 0 inputs"),
        ("table", {"index": "a"}, 400, "attempt to access JSON non-signed-integer as signed-integer"),
        ("table", {"index": None}, 400, "attempt to access JSON non-signed-integer as signed-integer"),
        ("table", {"index": [[1, 2], [3]]}, 400, "Shape does not match true shape of 'data' field"),
        ("table", {"index": [1, 2]}, 400, "unexpected shape for input 'index' for model 'table'"),
        ("table", {"index": [1, 2], "id": 7}, 400, "Unable to parse 'id': attempt to access JSON non-string"),
        ("text", {"X": 5}, 400, "attempt to access JSON non-string as string"),
        ("text", {"X": {"a": 1}}, 400, "attempt to access JSON non-string as string"),
        ("half", {"X": 1}, 400, "receiving FP16 data via JSON is not supported"),
        ("table", {"index": 1, "mood": None}, 400, "parameter 'mood' has invalid type"),
        ("table", {"index": 1, "mood": [1]}, 400, "parameter 'mood' has invalid type"),
        ("table", {"index": 1, "triton_x": 1}, 400, "are reserved for Triton usage"),
        (
            "table",
            {"index": 1, "triton_enable_empty_final_response": True},
            400,
            "are reserved for Triton usage",
        ),
        ("table", {"index": 1, "parameters": 5}, 400, "attempt to access JSON non-object as object"),
        ("table", {"index": 9}, 500, "model 'table' failed"),
    ],
)
@pytest.mark.parametrize("verb", ["generate", "generate_stream"])
def test_what_is_refused(http, model, fields, status, text, verb):
    refusal = http.refusal(f"/v2/models/{model}/{verb}", fields)
    assert refusal[0] == status
    assert text in refusal[1]


@pytest.mark.parametrize("count", [0, 2, 5])
def test_generate_wants_one_response(http, count):
    refusal = http.refusal("/v2/models/teller/generate", {"text": "word", "count": count})
    assert refusal == (400, NOT_ONE)


@pytest.mark.parametrize("count", [0, 1, 2, 100])
def test_a_stream_has_any_number_of_responses(http, count):
    said = events(http, "teller", {"id": "7", "text": "word", "count": count})
    assert [event["word"] for event in said] == [f"word {number}" for number in range(count)]
    assert {event["id"] for event in said} <= {"7"}


def test_one_response_of_a_decoupled_model(http):
    assert told(http, "teller", {"text": "word", "count": 1})["word"] == "word 0"


def test_an_error_after_the_first_response_is_the_last_event(http):
    first, error = events(http, "teller", {"text": "word", "count": -3})
    assert first["word"] == "word 0"
    assert error == {"error": "model 'teller' failed: lost for words"}
    refusal = http.refusal("/v2/models/teller/generate", {"text": "word", "count": -3})
    assert refusal == (500, "model 'teller' failed: lost for words")


def test_responses_come_as_the_model_gives_them_and_it_stops_with_its_client(http):
    ended = gates["endless"].batches
    ended.clear()
    connection, response = http.send("POST", "/v2/models/endless/generate_stream", '{"size": 1}')
    with connection_closing(connection):
        lines = [response.readline() for _ in range(200)]
        assert json.loads(lines[198].removeprefix(b"data: "))["number"] == 99
        assert not ended
        response.close()
    eventually(lambda: ended)


def test_it_stops_with_a_client_that_has_sent_more_requests(http, caplog):
    ended = gates["endless"].batches
    ended.clear()
    body = b'{"size": 1000}'
    request = (
        b"POST /v2/models/endless/generate_stream HTTP/1.1\r\nHost: x\r\nContent-Length: 14\r\n\r\n" + body
    )
    with socket.create_connection(("127.0.0.1", http.port), timeout=SOON) as connection:
        connection.sendall(request + b"GET /v2 HTTP/1.1\r\nHost: x\r\n\r\n")
        assert connection.recv(1000).startswith(b"HTTP/1.1 200")
        assert not ended
    eventually(lambda: ended)
    eventually(lambda: in_flight(http.server) == 0)
    assert not caplog.records


def test_a_slow_reader_holds_its_model_up(http):
    ended = gates["endless"].batches
    ended.clear()
    body = '{"size": 1000000}'
    connection, response = http.send("POST", "/v2/models/endless/generate_stream", body)
    with connection_closing(connection):
        assert json.loads(response.readline().removeprefix(b"data: "))["number"] == 0
        assert told(http, "table", {"index": 0})["value"] == 10  # and nobody else
        assert not ended
        response.close()
    eventually(lambda: ended)


@pytest.mark.parametrize("verb", ["generate", "generate_stream"])
def test_a_client_that_hangs_up_cancels_what_waits(http, verb):
    gate = gates["gated"]
    with gate.shut():
        done = threading.Thread(target=told, args=(http, "gated", {"x": 1}))
        done.start()
        gate.wait_for(1)  # the model is busy
        connection = http.send_only("POST", f"/v2/models/gated/{verb}", '{"x": 2}')
        eventually(lambda: in_flight(http.server) == 2)
        connection.close()
        eventually(lambda: in_flight(http.server) == 1)
    done.join(SOON)
    assert gate.batches == [[1.0]] * 3


def response(number):
    return InferResponse(ResponseForm("m", "1", ()), str(number), [memoryview(b"")])


async def test_a_reader_that_takes_nothing_ends_the_stream():
    queue, done = ResponseQueue(patience=0.01), Future()
    queue.follow(done)
    assert all([await asyncio.to_thread(queue.put, response(number)) for number in range(16)])
    assert not await asyncio.to_thread(queue.put, response(16))
    done.set_result(InferResponse(ResponseForm("m", "1", ()), "", ()))
    for number in range(16):
        assert (await queue.take()).id == str(number)
    with pytest.raises(DeadlineExceeded, match=r"no response was taken for 0\.01 s"):
        await queue.take()


async def test_room_is_made_by_taking():
    queue, done = ResponseQueue(patience=SOON), Future()
    queue.follow(done)

    def give():
        for number in range(40):
            assert queue.put(response(number))
        done.set_result(InferResponse(ResponseForm("m", "1", ()), "", ()))

    giving = asyncio.create_task(asyncio.to_thread(give))
    for number in range(40):
        assert (await queue.take()).id == str(number)
    assert await queue.take() is None
    await giving


async def test_closing_wakes_a_model_that_waits():
    queue, done = ResponseQueue(patience=SOON), Future()
    queue.follow(done)
    for number in range(16):
        assert queue.put(response(number))
    waiting = asyncio.create_task(asyncio.to_thread(queue.put, response(16)))
    queue.close()
    assert await waiting is False
    assert queue.put(response(17)) is False
    assert done.cancelled()


async def test_what_cancels_a_request_ends_its_stream():
    queue, done = ResponseQueue(), Future()
    queue.follow(done)
    done.cancel()
    with pytest.raises(Exception, match="the request was cancelled"):
        await queue.take()
