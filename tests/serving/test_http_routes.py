"""The routes of HTTP: what they answer, field by field, and what they refuse."""

from __future__ import annotations

import base64
import json

import pytest
from http_models import fill_routed
from http_routed import Http, routed
from onnx_models import EXAMPLES, table, write
from prometheus_client.parser import text_string_to_metric_families
from serving_models import eventually
from shared_files import shared_file

from yais.repository.repository import ControlMode

MODEL = "/v2/models/table"
MODE = "explicit model load / unload is not allowed if polling is enabled"
ZERO = {"count": 0, "ns": 0}


@pytest.fixture(scope="module")
def http(tmp_path_factory):
    with routed(EXAMPLES, fill_routed(tmp_path_factory.mktemp("models"))) as calls:
        yield calls


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A server for the tests that change its models: `a`, and the directory of all."""
    root = tmp_path_factory.mktemp("own")
    write(root, "a", table([1]))
    with routed(root) as calls:
        yield calls, root


def states(http: Http) -> dict[str, str | None]:
    return {row["name"]: row.get("state") for row in http.post("/v2/repository/index")}


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v2/health/live", 200),
        ("/v2/health/live?now=1", 200),
        ("/v2/health/ready", 400),  # `broken` is not
        (f"{MODEL}/ready", 200),
        (f"{MODEL}/versions/1/ready", 200),
    ],
)
def test_health_says_it_by_the_status_alone(http, path, status):
    for method in ("GET", "HEAD"):
        assert http.call(method, path)[::2] == (status, b"")


@pytest.mark.parametrize("path", ["nix/ready", "broken/ready", "table/versions/2/ready"])
def test_a_model_that_is_not_ready_has_a_text(http, path):
    assert http.refusal(f"/v2/models/{path}", method="GET") == (400, "Model version not ready")


def test_a_server_with_all_models_is_ready(own):
    assert own[0].call("GET", "/v2/health/ready")[::2] == (200, b"")


def test_server_metadata(http):
    metadata = http.get("/v2")
    assert list(metadata) == ["name", "version", "extensions"]
    assert metadata["name"] == "triton"
    assert {"statistics", "trace", "logging", "system_shared_memory"} <= set(metadata["extensions"])


@pytest.mark.parametrize("path", [MODEL, f"{MODEL}/versions/1", "/v2/models/t%61ble"])
def test_model_metadata(http, path):
    assert http.get(path) == {
        "name": "table",
        "versions": ["1"],
        "platform": "onnxruntime_onnx",
        "inputs": [{"name": "index", "datatype": "INT64", "shape": [-1, 1]}],
        "outputs": [{"name": "value", "datatype": "INT64", "shape": [-1, 1]}],
    }


def test_a_configuration_has_every_primitive_field(http):
    config = http.get(f"{MODEL}/config")
    assert http.get(f"{MODEL}/versions/1/config") == config
    assert config["max_batch_size"] == 8
    assert config["input"] == [
        {
            "name": "index",
            "data_type": "TYPE_INT64",
            "format": "FORMAT_NONE",
            "dims": [1],
            "is_shape_tensor": False,
            "allow_ragged_batch": False,
            "optional": False,
            "is_non_linear_format_io": False,
        }
    ]
    assert config["dynamic_batching"]["max_queue_delay_microseconds"] == 0
    assert config["instance_group"][0]["kind"] == "KIND_CPU"
    assert config["parameters"] == {}
    assert config["default_model_filename"] == "model.onnx"
    assert "ensemble_scheduling" not in config
    assert "sequence_batching" not in config


def test_the_configuration_of_an_ensemble_has_its_steps(http):
    step = http.get("/v2/models/read_digit/config")["ensemble_scheduling"]["step"][0]
    assert step["model_version"] == -1
    assert all(isinstance(name, str) for name in step["input_map"].values())


def test_statistics_have_every_field(http):
    path = "/v2/models/matrix/stats"
    model = {
        "name": "matrix",
        "version": "1",
        "last_inference": 0,
        "inference_count": 0,
        "execution_count": 0,
    }
    durations = ["success", "fail", "queue", "compute_input", "compute_infer", "compute_output"]
    (before,) = http.get(path)["model_stats"]
    assert before == model | {
        "inference_stats": dict.fromkeys([*durations, "cache_hit", "cache_miss"], ZERO),
        "batch_stats": [],
        "memory_usage": [],
        "response_stats": {},
    }
    http.post("/v2/models/matrix/generate", {"X": [[1, 2, 3], [4, 5, 6]]})
    (after,) = http.get(path)["model_stats"]
    assert (
        after["inference_count"]
        == after["execution_count"]
        == after["inference_stats"]["queue"]["count"]
        == 1
    )
    assert after["inference_stats"]["success"]["ns"] > 0
    assert after["last_inference"] > 1e12
    (batch,) = after["batch_stats"]
    assert batch["batch_size"] == 1
    assert batch["compute_infer"]["count"] == 1


def test_statistics_of_one_version_and_of_all_models(http):
    (one,) = http.get(f"{MODEL}/versions/1/stats")["model_stats"]
    assert one in http.get("/v2/models/stats")["model_stats"]
    unknown = (400, "requested model 'nix' is not available")
    assert http.refusal("/v2/models/nix/stats", method="GET") == unknown


@pytest.mark.parametrize("path", ["", "/config"])
def test_models_that_are_not_there(http, path):
    def refusal(model):
        return http.refusal(f"/v2/models/{model}{path}", method="GET")

    assert refusal("nix") == (404, "Request for unknown model: 'nix' is not found")
    status, text = refusal("table/versions/x")
    assert status == 400
    assert text.startswith("failed to get model version from specified version string 'x' (details: stol)")


def test_the_index_has_what_is_known(http):
    rows = {row["name"]: row for row in http.post("/v2/repository/index", {})}
    assert rows["table"] == {"name": "table", "version": "1", "state": "READY"}
    assert rows["broken"]["state"] == "UNAVAILABLE"
    assert "ONNX Runtime cannot load the model" in rows["broken"]["reason"]
    ready = http.post("/v2/repository/index", {"ready": True})
    assert {row["name"] for row in ready} == rows.keys() - {"broken"}


@pytest.mark.parametrize("value", [1, "true", None, [True]])
def test_ready_is_a_boolean(http, value):
    refusal = http.refusal("/v2/repository/index", {"ready": value})
    assert refusal == (400, "Invalid value for 'ready': expected a boolean")


def test_models_come_and_go(own):
    http, root = own
    write(root, "b", table([2]))
    assert states(http) == {"a": "READY", "b": None}
    assert http.post("/v2/repository/models/b/load") is None
    assert states(http) == {"a": "READY", "b": "READY"}
    assert http.post("/v2/repository/models/b/unload", {"parameters": {"unload_dependents": True}}) is None
    eventually(lambda: states(http) == {"a": "READY", "b": "UNAVAILABLE"})
    (row,) = [row for row in http.post("/v2/repository/index") if row["name"] == "b"]
    assert row["reason"] == "unloaded"
    assert http.post("/v2/repository/models/nix/unload") is None


def test_a_model_travels_in_the_request(own):
    content = base64.b64encode(table([7]).SerializeToString()).decode()
    config = json.dumps({"backend": "onnxruntime", "max_batch_size": "4"})
    parameters = {"config": config, "file:1/model.onnx": content}
    own[0].post("/v2/repository/models/sent/load", {"parameters": parameters})
    assert own[0].get("/v2/models/sent/config")["max_batch_size"] == 4
    assert own[0].post("/v2/models/sent/generate", {"index": 0})["value"] == 7


@pytest.mark.parametrize(
    ("parameters", "text"),
    [
        ({"a": 1}, "unrecognized load parameter 'a'."),
        ({"config": True}, "invalid value type for 'config' parameter, expected string_param."),
        ({"config": 1 << 64}, "Unable to parse 'config': attempt to access JSON non-string as string"),
        ({"file:x": "AA A"}, "Unable to parse 'file:x': expected base64: Only base64 data is allowed"),
        ([], "Unable to parse 'parameters': attempt to access JSON non-object as object"),
    ],
)
def test_what_a_load_refuses(own, parameters, text):
    refusal = own[0].refusal("/v2/repository/models/a/load", {"parameters": parameters})
    assert refusal == (400, text)


def test_what_an_unload_refuses(own):
    def refusal(parameters):
        return own[0].refusal("/v2/repository/models/a/unload", {"parameters": parameters})

    expected = "invalid value type for 'unload_dependents' parameter, expected bool_param."
    assert refusal({"unload_dependents": 1}) == (400, expected)
    assert refusal({"other": True}) == (400, "unrecognized unload parameter 'other'.")


def test_there_is_one_repository_without_a_name(own):
    for path in ("index", "models/a/load", "models/a/unload"):
        assert own[0].refusal(f"/v2/repository/R/{path}")[0] == 501


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b'{"ready":', "failed to parse the request JSON buffer: "),
        (b"\xff{}", "failed to parse the request JSON buffer: "),
        (b"[]", "attempt to access JSON non-object as object"),
        (b"[" * 101 + b"]" * 101, "JSON nesting depth exceeds maximum allowed limit (100)"),
        (b"[" * 100_000, "JSON nesting depth exceeds maximum allowed limit (100)"),
    ],
)
@pytest.mark.parametrize("path", ["/v2/repository/index", "/v2/logging", f"{MODEL}/generate"])
def test_bodies_that_are_no_object(http, path, body, text):
    status, said = http.refusal(path, body)
    assert status == 400
    assert said.startswith(text)


def test_system_shared_memory(http):
    path = "/v2/systemsharedmemory"
    with shared_file(128) as file:
        region = {"key": f"/{file.name}", "offset": 64, "byte_size": 64}
        assert http.post(f"{path}/region/a%20b/register", region) is None
        assert http.get(f"{path}/status") == [{"name": "a b", **region}]
        assert http.get(f"{path}/region/a%20b/status") == [{"name": "a b", **region}]
        again = http.refusal(f"{path}/region/a%20b/register", region)
        assert again == (400, "shared memory region 'a b' already in manager")
        assert http.post(f"{path}/region/a%20b/unregister") is None
        assert http.get(f"{path}/status") == []
        assert http.post(f"{path}/unregister") is None
    unknown = http.refusal(f"{path}/region/nix/status", method="GET")
    assert unknown == (404, "Unable to find system shared memory region: 'nix'")


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"byte_size": 64}, "Shared memory register request has no 'key' field"),
        ({"key": "/a"}, "Shared memory register request has no 'byte_size' field"),
        ({"key": 1, "byte_size": 1}, "Unable to parse 'key': attempt to access JSON non-string as string"),
        (
            {"key": "/a", "byte_size": -1},
            "Unable to parse 'byte_size': attempt to access JSON non-unsigned-integer as unsigned-integer",
        ),
        (
            {"key": "/a", "byte_size": 1, "offset": True},
            "Unable to parse 'offset': attempt to access JSON non-unsigned-integer as unsigned-integer",
        ),
    ],
)
def test_what_a_region_of_the_system_must_say(http, fields, text):
    assert http.refusal("/v2/systemsharedmemory/region/r/register", fields) == (400, text)


HANDLE = {"b64": base64.b64encode(bytes(64)).decode()}


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"device_id": 0, "byte_size": 1}, "Shared memory register request has no 'raw_handle' field"),
        (
            {"raw_handle": {}, "device_id": 0, "byte_size": 1},
            "Shared memory register request has no 'raw_handle' field",
        ),
        (
            {"raw_handle": HANDLE, "byte_size": 1},
            "Shared memory register request has no 'device_id' field",
        ),
        (
            {"raw_handle": "AA", "device_id": 0, "byte_size": 1},
            "Unable to parse 'raw_handle': attempt to access JSON non-object as object",
        ),
        (
            {"raw_handle": {"b64": "A"}, "device_id": 0, "byte_size": 1},
            "Unable to parse 'raw_handle': expected base64: ",
        ),
    ],
)
def test_what_a_region_of_a_gpu_must_say(http, fields, text):
    status, said = http.refusal("/v2/cudasharedmemory/region/r/register", fields)
    assert status == 400
    assert said.startswith(text)


def test_cuda_shared_memory_without_a_region(http):
    path = "/v2/cudasharedmemory"
    assert http.get(f"{path}/status") == []
    assert http.post(f"{path}/unregister") is None
    assert http.post(f"{path}/region/nix/unregister") is None
    assert http.refusal(f"{path}/region/nix/status", method="GET")[0] == 404
    status, text = http.refusal(
        f"{path}/region/r/register", {"raw_handle": HANDLE, "device_id": 0, "byte_size": 64}
    )
    assert status == 400
    assert text.startswith("failed to register")


def test_trace_settings_are_text_or_arrays_of_it(own):
    http = own[0]
    before = http.get("/v2/trace/setting")
    assert set(before) == {
        *("trace_level", "trace_rate", "trace_count", "log_frequency", "trace_file", "trace_mode")
    }
    assert before["trace_level"] == ["OFF"]
    assert before["trace_rate"] == "1000"
    of_model = http.post("/v2/models/a/trace/setting", {"trace_rate": "7"})
    assert of_model == before | {"trace_rate": "7"}
    assert http.get("/v2/models/a/trace/setting") == of_model
    assert http.get("/v2/trace/setting") == before
    assert http.post("/v2/models/a/trace/setting", {"trace_rate": None}) == before


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"trace_rate": 7}, "Unable to parse 'trace_rate': attempt to access JSON non-string as string"),
        ({"trace_level": "OFF"}, "Unable to parse 'trace_level': attempt to access JSON non-array as array"),
        ({"trace_level": [1]}, "Unable to parse 'trace_level': attempt to access JSON non-string as string"),
    ],
)
def test_what_trace_settings_refuse(http, settings, text):
    assert http.refusal("/v2/trace/setting", settings) == (400, text)


def test_the_trace_settings_of_no_model(http):
    assert http.refusal("/v2/models/nix/trace/setting", method="GET")[0] == 400


def test_log_settings_have_their_types(own):
    http = own[0]
    settings = {
        "log_file": "",
        "log_info": True,
        "log_warning": True,
        "log_error": True,
        "log_verbose_level": 0,
        "log_format": "default",
    }
    assert http.get("/v2/logging") == settings
    changed = {"log_verbose_level": 2, "log_format": "ISO8601", "log_info": False}
    assert http.post("/v2/logging", changed) == settings | changed
    assert http.get("/v2/logging") == settings | changed
    assert http.post("/v2/logging", {"log_info": None}) == settings | changed  # as in Triton: not said
    del settings["log_file"]  # cannot be changed
    assert http.post("/v2/logging", settings).items() >= settings.items()


@pytest.mark.parametrize(
    "settings",
    [{"log_info": 1}, {"log_verbose_level": -1}, {"nix": 1}, {"log_info": 0.5}],
)
def test_what_log_settings_refuse(http, settings):
    status, text = http.refusal("/v2/logging", settings)
    assert status == 400
    assert next(iter(settings)) in text


def test_half_a_character_is_refused(http):
    body = rb'{"log_format": "\ud800"}'
    assert http.refusal("/v2/logging", body)[0] == 400
    assert http.refusal("/v2/trace/setting", rb'{"\ud800": "1"}')[0] == 400


def test_metrics_are_those_of_the_models(http):
    status, kind, text = http.call("GET", "/metrics")
    assert status == 200
    assert kind.startswith("text/plain")
    families = {family.name for family in text_string_to_metric_families(text.decode())}
    assert {"yais_model_ready", "yais_inference_pending_requests"} <= families


@pytest.mark.parametrize(
    ("method", "path", "status", "text"),
    [
        ("GET", "/v2/nix", 404, "Not Found"),
        ("GET", "/v2/models/", 404, "Not Found"),
        ("GET", "/v2/", 404, "Not Found"),
        ("POST", "/v2", 405, "Method Not Allowed"),
        ("POST", f"{MODEL}/config", 405, "Method Not Allowed"),
        ("GET", "/v2/repository/index", 405, "Method Not Allowed"),
        ("GET", f"{MODEL}/generate", 405, "Method Not Allowed"),
        ("PUT", "/v2/logging", 405, "Method Not Allowed"),
    ],
)
def test_other_paths_and_methods(http, method, path, status, text):
    assert http.refusal(path, method=method) == (status, text)


def test_load_and_unload_are_refused_by_the_mode(tmp_path):
    write(tmp_path, "a", table([1]))
    with routed(tmp_path, control=ControlMode.NONE, load=()) as http:
        for verb in ("load", "unload"):
            assert http.refusal(f"/v2/repository/models/a/{verb}") == (503, MODE)


def test_shared_memory_must_be_allowed(tmp_path):
    write(tmp_path, "a", table([1]))
    with routed(tmp_path, allow_client_shm=False) as http:
        region = {"key": "/a", "byte_size": 1}
        assert http.refusal("/v2/systemsharedmemory/region/r/register", region) == (
            501,
            "Client shared memory is disabled. Start the server with '--allow-client-shm=true' to enable.",
        )
