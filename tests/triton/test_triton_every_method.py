"""Every public method of the four clients of Triton."""

from __future__ import annotations

import base64
import inspect
import json
import queue

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
from onnx_models import table
from serving_models import SOON, eventually
from shared_files import shared_file
from triton_clients import CLASSES, Client, rows
from triton_models import fill_triton, triton_server
from tritonclient.utils import InferenceServerException

from yais.serving.trace_settings import TraceOptions


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    traces = tmp_path_factory.mktemp("traces") / "trace.json"
    models = fill_triton(tmp_path_factory.mktemp("models"))
    with triton_server(models, trace=TraceOptions(file=str(traces))) as running:
        yield running


@pytest.fixture(scope="module", params=CLASSES)
def client(request, server):
    with Client(request.param, server) as connected:
        yield connected


X = {"X": rows(1, 2)}


def is_server_live(client):
    assert client.call("is_server_live") is True


def is_server_ready(client):
    assert client.call("is_server_ready") is True


def is_model_ready(client):
    assert client.call("is_model_ready", "simple") is True
    assert client.call("is_model_ready", "simple", "2") is True
    assert client.call("is_model_ready", "simple", "3") is False
    assert client.call("is_model_ready", "nix") is False


def get_server_metadata(client):
    metadata = client.call("get_server_metadata")
    assert metadata["name"] == "triton"
    assert metadata["version"]
    assert set(metadata["extensions"]) == {
        "classification",
        "sequence",
        "model_repository",
        "model_repository(unload_dependents)",
        "schedule_policy",
        "model_configuration",
        "system_shared_memory",
        "cuda_shared_memory",
        "binary_tensor_data",
        "parameters",
        "statistics",
        "trace",
        "logging",
    }


def get_model_metadata(client):
    metadata = client.call("get_model_metadata", "simple")
    assert (metadata["name"], metadata["platform"]) == ("simple", "onnxruntime_onnx")
    assert metadata["versions"] == ["1", "2"]
    shape = [-1, 16] if client.http else ["-1", "16"]  # 64 bits, in the JSON of protobuf
    assert metadata["inputs"][1] == {"name": "INPUT1", "datatype": "INT32", "shape": shape}
    assert [each["name"] for each in metadata["outputs"]] == ["OUTPUT0", "OUTPUT1"]
    assert client.call("get_model_metadata", "simple", "1")["versions"] == ["1"]
    if not client.http:
        assert client.call("get_model_metadata", "simple", as_json=False).inputs[0].shape == [-1, 16]


def get_model_config(client):
    config = client.call("get_model_config", "simple", "2")
    config = config if client.http else config["config"]
    assert (config["name"], config["max_batch_size"]) == ("simple", 8)
    assert config["input"][0]["data_type"] == "TYPE_INT32"
    if not client.http:
        assert client.call("get_model_config", "simple", as_json=False).config.input[0].dims == [16]


def get_model_repository_index(client):
    index = client.call("get_model_repository_index")
    index = index if client.http else index["models"]
    assert {"name": "simple", "version": "2", "state": "READY"}.items() <= next(
        row.items() for row in index if row["name"] == "simple" and row["version"] == "2"
    )


def get_inference_statistics(client):
    client.infer("simple", simple())
    (first, second) = client.call("get_inference_statistics", "simple")["model_stats"]
    assert (first["version"], second["version"]) == ("1", "2")
    assert int(second["inference_stats"]["success"]["count"]) >= 1
    assert len(client.call("get_inference_statistics", "simple", "1")["model_stats"]) == 1
    assert len(client.call("get_inference_statistics")["model_stats"]) > 10
    with pytest.raises(InferenceServerException, match="requested model 'nix' is not available"):
        client.call("get_inference_statistics", "nix")


