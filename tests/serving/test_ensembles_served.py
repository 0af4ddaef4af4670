"""Ensembles, pipelines and decoupled models through the server and Triton's client."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import tritonclient.grpc as triton
from gated_models import TENSORS, Sent, gates, row, write_gated, write_python
from onnx import TensorProto, helper
from onnx_models import model, tensor, write
from scraping import scrape, value
from sequence_models import IMPLICIT_SUM, implicit_sum
from server_state import in_flight, pending
from serving_models import SOON, eventually, serving_models

NEXT = "max_batch_size: 4 version_policy { all {} } dynamic_batching {}"

RAISING = """
import yais

class Model:
    def execute(self, inputs):
        number = inputs["x"].max()
        if number == 1:
            raise yais.NotFound("no such row")
        if number == 2:
            raise ValueError("broken")
        return {"y": inputs["x"]}
"""

PIPELINE = """
import asyncio
import numpy as np
import yais

async def pipeline(inputs, models):
    x = inputs["x"]
    if x.max() > 1000:
        return {"y": (await models["raising"].infer(x=x - 1000))["y"]}
    if x.max() == 1000:
        await models["unheard_of"].infer(x=x)
    if x.max() == 999:
        raise yais.ResourceExhausted("not that much")
    if x.max() == 998:
        return {"y": (await models["counting"].infer(x=x))["y"]}
    if x.max() == 997:
        answers = [answer["y"] async for answer in models["counting"].stream(x=x - 993)]
        return {"y": sum(answers, np.float32(0))}
    while x.max() < 10:
        x = (await models["next", "1"].infer(x=x))["y"]
    one, two = await asyncio.gather(models["next", "1"].infer(x=x), models["next"].infer(x=x))
    return {"y": one["y"] * 100 + two["y"]}
"""

COUNTING = """
class Model:
    def execute(self, inputs):
        for number in range(int(inputs["x"].max())):
            yield {"y": inputs["x"] * 0 + number}
"""

ENSEMBLE = """
    platform: "ensemble"
    max_batch_size: 4
    input {{ name: "x" data_type: TYPE_FP32 dims: [ -1 ] }}
    output {{ name: "y" data_type: TYPE_FP32 dims: [ -1 ] }}
    ensemble_scheduling {{ {} }}
