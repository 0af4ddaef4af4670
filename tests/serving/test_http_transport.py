"""HTTP itself: connections, bodies, errors, disconnects, TLS, and the end."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from gated_models import gates, write_gated
from http_calls import Http, exchange, given, received, serving_http
from onnx_models import identity, write
from serving_models import SOON, eventually, one_process, serving_models

from yais.rpc.tls import Tls
from yais.serving.access import AccessOptions, Restriction

pytestmark = one_process

INFER = "/v2/models/identity_fp32/infer"
REQUEST = {"inputs": [given("X", "FP32", [1, 2], [1.0, 2.0])]}
BODY = json.dumps(REQUEST).encode()


def raw(path=INFER, body=BODY, method="POST", **headers):
    given_lines = {name.replace("_", "-"): value for name, value in headers.items()}
    lines = {"Host": "x", "Content-Length": len(body), **given_lines}
    text = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"{method} {path} HTTP/1.1\r\n{text}\r\n".encode() + body


CLOSE = {"Connection": "close"}


def dial(running, timeout=SOON):
    """Connect."""
    return socket.create_connection(("127.0.0.1", running.port), timeout=timeout)


@pytest.fixture(autouse=True, params=["uvloop", "asyncio"])
def _loop(request, monkeypatch):
    """Serve on each kind of loop."""
    if request.param == "asyncio":
        monkeypatch.setitem(sys.modules, "uvloop", None)
    else:
        pytest.importorskip("uvloop")


@pytest.fixture
def running(server, _loop):
    with serving_http(server) as http:
        yield http


@pytest.fixture
def http_calls(running):
    with Http(running.port) as calls:
        yield calls


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A server that these tests may keep busy."""
    repository = tmp_path_factory.mktemp("gated")
    instances = "max_batch_size: 1 instance_group { count: 1 kind: KIND_CPU }"
    write_gated(repository, "http_gate", instances)
    write(repository, "identity_fp32", identity("FP32"))
    with serving_models(repository) as server:
        yield server


def gated(value):
    return {"inputs": [given("x", "FP32", [1, 1], [value])]}


@pytest.fixture
def pool():
    with ThreadPoolExecutor(16) as threads:
        yield threads


def ask(port, value):
    """Send a request to the gated model on a connection of its own."""
    with Http(port) as calls:
        return calls.infer("http_gate", gated(value))


def test_one_connection_serves_many_requests(http_calls):
    for _ in range(3):
        assert http_calls.infer("identity_fp32", REQUEST).json["outputs"][0]["data"] == [1.0, 2.0]
        assert http_calls.infer("nope", REQUEST).status == 404
        assert http_calls.call("GET", "/v2/health/live").status == 200


def test_pipelined_requests_are_answered_in_order(running):
    requests = [
        raw(body=json.dumps({"id": str(number), **REQUEST}).encode(), **(CLOSE if number == 19 else {}))
        for number in range(20)
    ]
    parts = exchange(running.port, b"".join(requests)).split(b'{"id":"')[1:]
    assert [part.split(b'"')[0] for part in parts] == [str(number).encode() for number in range(20)]


def test_too_many_pipelined_requests_are_refused(running):
    answer = exchange(running.port, b"GET /v2 HTTP/1.1\r\n\r\n" * 1100)
    assert b"HTTP/1.1 400 Bad Request" in answer and answer.endswith(
        b'{"error":"Invalid HTTP request received."}'
    )


def test_chunks_are_put_together(running):
    body = b"".join(b"%x\r\n%c\r\n" % (1, byte) for byte in BODY) + b"0\r\n\r\n"
    head = f"POST {INFER} HTTP/1.1\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    assert b'"data":[1.0,2.0]' in exchange(running.port, head.encode() + body)


