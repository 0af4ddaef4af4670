"""`InferenceManager.serve`: a manager's models for others, while it goes on being used here."""

from __future__ import annotations

import socket
import threading
import urllib.request

import numpy as np
import pytest
import tritonclient.grpc as triton
from both_managers import SOON, Gate, eventually, register_all, served, tensor
from model_process import Site
from prometheus_client.parser import text_string_to_metric_families

import yais
from yais.inference.manager import InferenceManager
from yais.inference.profile import Profile

ONE = np.ones((1, 1), np.float32)
FOUR = np.ones((1, 4), np.float32)


@pytest.fixture
def own_gate():
    return Gate()


@pytest.fixture
def models(own_gate):
    """A manager to be changed by the test, with the gate closed."""
    with InferenceManager(max_exec_concurrency=2) as manager:
        register_all(manager, own_gate)
        manager.allocate()
        yield manager
        own_gate.open.set()


def connected(server):
    return yais.RemoteInferenceManager(f"127.0.0.1:{server.port}", timeout=SOON)


def double(manager, name, **how):
    tensors = {"inputs": [tensor("X", "FP32", -1, 4)], "outputs": [tensor("Y", "FP32", -1, 4)]}
    manager.register(name, lambda arrays: {"Y": arrays["X"] * 2}, **{**tensors, **how})


# In the background.


def test_serving_in_the_background(models):
    server = models.serve(port=0, block=False, address="127.0.0.1")
    assert server.port > 0 and server.metrics_port is None
    assert f"running on {server.port}:" in repr(server)
    with connected(server) as remote:
        assert remote.server_ready() is True
        assert remote.infer_runner("twice").infer(X=FOUR).get(SOON)["Y"].sum() == 8.0
        assert server.stop() is True
        assert server.stop() is True
        assert remote.server_ready() is False
    # It was lent the models: they are still here.
    assert models.infer_runner("twice").infer(X=FOUR).get(SOON)["Y"].sum() == 8.0


def test_stopping_lets_requests_end(models, own_gate):
    server = models.serve(port=0, block=False, address="127.0.0.1")
    with connected(server) as remote:
        first = remote.infer_runner("gate").infer(X=ONE)
        other = remote.infer_runner("twice")
        assert own_gate.asked.acquire(timeout=SOON)
        stopped = []
        stopping = threading.Thread(target=lambda: stopped.append(server.stop()))
        stopping.start()
        # gRPC core may keep a call that arrives in the very moment until the server has stopped
        # (grpc/grpc#41785).
        eventually(
            lambda: isinstance(other.infer_with_deadline(0.5, X=FOUR).exception(SOON), yais.Unavailable)
        )
        assert not first.done() and not stopped
        own_gate.open.set()
        assert first.get(SOON)["Y"].tolist() == [[1.0]]
        stopping.join(SOON)
        assert stopped == [True]


def test_two_servers_of_one_manager(models):
    with served(models) as one, served(models) as two:
        assert one.port != two.port
        for server in (one, two):
            with connected(server) as remote:
                assert remote.infer_runner("twice").infer(X=FOUR).get(SOON)["Y"].sum() == 8.0


def test_a_port_that_is_taken(models):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=str(port)):
            models.serve(port=port, block=False, address="127.0.0.1")
    before = set(threading.enumerate())
    with served(models) as server:
        with pytest.raises(OSError, match=str(server.port)):
            models.serve(port=server.port, block=False, address="127.0.0.1")
        with connected(server) as remote:
            assert remote.server_ready()
    eventually(lambda: set(threading.enumerate()) <= before)  # nothing is left


def test_a_port_for_metrics_that_is_taken(models):
    before = set(threading.enumerate())
    with (
        socket.create_server(("0.0.0.0", 0)) as taken,
        pytest.raises(OSError, match="cannot offer metrics"),
    ):
        models.serve(port=0, block=False, address="127.0.0.1", metrics_port=taken.getsockname()[1])
    eventually(lambda: set(threading.enumerate()) <= before)
    with served(models) as server, connected(server) as remote:
        assert remote.server_ready()


