"""Load, unload and index as clients ask for them."""

from __future__ import annotations

import json
import threading

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
from onnx_models import identity, table, write
from serving_models import SOON, Wire, eventually, infer_request, outputs_of, serving_models
from tritonclient.utils import InferenceServerException

from yais.inference.manager import InferenceManager
from yais.protocol import kserve_pb2 as pb
from yais.repository.repository import ControlMode
from yais.serving.managed import ManagedServer

MODE = "explicit model load / unload is not allowed if polling is enabled"


@pytest.fixture
def root(tmp_path):
    write(tmp_path, "a", table([1]))
    write(tmp_path, "b", table([2]))
    return tmp_path


@pytest.fixture
def server(root):
    with serving_models(root, control=ControlMode.EXPLICIT) as running:
        yield running


@pytest.fixture
def client(server):
    with triton.InferenceServerClient(f"127.0.0.1:{server.port}") as connected:
        yield connected


@pytest.fixture
def wire(server):
    with Wire(server.port) as connected:
        yield connected


def index(client):
    return [
        (row.name, row.version, row.state, row.reason)
        for row in client.get_model_repository_index(client_timeout=SOON).models
    ]


def look_up(client, model, version=""):
    given = triton.InferInput("index", [1, 1], "INT64")
    given.set_data_from_numpy(np.zeros((1, 1), np.int64))
    result = client.infer(model, [given], model_version=version, client_timeout=SOON)
    return result.as_numpy("value").item(), result.get_response().model_version


def test_a_model_that_comes_and_goes(client):
    assert client.is_server_ready(client_timeout=SOON)
    assert index(client) == [("a", "", "", ""), ("b", "", "", "")]
    assert not client.is_model_ready("a", client_timeout=SOON)
    client.load_model("a", client_timeout=SOON)
    assert client.is_model_ready("a", client_timeout=SOON)
    assert look_up(client, "a") == (1, "1")
    assert index(client) == [("a", "1", "READY", ""), ("b", "", "", "")]
    client.unload_model("a", client_timeout=SOON)
    assert not client.is_model_ready("a", client_timeout=SOON)
    with pytest.raises(InferenceServerException, match="Request for unknown model: 'a' "):
        look_up(client, "a")
    eventually(lambda: index(client)[0] == ("a", "1", "UNAVAILABLE", "unloaded"))
    assert client.is_server_ready(client_timeout=SOON)
    client.unload_model("none", client_timeout=SOON)


def test_only_what_is_ready(wire):
    wire.call("RepositoryModelLoad", pb.RepositoryModelLoadRequest(model_name="b"))
    rows = wire.call("RepositoryIndex", pb.RepositoryIndexRequest(ready=True)).models
    assert [(row.name, row.version, row.state) for row in rows] == [("b", "1", "READY")]


def test_versions(client, root):
    for version in ("2", "3"):
        write(root, "a", table([int(version)]), version=version)
    config = json.dumps({"version_policy": {"specific": {"versions": [1, 3]}}})
    client.load_model("a", config=config, client_timeout=SOON)
    assert list(client.get_model_metadata("a", client_timeout=SOON).versions) == ["1", "3"]
    assert list(client.get_model_metadata("a", "1", client_timeout=SOON).versions) == ["1"]
    assert look_up(client, "a") == (3, "3")
    assert look_up(client, "a", "1") == (1, "1")
    assert [row[:3] for row in index(client)] == [("a", "1", "READY"), ("a", "3", "READY"), ("b", "", "")]


def test_configuration_and_files(client):
    config = json.dumps({"max_batch_size": "16", "parameters": {}})
    client.load_model("a", config=config, client_timeout=SOON)
    assert client.get_model_config("a", client_timeout=SOON).config.max_batch_size == 16
    files = {"file:7/model.onnx": table([7]).SerializeToString()}
    client.load_model("new", config="{}", files=files, client_timeout=SOON)
    assert look_up(client, "new") == (7, "7")
    with pytest.raises(InferenceServerException, match="failed to load 'a', failed to poll from model repos"):
        client.load_model("a", files=files, client_timeout=SOON)
    with pytest.raises(InferenceServerException, match="failed to load 'a', failed to poll from model repos"):
        client.load_model("a", config="{", client_timeout=SOON)
    assert look_up(client, "a") == (1, "1")


def load_request(name, **parameters):
    request = pb.RepositoryModelLoadRequest(model_name=name)
    for key, value in parameters.items():
        kind = {str: "string_param", bytes: "bytes_param", bool: "bool_param", int: "int64_param"}[
            type(value)
        ]
        setattr(request.parameters[key.replace("__", ":")], kind, value)
    return request