def test_a_body_in_many_packets_is_put_together(running):
    data = np.arange(200_000, dtype=np.float32)
    text = json.dumps({"inputs": [given("X", "FP32", [1, data.size], binary_data_size=data.nbytes)]}).encode()
    headers = {"Inference_Header_Content_Length": len(text), **CLOSE}
    request = raw(body=text + data.tobytes(), **headers)
    with dial(running) as connection:
        for start in range(0, len(request), 50_001):
            connection.sendall(request[start : start + 50_001])
        answer = received(connection)
    assert answer.startswith(b"HTTP/1.1 200") and b"[0.0,1.0,2.0," in answer


def test_the_client_may_ask_before_it_sends_the_body(running):
    with dial(running) as connection:
        connection.sendall(raw(Expect="100-continue", **CLOSE)[: -len(BODY)])
        assert connection.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(BODY)
        assert received(connection).startswith(b"HTTP/1.1 200")
        # The answer to one that need not be sent comes without it.
    with dial(running) as connection:
        connection.sendall(raw(Expect="100-continue", Content_Length=2 << 30, **CLOSE)[: -len(BODY)])
        assert received(connection).startswith(b"HTTP/1.1 400")


def test_head_is_get_without_a_body(http_calls):
    reply = http_calls.call("HEAD", "/v2")
    assert (reply.status, reply.body) == (200, b"") and int(reply.headers["content-length"]) > 0


@pytest.mark.parametrize(
    ("method", "path", "status", "text"),
    [
        ("GET", "/nope", 404, "Not Found"),
        ("POST", "/v2/models/a/b/infer", 404, "Not Found"),
        ("POST", "/v2/models//infer", 404, "Not Found"),
        ("GET", INFER, 405, "Method Not Allowed"),
        ("DELETE", INFER, 405, "Method Not Allowed"),
        ("PUT", "/v2/health/live", 405, "Method Not Allowed"),
    ],
)
def test_paths_and_methods_that_are_none(http_calls, method, path, status, text):
    assert http_calls.call(method, path).error == (status, text)


@pytest.mark.parametrize(
    "data",
    [
        b"garbage\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\n\r\n",
        b"CONNECT example.com:443 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nnope\r\n",
        raw(Connection="Upgrade", Upgrade="h2c"),
    ],
)
def test_what_is_no_http_is_refused_as_json(running, data):
    answer = exchange(running.port, data)
    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n") and b"application/json" in answer
    assert answer.endswith(b'\r\n\r\n{"error":"Invalid HTTP request received."}')


def test_an_upgrade_that_is_not_wanted_is_ignored(running):
    wanted = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "AAMAAABk"}
    with Http(running.port) as calls:
        for _ in range(2):
            assert calls.call("GET", "/v2", headers=wanted).status == 200
        assert calls.infer("identity_fp32", REQUEST).status == 200


@pytest.mark.parametrize("line", [b"X-A: " + b"a" * 1000 + b"\r\n", b"b" * 1000])
def test_heads_do_not_grow_without_end(running, line):
    with dial(running) as connection:
        connection.sendall(b"GET /v2 HTTP/1.1\r\n")
        with pytest.raises(OSError, match=r"Broken pipe|reset"):  # noqa: PT012
            while True:
                connection.sendall(line)


def test_trailers_do_not_grow_without_end(running):
    with dial(running) as connection:
        connection.sendall(b"POST /v2 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n")
        with pytest.raises(OSError, match=r"Broken pipe|reset"):  # noqa: PT012
            while True:
                connection.sendall(b"X-A: " + b"a" * 1000 + b"\r\n")


def test_a_client_that_leaves_in_the_middle_of_its_body_harms_nobody(running, http_calls):
    for _ in range(5):
        with dial(running) as connection:
            connection.sendall(raw()[:-5])
    assert http_calls.infer("identity_fp32", REQUEST).status == 200
    eventually(lambda: running.in_flight == 0)