def load_model(client):
    client.call("load_model", "identity_fp64")
    client.call(
        "load_model", "identity_fp64", config=json.dumps({"backend": "onnxruntime", "max_batch_size": "4"})
    )
    config = client.call("get_model_config", "identity_fp64")
    assert (config if client.http else config["config"])["max_batch_size"] == 4
    client.call("load_model", "identity_fp64")
    files = {"file:1/model.onnx": table([5, 6]).SerializeToString()}
    with pytest.raises(InferenceServerException):
        client.call("load_model", "sent", files=files)
    client.call("load_model", "sent", config='{"backend": "onnxruntime"}', files=files)
    answer = client.infer("sent", {"index": np.array([[1]])})
    assert answer.as_numpy("value").tolist() == [[6]]
    with pytest.raises(InferenceServerException) as caught:
        client.call("load_model", "nix")
    assert caught.value.message().startswith("failed to load 'nix', failed to poll from model repository")
    assert caught.value.status() == client.status("INTERNAL", 500)


def unload_model(client):
    client.call("load_model", "whole")
    client.call("unload_model", "whole")
    eventually(lambda: not client.call("is_model_ready", "whole"))
    assert client.call("is_model_ready", "part")  # somebody has asked for it
    client.call("unload_model", "part")
    client.call("load_model", "whole")
    assert client.call("is_model_ready", "part")  # nobody has
    client.call("unload_model", "whole", unload_dependents=True)
    eventually(lambda: not client.call("is_model_ready", "part"))
    for version, status, text in (
        ("", ("NOT_FOUND", 404), "has no available versions"),
        ("1", ("UNAVAILABLE", 503), "version 1 is not at ready state"),
    ):
        with pytest.raises(InferenceServerException) as caught:
            client.infer("part", X, model_version=version)
        assert caught.value.status() == client.status(*status)
        assert caught.value.message() == f"Request for unknown model: 'part' {text}"
    client.call("load_model", "part")
    client.call("load_model", "whole")
    assert client.infer("whole", {"A": X["X"]}).as_numpy("B").tolist() == [[1, 2]]
    client.call("unload_model", "nix")


def settings(answer):
    """Return trace or log settings as plain values."""
    plain = answer.get("settings", answer)
    return {
        key: next(iter(value.values()), None) if isinstance(value, dict) else value
        for key, value in plain.items()
    }


def get_trace_settings(client):
    got = settings(client.call("get_trace_settings"))
    assert set(got) >= {"trace_level", "trace_rate", "trace_count", "log_frequency", "trace_file"}
    assert got["trace_level"] == ["OFF"]
    assert settings(client.call("get_trace_settings", "simple")) == got
    with pytest.raises(InferenceServerException, match="nix") as caught:
        client.call("get_trace_settings", "nix")
    assert caught.value.status() == client.status("INVALID_ARGUMENT", 400)


def update_trace_settings(client):
    def told(value):
        return value if client.http else [value]

    before = settings(client.call("get_trace_settings"))
    changes = {"trace_rate": "5", "trace_level": ["TIMESTAMPS", "TENSORS"], "trace_count": "7"}
    changed = settings(client.call("update_trace_settings", "simple", changes))
    assert (changed["trace_rate"], changed["trace_count"]) == (told("5"), told("7"))
    assert changed["trace_level"] == ["TIMESTAMPS", "TENSORS"]
    assert settings(client.call("get_trace_settings")) == before
    client.call("update_trace_settings", settings={"trace_rate": "9"})
    assert settings(client.call("get_trace_settings", "optional"))["trace_rate"] == told("9")
    assert settings(client.call("get_trace_settings", "simple"))["trace_rate"] == told("5")
    clear = dict.fromkeys(changes)
    client.call("update_trace_settings", settings=clear)
    assert settings(client.call("update_trace_settings", "simple", clear)) == before
    with pytest.raises(InferenceServerException):
        client.call("update_trace_settings", settings={"trace_rate": "x"})


def get_log_settings(client):
    assert set(settings(client.call("get_log_settings"))) == {
        "log_file",
        "log_info",
        "log_warning",
        "log_error",
        "log_verbose_level",
        "log_format",
    }


def update_log_settings(client):
    before = settings(client.call("get_log_settings"))
    changes = {"log_verbose_level": 1, "log_info": False, "log_format": "ISO8601"}
    changed = settings(client.call("update_log_settings", changes))
    assert changed == {**before, **changes}
    assert settings(client.call("update_log_settings", {key: before[key] for key in changes})) == before
    with pytest.raises(InferenceServerException) as caught:
        client.call("update_log_settings", {"log_everything": True})
    assert caught.value.status() == client.status("INVALID_ARGUMENT", 400)


