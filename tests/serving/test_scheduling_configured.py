"""What else configurations say of how models are served, through the server and Triton's client."""

from __future__ import annotations

import numpy as np
import pytest
import tritonclient.grpc as triton
from gated_models import GATED, TENSORS, Sent, gates, row, write_gated, write_python
from onnx_models import identity, table, write
from scraping import scrape, value
from server_state import pending
from serving_models import SOON, eventually, serving_models

SHAPES = """
import numpy as np

class Model:
    def execute(self, inputs):
        given = inputs["square"]
        shapes = [list(array.shape[1:]) for array in (given, inputs["scalar"])]
        text = np.array([[repr(shapes)]] * len(given), np.object_)
        return {"line": given[:, ::-1], "shapes": text}
"""

SHAPING = """
    backend: "python"
    max_batch_size: 4
    dynamic_batching {}
    input { name: "square" data_type: TYPE_FP32 dims: [ 2, 2 ] reshape { shape: [ 4 ] } }
    input { name: "scalar" data_type: TYPE_FP32 dims: [ 1 ] reshape { } }
    output { name: "line" data_type: TYPE_FP32 dims: [ 1, 4 ] reshape { shape: [ 4 ] } }
    output { name: "shapes" data_type: TYPE_STRING dims: [ 1 ] }
"""

OPTIONAL = """
from gated_models import gates

class Model:
    def execute(self, inputs):
        with gates["optional"].passing(inputs["x"][:, 0].tolist()):
            return {"y": inputs["x"] + inputs.get("bias", 1000)}
"""

OPTIONALLY = (
    TENSORS
    + """
    input { name: "bias" data_type: TYPE_FP32 dims: [ 1 ] optional: true }
    max_batch_size: 8
    dynamic_batching {}
"""
)

WARM = """
    max_batch_size: 4
    instance_group { count: 2 }
    model_warmup {
        name: "zeros" batch_size: 3 count: 2
        inputs { key: "x" value { data_type: TYPE_FP32 dims: [ 2 ] zero_data: true } }
    }
    model_warmup {
        name: "random" batch_size: 1
        inputs { key: "x" value { data_type: TYPE_FP32 dims: [ 1 ] random_data: true } }
    }
    model_warmup {
        name: "from a file" batch_size: 2
        inputs { key: "x" value { data_type: TYPE_FP32 dims: [ 2 ] input_data_file: "numbers" } }
    }
"""

COLD = """
    max_batch_size: 4
    model_warmup {
        name: "sample" batch_size: 1
        inputs { key: "INPUT" value { data_type: TYPE_INT64 dims: [ 1 ] input_data_file: "numbers" } }
    }
"""

COMPLETING = """
import numpy as np

class Model:
    @staticmethod
    def auto_complete_config(config):
        config.add_input({"name": "numbers", "data_type": "TYPE_INT32", "dims": [-1]})
        config.add_input({"name": "factor", "data_type": "TYPE_INT32", "dims": [1], "optional": True})
        config.add_output({"name": "total", "data_type": "TYPE_INT64", "dims": [1]})
        config.set_max_batch_size(16)
        config.set_dynamic_batching()
        return config

    def execute(self, inputs):
        return {"total": inputs["numbers"].sum(axis=1, keepdims=True) * inputs.get("factor", 1)}
"""

TUNED = """
    max_batch_size: 8
    dynamic_batching {}
    instance_group { count: 2 kind: KIND_CPU }
    optimization { graph { level: 1 } input_pinned_memory { enable: false } }
    parameters { key: "intra_op_thread_count" value { string_value: "1" } }
    parameters { key: "execution_mode" value { string_value: "1" } }
    parameters { key: "enable_mem_arena" value { string_value: "0" } }
"""

