"""RemoteInferenceManager of several servers: asked in turn, left out while they are gone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from both_managers import SOON, eventually
from model_dns import name_server
from model_process import Site

import yais
from yais.rpc.client import Retry


@contextmanager
def sites(*addresses: str) -> Iterator[list[Site]]:
    """Servers 0 and 1, each at a port of its own, or where addresses are given both at one."""
    running: list[Site] = []
    try:
        for number in range(2):
            where = ("--address", addresses[number]) if addresses else ()
            port = running[0].port if addresses and running else 0
            running.append(Site(number, "--port", port, *where))
        yield running
    finally:
        for site in running:
            site.kill()


def where(runner, value=-1) -> int:
    """Ask one server which it is."""
    return int(runner.infer(X=[value]).result(SOON)["Y"][0])


def until_both_answer(runner) -> None:
    eventually(lambda: {where(runner), where(runner)} == {0, 1})


def test_servers_are_asked_in_turn():
    with sites() as (zero, one), yais.RemoteInferenceManager([zero.address, one.address]) as manager:
        assert repr(manager) == f"<RemoteInferenceManager of {zero.address}, {one.address}>"
        runner = manager.infer_runner("where")
        until_both_answer(runner)
        futures = [runner.infer(X=[-1]) for _ in range(40)]
        counts = Counter(int(future.result(SOON)["Y"][0]) for future in futures)
        assert counts.keys() == {0, 1} and min(counts.values()) >= 15


def test_a_server_that_dies_and_returns():
    with sites() as (zero, one), yais.RemoteInferenceManager([zero.address, one.address]) as manager:
        runner = manager.infer_runner("where")
        until_both_answer(runner)
        waiting = [runner.infer(X=[0]) for _ in range(6)]
        assert zero.line() == "waits"
        zero.kill()
        # What it had fails, as does what is sent before the client has seen that; then the other answers.
        errors = [future.exception(SOON) for future in waiting]
        assert {type(error) for error in errors} == {yais.Unavailable, type(None)}
        eventually(lambda: runner.infer(X=[-1]).exception(SOON) is None)
        assert {where(runner) for _ in range(20)} == {1}
        assert manager.server_ready() and manager.get_models() == ["where"]
        back = Site(0, "--port", zero.port)
        try:
            until_both_answer(runner)
        finally:
            back.kill()


def test_what_a_dying_server_had_is_asked_again():
    retry = Retry(attempts=5, initial_backoff=0.05, max_backoff=0.5)
    with (
        sites() as (zero, one),
        yais.RemoteInferenceManager([zero.address, one.address], retry=retry) as manager,
    ):
        runner = manager.infer_runner("where")
        until_both_answer(runner)
        waiting = [runner.infer(X=[0]) for _ in range(6)]
        assert zero.line() == "waits"
        zero.kill()
        assert [int(future.result(SOON)["Y"][0]) for future in waiting] == [1] * 6


def test_no_server_is_left():
    with sites() as (zero, one), yais.RemoteInferenceManager([zero.address, one.address]) as manager:
        runner = manager.infer_runner("where")
        zero.kill()
        one.kill()
        with pytest.raises(yais.Unavailable):
            where(runner)
        eventually(lambda: not manager.server_ready())


def test_a_name_of_several_servers():
    addresses = ["127.0.0.1", "127.0.0.2"]
    with sites(*addresses) as (zero, one), name_server(addresses) as dns:
        assert zero.port == one.port
        target = f"dns://127.0.0.1:{dns}/models.test:{zero.port}"
        with yais.RemoteInferenceManager(target, balancing="round_robin") as manager:
            runner = manager.infer_runner("where")
            until_both_answer(runner)
            assert min(Counter(where(runner) for _ in range(20)).values()) >= 5


@pytest.mark.parametrize("addresses", [[], ["localhost:1"], ["127.0.0.1"], ["127.0.0.1:1", "[::1]:1"]])
def test_addresses_that_are_none(addresses):
    with pytest.raises(yais.InvalidArgument, match="got address"):
        yais.RemoteInferenceManager(addresses)