def regions(client, kind, name=""):
    answer = client.call(f"get_{kind}_shared_memory_status", name)
    found = answer if client.http else list(answer.get("regions", {}).values())
    return {each["name"]: each for each in found}


def system_shared_memory(client):
    with shared_file(128) as file:
        client.call("unregister_system_shared_memory")
        client.call("register_system_shared_memory", "one", f"/{file.name}", 64)
        client.call("register_system_shared_memory", "two", f"/{file.name}", 32, offset=64)
        assert set(regions(client, "system")) == {"one", "two"}
        (two,) = regions(client, "system", "two").values()
        assert (two["key"], int(two["offset"]), int(two["byte_size"])) == (f"/{file.name}", 64, 32)
        with pytest.raises(InferenceServerException) as caught:
            client.call("register_system_shared_memory", "two", f"/{file.name}", 32)
        assert caught.value.message() == "shared memory region 'two' already in manager"
        assert caught.value.status() == client.status("ALREADY_EXISTS", 400)
        client.call("unregister_system_shared_memory", "one")
        with pytest.raises(InferenceServerException) as caught:
            client.call("get_system_shared_memory_status", "one")
        assert caught.value.message() == "Unable to find system shared memory region: 'one'"
        assert caught.value.status() == client.status("NOT_FOUND", 404)
        client.call("unregister_system_shared_memory")
        assert regions(client, "system") == {}
    with pytest.raises(InferenceServerException) as caught:
        client.call("register_system_shared_memory", "gone", f"/{file.name}", 64)
    assert caught.value.message() == f"Unable to open shared memory region: '/{file.name}'"
    assert caught.value.status() == client.status("INTERNAL", 500)


def cuda_shared_memory(client):
    client.call("unregister_cuda_shared_memory")
    client.call("unregister_cuda_shared_memory", "nix")
    assert regions(client, "cuda") == {}
    handle = base64.b64encode(bytes(64))
    with pytest.raises(
        InferenceServerException, match=r"failed to register .*shared memory region"
    ) as caught:
        client.call("register_cuda_shared_memory", "r", handle if client.http else bytes(64), 0, 64)
    assert caught.value.status() == client.status("INVALID_ARGUMENT", 400)
    with pytest.raises(InferenceServerException, match="Unable to find cuda shared memory region: 'r'"):
        client.call("get_cuda_shared_memory_status", "r")


def simple(first=None, second=None):
    first = np.arange(16, dtype=np.int32)[None] if first is None else first
    return {"INPUT0": first, "INPUT1": np.ones((1, 16), np.int32) if second is None else second}


def infer(client):
    answer = client.infer("simple", simple(), request_id="7", model_version="1")
    assert answer.as_numpy("OUTPUT0").tolist() == [list(range(1, 17))]
    assert answer.as_numpy("OUTPUT1").tolist() == [list(range(-1, 15))]
    response = answer.get_response() if client.http else answer.get_response(as_json=True)
    assert (response["id"], response["model_name"], response["model_version"]) == ("7", "simple", "1")
    assert answer.get_output("OUTPUT9") is None
    assert answer.as_numpy("OUTPUT9") is None


def async_infer(client):
    inputs = [client.input(name, array) for name, array in simple().items()]
    if client.http:
        answer = client.raw.async_infer("simple", inputs).get_result(timeout=SOON)
    else:
        answers = queue.Queue()
        client.raw.async_infer("simple", inputs, lambda result, error: answers.put((result, error)))
        answer, error = answers.get(timeout=SOON)
        assert error is None
    assert answer.as_numpy("OUTPUT0")[0, 15] == 16


def streams(client):
    answers = queue.Queue()
    client.raw.start_stream(lambda result, error: answers.put((result, error)), stream_timeout=SOON)
    for value in range(3):
        inputs = [client.input("X", rows(value))]
        client.raw.async_stream_infer("part", inputs, request_id=str(value))
    client.raw.stop_stream()
    for value in range(3):
        result, error = answers.get(timeout=SOON)
        assert error is None
        assert result.as_numpy("Y").tolist() == [[value]]
        assert result.get_response().id == str(value)


