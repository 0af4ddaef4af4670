"""Processes that are killed under load: what clients get, and what is left."""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import grpc
import numpy as np
import pytest
from frontend_servers import frontends_serving
from onnx_models import EXAMPLES, counter, write
from scraping import scrape
from serving_models import SOON, Wire, count_to, eventually, infer_request, outputs_of

from yais.serving.frontends.supervisor import Supervisor

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Supervisor]:
    write(tmp_path, "counter", counter())
    with frontends_serving(EXAMPLES, tmp_path, metrics_port=0) as running:
        yield running


class Load:
    """Clients that ask all the time, and look at every answer."""

    def __init__(self, port: int, clients: int) -> None:
        self.outcomes: Counter[str] = Counter()
        self._port = port
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._ask, args=(number,)) for number in range(clients)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(2 * SOON)

    @property
    def alive(self) -> bool:
        return any(thread.is_alive() for thread in self._threads)

    def _ask(self, number: int) -> None:
        while not self._over.is_set():
            with Wire(self._port) as wire:  # a connection each time: some go to either frontend
                for step in range(20):
                    self._count(self._asked(wire, 1000 * number + step))

    def _asked(self, wire: Wire, number: int) -> str:
        a = np.arange(number, number + 16, dtype=np.int32).reshape(1, 16)
        b = np.ones((1, 16), np.int32)
        try:
            response = wire.infer(infer_request("simple", {"INPUT0": a, "INPUT1": b}, id=str(number)))
        except grpc.RpcError as error:
            return str(error.code())
        outputs = outputs_of(response)
        right = response.id == str(number) and (outputs["OUTPUT0"] == a + b).all()
        return "right" if right and (outputs["OUTPUT1"] == a - b).all() else "wrong"

    def _count(self, outcome: str) -> None:
        with self._lock:
            self.outcomes[outcome] += 1

    def right(self) -> int:
        return self.outcomes["right"]


def pids(server: Supervisor) -> list[int | None]:
    return [server.engine_pid, *server.frontend_pids]


def metric(server: Supervisor, name: str, **labels: str) -> float:
    """Return the value of a metric; -1 while there is nobody to ask."""
    try:
        return scrape(server).get((name, tuple(sorted(labels.items()))), -1)
    except OSError:
        return -1


def ended(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def killed(server: Supervisor, victims: tuple[int, ...]) -> set[int | None]:
    """Kill the engine process (0) or frontends (1, 2); return the new processes when they do their work."""
    before = pids(server)
    for victim in victims:
        os.kill(before[victim] or 0, signal.SIGKILL)

    def replaced() -> bool:
        now = pids(server)
        return all(now[victim] not in {None, before[victim]} for victim in victims)

    eventually(replaced)
    eventually(lambda: metric(server, "yais_frontends", state="running") == 2)
    return {*pids(server)}


def answer_more(load: Load) -> None:
    """Wait until many more requests are answered."""
    answered = load.right()
    eventually(lambda: load.right() > answered + 50)


def test_killed_at_random_under_load(server: Supervisor) -> None:
    """Every request is answered, rightly, or fails with UNAVAILABLE; and after it all is as before."""
    seen = set(pids(server))
    with Load(server.port, clients=4) as load:
        eventually(lambda: load.right() > 50)
        descriptors = len(os.listdir("/proc/self/fd"))
        for victims in ((1,), (0,), (0, 2)):
            seen |= killed(server, victims)
            answer_more(load)
        assert abs(len(os.listdir("/proc/self/fd")) - descriptors) < 20  # those of the clients come and go
    assert not load.alive
    assert set(load.outcomes) == {"right", str(UNAVAILABLE)}
    assert metric(server, "yais_engine_restarts_total") == 2
    assert metric(server, "yais_frontend_restarts_total") == 2
    server.stop()
    assert all(ended(pid) for pid in seen if pid is not None)


def test_without_the_engine_process(server: Supervisor) -> None:
    """What is in flight fails at once, and what comes then; frontends stay, with their connections."""
    frontends = server.frontend_pids
    with Wire(server.port) as wire:
        call = wire.method("ModelInfer").future(count_to(2_000_000_000), timeout=10 * SOON)
        eventually(
            lambda: (
                metric(server, "yais_link_pending", frontend="0") == 1
                or metric(server, "yais_link_pending", frontend="1") == 1
            )
        )
        os.kill(server.engine_pid or 0, signal.SIGKILL)
        error = call.exception(SOON)
        assert isinstance(error, grpc.RpcError)
        assert error.code() is UNAVAILABLE
        code, text = wire.refusal(count_to(1))
        assert code is UNAVAILABLE
        assert "engine process" in text
        assert not wire.call("ServerReady").ready
        assert wire.call("ServerLive").live
        eventually(lambda: wire.call("ServerReady").ready)
        assert outputs_of(wire.infer(count_to(3)))["counted"].tolist() == [3]
    assert server.frontend_pids == frontends


def test_a_frontend_that_is_killed_takes_its_connections_only(server: Supervisor) -> None:
    wires = [Wire(server.port) for _ in range(24)]  # all on one with a chance of 1 in 8 million
    for wire in wires:
        wire.call("ServerLive")
    victim = server.frontend_pids[0] or 0
    os.kill(victim, signal.SIGKILL)
    eventually(lambda: server.frontend_pids[0] not in {None, victim})
    failed = 0
    for wire in wires:
        error = wire.method("ServerLive").future(b"", timeout=SOON).exception(SOON)
        assert error is None or error.code() is UNAVAILABLE
        failed += error is not None
        wire.channel.close()
    assert failed < len(wires)
    eventually(lambda: metric(server, "yais_frontends", state="running") == 2)
    assert metric(server, "yais_frontend_restarts_total") == 1
