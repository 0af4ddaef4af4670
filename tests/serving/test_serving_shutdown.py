"""From start to stop: what is reported when, and what becomes of requests in flight."""

from __future__ import annotations

import contextlib
import queue
import socket
import threading
import urllib.request

import grpc
import numpy as np
import pytest
from gated_models import gates, write_gated
from grpc_health.v1 import health_pb2, health_pb2_grpc
from onnx_models import EXAMPLES, counter, identity, write
from serving_models import (
    SOON,
    Wire,
    count_often,
    count_to,
    eventually,
    infer_request,
    one_process,
    outputs_of,
    serving_models,
)

from yais.errors import NotFound
from yais.protocol import kserve_pb2 as pb
from yais.repository.directory import find_models
from yais.repository.repository import ModelState
from yais.serving.server import InferenceServer, ServerOptions

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING

A_WHILE = 300_000  # to count to: a third of a second
ONE = np.ones((1, 1), np.float32)


def options(*repositories, **more):
    return ServerOptions(repositories, "127.0.0.1", **{"grpc_port": 0, "metrics_port": None, **more})


def check(wire):
    request = health_pb2.HealthCheckRequest()
    return health_pb2_grpc.HealthStub(wire.channel).Check(request, timeout=SOON).status


def own_threads():
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("yais")]


@pytest.fixture
def slow(tmp_path):
    """A model that computes for as long as it is told to, one with a gate, and one whose requests wait."""
    write(tmp_path, "counter", counter())
    write_gated(tmp_path, "gated_shutdown", "max_batch_size: 8")
    patient = "max_batch_size: 8 dynamic_batching { max_queue_delay_microseconds: 60000000 }"
    write(tmp_path, "waiting", identity("FP32"), patient)
    return tmp_path


def begin(server, wire, request):
    """Start a request that takes a while; return its call once the server has it."""
    eventually(lambda: not server.in_flight)
    call = wire.method("ModelInfer").future(request, timeout=SOON)
    eventually(lambda: server.in_flight)
    return call


def test_while_models_load_the_server_is_live_and_not_ready(tmp_path):
    for name in "abc":
        write(tmp_path, name, identity("FP32"))
    seen = []

    def look(entry):
        with Wire(server.port) as wire:
            ready = wire.call("ModelReady", pb.ModelReadyRequest(name=entry.name)).ready
            live, all_ready = wire.call("ServerLive").live, wire.call("ServerReady").ready
            seen.append((entry.name, entry.state, ready, live, all_ready, check(wire)))

    server = InferenceServer(options(tmp_path))
    try:
        server.start(look)
        with Wire(server.port) as wire:
            assert (wire.call("ServerReady").ready, check(wire)) == (True, SERVING)
    finally:
        server.stop()
    loading, ready = ModelState.LOADING, ModelState.READY
    assert sorted(seen) == [  # in which order is not said: they are loaded side by side
        (name, state, state is ready, True, False, NOT_SERVING)
        for name in "abc"
        for state in (loading, ready)
    ]


def test_who_watches_is_told_from_start_to_stop(tmp_path):
    write(tmp_path, "model", identity("FP32"))
    server = InferenceServer(options(tmp_path))
    told = queue.Queue()
    watches = []

    def watch(entry):
        if entry.state is ModelState.LOADING:
            stub = health_pb2_grpc.HealthStub(wires.enter_context(Wire(server.port)).channel)
            watches.append(stub.Watch(health_pb2.HealthCheckRequest(), timeout=SOON))
            threading.Thread(target=listen, args=watches, daemon=True).start()
            assert told.get(timeout=SOON) == NOT_SERVING

    def listen(responses):
        with contextlib.suppress(grpc.RpcError):
            for response in responses:
                told.put(response.status)

    with contextlib.ExitStack() as wires:
        try:
            server.start(watch)
            assert told.get(timeout=SOON) == SERVING
            stopping = threading.Thread(target=server.stop)
            stopping.start()
            assert told.get(timeout=SOON) == NOT_SERVING
            watches[0].cancel()  # a server does not leave before its last stream has ended
            stopping.join(SOON)
            assert not stopping.is_alive()
        finally:
            server.stop()


def test_stop_waits_for_requests_in_flight(slow):
    with serving_models(slow) as server, Wire(server.port) as wire:
        count_often(wire)
        call = begin(server, wire, count_to(A_WHILE))
        assert server.stop() is True
        response = pb.ModelInferResponse.FromString(call.result(SOON))
        assert outputs_of(response)["counted"].tolist() == [A_WHILE]


