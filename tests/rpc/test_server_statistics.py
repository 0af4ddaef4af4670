"""What a server says of itself while it runs."""

from __future__ import annotations

import dataclasses

import grpc
import pytest
from echoing import SOON, eventually, on_thread
from streaming import SERVICE, Log, Requests, connected, ended, service_of

import yais
from yais.rpc.statistics import MethodStatistics, ServerStatistics


class Echo(yais.Context):
    def execute(self, request):
        return request


class Chat(yais.BidirectionalContext):
    def execute(self, request):
        return request


def test_before_the_start():
    server = yais.Server("127.0.0.1:0")
    server.add(service_of(contexts=4, Echo=Echo))
    assert server.statistics() == ServerStatistics({}, 0, None)


def test_calls_are_counted():
    with connected(service_of(contexts=3, Echo=Echo, Chat=Chat)) as client:
        path = f"/{SERVICE}/Echo"
        for number in range(10):
            assert client.one(number, rpc="Echo").result(SOON) == number
        assert ended(client.chat([1, 2, 3], rpc="Chat")) == ([1, 2, 3], grpc.StatusCode.OK)
        eventually(lambda: client.server.in_flight == 0)
        methods = client.server.statistics().methods
        assert methods == {
            path: MethodStatistics(executor="default", contexts=3, in_flight=0, calls=10),
            f"/{SERVICE}/Chat": MethodStatistics(executor="default", contexts=3, in_flight=0, calls=1),
        }


def test_calls_that_fail_are_counted():
    class Failing(yais.Context):
        def execute(self, request):
            raise yais.NotFound("always")

    with connected(service_of(contexts=1, Echo=Failing)) as client:
        for number in range(5):
            assert client.one(number, rpc="Echo").exception(SOON).code() is grpc.StatusCode.NOT_FOUND
        eventually(lambda: client.server.in_flight == 0)
        assert client.server.statistics().methods[f"/{SERVICE}/Echo"].calls == 5


def test_calls_in_flight():
    future, log = yais.Future(), Log()

    class Waiting(yais.Context):
        def execute(self, request):
            log.add(request)
            return future

    with connected(service_of(contexts=2, Wait=Waiting, Chat=Chat)) as client, Requests(1) as requests:
        chat = client.chat(requests, rpc="Chat")
        assert next(chat) == 1
        calls = [client.one(number, rpc="Wait") for number in range(3)]
        log.wait_for_count(2)
        methods = client.server.statistics().methods
        # The third call waits for a context: it is not in flight, and no call yet.
        assert (methods[f"/{SERVICE}/Wait"].in_flight, methods[f"/{SERVICE}/Wait"].calls) == (2, 2)
        assert (methods[f"/{SERVICE}/Chat"].in_flight, methods[f"/{SERVICE}/Chat"].calls) == (1, 1)
        assert client.server.in_flight == 3
        future.set_result(0)
        assert [call.result(SOON) for call in calls] == [0, 0, 0]
        requests.end()
        assert list(chat) == []
        eventually(lambda: client.server.in_flight == 0)
        methods = client.server.statistics().methods
        assert [each.in_flight for each in methods.values()] == [0, 0]
        assert methods[f"/{SERVICE}/Wait"].calls == 3


def test_executors():
    server = yais.Server("127.0.0.1:0", threads=2)
    service = service_of(contexts=3, Chat=Chat)
    service.register("Echo", Echo, contexts=5, executor="quick", deserialize=int, serialize=str)
    server.add(service)
    server.add_executor("quick", threads=3)
    with server:
        methods = server.statistics().methods
    assert methods == {
        f"/{SERVICE}/Chat": MethodStatistics(executor="default", contexts=6, in_flight=0, calls=0),
        f"/{SERVICE}/Echo": MethodStatistics(executor="quick", contexts=15, in_flight=0, calls=0),
    }


def test_servicers():
    entered, go_on = Log(), yais.Future()

    def wait(request, context):
        entered.add(request)
        return go_on.result(SOON)

    def add(servicer, server):
        handler = grpc.method_handlers_generic_handler(
            "test.Mounted", {"Wait": grpc.unary_unary_rpc_method_handler(servicer)}
        )
        server.add_generic_rpc_handlers((handler,))

    server = yais.Server("127.0.0.1:0")
    server.add_servicer(add, wait)
    with server, grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        threads = server.statistics().servicer_threads
        assert threads.threads >= 1 and threads.busy == 0
        call = channel.unary_unary("/test.Mounted/Wait").future(b"x", timeout=SOON)
        entered.wait(b"x")
        statistics = server.statistics()
        assert statistics.servicers_in_flight == 1
        assert statistics.servicer_threads.busy == 1
        assert statistics.methods == {}
        go_on.set_result(b"y")
        assert call.result(SOON) == b"y"
        eventually(lambda: server.statistics().servicers_in_flight == 0)


def test_statistics_are_of_one_moment():
    with connected(service_of(contexts=1, Echo=Echo)) as client:
        before = client.server.statistics()
        client.one(1, rpc="Echo").result(SOON)
        eventually(lambda: client.server.statistics().methods[f"/{SERVICE}/Echo"].calls == 1)
        assert before.methods[f"/{SERVICE}/Echo"].calls == 0
        with pytest.raises(dataclasses.FrozenInstanceError):
            before.servicers_in_flight = 5


def test_from_any_thread_at_any_time():
    with connected(service_of(contexts=2, Echo=Echo)) as client:
        seen = Log()
        thread = on_thread(lambda: [seen.add(client.server.statistics()) for _ in range(300)])
        for number in range(100):
            client.one(number, rpc="Echo").result(SOON)
        thread.join(SOON)
        calls = [each.methods[f"/{SERVICE}/Echo"].calls for each in seen.entries]
        assert len(calls) == 300 and calls == sorted(calls)
    assert client.server.statistics().methods[f"/{SERVICE}/Echo"].calls == 100  # after the stop, too