"""


def plus(number: int) -> onnx.ModelProto:
    """Return a model that adds a number to `x`."""
    return model(
        [helper.make_node("Add", ["x", "number"], ["y"])],
        [tensor("x", "FP32", ("batch", "n"))],
        [tensor("y", "FP32", ("batch", "n"))],
        [helper.make_tensor("number", TensorProto.FLOAT, [], [number])],
    )


def minus() -> onnx.ModelProto:
    """Return a model that takes `b` from `a`."""
    kinds = [tensor(name, "FP32", ("batch", "n")) for name in ("a", "b")]
    node = helper.make_node("Sub", ["a", "b"], ["difference"])
    return model([node], kinds, [tensor("difference", "FP32", ("batch", "n"))])


def step(name: str, inputs: str = "x=x", output: str = "y=y", version: int = -1) -> str:
    """Return a step; tensors are given as `of the model=of the ensemble`."""
    maps = [f"input_map {{ {_entry(each)} }}" for each in inputs.split()]
    maps.append(f"output_map {{ {_entry(output)} }}")
    return f"step {{ model_name: '{name}' model_version: {version} {' '.join(maps)} }}"


def _entry(names: str) -> str:
    of_model, of_ensemble = names.split("=")
    return f"key: '{of_model}' value: '{of_ensemble}'"


ENSEMBLES = {
    # x + 2 - x, and what is held up on the way is held up on both ways at once
    "fan": step("left", output="y=l")
    + step("right", output="y=r")
    + step("next", "x=l", "y=more")
    + step("minus", "a=more b=r", "difference=y"),
    "versions": step("next", output="y=between", version=1)
    + step("next", "x=between", "y=twice", version=1)
    + step("next", "x=twice", version=2),
    "nested": step("versions", output="y=between") + step("versions", "x=between"),
    "failing": step("next", output="y=between", version=1) + step("raising", "x=between"),
    "urgent": step("levels"),
    "bounded": "max_inflight_requests: 1 " + step("wide"),
    "cyclic": step("minus", "a=back b=x", "difference=y") + step("next", "x=y", "y=back"),
    "dangling": step("minus", "a=x b=nowhere", "difference=y"),
    "missing": step("unheard_of"),
    "several": step("counting"),
}

REFUSED = {"cyclic": "back", "dangling": "nowhere", "missing": "unheard_of", "several": "counting"}
"""Ensembles that are not to be served, and what the reason is to name."""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    repository = tmp_path_factory.mktemp("models")
    for version in (1, 2):
        write(repository, "next", plus(version), NEXT, version=str(version))
    write(repository, "minus", minus(), "max_batch_size: 4 dynamic_batching {}")
    for name in ("left", "right"):
        write_gated(repository, name, "max_batch_size: 4")
    write_gated(repository, "wide", "max_batch_size: 4 instance_group { count: 2 }")
    levels = "dynamic_batching { priority_levels: 2 default_priority_level: 2 }"
    write_gated(repository, "levels", f"max_batch_size: 4 {levels}")
    write_python(repository, "raising", RAISING, TENSORS + "max_batch_size: 4 dynamic_batching {}")
    write_python(repository, "counting", COUNTING, TENSORS + "max_batch_size: 4")
    write_python(repository, "pipeline", PIPELINE, TENSORS + "max_batch_size: 4 instance_group { count: 4 }")
    summing = IMPLICIT_SUM.replace("STRATEGY {}", "max_sequence_idle_microseconds: 60000000")
    write(repository, "summing", implicit_sum(), summing)
    for name, scheduling in ENSEMBLES.items():
        write(repository, name, None, ENSEMBLE.format(scheduling))
        (repository / name / "1").mkdir()
    summed = ENSEMBLE.format(step("summing", output="sum=y")).replace("dims: [ -1 ]", "dims: [ 1 ]")
    write(repository, "summed", None, summed)
    (repository / "summed" / "1").mkdir()
    with serving_models(repository, metrics_port=0, strict_readiness=False) as running:
        yield running


@pytest.fixture(scope="module")
def client(server):
    with triton.InferenceServerClient(f"127.0.0.1:{server.port}") as connected:
        yield connected


def answer(client, name, *values, **options):
    return Sent(client, name, {"x": row(*values)}, **options).array("y").tolist()


def refusal(client, name, *values, **options):
    return Sent(client, name, {"x": row(*values)}, **options).error()


def statistics(client, name):
    return client.get_inference_statistics(name, client_timeout=SOON).model_stats[0]


# --- Ensembles ----------------------------------------------------------------------------------------


def test_fan_out_and_fan_in(client):
    """Both ways at once: neither waits for the other."""
    with gates["left"].shut(), gates["right"].shut():
        sent = Sent(client, "fan", {"x": np.array([[1, 2], [3, 4]], np.float32)})
        gates["left"].wait_for(1)
        gates["right"].wait_for(1)
    assert sent.array("y").tolist() == [[2, 2], [2, 2]]
    assert gates["left"].batches == gates["right"].batches == [[1, 3]]


def test_versions(client):
    result = Sent(client, "versions", {"x": row(1, 10)}, request_id="an id").result()
    assert result.as_numpy("y").tolist() == [[5, 14]]
    response = result.get_response()
    assert (response.model_name, response.model_version, response.id) == ("versions", "1", "an id")
    for version, expected in (("", 3), ("1", 2), ("2", 3)):
        assert answer(client, "next", 1, model_version=version) == [[expected]]


def test_an_ensemble_of_ensembles(client):
    assert answer(client, "nested", 1) == [[9]]


@pytest.mark.parametrize(
    ("number", "status", "text"),
    [
        (0, "NOT_FOUND", "in ensemble 'failing', model 'raising': no such row"),
        (1, "INTERNAL", "in ensemble 'failing', model 'raising' failed: broken"),
    ],
)
def test_the_error_of_a_step(client, number, status, text):
    before = statistics(client, "failing")
    got_status, got_text = refusal(client, "failing", number)
    assert (got_status, got_text) == (status, text)
    after = statistics(client, "failing")
    assert after.inference_stats.fail.count == before.inference_stats.fail.count + 1
    assert after.inference_count == before.inference_count
    assert answer(client, "failing", 2) == [[3]]


def test_statistics_of_the_ensemble_and_of_its_steps(server, client):
    names = ("failing", "next", "raising")
    before = {name: statistics(client, name) for name in names}
    metrics = scrape(server)
    for number in (5, 6, 7):
        answer(client, "failing", number)
    refusal(client, "failing", 0)
    after = {name: statistics(client, name) for name in names}
    for name, successes, failures in (("failing", 3, 1), ("raising", 3, 1)):
        stats, old = after[name].inference_stats, before[name].inference_stats
        assert stats.success.count - old.success.count == successes
        assert stats.fail.count - old.fail.count == failures
        assert after[name].execution_count - before[name].execution_count == successes
        assert stats.compute_infer.count == stats.queue.count == stats.success.count
    now = scrape(server)
    for step_, model_, outcome, count in (
        ("0", "next", "success", 4),
        ("0", "next", "failure", 0),
        ("1", "raising", "success", 3),
        ("1", "raising", "failure", 1),
    ):
        labels = {"step": step_, "step_model": model_, "outcome": outcome}
        found = [
            value(each, "yais_ensemble_step_requests_total", "failing", **labels) for each in (metrics, now)
        ]
        assert found[1] - found[0] == count
    labels = {"step": "0", "step_model": "next"}
    assert value(now, "yais_ensemble_step_seconds_total", "failing", **labels) > 0


def test_the_deadline_goes_on_to_the_steps(server, client):
    gate = gates["levels"]
    with gate.shut():
        plug = Sent(client, "levels", {"x": row(100)})
        gate.wait_for(1)
        late = Sent(client, "urgent", {"x": row(1)}, client_timeout=2.0)
        eventually(lambda: pending(server, "levels") == 1)
        assert late.error()[0] == "DEADLINE_EXCEEDED"
        eventually(lambda: in_flight(server) == 1)
    plug.result()
    assert answer(client, "urgent", 2) == [[2]]
    assert gate.batches == [[100], [2]]


def test_cancelling_takes_the_steps_out_of_their_queues(server, client):
    gate = gates["levels"]
    with gate.shut():
        plug = Sent(client, "levels", {"x": row(100)})
        gate.wait_for(1)
        cancelled = Sent(client, "urgent", {"x": row(1)})
        eventually(lambda: pending(server, "levels") == 1)
        cancelled.cancel()
        assert cancelled.error()[0] == "CANCELLED"
        eventually(lambda: in_flight(server) == 1)
    plug.result()
    assert answer(client, "urgent", 2) == [[2]]
    assert gate.batches == [[100], [2]]


def test_priorities_go_on_to_the_steps(server, client):
    gate = gates["levels"]
    with gate.shut():
        sent = [Sent(client, "levels", {"x": row(100)})]
        gate.wait_for(1)
        for number, priority in enumerate((2, 1, 2, 1)):
            sent.append(Sent(client, "urgent", {"x": row(number)}, priority=priority))
            eventually(lambda: pending(server, "levels") == len(sent) - 1)
    for each in sent:
        each.result()
    assert gate.batches == [[100], [1, 3, 0, 2]]


def test_sequences_go_on_to_the_steps(client):
    totals = [
        answer(
            client, "summed", number, sequence_id="s", sequence_start=number == 1, sequence_end=number == 3
        )
        for number in (1, 2, 3)
    ]
    assert totals == [[[1]], [[3]], [[6]]]
    assert "must specify the START flag" in refusal(client, "summed", 1, sequence_id="s")[1]


def test_a_bound_on_requests_in_flight(server, client):
    gate = gates["wide"]
    with gate.shut():
        sent = [Sent(client, "bounded", {"x": row(number)}) for number in range(4)]
        eventually(lambda: pending(server, "bounded") == 4)
        gate.wait_for(1)
    assert [each.array("y").item() for each in sent] == [0, 1, 2, 3]
    assert len(gate.batches) == 4
    assert gate.most == 1


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_ensemble(client, name):
    index = client.get_model_repository_index(client_timeout=SOON).models
    (entry,) = [each for each in index if each.name == name]
    assert entry.state == "UNAVAILABLE"
    assert REFUSED[name] in entry.reason
    unknown = f"Request for unknown model: '{name}'"
    assert refusal(client, name, 1) == ("NOT_FOUND", f"{unknown} has no available versions")
    assert refusal(client, name, 1, model_version="1") == (
        "UNAVAILABLE",
        f"{unknown} version 1 is not at ready state",
    )


# --- Pipelines ----------------------------------------------------------------------------------------


def test_a_pipeline(client):
    assert answer(client, "pipeline", 3) == [[11 * 100 + 12]]
    assert answer(client, "pipeline", 20) == [[21 * 100 + 22]]


def test_pipelines_at_once(client):
    sent = [Sent(client, "pipeline", {"x": row(number)}) for number in range(40)]
    expected = [max(number, 10) * 101 + 102 for number in range(40)]
    assert [each.array("y").item() for each in sent] == expected


def test_a_pipeline_asks_a_decoupled_model(client):
    assert answer(client, "pipeline", 997) == [[0 + 1 + 2 + 3]]


@pytest.mark.parametrize(
    ("number", "status", "says"),
    [
        (1001, "NOT_FOUND", "no such row"),
        (1002, "INTERNAL", "model 'raising' failed: broken"),
        (1000, "NOT_FOUND", "Request for unknown model: 'unheard_of' is not found"),
        (999, "RESOURCE_EXHAUSTED", "not that much"),
        (998, "UNIMPLEMENTED", "'counting' has a decoupled transaction policy"),
    ],
)
def test_the_error_of_a_pipeline(client, number, status, says):
    before = statistics(client, "pipeline").inference_stats.fail.count
    got, text = refusal(client, "pipeline", number)
    assert got == status
    assert says in text
    assert statistics(client, "pipeline").inference_stats.fail.count == before + 1


# --- Decoupled models ---------------------------------------------------------------------------------


def test_a_decoupled_model_is_not_for_model_infer(client):
    assert refusal(client, "counting", 3) == (
        "UNIMPLEMENTED",
        "ModelInfer RPC doesn't support models with decoupled transaction policy",
    )
    config = client.get_model_config("counting", client_timeout=SOON).config
    assert config.model_transaction_policy.decoupled
