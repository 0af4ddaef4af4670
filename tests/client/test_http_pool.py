"""Connections over HTTP: kept, shared out, lost and given up, against servers that do as they are told."""

from __future__ import annotations

import queue
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from serving_models import SOON

from yais.client.connection import Connection
from yais.client.http_connection import HttpConnection
from yais.client.http_peer import HttpPeer
from yais.client.http_pool import HttpPool
from yais.core.loop_thread import LoopThread
from yais.errors import Code, FailedPrecondition

REQUEST = b"GET / HTTP/1.1\r\nHost: here\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


class Peer:
    """A server of which a test plays the part."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(SOON)
        self.port = self._listener.getsockname()[1]
        self.accepted = 0

    def accept(self) -> socket.socket:
        """Take a connection."""
        connection, _ = self._listener.accept()
        connection.settimeout(SOON)
        self.accepted += 1
        return connection

    def close(self) -> None:
        """Take no more."""
        self._listener.close()


def receive(connection: socket.socket) -> None:
    """Receive a request."""
    got = b""
    while not got.endswith(b"\r\n\r\n"):
        part = connection.recv(1024)
        assert part, "the client has hung up"
        got += part
    assert got == REQUEST


@pytest.fixture
def peer():
    peer = Peer()
    yield peer
    peer.close()


@pytest.fixture(params=["uvloop", "asyncio"])
def loop(request, monkeypatch):
    if request.param == "uvloop":
        pytest.importorskip("uvloop")
    else:
        monkeypatch.setitem(sys.modules, "uvloop", None)
    loop = LoopThread("test-http")
    yield loop
    assert loop.close(SOON)


@pytest.fixture
def pool_of(peer, loop):
    """Makes pools of connections to the peer."""

    @contextmanager
    def made(**options) -> Iterator[HttpPool]:
        given = {"timeout": SOON, **options}
        pool = HttpPool(loop, HttpPeer(Connection(f"127.0.0.1:{peer.port}")), **given)
        try:
            yield pool
        finally:
            pool.close()

    return made


@pytest.fixture
def pool(pool_of):
    with pool_of() as pool:
        yield pool


class Told:
    """What requests are told, in its order."""

    def __init__(self) -> None:
        self._queue: queue.Queue = queue.Queue()

    def __call__(self, *outcome) -> None:
        self._queue.put(outcome)

    def next(self):
        return self._queue.get(timeout=SOON)

    def status(self):
        code, text, reply = self.next()
        assert reply is None
        return code, text


@pytest.fixture
def told():
    return Told()


def served(connection, told, answer=ANSWER):
    receive(connection)
    connection.sendall(answer)
    code, text, reply = told.next()
    assert (code, text) == (Code.OK, "")
    return reply


def test_a_connection_is_used_again(peer, pool, told):
    pool.send(REQUEST, told)
    with peer.accept() as connection:
        assert served(connection, told).body == b"hi"
        for _ in range(3):
            pool.send(REQUEST, told)
            assert served(connection, told).status == 200
    assert peer.accepted == 1


def test_as_many_connections_as_requests_in_flight(peer, pool, told):
    for _ in range(3):
        pool.send(REQUEST, told)
    connections = [peer.accept() for _ in range(3)]
    for connection in connections:
        receive(connection)
    for connection in connections:
        connection.sendall(ANSWER)
        assert told.next()[0] is Code.OK
        connection.close()


def test_requests_wait_where_there_are_enough_connections(peer, pool_of, told):
    with pool_of(most=2) as pool:
        for _ in range(5):
            pool.send(REQUEST, told)
        with peer.accept() as first, peer.accept() as second:
            for connection in (first, second, first, second, first):
                served(connection, told)
    assert peer.accepted == 2


def test_who_waits_gets_a_new_connection_for_a_lost_one(peer, pool_of, told):
    with pool_of(most=1) as pool:
        pool.send(REQUEST, told)
        pool.send(REQUEST, told)
        with peer.accept() as connection:
            receive(connection)
        assert told.status() == (Code.UNAVAILABLE, "the server closed the connection")
        with peer.accept() as connection:
            served(connection, told)


def test_who_waits_when_nobody_listens_any_more(peer, pool_of, told):
    with pool_of(most=1) as pool:
        for _ in range(3):
            pool.send(REQUEST, told)
        with peer.accept() as connection:
            receive(connection)
            peer.close()
        assert told.status() == (Code.UNAVAILABLE, "the server closed the connection")
        for _ in range(2):
            code, text = told.status()
            assert code is Code.UNAVAILABLE
            assert text.startswith("cannot connect: ")


def test_a_timeout_while_waiting_for_a_connection(peer, pool_of, told):
    with pool_of(most=1, timeout=1.5) as pool:
        pool.send(REQUEST, told)
        pool.send(REQUEST, told)
        with peer.accept() as connection:
            receive(connection)
            for _ in range(2):
                assert told.status() == (Code.DEADLINE_EXCEEDED, "no answer within 1.5 s")
            assert connection.recv(1) == b""
        pool.send(REQUEST, told)
        with peer.accept() as connection:
            served(connection, told)


def test_what_is_sent_when_another_has_timed_out_starts_no_second_timer(peer, pool_of, told):
    timers = []

    def again(*outcome):
        timers.append(pool._timer)
        pool.send(REQUEST, told)
        timers.append(pool._timer)
        told(*outcome)

    with pool_of(timeout=0.05) as pool:
        pool.send(REQUEST, again)
        for _ in range(2):
            assert told.status()[0] is Code.DEADLINE_EXCEEDED
    assert timers[0] is timers[1]


def test_a_connection_of_which_a_request_has_timed_out_is_not_used_again(peer, pool_of, told):
    with pool_of(timeout=1.5) as pool:
        pool.send(REQUEST, told)
        with peer.accept() as connection:
            receive(connection)
            assert told.status()[0] is Code.DEADLINE_EXCEEDED
            pool.send(REQUEST, told)
            with peer.accept() as other:
                served(other, told)


def test_a_connection_that_is_not_to_be_kept(peer, pool, told):
    pool.send(REQUEST, told)
    with peer.accept() as connection:
        served(connection, told, ANSWER.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        assert connection.recv(1) == b""
        pool.send(REQUEST, told)
        with peer.accept() as other:
            served(other, told)


@pytest.mark.parametrize("how", ["close", "reset", "answer"])
def test_a_kept_connection_that_is_lost(peer, pool, loop, told, how):
    pool.send(REQUEST, told)
    connection = peer.accept()
    served(connection, told)
    if how == "reset":
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    elif how == "answer":
        connection.sendall(ANSWER)
    if how != "answer":
        connection.close()
    wait_until(loop, lambda: not pool._idle)
    pool.send(REQUEST, told)
    with peer.accept() as other:
        served(other, told)
        assert pool._count == 1
    connection.close()


def wait_until(loop, holds):
    """Poll on the loop's thread, between what happens there."""
    ended = threading.Event()

    def poll():
        if holds():
            ended.set()
        else:
            loop.call_soon(poll)

    loop.call_soon(poll)
    assert ended.wait(SOON)