def test_a_request_whose_client_has_left_is_not_served(own, pool):
    gate = gates["http_gate"]
    with serving_http(own) as running:
        assert ask(running.port, 0.0).status == 200
        with gate.shut():
            first = pool.submit(ask, running.port, 1.0)
            gate.wait_for(1)
            with dial(running) as connection:
                connection.sendall(raw("/v2/models/http_gate/infer", json.dumps(gated(2.0)).encode()))
                eventually(lambda: running.in_flight == 2)
            eventually(lambda: running.in_flight == 1)
        assert first.result(SOON).status == 200
        assert ask(running.port, 3.0).status == 200
        assert [2.0] not in gate.batches and [3.0] in gate.batches


def test_more_requests_than_may_be_served_at_once_wait(own, pool, monkeypatch):
    monkeypatch.setattr("yais.serving.http.infer._MAX_WAITING", 2)
    gate = gates["http_gate"]
    with serving_http(own, max_requests=1) as running:
        with gate.shut():
            asked = [pool.submit(ask, running.port, 1.0)]
            gate.wait_for(1)
            asked += [pool.submit(ask, running.port, value) for value in (2.0, 3.0)]
            eventually(lambda: running.in_flight == 3)
            eventually(lambda: running._app._infer._waiting == 2)
            status, text = ask(running.port, 4.0).error
            assert status == 503 and "wait for their turn" in text
        assert [reply.result(SOON).status for reply in asked] == [200, 200, 200]


def test_a_request_without_a_turn_for_long_is_refused(own, pool, monkeypatch):
    monkeypatch.setattr("yais.serving.http.infer._MAX_WAIT", 0.05)
    gate = gates["http_gate"]
    with serving_http(own, max_requests=1) as running:
        with gate.shut():
            first = pool.submit(ask, running.port, 1.0)
            gate.wait_for(1)
            status, text = ask(running.port, 2.0).error
            assert status == 503 and "had no turn within" in text
        assert first.result(SOON).status == 200


def test_the_end_waits_for_requests_in_flight_and_takes_no_more(own, pool):
    gate = gates["http_gate"]
    with serving_http(own) as running:
        idle = dial(running)
        with idle, dial(running) as busy:
            with gate.shut():
                busy.sendall(raw("/v2/models/http_gate/infer", json.dumps(gated(1.0)).encode()))
                gate.wait_for(1)
                stopped = pool.submit(running.stop, SOON)
                assert received(idle) == b""  # closed at once
                busy.sendall(raw(body=BODY))  # behind the one that is served
                with pytest.raises(ConnectionError):
                    dial(running)
                assert not stopped.done()
                assert "stopping" in repr(running)
            answer = received(busy)
            assert answer.startswith(b"HTTP/1.1 200") and b"connection: close" in answer
        assert stopped.result(SOON) is True


def test_a_request_after_the_end_has_begun_is_refused(own):
    with serving_http(own) as running, Http(running.port) as calls:
        running._app.stopping = True
        refusal = calls.infer("identity_fp32", REQUEST).error
        assert refusal == (503, "HTTP server is shutting down and has stopped accepting new requests.")


def test_the_end_does_not_wait_for_longer_than_it_may(own, pool):
    gate = gates["http_gate"]
    with serving_http(own) as running, gate.shut(), dial(running) as busy:
        busy.sendall(raw("/v2/models/http_gate/infer", json.dumps(gated(1.0)).encode()))
        gate.wait_for(1)
        assert running.stop(0.05) is False
        assert received(busy) == b""
    assert not running._loop._thread.is_alive()


def test_the_end_does_not_wait_when_somebody_is_in_a_hurry(own, pool):
    gate = gates["http_gate"]
    with serving_http(own) as running, gate.shut():
        asked = pool.submit(ask, running.port, 1.0)
        gate.wait_for(1)
        hurried = threading.Event()
        stopped = pool.submit(running.stop, 10 * SOON, hurried)
        eventually(lambda: running._server.server_state.connections and running._app.stopping)
        hurried.set()
        assert stopped.result(SOON) is False
        with pytest.raises(ConnectionError):
            asked.result(SOON)


