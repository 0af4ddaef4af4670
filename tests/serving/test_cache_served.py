"""The response cache through the server and Triton's client."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tritonclient.grpc as triton
from gated_models import TENSORS, Sent, gates, row, tensors, write_gated, write_python
from scraping import scrape, value
from server_state import pending
from serving_models import SOON, eventually, serving_models
from shared_files import shared_file

CACHED = "max_batch_size: 4 response_cache { enable: true }"
COMPUTE = ("compute_input", "compute_infer", "compute_output")

FAILING = """
from gated_models import gates

class Model:
    def execute(self, inputs):
        with gates["failing"].passing([0.0]):
            raise ValueError("broken")
"""


def models(repository):
    write_gated(repository, "cached", f"{CACHED} dynamic_batching {{}} version_policy {{ all {{}} }}")
    write_gated(repository, "uncached", "max_batch_size: 4 dynamic_batching {}")
    write_gated(repository, "ordered", f"{CACHED} dynamic_batching {{ preserve_ordering: true }}")
    write_python(repository, "failing", FAILING, TENSORS + CACHED)
    return repository


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    repository = models(tmp_path_factory.mktemp("models"))
    with serving_models(repository, metrics_port=0, cache_size=1 << 20, allow_client_shm=True) as running:
        yield running


@pytest.fixture(scope="module")
def client(server):
    with triton.InferenceServerClient(f"127.0.0.1:{server.port}") as connected:
        yield connected


def ask(client, model, array, **options):
    result = client.infer(model, tensors({"x": array}), client_timeout=SOON, **options)
    assert result.as_numpy("y").tolist() == array.tolist()
    return result.get_response()


def statistics(client, name):
    return client.get_inference_statistics(name, client_timeout=SOON).model_stats[0]


def executed(name):
    return len(gates[name].batches)


def test_a_hit(server, client):
    before, metrics = statistics(client, "cached"), scrape(server)
    batches = executed("cached")
    for number in range(3):
        response = ask(client, "cached", row(1, 2), request_id=f"request {number}")
        assert response.id == f"request {number}"
        assert (response.model_name, response.model_version) == ("cached", "1")
    ask(client, "cached", np.ones((3, 1), np.float32), priority=1, timeout=10**6)
    assert executed("cached") == batches + 2
    after = statistics(client, "cached")
    counts = {
        name: getattr(after.inference_stats, name).count - getattr(before.inference_stats, name).count
        for name in ("success", "fail", "queue", "cache_hit", "cache_miss", *COMPUTE)
    }
    assert counts == {
        "success": 4,
        "fail": 0,
        "queue": 4,
        "cache_hit": 2,
        "cache_miss": 2,
        **dict.fromkeys(COMPUTE, 2),
    }
    assert after.inference_count - before.inference_count == 4  # 1 + 3 items
    assert after.execution_count - before.execution_count == 2
    assert after.inference_stats.cache_hit.ns > before.inference_stats.cache_hit.ns
    assert after.inference_stats.cache_miss.ns > before.inference_stats.cache_miss.ns
    now = scrape(server)
    for outcome in ("hit", "miss"):
        name = "yais_inference_cache_lookups_total"
        found = [value(each, name, "cached", outcome=outcome) for each in (metrics, now)]
        assert found[1] - found[0] == 2
        assert value(now, "yais_inference_cache_seconds_total", "cached", outcome=outcome) > 0
    name = "yais_inference_requests_total"
    assert value(now, name, "cached", outcome="success") == after.inference_stats.success.count


@pytest.mark.parametrize(
    "other",
    [
        row(5, 7),
        row(5.5, 6),
        np.array([[5], [6]], np.float32),
        row(5, 6, 7),
        np.array([[5, 6], [5, 6]], np.float32),
    ],
    ids=str,
)
def test_what_is_not_the_same(client, other):
    ask(client, "cached", row(5, 6))
    batches = executed("cached")
    ask(client, "cached", other)
    assert executed("cached") == batches + 1


def test_a_model_that_is_not_cached(client):
    batches = executed("uncached")
    for _ in range(3):
        ask(client, "uncached", row(1))
    assert executed("uncached") == batches + 3
    stats = statistics(client, "uncached").inference_stats
    assert stats.cache_hit.count == stats.cache_miss.count == 0


def test_failures_are_not_kept(client):
    batches = executed("failing")
    for _ in range(2):
        assert Sent(client, "failing", {"x": row(1)}).error()[0] == "INTERNAL"
    assert executed("failing") == batches + 2
    stats = statistics(client, "failing").inference_stats
    assert (stats.fail.count, stats.success.count, stats.cache_hit.count) == (2, 0, 0)


def test_a_hit_while_the_model_is_busy(server, client):
    """It waits for nobody, but where answers have an order."""
    for model in ("cached", "ordered"):
        ask(client, model, row(1000))
        with gates[model].shut():
            busy = Sent(client, model, {"x": row(2000)})
            gates[model].wait_for(1)
            again = Sent(client, model, {"x": row(1000)})
            if model == "cached":
                assert again.array("y").item() == 1000
                assert not busy.done
            else:
                eventually(lambda: pending(server, "ordered") == 1)
        assert [each.array("y").item() for each in (busy, again)] == [2000, 1000]
        assert gates[model].batches == [[2000]] + [[1000]] * (model == "ordered")


def test_classes_of_a_hit(client):
    """What is kept are the model's answers, whatever is made of them."""
    asked = [triton.InferRequestedOutput("y", class_count=1)]
    inputs = tensors({"x": row(3, 9, 6)})
    answers = [
        client.infer("cached", inputs, outputs=asked, client_timeout=SOON).as_numpy("y").tolist()
        for _ in range(2)
    ]
    assert answers == [[[b"9.000000:1"]]] * 2
    ask(client, "cached", row(3, 9, 6))