REFUSED = {
    "model_operations": 'model_operations { op_library_filename: "lib.so" }',
    "instance_group.passive": "instance_group { passive: true }",
    "input.allow_ragged_batch": "input { name: 'X' data_type: TYPE_FP32 dims: -1 allow_ragged_batch: true }",
    "batch_input": "batch_input { kind: BATCH_ELEMENT_COUNT }",
    "optimization.priority": "optimization { priority: PRIORITY_MAX }",
    "no_such_thing": 'parameters { key: "no_such_thing" value { string_value: "1" } }',
    "default_priority_level": "max_batch_size: 4 dynamic_batching { priority_levels: 2 }",
    "preferred": "max_batch_size: 4 dynamic_batching { preferred_batch_size: 8 }",
    "response_cache": "max_batch_size: 4 sequence_batching {} response_cache { enable: true }",
    "max_batch_size": "max_batch_size: 0 dynamic_batching {}",
    "no_such_field": "no_such_field: 3",
}
"""What is refused, and how configurations say it."""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    repository = tmp_path_factory.mktemp("models")
    write_python(repository, "shapes", SHAPES, SHAPING)
    write_python(repository, "optional", OPTIONAL, OPTIONALLY)
    (repository / "warm" / "warmup").mkdir(parents=True)
    (repository / "warm" / "warmup" / "numbers").write_bytes(np.array([42, 43], np.float32).tobytes())
    write_gated(repository, "warm", WARM)
    for name, number in (("cold", 7), ("lukewarm", 1)):
        (repository / name / "warmup").mkdir(parents=True)
        (repository / name / "warmup" / "numbers").write_bytes(np.array([number]).tobytes())
        write(repository, name, table([10, 11]), COLD.replace("INPUT", "index"))
    write(
        repository, "no_file", table([10, 11]), COLD.replace('"numbers"', '"none"').replace("INPUT", "index")
    )
    policies = {
        "all_versions": "version_policy { all {} }",
        "two_versions": "version_policy { specific { versions: [ 1, 3 ] } }",
        "latest_versions": "version_policy { latest { num_versions: 2 } }",
        "latest_version": "",
    }
    for name, policy in policies.items():
        for version in "123":
            write_python(repository, name, GATED, f"{TENSORS} max_batch_size: 4 {policy}", version)
    for name, tags in (("ours", {"team": "us", "cost.centre": "7"}), ("theirs", {"team": "them"})):
        text = "".join(f"metric_tags {{ key: '{key}' value: '{tag}' }}" for key, tag in tags.items())
        write(repository, name, identity("FP32"), f"max_batch_size: 4 {text}")
    write_python(repository, "completing", COMPLETING)
    write(repository, "tuned", identity("FP32"), TUNED)
    for name, config in REFUSED.items():
        write(repository, f"refused_{name}", identity("FP32"), config)
    with serving_models(repository, metrics_port=0, strict_readiness=False) as running:
        yield running


@pytest.fixture(scope="module")
def client(server):
    with triton.InferenceServerClient(f"127.0.0.1:{server.port}") as connected:
        yield connected


def index(client):
    found = client.get_model_repository_index(client_timeout=SOON).models
    return {(entry.name, entry.version): (entry.state, entry.reason) for entry in found}


# --- Tensors ------------------------------------------------------------------------------------------


def test_reshape(client):
    square = np.arange(8, dtype=np.float32).reshape(2, 2, 2)
    sent = Sent(client, "shapes", {"square": square, "scalar": np.ones((2, 1), np.float32)})
    assert sent.array("line").tolist() == [[[3, 2, 1, 0]], [[7, 6, 5, 4]]]
    assert sent.array("shapes").tolist() == [[b"[[4], []]"]] * 2
    metadata = client.get_model_metadata("shapes", client_timeout=SOON)
    assert [list(tensor.shape) for tensor in metadata.inputs] == [[-1, 2, 2], [-1, 1]]
    line = Sent(client, "shapes", {"square": square.reshape(2, 4), "scalar": np.ones((2, 1), np.float32)})
    status, text = line.error()
    assert status == "INVALID_ARGUMENT"
    assert "unexpected shape for input 'square' for model 'shapes'. Expected [-1,2,2], got [2,4]" in text


def test_optional_inputs(server, client):
    gate = gates["optional"]
    with gate.shut():
        sent = [Sent(client, "optional", {"x": row(100)})]
        gate.wait_for(1)
        for number, bias in ((1, None), (2, None), (3, 10), (4, 10), (5, None)):
            inputs = {"x": row(number)} | ({} if bias is None else {"bias": row(bias)})
            sent.append(Sent(client, "optional", inputs))
            eventually(lambda: pending(server, "optional") == len(sent) - 1)
    assert [each.array("y").item() for each in sent] == [1100, 1001, 1002, 13, 14, 1005]
    assert gate.batches == [[100], [1, 2], [3, 4], [5]]
    labels = {"reason": "shape", "_team": "", "_cost_centre": ""}  # tags of other models
    assert value(scrape(server), "yais_inference_batches_total", "optional", **labels) == 2