def stream_infer(client):
    async def requests():
        for value in range(3):
            yield {"model_name": "part", "inputs": [client.input("X", rows(value))]}

    async def received():
        return [pair async for pair in client.raw.stream_infer(requests(), stream_timeout=SOON)]

    client.raw.received = received
    answers = client.call("received")
    assert [error for _, error in answers] == [None] * 3
    assert [result.as_numpy("Y").tolist() for result, _ in answers] == [[[value]] for value in range(3)]


def bodies(client):
    """A body made by the client, sent by something else, and read by the client."""
    import http.client

    cls = type(client.raw)
    body, header_length = cls.generate_request_body(
        [client.input(name, array) for name, array in simple().items()], request_id="9"
    )
    connection = http.client.HTTPConnection(client.url, timeout=SOON)
    headers = {"Inference-Header-Content-Length": str(header_length)}
    connection.request("POST", "/v2/models/simple/infer", body, headers)
    answer = connection.getresponse()
    assert answer.status == 200
    length = int(answer.headers["Inference-Header-Content-Length"])
    result = cls.parse_response_body(answer.read(), header_length=length)
    connection.close()
    assert result.get_response()["id"] == "9"
    assert result.as_numpy("OUTPUT1")[0, 0] == -1


class Telling(tritonclient.grpc.InferenceServerClientPlugin):
    def __init__(self):
        self.asked = 0

    def __call__(self, request):
        self.asked += 1
        request.headers["x-told"] = "1"


def plugin(client):
    telling = Telling()
    assert client.raw.plugin() is None
    client.raw.register_plugin(telling)
    assert client.raw.plugin() is telling
    assert client.call("is_server_live", headers={})
    assert telling.asked == 1
    with pytest.raises(InferenceServerException, match="already registered"):
        client.raw.register_plugin(telling)
    client.raw.unregister_plugin()
    assert client.raw.plugin() is None
    assert client.call("is_server_live")
    assert telling.asked == 1


def close(client):
    """The fixture closes the clients; here one that has never been used."""


CALLS = {
    function.__name__: function
    for function in (
        is_server_live,
        is_server_ready,
        is_model_ready,
        get_server_metadata,
        get_model_metadata,
        get_model_config,
        get_model_repository_index,
        get_inference_statistics,
        load_model,
        unload_model,
        get_trace_settings,
        update_trace_settings,
        get_log_settings,
        update_log_settings,
        infer,
        async_infer,
        stream_infer,
        plugin,
        close,
    )
}
for kind, exercise in (("system", system_shared_memory), ("cuda", cuda_shared_memory)):
    for name in ("register_{}", "unregister_{}", "get_{}_status"):
        CALLS[name.format(f"{kind}_shared_memory")] = exercise
CALLS |= dict.fromkeys(("start_stream", "async_stream_infer", "stop_stream"), streams)
CALLS |= dict.fromkeys(("generate_request_body", "parse_response_body"), bodies)
CALLS |= dict.fromkeys(("register_plugin", "unregister_plugin"), plugin)
"""What exercises each method; the test finds out whether it does."""


def public_methods(cls):
    return {name for name, _ in inspect.getmembers(cls, inspect.isfunction) if not name.startswith("_")}


def test_every_method(client, monkeypatch):
    cls = type(client.raw)
    expected = public_methods(cls)
    called = set()
    for name in expected:
        monkeypatch.setattr(cls, name, recording(cls, name, called))
    for exercise in dict.fromkeys(CALLS[name] for name in sorted(expected)):
        exercise(client)
    with Client(client.kind, client.server):
        pass  # closes it
    assert called == expected


def recording(cls, name, called):
    """Return the method, which notes that it has been called."""
    static = isinstance(inspect.getattr_static(cls, name), staticmethod)
    function = getattr(cls, name)

    def noting(*args, **options):
        called.add(name)
        return function(*args, **options)

    noting.__signature__ = inspect.signature(function)
    return staticmethod(noting) if static else noting
