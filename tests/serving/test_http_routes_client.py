"""Triton's HTTP client on everything but inference."""

from __future__ import annotations

import pytest
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
from http_models import fill_routed
from http_routed import routed
from onnx_models import table, write
from serving_models import SOON, eventually
from shared_files import shared_file
from tritonclient.utils import InferenceServerException


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = fill_routed(tmp_path_factory.mktemp("models"))
    write(root, "a b", table([1]))
    return root


@pytest.fixture(scope="module")
def url(root):
    with routed(root) as http:
        yield f"127.0.0.1:{http.port}"


@pytest.fixture
def client(url):
    with triton.InferenceServerClient(url, connection_timeout=SOON, network_timeout=SOON) as connected:
        yield connected


def states(client):
    return {row["name"]: row["state"] for row in client.get_model_repository_index()}


def test_health(client):
    assert client.is_server_live()
    assert not client.is_server_ready()  # `broken` is not
    assert client.is_model_ready("a b")
    assert client.is_model_ready("a b", "1")
    assert not client.is_model_ready("a b", "2")
    assert not client.is_model_ready("broken")


def test_metadata_and_configuration(client):
    assert client.get_server_metadata()["name"] == "triton"
    metadata = client.get_model_metadata("a b", "1")
    assert metadata["name"] == "a b"
    assert metadata["inputs"] == [{"name": "index", "datatype": "INT64", "shape": [-1, 1]}]
    config = client.get_model_config("a b")
    assert config["input"][0]["data_type"] == "TYPE_INT64"
    assert config["input"][0]["format"] == "FORMAT_NONE"


def test_statistics(client):
    (one,) = client.get_inference_statistics("a b")["model_stats"]
    assert (one["name"], one["version"]) == ("a b", "1")
    assert one["inference_stats"]["cache_hit"]["count"] == 0
    everything = client.get_inference_statistics()["model_stats"]
    assert {"a b", "table", "teller"} <= {each["name"] for each in everything}


def test_errors_have_status_and_text(client):
    with pytest.raises(InferenceServerException) as caught:
        client.get_model_metadata("nix")
    assert str(caught.value) == "[404] Request for unknown model: 'nix' is not found"
    with pytest.raises(InferenceServerException, match=r"\[400\] unrecognized load parameter"):
        client.load_model("a b", files={"x": b""})


def test_models_are_loaded_and_unloaded(client):
    client.unload_model("a b", unload_dependents=True)
    eventually(lambda: states(client)["a b"] == "UNAVAILABLE")
    assert not client.is_model_ready("a b")
    client.load_model("a b")
    assert client.is_model_ready("a b")
    content = table([5]).SerializeToString()
    client.load_model("sent", config='{"backend": "onnxruntime"}', files={"file:1/model.onnx": content})
    assert states(client)["sent"] == "READY"


def test_system_shared_memory(client):
    with shared_file(64) as file:
        client.register_system_shared_memory("r 1", f"/{file.name}", 64)
        region = {"name": "r 1", "key": f"/{file.name}", "offset": 0, "byte_size": 64}
        assert client.get_system_shared_memory_status() == [region]
        assert client.get_system_shared_memory_status("r 1") == [region]
        client.unregister_system_shared_memory("r 1")
        assert client.get_system_shared_memory_status() == []
    client.unregister_system_shared_memory()


def test_cuda_shared_memory(client):
    client.unregister_cuda_shared_memory()
    assert client.get_cuda_shared_memory_status() == []
    with pytest.raises(InferenceServerException, match="failed to register"):
        client.register_cuda_shared_memory("r", b"AAAA", 0, 64)


def test_trace_settings(client):
    before = client.get_trace_settings()
    assert before["trace_level"] == ["OFF"]
    assert client.update_trace_settings("a b", {"trace_rate": "5"})["trace_rate"] == "5"
    assert client.get_trace_settings("a b")["trace_rate"] == "5"
    assert client.update_trace_settings("a b", {"trace_rate": None}) == before
    with pytest.raises(InferenceServerException):
        client.get_trace_settings("nix")


def test_log_settings(client):
    before = client.get_log_settings()
    assert client.update_log_settings({"log_verbose_level": 1})["log_verbose_level"] == 1
    assert client.update_log_settings({"log_verbose_level": 0}) == before


async def test_the_client_for_asyncio(url):
    async with triton_aio.InferenceServerClient(url) as client:
        assert await client.is_server_live()
        assert not await client.is_server_ready()
        assert (await client.get_model_metadata("a b"))["name"] == "a b"
        assert (await client.get_inference_statistics("table"))["model_stats"][0]["version"] == "1"
        assert await client.get_system_shared_memory_status() == []
        with pytest.raises(InferenceServerException, match=r"\[404\]"):
            await client.get_model_config("nix")
