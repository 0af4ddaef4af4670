"""Instances, the resources they share, and latency objectives, through the server and Triton's client."""

from __future__ import annotations

import queue

import pytest
import tritonclient.grpc as triton
from gated_models import TENSORS, Sent, gates, row, write_gated, write_python
from onnx_models import identity, write
from scraping import scrape, value
from server_state import pending
from serving_models import SOON, eventually, serving_models

LIMITED = """
    max_batch_size: 1
    parameters {{ key: "gate" value {{ string_value: "{gate}" }} }}
    instance_group {{ count: {count} rate_limiter {{ {needs} }} }}
"""

SLOW = """
import time

class Model:
    def execute(self, inputs):
        time.sleep(0.01)
        if not inputs["x"].all():
            FOR_ZEROS
        return {"y": inputs["x"]}
"""
"""A batch takes 10 ms: too long for the objective."""

OBJECTIVE = """
    max_batch_size: 1
    dynamic_batching {}
    parameters { key: "yais.slo_batching.latency_ms" value { string_value: "%s" } }
"""


def limited(repository, name, resources, count=1, gate="limited", priority=0):
    needs = "".join(f"resources {{ name: '{key}' count: {number} }}" for key, number in resources.items())
    needs += f" priority: {priority}"
    write_gated(repository, name, LIMITED.format(gate=gate, count=count, needs=needs))


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    repository = tmp_path_factory.mktemp("models")
    write(repository, "quick", identity("FP32", ("batch", 1)))
    for count in (1, 4):
        write_gated(
            repository, f"instances_{count}", f"max_batch_size: 1 instance_group {{ count: {count} }}"
        )
    groups = "instance_group { count: 1 } instance_group { count: 1 kind: KIND_CPU }"
    write_gated(repository, "groups", f"max_batch_size: 1 {groups}")
    for name in ("first", "second"):
        limited(repository, name, {"R": 2}, count=2)
    limited(repository, "greedy", {"R": 4})
    limited(repository, "rare", {"S": 1}, gate="shared", priority=3)
    limited(repository, "often", {"S": 1}, gate="shared", priority=1)
    zeros = {"late": "pass", "in_time": "pass", "without_zeros": "raise ValueError('zeros')"}
    for name, for_zeros in zeros.items():
        objective = OBJECTIVE % ("10000" if name == "in_time" else "2")
        write_python(repository, name, SLOW.replace("FOR_ZEROS", for_zeros), TENSORS + objective)
    return repository


@pytest.fixture(scope="module")
def server(repository):
    limits = {"R": 2}
    with serving_models(repository, metrics_port=0, rate_limit=limits, strict_readiness=False) as running:
        yield running


@pytest.fixture(scope="module")
def client(server):
    with triton.InferenceServerClient(f"127.0.0.1:{server.port}") as connected:
        yield connected


# --- Instances ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("model", "count"), [("instances_1", 1), ("instances_4", 4), ("groups", 2)])
def test_instances_run_at_once(server, client, model, count):
    gate = gates[model]
    with gate.shut():
        sent = [Sent(client, model, {"x": row(number)}) for number in range(6)]
        gate.wait_for(count)
        eventually(lambda: pending(server, model) == 6 - count)
    assert [each.array("y").item() for each in sent] == list(range(6))
    assert gate.most == count
    config = client.get_model_config(model, client_timeout=SOON).config
    assert sum(group.count for group in config.instance_group) == count


# --- The rate limiter ---------------------------------------------------------------------------------


def test_never_more_than_the_resource_allows(server, client):
    """R is there for one instance, of whichever model."""
    gate = gates["limited"]
    with gate.shut():
        sent = [Sent(client, name, {"x": row(number)}) for number in range(6) for name in ("first", "second")]
        gate.wait_for(1)
        eventually(lambda: pending(server, "first") + pending(server, "second") == 11)
    for each in sent:
        each.result()
    assert len(gate.batches) == 12
    assert gate.most == 1


def test_more_than_there_is(client):
    index = client.get_model_repository_index(client_timeout=SOON).models
    (entry,) = [each for each in index if each.name == "greedy"]
    assert (entry.state, entry.reason) == (
        "UNAVAILABLE",
        (
            'Resource count for "R" is limited to 2 which will prevent scheduling of one or more model '
            "instances, the minimum required count is 4"
        ),
    )


def test_priorities_of_instances(server, client):
    """Of two models that always have work one runs a third as often."""
    gate = gates["shared"]
    with gate.shut():
        sent = [Sent(client, "rare", {"x": row(0)}) for _ in range(12)]
        gate.wait_for(1)
        sent += [Sent(client, "often", {"x": row(1)}) for _ in range(12)]
        eventually(lambda: pending(server, "rare") + pending(server, "often") == 23)
    for each in sent:
        each.result()
    order = [int(number) for (number,) in gate.batches]
    assert gate.most == 1
    assert sum(order[1:13]) == 9


def test_no_limit(repository):
    with (
        serving_models(repository) as server,
        triton.InferenceServerClient(f"127.0.0.1:{server.port}") as client,
    ):
        gate = gates["limited"]
        with gate.shut():
            sent = [Sent(client, name, {"x": row(1)}) for name in ("first", "second")]
            gate.wait_for(2)
        for each in (*sent, Sent(client, "greedy", {"x": row(1)})):
            each.result()
        assert gate.most == 2


# --- Latency objectives -------------------------------------------------------------------------------


def test_who_cannot_be_in_time_is_refused_at_once(server, client):
    """But for one in eight, which shows whether it is still so."""
    failed, answered = [], []
    for number in range(1, 9):
        sent = Sent(client, "late", {"x": row(number)})
        try:
            answered.append(sent.array("y").item())
        except triton.InferenceServerException:
            failed.append(sent.error())
    assert len(failed) == 7
    assert {status for status, _ in failed} == {"RESOURCE_EXHAUSTED"}
    assert all("the latency objective of 2 ms cannot be met" in text for _, text in failed), failed
    stats = client.get_inference_statistics("late", client_timeout=SOON).model_stats[0]
    assert (stats.inference_stats.fail.count, stats.execution_count) == (7, 1)


def test_who_is_in_time_is_served(client):
    ended = queue.Queue()
    sent = [Sent(client, "in_time", {"x": row(number)}, ended=ended) for number in range(1, 9)]
    assert {ended.get(timeout=SOON) for _ in sent} == set(sent)
    assert [each.array("y").item() for each in sent] == list(range(1, 9))


def test_an_objective_that_was_not_measured_refuses_nobody(server, client):
    """The model does not take zeros, so it is a dynamic batcher."""
    sent = [Sent(client, "without_zeros", {"x": row(number)}) for number in range(1, 9)]
    assert [each.array("y").item() for each in sent] == list(range(1, 9))
    assert value(scrape(server), "yais_inference_items_total", "without_zeros") == 8


def test_a_model_that_waits_keeps_no_other_from_running(client):
    """As many wait as it has instances, whatever the number of CPUs."""
    gate = gates["instances_4"]
    with gate.shut():
        sent = [Sent(client, "instances_4", {"x": row(number)}) for number in range(4)]
        gate.wait_for(4)
        assert Sent(client, "quick", {"X": row(1)}).array("Y").item() == 1
    assert [each.array("y").item() for each in sent] == list(range(4))
