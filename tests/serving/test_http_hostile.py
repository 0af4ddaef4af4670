"""What only somebody with bad intentions sends, and what the others notice of it."""

from __future__ import annotations

import gzip
import http.client
import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from gated_models import gates, write_gated, write_python
from http_calls import Http, exchange, given, received, serving_http
from http_models import TELLER, TELLER_CONFIG
from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st
from onnx_models import identity, write
from serving_models import SOON, eventually, one_process, serving_models
from test_http_transport import dial, gated, raw

from yais.errors import InvalidArgument
from yais.serving.http import json_text, tensor_json
from yais.serving.http.json_text import dump_json, parse_json

pytestmark = one_process

INFER = "/v2/models/identity_fp32/infer"
GATED = "/v2/models/hostile_gate/infer"


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A server that these tests may keep busy."""
    repository = tmp_path_factory.mktemp("hostile")
    write_gated(repository, "hostile_gate", "max_batch_size: 1 instance_group { count: 1 kind: KIND_CPU }")
    write(repository, "identity_fp32", identity("FP32"))
    write(repository, "identity_bytes", identity("BYTES"))
    write_python(repository, "teller", TELLER, TELLER_CONFIG)
    with serving_models(repository) as server:
        yield server


@pytest.fixture(scope="module")
def running(own):
    with serving_http(own) as http:
        yield http


@pytest.fixture
def calls(running):
    with Http(running.port) as made:
        yield made


def test_a_request_whose_client_leaves_while_it_waits_for_its_turn_is_not_served(own):
    gate = gates["hostile_gate"]
    with serving_http(own, max_requests=1) as running, ThreadPoolExecutor(1) as pool:
        endpoint = running._app._infer
        with Http(running.port) as first, gate.shut():
            asked = pool.submit(first.infer, "hostile_gate", gated(1.0))
            gate.wait_for(1)
            with dial(running) as connection:
                connection.sendall(raw(GATED, json.dumps(gated(2.0)).encode()))
                eventually(lambda: endpoint._waiting == 1)
            eventually(lambda: endpoint._waiting == 0)  # its place is free at once
        assert asked.result(SOON).status == 200
        with Http(running.port) as last:
            assert last.infer("hostile_gate", gated(3.0)).status == 200
        assert [2.0] not in gate.batches and [3.0] in gate.batches


@pytest.mark.parametrize("key", ["triton_\ud800", "\ud800"])
@pytest.mark.parametrize("value", [[1], 1])
def test_half_of_a_surrogate_pair_is_no_fault_of_the_server(calls, key, value):
    body = json.dumps({"text": "x", "count": 1, key: value})
    for path in ("generate", "generate_stream"):
        status, text = calls.call("POST", f"/v2/models/teller/{path}", body).error
        assert status == 400 and "surrogate" in text


def test_text_that_is_no_unicode_can_be_told():
    assert dump_json({"error": "ä \udcff"}) == b'{"error":"\xc3\xa4 \\udcff"}'
    assert json.loads(dump_json("\udcff")) == "\udcff"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-8-sig"])
def test_json_is_utf_8(calls, encoding):
    body = json.dumps({"inputs": [given("X", "FP32", [1, 1], [1.0])]}).encode(encoding)
    status, text = calls.infer("identity_fp32", body).error
    assert status == 400 and "failed to parse the request JSON buffer" in text


def test_a_body_of_very_many_gzip_members_is_refused(calls):
    body = json.dumps({"inputs": [given("X", "FP32", [1, 1], [1.0])]}).encode()
    whole = b"".join(gzip.compress(body[at : at + 1]) for at in range(len(body)))
    assert calls.infer("identity_fp32", whole, **{"Content-Encoding": "gzip"}).status == 200
    status, text = calls.infer(
        "identity_fp32", gzip.compress(b"") * 2000, **{"Content-Encoding": "gzip"}
    ).error
    assert (status, text) == (400, "failed to decompress the request body: too many gzip members")


PLAIN = {"Content-Type": "text/plain;charset=UTF-8"}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "http://other"}, 200),
        ({"Sec-Fetch-Site": "none"}, 200),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site", **PLAIN}, 403),
        ({"Origin": "http://other", **PLAIN}, 403),
        ({"Origin": "null", **PLAIN}, 403),
        ({"Origin": "https://here:8000", "Host": "here:8000", **PLAIN}, 200),
        ({"Origin": "http://here:8001", "Host": "here:8000", **PLAIN}, 403),
        # Browsers ask before they send this; what is in front of the server has allowed it.
        ({"Sec-Fetch-Site": "cross-site", "Content-Type": "application/json"}, 200),
    ],
)
def test_pages_of_other_sites_change_nothing(calls, headers, status):
    infer = json.dumps({"inputs": [given("X", "FP32", [1, 1], [1.0])]})
    for path, body in (("/v2/repository/index", "{}"), (INFER, infer)):
        assert calls.call("POST", path, body, headers).status == status
    assert calls.call("GET", "/v2", headers=headers).status == 200


def test_no_other_site_is_allowed_anything(calls):
    asked = {"Origin": "http://other", "Access-Control-Request-Method": "POST"}
    reply = calls.call("OPTIONS", INFER, headers=asked)
    assert reply.status == 405
    assert not [name for name in reply.headers if name.startswith("access-control")]


def test_there_are_not_too_many_connections(running, monkeypatch):
    connections = running._server.server_state.connections
    eventually(lambda: not connections)
    monkeypatch.setattr("yais.serving.http.connection._most_connections", lambda: 2)
    with Http(running.port) as first, Http(running.port) as second:
        assert first.call("GET", "/v2/health/live").status == 200
        assert second.call("GET", "/v2/health/live").status == 200
        answer = exchange(running.port, b"")
        assert answer.startswith(b"HTTP/1.1 503 ") and b'{"error":"There are too many' in answer
        assert first.call("GET", "/v2/health/live").status == 200
    eventually(lambda: not connections)
    with Http(running.port) as again:
        assert again.call("GET", "/v2/health/live").status == 200


def test_what_comes_with_the_end_of_a_body_is_no_part_of_it(running):
    bodies = [json.dumps({"inputs": [given("X", "FP32", [1, 1], [value])]}).encode() for value in (1.5, 2.5)]
    first, second = raw(INFER, bodies[0]), raw(INFER, bodies[1], Connection="close")
    with dial(running) as connection:
        connection.sendall(first[:-5])
        connections = running._server.server_state.connections
        eventually(lambda: [each for each in connections if each._parts])
        connection.sendall(first[-5:] + second)
        answer = received(connection)
    assert answer.count(b"HTTP/1.1 200 OK") == 2
    assert answer.index(b'"data":[1.5]') < answer.index(b'"data":[2.5]')


def test_a_body_without_end_is_refused_as_soon_as_it_is_too_long(own):
    head = f"POST {INFER} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    with serving_http(own, max_input_bytes=1000) as running, dial(running) as connection:
        chunk = b"258\r\n" + b" " * 600 + b"\r\n"
        connection.sendall(head + chunk)
        connections = running._server.server_state.connections
        eventually(lambda: [each for each in connections if each._parts])
        connection.sendall(chunk)
        assert connection.recv(100).startswith(b"HTTP/1.1 400 Bad Request")


def test_a_body_that_nobody_wants_is_skipped(running):
    large = raw("/nope", b" " * 1_000_000) + raw("/v2/health/live", b"", "GET", Connection="close")
    answer = exchange(running.port, large)
    assert answer.index(b"HTTP/1.1 404 ") < answer.index(b"HTTP/1.1 200 ")


def test_what_is_no_http_does_not_get_into_a_response(running):
    connections = running._server.server_state.connections
    asked = json.dumps({"text": "x" * 1000, "count": 1000}).encode()
    with dial(running) as connection:
        connection.sendall(raw("/v2/models/teller/generate_stream", asked))
        begin = connection.recv(10)
        (served,) = connections
        with ThreadPoolExecutor(1) as pool:
            connection.sendall(b"garbage\r\n\r\n")
            rest = pool.submit(received, connection).result(SOON)
        assert begin == b"HTTP/1.1 2" and b"HTTP/1.1 400" not in rest
    eventually(lambda: served not in connections)


class TestImpatience:
    """Clients that let the server wait, with short waits."""

    @pytest.fixture(autouse=True)
    def _short(self, monkeypatch):
        for name, seconds in {"_ARRIVAL": 1.0, "_STUCK": 0.2}.items():
            monkeypatch.setattr(f"yais.serving.http.connection.{name}", seconds)
        monkeypatch.setattr("yais.serving.http.server._TICK", 0.02)

    def test_a_client_that_reads_too_slowly_is_disconnected(self, own, monkeypatch):
        monkeypatch.setattr("yais.serving.http.connection._SLOWEST", 1e8)
        monkeypatch.setattr("yais.serving.http.connection._STUCK", 0.5)
        data = bytes(20_000_000)
        fields = {"inputs": [given("X", "FP32", [1, len(data) // 4], binary_data_size=len(data))]}
        text = json.dumps({**fields, "parameters": {"binary_data_output": True}}).encode()
        sent = gzip.compress(text + data, 1)
        lines = {"Inference_Header_Content_Length": len(text), "Content_Encoding": "gzip"}
        with serving_http(own) as running, socket.socket() as connection:
            connection.settimeout(SOON)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
            connection.connect(("127.0.0.1", running.port))
            connection.sendall(raw(INFER, sent, **lines))
            size = 0
            while size < len(data) and (part := connection.recv(1 << 16)):
                size += len(part)
                threading.Event().wait(0.01)  # less than 7 MB a second
            assert 0 < size < len(data)

    def test_a_client_is_not_blamed_for_what_is_not_read_before_its_turn(self, own):
        gate = gates["hostile_gate"]
        large = json.dumps({"inputs": [given("X", "FP32", [1, 1], [1.0])]}).encode() + b" " * 3_000_000
        second = raw(INFER, large, Connection="close")
        with serving_http(own) as running, ThreadPoolExecutor(1) as pool, dial(running) as connection:
            with gate.shut():
                connection.sendall(raw(GATED, json.dumps(gated(4.0)).encode()) + second[:200])
                gate.wait_for(1)
                sent = pool.submit(connection.sendall, second[200:])
                threading.Event().wait(2.0)  # much longer than a body may take
            assert received(connection).count(b"HTTP/1.1 200 OK") == 2
            sent.result(SOON)

    def test_but_for_what_it_does_not_send_then(self, own):
        gate = gates["hostile_gate"]
        with serving_http(own) as running, dial(running) as connection:
            with gate.shut():
                first = raw(GATED, json.dumps(gated(5.0)).encode())
                connection.sendall(first + raw(INFER, b"", Content_Length=1000))
                gate.wait_for(1)
            assert received(connection).count(b"HTTP/1.1 ") == 1


def elements(count):
    return np.linspace(-1, 1, count, dtype=np.float32)


def test_large_json_keeps_nobody_waiting(running, calls):
    count = 300_000
    values = elements(count).tolist()
    body = json.dumps({"inputs": [given("X", "FP32", [1, count], [values])]}).encode()

    def share():
        """Return the part of the time of a large request for which somebody else waited."""
        took, done = [], threading.Event()

        def others():
            with Http(running.port) as other:
                while not done.is_set():
                    begun = time.perf_counter()
                    assert other.call("GET", "/v2/health/live").status == 200
                    took.append(time.perf_counter() - begun)
                    done.wait(0.002)

        with ThreadPoolExecutor(1) as pool:
            asking = pool.submit(others)
            eventually(lambda: took)
            del took[:]
            begun = time.perf_counter()
            try:
                reply = calls.infer("identity_fp32", body)
            finally:
                whole = time.perf_counter() - begun
                done.set()
            asking.result(SOON)
        assert reply.json["outputs"][0]["data"] == values
        return max(took) / whole

    # On the loop, one would wait for nearly all of it, each time. What else the machine does may delay one.
    eventually(lambda: share() < 0.5)


TEXTS = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(allow_nan=False),
        st.text('ab"\\,[]{}: \n\x00é😀'),
    ),
    lambda inner: st.lists(inner) | st.dictionaries(st.text('a,]"'), inner, max_size=3),
    max_leaves=30,
)


@settings(max_examples=150, deadline=None)
@for_all(TEXTS, st.sampled_from([None, 0, 1]), st.data())
def test_large_json_means_the_same_as_small(value, indent, data):
    text = json.dumps(value, indent=indent)
    if text and data.draw(st.booleans()):  # broken, perhaps
        at = data.draw(st.integers(0, len(text)))
        text = (
            text[:at] + data.draw(st.sampled_from(["", ",", "]", "[", "1", '"', " ", "}"])) + text[at + 1 :]
        )
    try:
        expected = json.loads(text)
    except ValueError as error:
        expected = error
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_text, "PIECE", data.draw(st.integers(1, 9)))
        try:
            got = json_text._in_pieces.decode(text)
        except ValueError as error:
            got = error
    if isinstance(expected, ValueError):
        assert isinstance(got, ValueError)
    else:
        assert got == expected and type(got) is type(expected)


def test_large_json_is_parsed_in_pieces_and_checked_as_any(monkeypatch):
    monkeypatch.setattr(json_text, "PIECE", 4)
    monkeypatch.setattr(json_text, "LARGE", 0)
    assert parse_json(b'{"a": [1, 2.5, NaN, "x", [true, null], {}, [] ]}')["a"][4] == [True, None]
    for text in (
        b"[1, 2, ]",
        b"[, 1, 2]",
        b"[1 2345]",
        b'["a" "b"]',
        b"[12345",
        b"[1, , 2]",
        b"[[1], 12]]",
        b"[1,   ]",
    ):
        with pytest.raises(InvalidArgument, match="failed to parse the request JSON buffer"):
            parse_json(text)
    for depth in (101, 100_000):
        with pytest.raises(InvalidArgument, match="nesting depth exceeds"):
            parse_json(b"[" * depth + b"]" * depth)
    assert parse_json(b"[" * 100 + b"]" * 100)


def test_large_tensors_are_handled_in_pieces(monkeypatch, calls):
    monkeypatch.setattr(tensor_json, "PIECE", 3)
    for count in (1, 2, 3, 4, 7):
        reply = calls.infer("identity_fp32", {"inputs": [given("X", "FP32", [1, count], list(range(count)))]})
        assert reply.json["outputs"][0]["data"] == [float(number) for number in range(count)]
        texts = [f"ä{number}" for number in range(count)]
        reply = calls.infer("identity_bytes", {"inputs": [given("X", "BYTES", [1, count], [[texts]])]})
        assert reply.json["outputs"][0]["data"] == texts
    bad = [given("X", "FP32", [1, 7], [1, 2, 3, 4, 5, 6, True])]
    assert calls.infer("identity_fp32", {"inputs": bad}).error[0] == 400


def test_large_objects_are_read_too(running):
    body = json.dumps({"ready": True, "padding": "x" * (2 << 20)})
    connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=SOON)
    connection.request("POST", "/v2/repository/index", body)
    response = connection.getresponse()
    assert response.status == 200 and json.loads(response.read())
    connection.close()
