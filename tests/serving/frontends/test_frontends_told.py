"""A change is answered when every frontend knows of it. The engine process runs in that of the tests."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from link_pair import SOON, wait_until
from onnx_models import EXAMPLES, table, write

from yais.protocol import kserve_pb2 as pb
from yais.repository.repository import ControlMode
from yais.serving.frontends import engine_process, operations
from yais.serving.frontends.control import Connect, ControlChannel, Setup, Stop
from yais.serving.frontends.engine_process import EngineProcess
from yais.serving.frontends.link import EngineLink
from yais.serving.frontends.operations import Topic
from yais.serving.options import ServerOptions

LOAD = pb.RepositoryModelLoadRequest(model_name="later").SerializeToString()


class Frontend:
    """A frontend's end of a link, which can be held while it is told something."""

    def __init__(self) -> None:
        self.catalogue: Any = {}
        self.holding = threading.Event()
        self.free = threading.Event()
        self.free.set()
        self.link = EngineLink(told=self._told)

    def connect(self, connection: socket.socket) -> None:
        self.connection = connection.dup()  # the link's own is closed by the link
        self.link.connect(connection)

    def close(self) -> None:
        self.free.set()
        self.link.close(0)
        self.connection.close()

    def _told(self, topic: str, value: Any) -> None:
        if topic == Topic.CATALOGUE:
            if not self.free.is_set():
                self.holding.set()
                assert self.free.wait(SOON)
            self.catalogue = value

    def knows(self, model: str) -> bool:
        return (model, "1") in self.catalogue


@contextmanager
def engine(*repositories: Path, **options: Any) -> Iterator[list[Frontend]]:
    """Run an engine process in this one, and two frontends that know of its models."""
    setup = Setup(ServerOptions(repositories, metrics_port=None, **options), None, logs=False)
    ours, theirs = socket.socketpair()
    channel = ControlChannel(ours)
    process = threading.Thread(target=EngineProcess(ControlChannel(theirs), setup).run)
    frontends = [Frontend(), Frontend()]
    with ours, theirs:
        process.start()
        for number, frontend in enumerate(frontends):
            mine, its = socket.socketpair()
            with its:
                channel.send(Connect(number), its)
            frontend.connect(mine)
        try:
            for frontend in frontends:
                wait_until(lambda frontend=frontend: frontend.knows("simple"))  # type: ignore[misc]
            yield frontends
        finally:
            for frontend in frontends:
                frontend.close()
            channel.send(Stop())
            process.join(SOON)


@pytest.fixture(autouse=True)
def _only_changes_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_process, "_LOOK", 10 * SOON)
    monkeypatch.setattr(engine_process, "freeze", lambda: None)  # this process goes on after that


@pytest.fixture
def frontends(tmp_path: Path) -> Iterator[list[Frontend]]:
    """Two frontends of an engine process that may load the model `later`."""
    write(tmp_path, "later", table([1, 2]), "max_batch_size: 8")
    with engine(EXAMPLES, tmp_path, control=ControlMode.EXPLICIT, load=("simple",)) as both:
        yield both


def test_a_model_that_is_found_is_told_at_once(tmp_path: Path) -> None:
    with engine(EXAMPLES, tmp_path, control=ControlMode.POLL, poll_seconds=0.05) as frontends:
        write(tmp_path, "later", table([1, 2]), "max_batch_size: 8")
        wait_until(lambda: all(each.knows("later") for each in frontends))


def test_a_model_that_is_loaded_is_known_to_all_when_that_is_answered(frontends: list[Frontend]) -> None:
    one, other = frontends
    other.free.clear()
    loading = one.link.call("RepositoryModelLoad", LOAD)
    assert other.holding.wait(SOON)
    # What comes after the load on the same link is answered: the load waits, and nothing else does.
    assert one.link.call("ServerLive", b"").result(SOON)
    assert one.knows("later")
    assert not loading.done()
    other.free.set()
    loading.result(SOON)
    assert other.knows("later")


def test_a_frontend_that_is_gone_holds_up_nobody(frontends: list[Frontend]) -> None:
    one, other = frontends
    other.free.clear()
    loading = one.link.call("RepositoryModelLoad", LOAD)
    assert other.holding.wait(SOON)
    other.connection.shutdown(socket.SHUT_RDWR)
    loading.result(SOON)
    assert not other.knows("later")


def test_a_frontend_that_hangs_holds_up_nobody_for_long(
    frontends: list[Frontend], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operations, "_HEARING", 0.05)
    one, other = frontends
    other.free.clear()
    one.link.call("RepositoryModelLoad", LOAD).result(SOON)
    assert one.knows("later")
    assert not other.knows("later")