@pytest.mark.parametrize(
    "parts",
    [
        [ANSWER[:5], ANSWER[5:20], ANSWER[20:-1], ANSWER[-1:]],
        [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nh\r\n", b"1\r\ni\r\n0\r\n\r\n"],
        [b"HTTP/1.1 100 Continue\r\n\r\n", ANSWER],
    ],
)
def test_an_answer_in_pieces(peer, pool, told, parts):
    pool.send(REQUEST, told)
    with peer.accept() as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        receive(connection)
        for part in parts:
            connection.sendall(part)
            time.sleep(0.005)  # so that it comes by itself, mostly
        _, _, reply = told.next()
        assert (reply.status, reply.body) == (200, b"hi")


def test_headers(peer, pool, told):
    pool.send(REQUEST, told)
    with peer.accept() as connection:
        reply = served(
            connection, told, b"HTTP/1.1 404 No\r\nX-One: a\r\nx-two:b\r\nContent-Length: 0\r\n\r\n"
        )
    assert reply.status == 404
    assert reply.headers == {b"x-one": b"a", b"x-two": b"b", b"content-length": b"0"}
    assert reply.body == b""


@pytest.mark.parametrize("more", [ANSWER, ANSWER[:3], b"and more", ANSWER.replace(b"hi", b"ho")])
def test_more_than_an_answer(peer, pool, told, more):
    """What was asked for is taken; a connection that says more is not used again."""
    pool.send(REQUEST, told)
    with peer.accept() as connection:
        reply = served(connection, told, ANSWER + more)
        assert (reply.status, reply.body, reply.headers) == (200, b"hi", {b"content-length": b"2"})
        assert connection.recv(1) == b""
    pool.send(REQUEST, told)
    with peer.accept() as connection:
        assert served(connection, told).body == b"hi"


ENDLESS = b"HTTP/1.0 502 No\r\nServer: old\r\n\r\nhalf and "


def test_an_answer_until_the_connection_ends(peer, pool, told):
    pool.send(REQUEST, told)
    with peer.accept() as connection:
        receive(connection)
        connection.sendall(ENDLESS)
        connection.sendall(b"half")
    code, text, reply = told.next()
    assert (code, text, reply.status, reply.body) == (Code.OK, "", 502, b"half and half")
    pool.send(REQUEST, told)
    with peer.accept() as connection:
        served(connection, told)


def test_an_answer_whose_end_is_lost(peer, pool, told):
    pool.send(REQUEST, told)
    with peer.accept() as connection:
        receive(connection)
        connection.sendall(ENDLESS)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    assert told.status()[0] is Code.UNAVAILABLE


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (b"SSH-2.0-server\r\n", "the server's answer is no HTTP"),
        (ANSWER[:-1], "the server closed the connection"),
        (b"HTTP/1.1 100 Continue\r\n\r\n", "the server closed the connection"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "the server's answer is no HTTP"),
        (b"", "the server closed the connection"),
    ],
)
def test_answers_that_are_none(peer, pool, told, answer, text):
    pool.send(REQUEST, told)
    with peer.accept() as connection:
        receive(connection)
        connection.sendall(answer)
    code, said = told.status()
    assert code is Code.UNAVAILABLE
    assert said.startswith(text)
    pool.send(REQUEST, told)
    with peer.accept() as connection:
        served(connection, told)