def test_addresses_that_cannot_be_had(own):
    with serving_http(own) as running:
        assert "serving, 0 in flight" in repr(running)
        with pytest.raises(
            OSError, match=f"cannot serve HTTP on 127.0.0.1:{running.port}: Address already in use"
        ):
            serving_http(own, port=running.port).__enter__()
    with pytest.raises(OSError, match=r"cannot serve HTTP on 203.0.113.1:0: "):
        serving_http(own, address="203.0.113.1").__enter__()
    with pytest.raises(ValueError, match="got port 65536, expected 0 to 65535"):
        serving_http(own, port=65536).__enter__()


def test_servers_share_a_port(own):
    with (
        serving_http(own, reuse_port=True) as one,
        serving_http(own, port=one.port, reuse_port=True) as other,
    ):
        for _ in range(200):  # connections, each of which goes to either
            with Http(one.port) as calls:
                assert calls.call("GET", "/v2/health/live").status == 200
            if one.requests and other.requests:
                break
        assert one.requests and other.requests


def test_who_may_not_is_refused(own, tmp_path):
    tokens = tmp_path / "tokens"
    tokens.write_text("me secret\n")
    restriction = Restriction(("inference",), "x-key", "open")
    access = AccessOptions(tokens, http_restrictions=(restriction,))
    with serving_http(own, access) as running, Http(running.port) as calls:
        refused = calls.infer("identity_fp32", REQUEST)
        assert refused.error[0] == 401 and refused.headers["www-authenticate"] == "Bearer"
        assert calls.infer("identity_fp32", REQUEST, Authorization="Bearer secret").error[0] == 403
        headers = {"Authorization": "Bearer secret", "X-Key": "open"}
        assert calls.infer("identity_fp32", REQUEST, **headers).status == 200
        assert calls.call("GET", "/v2/health/live").status == 200