def test_a_small_cache_forgets(tmp_path):
    with (
        serving_models(models(tmp_path), cache_size=8192) as server,
        triton.InferenceServerClient(f"127.0.0.1:{server.port}") as client,
    ):
        large = np.arange(1000, dtype=np.float32)[None]
        for array, runs in ((row(1), 1), (row(1), 0), (large, 1), (large + 1, 1), (row(1), 1), (large, 1)):
            batches = executed("cached")
            ask(client, "cached", array)
            assert executed("cached") == batches + runs


def test_no_cache(tmp_path):
    with (
        serving_models(models(tmp_path)) as server,
        triton.InferenceServerClient(f"127.0.0.1:{server.port}") as client,
    ):
        batches = executed("cached")
        for _ in range(2):
            ask(client, "cached", row(1))
        assert executed("cached") == batches + 2
        assert statistics(client, "cached").inference_stats.cache_miss.count == 0


def test_what_changes_while_it_is_used_is_not_kept(server, client):
    """A client that gave up, and uses its shared memory again, must not make others get wrong answers."""
    before, after = np.array([[51, 1]], np.float32), np.array([[51, 2]], np.float32)
    with shared_file(before.nbytes) as path:
        client.register_system_shared_memory("changing", f"/{path.name}", before.nbytes, client_timeout=SOON)
        shared = triton.InferInput("x", [1, 2], "FP32")
        shared.set_shared_memory("changing", before.nbytes)

        def put(array):
            with path.open("r+b") as file:  # made no smaller meanwhile
                file.write(array.tobytes())

        def ask_shared():
            return client.infer("cached", [shared], client_timeout=SOON).as_numpy("y").tolist()

        put(before)
        with ThreadPoolExecutor() as threads, gates["cached"].shut(51):
            asked = threads.submit(ask_shared)
            gates["cached"].wait_for(1)
            put(after)
        assert asked.result(SOON) == after.tolist()
        ask(client, "cached", before)
        hits = statistics(client, "cached").inference_stats.cache_hit.count
        put(np.array([[52, 1]], np.float32))
        assert ask_shared() == ask_shared() == [[52, 1]]
        assert statistics(client, "cached").inference_stats.cache_hit.count == hits + 1
        client.unregister_system_shared_memory("changing", client_timeout=SOON)