@pytest.mark.parametrize(
    ("request_", "code", "text"),
    [
        (
            load_request(""),
            "INVALID_ARGUMENT",
            "Model name cannot be empty. Please enter a valid name to deploy.",
        ),
        (load_request("../a"), "INVALID_ARGUMENT", "model name must not contain path traversal characters"),
        (load_request("a", fast=True), "INVALID_ARGUMENT", "unrecognized load parameter 'fast'."),
        (
            load_request("a", config=1),
            "INVALID_ARGUMENT",
            "invalid value type for 'config' parameter, expected string_param.",
        ),
        (
            load_request("a", file__x="text"),
            "INVALID_ARGUMENT",
            "invalid value type for 'file:x' parameter, expected bytes_param.",
        ),
        (load_request("none"), "INTERNAL", "failed to load 'none', failed to poll from model repository"),
        (load_request("bad"), "INVALID_ARGUMENT", "load failed for model 'bad': version 1 is at UNAVAILABLE"),
        (
            pb.RepositoryModelLoadRequest(model_name="a", repository_name="r"),
            "UNIMPLEMENTED",
            "got repository 'r', expected none: they are one",
        ),
    ],
)
def test_loads_that_fail(wire, root, request_, code, text):
    write(root, "bad", b"no model")
    status, details = wire.refusal(request_, "RepositoryModelLoad")
    assert (status.name, details[: len(text)]) == (code, text)


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("unload_dependents", "invalid value type for 'unload_dependents' parameter, expected bool_param."),
        ("force", "unrecognized unload parameter 'force'."),
    ],
)
def test_unloads_that_fail(wire, key, text):
    request = pb.RepositoryModelUnloadRequest(model_name="a")
    request.parameters[key].int64_param = 1
    assert wire.refusal(request, "RepositoryModelUnload") == (grpc.StatusCode.INVALID_ARGUMENT, text)


def test_unload_with_dependents(client, root):
    tensors = "{} {{ name: '{}' data_type: TYPE_INT64 dims: 1 }}"
    maps = "input_map { key: 'index' value: 'I' } output_map { key: 'value' value: 'V' }"
    step = f"step {{ model_name: 'a' {maps} }}"
    config = f"max_batch_size: 4 ensemble_scheduling {{ {step} }}"
    text = " ".join((tensors.format("input", "I"), tensors.format("output", "V"), config))
    write(root, "whole", None, "platform: 'ensemble' " + text)
    (root / "whole" / "1").mkdir()
    client.load_model("whole", client_timeout=SOON)
    assert client.is_model_ready("a", client_timeout=SOON)
    client.unload_model("whole", unload_dependents=True, client_timeout=SOON)
    assert not client.is_model_ready("a", client_timeout=SOON)


@pytest.mark.parametrize("control", [ControlMode.NONE, ControlMode.POLL])
def test_other_modes(root, control):
    with serving_models(root, control=control) as server, Wire(server.port) as wire:
        for rpc in ("Load", "Unload"):
            request = getattr(pb, f"RepositoryModel{rpc}Request")(model_name="a")
            refused = wire.refusal(request, f"RepositoryModel{rpc}")
            assert refused == (grpc.StatusCode.UNAVAILABLE, MODE)
        assert [row.state for row in wire.call("RepositoryIndex").models] == ["READY", "READY"]


def test_a_managers_models_are_its_own():
    with InferenceManager() as manager:
        server = ManagedServer(manager, address="127.0.0.1", port=0, http_port=None, metrics_port=None)
        with server, Wire(server.port) as wire:
            code, text = wire.refusal(load_request("a"), "RepositoryModelLoad")
            assert code is grpc.StatusCode.UNAVAILABLE
            assert text.startswith("explicit model load / unload is not allowed: ")
            assert not wire.call("RepositoryIndex").models


class _Traffic:
    """Threads that ask a model all the time."""

    def __init__(self, port, threads):
        self.port = port
        self.answers = []
        self.errors = []
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(threads)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_error):
        self._ended.set()
        for thread in self._threads:
            thread.join(SOON)

    def more(self):
        """Wait until more requests are answered than were in flight, or one has failed."""
        seen = len(self.answers)
        eventually(lambda: len(self.answers) > seen + 20 or self.errors)

    def _ask(self):
        request = infer_request("a", {"index": np.zeros((1, 1), np.int64)})
        with Wire(self.port) as wire:
            while not self._ended.is_set():
                try:
                    response = wire.infer(request)
                except grpc.RpcError as error:
                    self.errors.append((error.code(), error.details()))
                else:
                    value = outputs_of(response)["value"].item()
                    self.answers.append((response.model_version, value))


def test_reload_under_traffic(server, client, root):
    """Every request is answered, by the old version or by the new one."""
    write(root, "a", table([1]), "dynamic_batching {} max_batch_size: 8")
    client.load_model("a", client_timeout=SOON)
    with _Traffic(server.port, threads=4) as traffic:
        traffic.more()
        for version in range(2, 12):
            write(root, "a", table([version]), version=str(version))
            client.load_model("a", client_timeout=SOON)
            assert look_up(client, "a") == (version, str(version))
            traffic.more()
    assert traffic.errors == []
    assert {int(version) for version, value in traffic.answers if int(version) == value} == set(range(1, 12))
    assert all(int(version) == value for version, value in traffic.answers)


def test_a_new_file_for_the_same_version_under_traffic(server, client, root):
    client.load_model("a", client_timeout=SOON)
    with _Traffic(server.port, threads=2) as traffic:
        for value in range(2, 8):
            write(root, "a", table([value]))
            client.load_model("a", client_timeout=SOON)
            assert look_up(client, "a") == (value, "1")
    assert traffic.errors == []


def test_readiness_follows_what_is_to_be_loaded(client, root):
    write(root, "bad", b"no model")
    with pytest.raises(InferenceServerException):
        client.load_model("bad", client_timeout=SOON)
    assert not client.is_server_ready(client_timeout=SOON)
    client.unload_model("bad", client_timeout=SOON)
    assert client.is_server_ready(client_timeout=SOON)
    write(root, "bad", identity("FP32"))
    client.load_model("bad", client_timeout=SOON)
    assert client.is_server_ready(client_timeout=SOON)