class TestImpatience:
    """Clients that let the server wait, with all waits short."""

    @pytest.fixture(autouse=True)
    def _short(self, monkeypatch):
        for name, seconds in {"_ARRIVAL": 1.0, "_REST": 0.3, "_STUCK": 0.3, "KEEP_ALIVE": 0.3}.items():
            monkeypatch.setattr(f"yais.serving.http.connection.{name}", seconds)
        monkeypatch.setattr("yais.serving.http.server._TICK", 0.05)

    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"POST /v2",
            raw()[:-1],
            raw(body=b"", Content_Length=5),
            raw("/v2/health/live", b"", "GET"),
            raw("/v2/health/live", b"", "GET") + b"\r\n",
            raw("/nope", b"", Content_Length=5),
        ],
    )
    def test_a_client_that_sends_no_more_is_disconnected(self, own, data):
        with serving_http(own) as running:
            exchange(running.port, data)

    def test_a_client_that_dribbles_is_disconnected(self, own):
        with serving_http(own) as running, dial(running, 0.02) as connection:
            connection.sendall(raw(body=b"", Content_Length=10_000))
            lost = False
            for _ in range(1000):
                try:
                    connection.sendall(b"x")
                    lost = connection.recv(1000) == b""
                except TimeoutError:
                    continue
                except OSError:
                    lost = True
                if lost:
                    break
            assert lost

    def test_a_client_that_does_not_read_is_disconnected(self, own):
        data = bytes(40_000_000)
        text = json.dumps(
            {
                "inputs": [given("X", "FP32", [1, len(data) // 4], binary_data_size=len(data))],
                "parameters": {"binary_data_output": True},
            }
        ).encode()
        with serving_http(own) as running, dial(running) as connection:
            connection.sendall(raw(body=text + data, Inference_Header_Content_Length=len(text)))
            connections = running._server.server_state.connections
            eventually(lambda: not connections)

    def test_a_client_that_reads_slowly_is_not(self, own, monkeypatch):
        monkeypatch.setattr("yais.serving.http.connection._STUCK", 2.0)
        data = bytes(20_000_000)
        text = json.dumps(
            {
                "inputs": [given("X", "FP32", [1, len(data) // 4], binary_data_size=len(data))],
                "parameters": {"binary_data_output": True},
            }
        ).encode()
        with serving_http(own) as running, dial(running) as connection:
            connection.sendall(raw(body=text + data, Inference_Header_Content_Length=len(text), **CLOSE))
            size, pause = 0, threading.Event()
            while part := connection.recv(1 << 20):
                size += len(part)
                pause.wait(0.15)
            assert size > len(data)


@pytest.fixture(scope="module")
def authority():
    from authority import Authority

    return Authority()


class TestTls:
    """TLS and mutual TLS."""

    def context(self, authority, directory, pair=None):
        context = ssl.create_default_context(cadata=authority.certificate.decode())
        if pair is not None:
            context.load_cert_chain(*pair.write(directory))
        return context

    def call(self, port, context):
        connection = http.client.HTTPSConnection("localhost", port, timeout=SOON, context=context)
        try:
            connection.request("POST", INFER, BODY)
            serial = ssl.DER_cert_to_PEM_cert(connection.sock.getpeercert(binary_form=True))
            return connection.getresponse().status, serial
        finally:
            connection.close()

    def test_the_certificate_of_the_moment_is_shown(self, own, authority, tmp_path):
        files = authority.certify("server", "localhost").write(tmp_path)
        with serving_http(own, tls=Tls(*files), address="localhost") as running:
            context = self.context(authority, tmp_path)
            status, first = self.call(running.port, context)
            assert status == 200
            authority.certify("server", "localhost").write(tmp_path)
            status, second = self.call(running.port, context)
            assert status == 200 and first != second

    def test_clients_need_a_certificate(self, own, authority, tmp_path):
        from authority import Authority

        files = authority.certify("server", "localhost").write(tmp_path)
        client_ca = tmp_path / "ca.crt"
        client_ca.write_bytes(authority.certificate)
        (tmp_path / "client").mkdir()
        known = authority.certify("client", "client")
        with serving_http(own, tls=Tls(*files, client_ca), address="localhost") as running:
            context = self.context(authority, tmp_path / "client", known)
            assert self.call(running.port, context)[0] == 200
            with pytest.raises(OSError):  # noqa: PT011 - how it is told depends on the moment
                self.call(running.port, self.context(authority, tmp_path))
            other = Authority()
            client_ca.write_bytes(other.certificate)
            with pytest.raises(OSError):  # noqa: PT011
                self.call(running.port, self.context(authority, tmp_path / "client", known))
            pair = other.certify("client", "client")
            assert self.call(running.port, self.context(authority, tmp_path / "client", pair))[0] == 200

    @pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
    def test_no_session_outlives_its_authority(self, own, authority, tmp_path, version):
        from authority import Authority

        files = authority.certify("server", "localhost").write(tmp_path)
        client_ca = tmp_path / "ca.crt"
        client_ca.write_bytes(authority.certificate)
        known = authority.certify("client", "client")
        context = self.context(authority, tmp_path / "client", known)
        context.maximum_version = version

        def resumed(session):
            with (
                socket.create_connection(("localhost", running.port), SOON) as plain,
                context.wrap_socket(plain, server_hostname="localhost", session=session) as secure,
            ):
                secure.sendall(b"GET /v2/health/live HTTP/1.1\r\nhost: localhost\r\n\r\n")
                if not secure.recv(4096):
                    raise ConnectionResetError("refused")
                return secure.session_reused, secure.session

        with serving_http(own, tls=Tls(*files, client_ca), address="localhost") as running:
            _, session = resumed(None)
            assert resumed(session)[0]
            client_ca.write_bytes(Authority().certificate)
            with pytest.raises(OSError):  # noqa: PT011
                resumed(session)