def test_while_requests_end_no_others_are_taken(slow):
    with serving_models(slow) as server, Wire(server.port) as wire, Wire(server.port) as other:
        assert other.call("ServerLive").live
        with gates["gated_shutdown"].shut():
            call = begin(server, wire, infer_request("gated_shutdown", {"x": ONE}))
            stopping = threading.Thread(target=server.stop)
            stopping.start()

            def refused():
                # A call that races with the beginning of the end may be kept to the end, by gRPC core.
                error = other.method("ModelInfer").future(count_to(1), timeout=0.2).exception(SOON)
                return error is not None and error.code() in {
                    grpc.StatusCode.UNAVAILABLE,
                    grpc.StatusCode.CANCELLED,
                }

            eventually(refused)
            assert refused()
            assert not call.done()
        stopping.join(SOON)
        response = pb.ModelInferResponse.FromString(call.result(SOON))
        assert outputs_of(response)["y"].tolist() == [[1.0]]


def test_requests_that_race_with_the_stop_are_answered_or_refused(slow):
    """None hangs, and none is answered wrongly."""
    outcomes = []

    def ask(port, started):
        with Wire(port) as wire:
            infer = wire.method("ModelInfer")
            while True:
                call = infer.future(count_to(5), timeout=SOON)
                error = call.exception(2 * SOON)
                started.set()
                if error is not None:
                    outcomes.append(error.code())
                    return
                counted = outputs_of(pb.ModelInferResponse.FromString(call.result()))["counted"]
                assert counted.tolist() == [5]

    with serving_models(slow) as server:
        events = [threading.Event() for _ in range(4)]
        threads = [threading.Thread(target=ask, args=[server.port, event]) for event in events]
        for thread in threads:
            thread.start()
        assert all(event.wait(SOON) for event in events)
        assert server.stop() is True
        for thread in threads:
            thread.join(SOON)
    assert len(outcomes) == 4
    # CANCELLED is core's own answer to a call that arrives while the server shuts down.
    assert set(outcomes) <= {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}


def test_what_takes_longer_than_the_grace_period_is_cut_off(slow):
    with serving_models(slow, grace=0.05) as server, Wire(server.port) as wire:
        call = begin(server, wire, infer_request("waiting", {"X": ONE}))
        server.stop()
        error = call.exception(SOON)
        assert error is not None
        assert error.code() in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}


def test_a_stopped_server_leaves_no_threads_and_no_port(slow):
    before = own_threads()
    with serving_models(slow) as server:
        port = server.port
        assert len(own_threads()) > len(before)
        server.stop()
        assert server.stop() is True
    assert own_threads() == before
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", port))


def test_a_port_in_use(slow):
    before = own_threads()
    with serving_models(slow, metrics_port=0) as running:
        with pytest.raises(OSError, match=rf"cannot listen on '127.0.0.1:{running.port}'"):
            InferenceServer(options(slow, grpc_port=running.port)).start()
        address = {"metrics_address": "127.0.0.1", "metrics_port": running.metrics_port}
        with pytest.raises(
            OSError,
            match=rf"cannot offer metrics on 127.0.0.1:{running.metrics_port}: Address already in use",
        ):
            InferenceServer(options(slow, **address)).start()
        with Wire(running.port) as wire:
            assert wire.call("ServerReady").ready
    assert own_threads() == before


def test_it_starts_once(slow):
    with serving_models(slow) as running, Wire(running.port) as wire:
        with pytest.raises(RuntimeError, match="started already"):
            running.start()
        assert wire.call("ServerReady").ready


def test_it_may_be_stopped_before_it_was_started(slow):
    before = own_threads()
    server = InferenceServer(options(slow))
    assert server.stop() is True
    assert own_threads() == before


def has_ipv6():
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
def test_addresses_with_colons(slow):
    addresses = {"grpc_address": "::1", "metrics_address": "::1", "metrics_port": 0}
    with serving_models(slow, **addresses) as server:
        with grpc.insecure_channel(f"[::1]:{server.port}") as channel:
            live = channel.unary_unary("/inference.GRPCInferenceService/ServerLive")
            assert pb.ServerLiveResponse.FromString(live(b"", timeout=SOON)).live
        urllib.request.urlopen(f"http://[::1]:{server.metrics_port}/metrics", timeout=SOON).close()


def test_repositories_that_cannot_be_served(slow, tmp_path):
    before = own_threads()
    with pytest.raises(NotFound, match=r"model repository .*/nowhere is not a directory"):
        InferenceServer(options(tmp_path / "nowhere")).start()
    assert own_threads() == before


def test_an_empty_repository_is_ready(tmp_path):
    with serving_models(tmp_path) as server, Wire(server.port) as wire:
        assert (check(wire), wire.call("ServerReady").ready) == (SERVING, True)
        assert list(wire.call("ModelStatistics", pb.ModelStatisticsRequest()).model_stats) == []


@one_process
def test_its_repr_reads_as_a_status_line():
    with serving_models(EXAMPLES) as server:
        text = repr(server)
    assert f"running on {server.port}" in text
    count = len(find_models([EXAMPLES]))
    assert f"{count} of {count} models ready" in text