def test_nothing_is_registered_yet():
    with InferenceManager() as manager, served(manager) as server, connected(server) as remote:
        assert remote.server_ready() is True
        assert remote.get_models() == []
        with pytest.raises(yais.NotFound):
            remote.infer_runner("late")
        double(manager, "late")
        # Registered, and there is no memory for it: said here as a state, there as something to wait for.
        with pytest.raises(yais.FailedPrecondition, match="allocate"):
            manager.infer_runner("late")
        with pytest.raises(yais.Unavailable, match="allocate"):
            remote.infer_runner("late")
        assert remote.get_models() == []
        manager.allocate()
        assert remote.infer_runner("late").infer(X=FOUR).get(SOON)["Y"].sum() == 8.0


def test_models_that_come_and_go(models):
    with served(models) as server, connected(server) as remote:
        double(models, "late")
        assert "late" in remote.get_models()
        runner = remote.infer_runner("late")
        assert runner.infer(X=FOUR).get(SOON)["Y"].sum() == 8.0
        assert models.unregister("late") is True
        assert "late" not in remote.get_models()
        with pytest.raises(yais.NotFound, match="'late' is not found"):
            runner.infer(X=FOUR).get(SOON)
        models.register(  # another one of that name
            "late",
            lambda arrays: {"Z": arrays["X"] * 3},
            inputs=[tensor("X", "FP32", -1, 4)],
            outputs=[tensor("Z", "FP32", -1, 4)],
        )
        assert remote.infer_runner("late").output_bindings().keys() == {"Z"}
        assert remote.infer_runner("late").infer(X=FOUR).get(SOON)["Z"].sum() == 12.0


class Hasty(InferenceManager):
    """A manager whose models are unregistered between two looks at them."""

    def get_models(self):
        return ["gone", *super().get_models()]


def test_a_model_that_goes_while_models_are_listed():
    with Hasty() as manager, served(manager) as server, connected(server) as remote:
        double(manager, "here")
        manager.allocate()
        assert remote.get_models() == ["here"]


def test_unregistering_lets_requests_of_others_end(models, own_gate):
    with served(models) as server, connected(server) as remote:
        runner = remote.infer_runner("gate")
        asked = runner.infer(X=ONE)
        assert own_gate.asked.acquire(timeout=SOON)
        drained = []
        unregistering = threading.Thread(target=lambda: drained.append(models.unregister("gate", SOON)))
        unregistering.start()
        eventually(lambda: "gate" not in remote.get_models())
        with pytest.raises(yais.NotFound):
            runner.infer(X=ONE).get(SOON)
        assert not drained and not asked.done()
        own_gate.open.set()
        assert asked.get(SOON)["Y"].tolist() == [[1.0]]
        unregistering.join(SOON)
        assert drained == [True]


def test_a_model_with_a_profile(models):
    wide = {"inputs": [tensor("X", "FP32", -1, -1)], "outputs": [tensor("Y", "FP32", -1, -1)]}
    double(models, "wide", profiles={"X": Profile((2,), (6,))}, **wide)
    with served(models) as server, connected(server) as remote:
        for manager in (models, remote):
            runner = manager.infer_runner("wide")
            assert runner.infer(X=np.ones((1, 6), np.float32)).get(SOON)["Y"].sum() == 12.0
            with pytest.raises(yais.InvalidArgument, match=r"Expected from \[2\] to \[6\] .*, got \[7\]"):
                runner.infer(X=np.ones((1, 7), np.float32)).get(SOON)


def test_a_decoupled_model_has_no_one_answer(models):
    def count(arrays):
        for number in range(int(arrays["until"][0, 0])):
            yield {"number": [[number]]}

    one = {"inputs": [tensor("until", "INT64", -1, 1)], "outputs": [tensor("number", "INT64", -1, 1)]}
    models.register("count", count, **one)
    with models.infer_runner("count").stream(until=[[3]]) as stream:
        assert [int(answer["number"][0, 0]) for answer in stream] == [0, 1, 2]
    with served(models) as server, connected(server) as remote:
        for manager in (models, remote):
            with pytest.raises(yais.Unimplemented, match="decoupled"):
                manager.infer_runner("count").infer(until=[[3]]).get(SOON)