def test_close_while_connecting_and_waiting(peer, pool_of, told):
    with pool_of(most=1) as pool:
        for _ in range(3):
            pool.send(REQUEST, told)
        pool.close()
        for _ in range(3):
            assert told.status() == (Code.CANCELLED, "the client was closed")
        with pytest.raises(FailedPrecondition):
            pool.send(REQUEST, told)


def test_a_kept_connection_that_is_about_to_be_lost(peer, pool, loop, told):
    pool.send(REQUEST, told)
    with peer.accept() as connection:
        served(connection, told)

        def lose_and_send():
            pool._idle[-1]._transport.close()
            pool.send(REQUEST, told)

        loop.call_soon(lose_and_send)
        with peer.accept() as other:
            served(other, told)


def test_a_new_connection_that_is_lost_at_once(pool, told, monkeypatch):
    monkeypatch.setattr(HttpConnection, "open", False)
    pool.send(REQUEST, told)
    code, text = told.status()
    assert (code, text) == (Code.UNAVAILABLE, "cannot connect: the server closed the connection")
    assert pool._count == 0


def test_a_server_that_hangs_up_at_once(peer, pool, told):
    for _ in range(20):
        pool.send(REQUEST, told)
        connection = peer.accept()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        connection.close()
        assert told.status()[0] is Code.UNAVAILABLE


def test_close_before_the_loop_has_taken_a_request(peer, pool, told):
    closed = threading.Event()

    def done(*_outcome):
        thread = threading.Thread(target=pool.send, args=(REQUEST, told))
        thread.start()
        thread.join(SOON)
        pool.close()
        closed.set()

    pool.send(REQUEST, done)
    with peer.accept() as connection:
        receive(connection)
        connection.sendall(ANSWER)
        assert closed.wait(SOON)
    assert told.status() == (Code.CANCELLED, "the client was closed")


def test_close_in_a_callback(peer, pool, told):
    def done(*outcome):
        pool.close()
        told(*outcome)

    pool.send(REQUEST, done)
    pool.send(REQUEST, told)
    with peer.accept() as one, peer.accept() as other:
        receive(one)
        receive(other)
        one.sendall(ANSWER)
        outcomes = {told.next()[0], told.next()[0]}
    assert Code.CANCELLED in outcomes
