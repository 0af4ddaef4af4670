"""Calls that a signal's exception interrupts as they begin."""

from __future__ import annotations

import threading

import pytest
from client_peer import ECHO, peering

import yais
from yais.errors import Code
from yais.rpc.core_channel import CoreCall, CoreChannel

SOON = 20.0


class Interrupted:
    """Core's channel, whose calls are interrupted before or after they have been started."""

    def __init__(self, core, started):
        self.core = core
        self.started = started

    def integrated_call(self, *arguments):
        if self.started:
            self.core.integrated_call(*arguments)
        raise KeyboardInterrupt

    def __getattr__(self, name):
        return getattr(self.core, name)


@pytest.fixture
def peer():
    with peering() as running:
        yield running


@pytest.fixture
def channel(peer):
    return CoreChannel(f"127.0.0.1:{peer.port}", (), None)


def begin(channel, text):
    """Call; return what becomes of it, by and by."""
    over = threading.Event()
    statuses = []

    def done(_message, status, _headers):
        statuses.append(status.code)
        over.set()

    CoreCall(channel).unary(ECHO.encode(), text, at=None, metadata=(), flags=0, done=done)
    return over, statuses


def echoes(channel):
    over, statuses = begin(channel, b"hello")
    assert over.wait(SOON)
    assert statuses == [Code.OK]


def interrupt(channel, *, started):
    core = channel._core
    channel._core = Interrupted(core, started)
    with pytest.raises(KeyboardInterrupt):
        begin(channel, b"interrupted")
    channel._core = core


def closes(channel):
    thread = threading.Thread(target=channel.close, args=("over",), daemon=True)
    thread.start()
    thread.join(SOON)
    return not thread.is_alive()


@pytest.mark.parametrize("started", [False, True])
def test_the_channel_closes(channel, started):
    interrupt(channel, started=started)
    assert closes(channel)


@pytest.mark.parametrize("started", [False, True])
def test_other_calls_go_on(channel, started):
    echoes(channel)
    interrupt(channel, started=started)
    for _ in range(5):
        echoes(channel)
    assert closes(channel)


@pytest.mark.parametrize("started", [False, True])
def test_again_and_again(channel, started):
    for _ in range(3):
        interrupt(channel, started=started)
    echoes(channel)
    interrupt(channel, started=not started)
    assert closes(channel)


def test_closed_channels_refuse(channel):
    interrupt(channel, started=True)
    assert closes(channel)
    with pytest.raises(yais.FailedPrecondition, match="closed"):
        begin(channel, b"late")