# What others see.


def test_tritons_client(models):
    with (
        served(models) as server,
        triton.InferenceServerClient(f"127.0.0.1:{server.port}") as client,
    ):
        assert client.is_server_live() and client.is_server_ready()
        assert client.is_model_ready("sums") and not client.is_model_ready("none")
        metadata = client.get_model_metadata("twice", as_json=True)
        assert (metadata["name"], metadata["versions"]) == ("twice", ["1"])
        assert metadata["inputs"] == [{"name": "X", "datatype": "FP32", "shape": ["-1", "4"]}]
        config = client.get_model_config("twice", as_json=True)["config"]
        assert (config["name"], config["max_batch_size"]) == ("twice", 8)
        assert config["input"][0]["dims"] == ["4"] and "dynamic_batching" in config
        index = client.get_model_repository_index(as_json=True)["models"]
        assert [model["name"] for model in index] == models.get_models()

        asked = triton.InferInput("X", [2, 4], "FP32")
        asked.set_data_from_numpy(np.arange(8, dtype=np.float32).reshape(2, 4))
        answer = client.infer("twice", [asked], client_timeout=SOON)
        np.testing.assert_array_equal(answer.as_numpy("Y"), 2.0 * np.arange(8).reshape(2, 4))
        text = triton.InferInput("X", [2], "BYTES")
        text.set_data_from_numpy(np.array([b"one", b"three"], object))
        answer = client.infer("text", [text], client_timeout=SOON)
        assert answer.as_numpy("upper").tolist() == [b"ONE", b"THREE"]
        (statistics,) = client.get_inference_statistics("twice", as_json=True)["model_stats"]
        assert statistics["inference_count"] == "2"


def test_metrics(models):
    server = models.serve(port=0, block=False, address="127.0.0.1", metrics_port=0)
    try:
        with connected(server) as remote:
            runner = remote.infer_runner("identity_fp32")
            for _ in range(5):
                runner.infer(X=FOUR).get(SOON)
        models.infer_runner("identity_fp32").infer(X=FOUR).get(SOON)  # those from here count, too
        url = f"http://127.0.0.1:{server.metrics_port}/metrics"
        with urllib.request.urlopen(url, timeout=SOON) as response:
            text = response.read().decode()
    finally:
        server.stop()
    counts = {
        sample.name: sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.labels.get("model") == "identity_fp32" and sample.name.endswith("_count")
    }
    for wait in ("context", "queue", "buffers", "token", "stream"):
        assert counts[f"yais_inference_{wait}_seconds_count"] == 6
    assert counts["yais_inference_load_ratio_count"] == 6


# As the program itself.


def test_serving_until_a_signal():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    site = Site(7, "--port", port, "--block")
    try:
        with yais.RemoteInferenceManager(f"127.0.0.1:{port}", timeout=SOON) as remote:
            eventually(remote.server_ready)
            runner = remote.infer_runner("where")
            waiting = runner.infer(X=[7])
            assert site.line() == "waits"
            site.terminate()
            # gRPC core may keep a call that arrives in the very moment until the end (grpc/grpc#41785).
            eventually(
                lambda: isinstance(runner.infer_with_deadline(0.5, X=[0]).exception(SOON), yais.Unavailable)
            )
            assert not waiting.done()
            site.go_on()
            assert waiting.get(SOON)["Y"].tolist() == [7]  # it drains
        assert site.end() == (0, "")
    finally:
        site.kill()


def test_serving_until_a_signal_needs_the_main_thread(models):
    raised = []

    def serve():
        try:
            models.serve(port=0, address="127.0.0.1")
        except RuntimeError as error:
            raised.append(str(error))

    before = set(threading.enumerate())
    thread = threading.Thread(target=serve)
    thread.start()
    thread.join(SOON)
    assert len(raised) == 1 and "main" in raised[0]
    eventually(lambda: set(threading.enumerate()) <= before)  # it does not serve on
