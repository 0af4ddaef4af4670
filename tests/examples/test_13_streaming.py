"""The streaming example, as its user runs it and against callers that behave badly."""

from __future__ import annotations

import threading

import pytest
from programs import client, eventually, lines, module, server

import yais
from yais.rpc.client import Channels, ClientStreaming
from yais.testing import Served, serving

even_odds = module("13_streaming", "even_odds")
ping_pong = module("13_streaming", "ping_pong")
pb = module("13_streaming", "streaming_pb2")

RPCS = pb.DESCRIPTOR.services_by_name["Streaming"].methods_by_name


def test_the_client_plays_all_four_games():
    with server("13_streaming/server.py") as port:
        played = lines("13_streaming/client.py", "--port", port)
    assert played[:2] == ["PingPong: 20 hits", "PingPongAsync: 20 hits"]
    for game, line in zip(("EvenOdds", "EvenOddsAsync"), played[2:], strict=True):
        name, _, numbers = line.partition(": ")
        answers = [int(number) for number in numbers.split()]
        assert name == game and sorted(answers) == list(range(10))
        assert [n for n in answers if n % 2 == 0] == [0, 2, 4, 6, 8]
        assert answers[0] == 0


def test_the_client_says_that_there_is_no_server():
    ended = client("13_streaming/client.py", "--port", "1")
    assert ended.returncode == 1
    assert ended.stderr.startswith("UNAVAILABLE")


class Stuck(yais.Resources):
    """A worker that has something else to do until it is let go."""

    def __init__(self, max_queue: int = 1000) -> None:
        self.later = yais.ThreadPool(1, name="later", max_queue=max_queue)
        self.free = threading.Event()
        self.later.submit(self.free.wait, 30.0)


def service() -> yais.Service:
    service = yais.Service(pb.DESCRIPTOR.services_by_name["Streaming"])
    for name in "PingPong", "PingPongAsync":
        service.register(name, getattr(ping_pong, name))
    for name in "EvenOdds", "EvenOddsAsync":
        service.register(name, getattr(even_odds, name))
    return service


def streaming(served: Served, rpc: str) -> tuple[Channels, ClientStreaming]:
    channels = Channels(f"127.0.0.1:{served.port}")
    return channels, ClientStreaming(channels, RPCS[rpc], timeout=20.0)


def test_even_numbers_are_answered_while_the_worker_is_busy_and_odd_ones_by_it_afterwards():
    resources = Stuck()
    with serving(service(), resources=resources, grace=5.0) as served:
        channels, ask = streaming(served, "EvenOdds")
        with channels, ask.open() as stream:
            for number in (1, 2, 3, 4):
                stream.write(pb.Number(value=number))
            stream.done()
            assert [next(stream).value, next(stream).value] == [2, 4]
            resources.free.set()
            late = list(stream)
            assert [(answer.value, answer.thread) for answer in late] == [(1, "later-0"), (3, "later-0")]
            assert stream.status.result(20.0).ok


def test_with_too_much_left_for_later_the_stream_ends():
    resources = Stuck(max_queue=2)
    with serving(service(), resources=resources, grace=5.0) as served:
        channels, ask = streaming(served, "EvenOdds")
        with channels, ask.open() as stream:
            for number in (1, 3, 5):
                stream.write(pb.Number(value=number))
            assert stream.status.result(20.0).code is yais.Code.RESOURCE_EXHAUSTED
        resources.free.set()


@pytest.mark.parametrize("rpc", ["EvenOdds", "EvenOddsAsync"])
def test_every_one_of_many_numbers_is_answered(rpc):
    numbers = range(2000)
    with serving(service(), resources=even_odds.Workers(), grace=5.0) as served:
        channels, ask = streaming(served, rpc)

        def write_all() -> None:
            for number in numbers:
                # Fewer than may be left for later: the callbacks refuse what is more.
                slots.acquire(timeout=20.0)
                stream.write(pb.Number(value=number))
            stream.done()

        slots = threading.Semaphore(500)
        with channels, ask.open() as stream:
            writer = threading.Thread(target=write_all)
            writer.start()
            answers = []
            for answer in stream:
                answers.append(answer.value)
                slots.release()
            writer.join()
    assert sorted(answers) == list(numbers)


@pytest.mark.parametrize("rpc", ["EvenOdds", "EvenOddsAsync", "PingPong", "PingPongAsync"])
def test_a_caller_that_goes_away_leaves_nothing_behind(rpc):
    request = pb.Ball(hits=1) if rpc.startswith("PingPong") else pb.Number(value=2)
    with serving(service(), resources=even_odds.Workers(), grace=5.0) as served:
        channels, ask = streaming(served, rpc)
        with channels:
            with ask.open() as stream:
                stream.write(request)
                next(stream)
                assert served.server.in_flight == 1
            eventually(lambda: served.server.in_flight == 0)
