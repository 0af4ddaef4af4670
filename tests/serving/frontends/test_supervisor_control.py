"""Messages between the supervisor and its processes, and the sockets that go along."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator

import pytest

from yais.errors import NotFound
from yais.serving.frontends.control import (
    Connect,
    ControlChannel,
    Failed,
    FrontendCounts,
    Loaded,
    Setup,
    Status,
    Stop,
)
from yais.serving.options import ServerOptions

SOON = 20.0


@pytest.fixture
def channels() -> Iterator[tuple[ControlChannel, ControlChannel]]:
    ours, theirs = map(ControlChannel, socket.socketpair(), (SOON, SOON))
    yield ours, theirs
    ours.close()
    theirs.close()


def test_messages_arrive_in_order(channels: tuple[ControlChannel, ControlChannel]) -> None:
    ours, theirs = channels
    messages = [
        Setup(ServerOptions(frontends=2), 1, logs=True),
        FrontendCounts(1, 2),
        Status(1, 2, 3, 4, {0: FrontendCounts(5, 6)}),
        Stop(),
    ]
    for message in messages:
        assert ours.send(message)
    assert [theirs.receive() for _ in messages] == [(message, []) for message in messages]


def test_a_socket_comes_with_its_message(channels: tuple[ControlChannel, ControlChannel]) -> None:
    ours, theirs = channels
    for number in range(3):
        left, right = socket.socketpair()
        with left, right:
            assert ours.send(FrontendCounts())
            assert ours.send(Connect(number), right)
            assert theirs.receive() == (FrontendCounts(), [])
            received = theirs.receive()
            assert received is not None
            message, (connection,) = received
            assert message == Connect(number)
            with connection:
                connection.settimeout(SOON)
                left.sendall(b"over there")
                assert connection.recv(100) == b"over there"
                assert not os.get_inheritable(connection.fileno())


def test_a_large_message(channels: tuple[ControlChannel, ControlChannel]) -> None:
    ours, theirs = channels
    large = Failed(NotFound("x" * 3_000_000))
    sender = threading.Thread(target=ours.send, args=(large,))
    sender.start()
    received = theirs.receive()
    sender.join(SOON)
    assert received is not None
    assert isinstance(received[0], Failed)
    assert isinstance(received[0].error, NotFound)
    assert str(received[0].error) == str(large.error)


def test_the_end(channels: tuple[ControlChannel, ControlChannel]) -> None:
    ours, theirs = channels
    ours.send(Loaded([]))
    ours.close()
    assert theirs.receive() == (Loaded([]), [])
    assert theirs.receive() is None
    assert not theirs.send(Stop())


def test_the_end_amid_a_message(channels: tuple[ControlChannel, ControlChannel]) -> None:
    ours, theirs = channels
    os.write(ours.fileno(), b"\xff\x00\x00\x00\x00part")
    ours.close()
    assert theirs.receive() is None


def test_shutdown_wakes_who_receives(channels: tuple[ControlChannel, ControlChannel]) -> None:
    ours, _ = channels
    received: list[object] = []
    receiver = threading.Thread(target=lambda: received.append(ours.receive()))
    receiver.start()
    ours.shutdown()
    receiver.join(SOON)
    assert received == [None]


def test_one_that_does_not_read() -> None:
    left, right = socket.socketpair()
    with right:
        deaf = ControlChannel(left, 0.05)
        assert not deaf.send(Failed(NotFound("x" * 3_000_000)))
        deaf.close()