def test_too_few_inputs_where_some_are_optional(client):
    status, text = Sent(client, "optional", {"bias": row(1)}).error()
    assert status == "INVALID_ARGUMENT"
    assert "expected number of inputs between 1 and 2 but got 1 inputs for model 'optional'" in text
    assert "'x'" in text


# --- Before a model is ready --------------------------------------------------------------------------


def test_warm_up(client):
    """Each instance has run it; the requests of clients come after, and nothing was counted."""
    zeros, random_, file = [0, 0, 0], gates["warm"].batches[2], [42, 42]
    assert gates["warm"].batches == [zeros, zeros, random_, file] * 2
    assert len(random_) == 1
    assert 0 < random_[0] < 1
    stats = client.get_inference_statistics("warm", client_timeout=SOON).model_stats[0]
    assert (stats.execution_count, stats.inference_count) == (0, 0)
    assert Sent(client, "warm", {"x": row(1)}).array("y").item() == 1


def test_a_warm_up_that_fails(client):
    assert index(client)["lukewarm", "1"][0] == "READY"
    for name, says in (("cold", "indices element out of data bounds"), ("no_file", "none")):
        state, reason = index(client)[name, "1"]
        assert state == "UNAVAILABLE"
        assert says in reason
        assert not client.is_model_ready(name, client_timeout=SOON)
        index_ = Sent(client, name, {"index": np.array([[1]])}, model_version="1")
        assert index_.error() == (
            "UNAVAILABLE",
            f"Request for unknown model: '{name}' version 1 is not at ready state",
        )


def test_a_python_model_completes_its_configuration(client):
    config = client.get_model_config("completing", client_timeout=SOON).config
    assert config.max_batch_size == 16
    assert config.HasField("dynamic_batching")
    numbers = np.array([[1, 2, 3], [4, 5, 6]], np.int32)
    assert Sent(client, "completing", {"numbers": numbers}).array("total").tolist() == [[6], [15]]
    factor = np.array([[2], [3]], np.int32)
    both = Sent(client, "completing", {"numbers": numbers, "factor": factor})
    assert both.array("total").tolist() == [[12], [45]]


def test_settings_of_onnx_runtime(client):
    config = client.get_model_config("tuned", client_timeout=SOON).config
    assert config.optimization.graph.level == 1
    assert config.parameters["execution_mode"].string_value == "1"
    assert [(group.count, group.kind) for group in config.instance_group] == [(2, 2)]  # KIND_CPU
    sent = [Sent(client, "tuned", {"X": row(number)}) for number in range(20)]
    assert [each.array("Y").item() for each in sent] == list(range(20))


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(client, name):
    """Its name is in the index, and all other models are served."""
    entries = {
        version: entry for (model, version), entry in index(client).items() if model == f"refused_{name}"
    }
    ((state, reason),) = entries.values()
    assert state == "UNAVAILABLE"
    assert name in reason
    assert Sent(client, f"refused_{name}", {"X": row(1)}).error()[0] in {"UNAVAILABLE", "NOT_FOUND"}


# --- Versions -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "versions"),
    [("all_versions", "123"), ("two_versions", "13"), ("latest_versions", "23"), ("latest_version", "3")],
)
def test_versions(client, model, versions):
    metadata = client.get_model_metadata(model, client_timeout=SOON)
    assert list(metadata.versions) == list(versions)
    for version in versions:
        response = Sent(client, model, {"x": row(1)}, model_version=version).result().get_response()
        assert response.model_version == version
    assert Sent(client, model, {"x": row(1)}).result().get_response().model_version == "3"
    for version in {"1", "2", "3", "4"} - set(versions):
        assert Sent(client, model, {"x": row(1)}, model_version=version).error() == (
            "NOT_FOUND",
            f"Request for unknown model: '{model}' version {version} is not found",
        )
    stats = client.get_inference_statistics(model, client_timeout=SOON).model_stats
    assert [(each.version, each.inference_count) for each in stats] == [
        (version, 1 + (version == "3")) for version in versions
    ]


# --- Metrics ------------------------------------------------------------------------------------------


def test_metric_tags(server, client):
    for name in ("ours", "theirs"):
        assert Sent(client, name, {"X": row(1)}).array("Y").item() == 1
    metrics = scrape(server)
    name = "yais_inference_items_total"
    assert value(metrics, name, "ours", _team="us", _cost_centre="7") == 1
    assert value(metrics, name, "theirs", _team="them", _cost_centre="") == 1
