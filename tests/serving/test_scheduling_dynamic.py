"""The dynamic batcher as configurations say, through the server and Triton's client."""

from __future__ import annotations

import asyncio
import contextlib

import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from gated_models import Sent, gates, row, tensors, write_gated
from scraping import scrape, value
from server_state import in_flight, pending
from serving_models import SOON, eventually, one_process, serving_models

ONE_BY_ONE = "max_batch_size: 1 instance_group { count: 1 }"
POLICY = "dynamic_batching { default_queue_policy { %s } }"
PLUG = 100.0
"""Value of a request that holds an instance up."""

MODELS = {
    "levels": f"{ONE_BY_ONE} dynamic_batching {{ priority_levels: 3 default_priority_level: 2 }}",
    "plain": f"{ONE_BY_ONE} dynamic_batching {{}}",
    "bounded": f"{ONE_BY_ONE} {POLICY % 'max_queue_size: 2'}",
    "rejecting": f"{ONE_BY_ONE} {POLICY % 'default_timeout_microseconds: 500000'}",
    "overriding": f"{ONE_BY_ONE} "
    + POLICY % "default_timeout_microseconds: 60000000 allow_timeout_override: true",
    "stubborn": f"{ONE_BY_ONE} {POLICY % 'default_timeout_microseconds: 60000000'}",
    "delaying": f"{ONE_BY_ONE} "
    + POLICY % "timeout_action: DELAY default_timeout_microseconds: 60000000 allow_timeout_override: true",
    "by_level": f"""{ONE_BY_ONE} dynamic_batching {{
        priority_levels: 2 default_priority_level: 2
        priority_queue_policy {{ key: 1 value {{ max_queue_size: 1 }} }}
    }}""",
    "ordered": "max_batch_size: 1 instance_group { count: 2 } dynamic_batching { preserve_ordering: true }",
    "unordered": "max_batch_size: 1 instance_group { count: 2 } dynamic_batching {}",
    "shapes": "max_batch_size: 8 dynamic_batching {}",
    "preferred": "max_batch_size: 4 dynamic_batching { "
    "preferred_batch_size: [ 2, 3 ] max_queue_delay_microseconds: 60000000 }",
    "patient": "max_batch_size: 4 dynamic_batching { max_queue_delay_microseconds: 1000 }",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    repository = tmp_path_factory.mktemp("models")
    for name, config in MODELS.items():
        write_gated(repository, name, config)
    with serving_models(repository, metrics_port=0) as running:
        yield running


@pytest.fixture(scope="module")
def client(server):
    with triton.InferenceServerClient(f"127.0.0.1:{server.port}") as connected:
        yield connected


@pytest.fixture
def send(server, client):
    """Send requests of one item that certainly come in this order: wait until each is in the queue."""

    def one(model, *values, waiting=None, **options):
        if waiting is None:
            waiting = pending(server, model) + 1
        sent = Sent(client, model, {"x": row(*values)}, **options)
        eventually(lambda: pending(server, model) == waiting)
        return sent

    return one


@contextlib.contextmanager
def plugged(client, model):
    """Hold the model's only instance while the block lasts, then see that it goes on."""
    gate = gates[model]
    with gate.shut():
        plug = Sent(client, model, {"x": row(PLUG)})
        gate.wait_for(1)
        yield gate
    plug.result()


def failures(client, model):
    stats = client.get_inference_statistics(model, client_timeout=SOON).model_stats[0].inference_stats
    return stats.fail.count


def executed(gate):
    """Return the first elements of all items behind the plug, in the order in which they ran."""
    return [each for batch in gate.batches[1:] for each in batch]


def test_priorities(client, send):
    with plugged(client, "levels") as gate:
        priorities = [3, 0, 1, 3, 2, 1, 9]  # 0 and 9 are no levels, so they mean the default, 2
        sent = [
            send("levels", float(number), priority=priority) for number, priority in enumerate(priorities)
        ]
    for each in sent:
        each.result()
    assert executed(gate) == [2, 5, 1, 4, 6, 0, 3]


def test_too_many(client, send):
    before = failures(client, "bounded")
    with plugged(client, "bounded") as gate:
        let_in = [send("bounded", float(number)) for number in range(2)]
        refused = Sent(client, "bounded", {"x": row(2.0)}, request_id="third")
        assert refused.error() == ("UNAVAILABLE", "[request id: third] Exceeds maximum queue size")
    for each in let_in:
        each.result()
    assert executed(gate) == [0, 1]
    assert failures(client, "bounded") == before + 1


def test_too_many_of_a_level(client, send):
    with plugged(client, "by_level"):
        first = send("by_level", 1.0, priority=1)
        refused = Sent(client, "by_level", {"x": row(2.0)}, priority=1)
        assert refused.error()[1].endswith("Exceeds maximum queue size")
        others = [send("by_level", 3.0) for _ in range(2)]
    for each in (first, *others):
        each.result()


def test_a_timeout_rejects(client):
    """While no instance is free, too: nobody has to come by for it."""
    before = failures(client, "rejecting")
    with plugged(client, "rejecting") as gate:
        late = Sent(client, "rejecting", {"x": row(1.0)})
        status, text = late.error()
        assert status == "UNAVAILABLE"
        assert text.endswith("Request timeout expired")
    assert executed(gate) == []
    assert failures(client, "rejecting") == before + 1


def test_the_timeout_of_a_request(client, send):
    with plugged(client, "overriding"), plugged(client, "stubborn"):
        late = Sent(client, "overriding", {"x": row(1.0)}, timeout=1000)
        unmoved = send("stubborn", 1.0, timeout=1)
        assert late.error()[1].endswith("Request timeout expired")
        assert not unmoved.done
    unmoved.result()


def test_a_timeout_delays(client, send):
    with plugged(client, "delaying") as gate:
        sent = [send("delaying", 1.0, timeout=1), send("delaying", 2.0), send("delaying", 3.0)]
    for each in sent:
        each.result()
    assert executed(gate) == [2, 3, 1]


@one_process
@pytest.mark.parametrize("model", ["ordered", "unordered"])
def test_the_order_of_answers(server, client, model):
    """Of two instances one is held up: only what is ordered waits for it."""
    counts = server.repository.find(model).model.counts
    before = counts().executions
    with gates[model].shut(1.0):
        first = Sent(client, model, {"x": row(1.0)})
        gates[model].wait_for(1)
        others = [Sent(client, model, {"x": row(float(number))}) for number in (2, 3)]
        if model == "unordered":
            assert [each.array("y").item() for each in others] == [2, 3]
        eventually(lambda: counts().executions == before + 2)
        Sent(client, "plain", {"x": row(0.0)}).result()  # what has left the server before is here, too
        assert [each.done for each in (first, *others)] == [False] + 2 * [model == "unordered"]
    assert [each.array("y").item() for each in (first, *others)] == [1, 2, 3]


def test_who_cancels_is_not_executed(server, client, send):
    before = failures(client, "plain")
    with plugged(client, "plain") as gate:
        cancelled, kept = send("plain", 1.0), send("plain", 2.0)
        cancelled.cancel()
        assert cancelled.error()[0] == "CANCELLED"
        eventually(lambda: in_flight(server) == 2)
    assert kept.array("y").item() == 2
    assert executed(gate) == [2]
    eventually(lambda: failures(client, "plain") == before + 1)  # as in Triton


def test_whose_deadline_passes_is_not_executed(server, client, send):
    with plugged(client, "plain") as gate:
        kept = send("plain", 2.0)
        late = Sent(client, "plain", {"x": row(1.0)}, client_timeout=0.5)
        assert late.error()[0] == "DEADLINE_EXCEEDED"
        eventually(lambda: in_flight(server) == 2)
    assert kept.array("y").item() == 2
    assert executed(gate) == [2]


async def test_cancelled_by_an_asyncio_client(server):
    async with triton_aio.InferenceServerClient(f"127.0.0.1:{server.port}") as client:

        def ask(number):
            call = client.infer("plain", tensors({"x": row(number)}), client_timeout=SOON)
            return asyncio.ensure_future(call)

        async def reached(holds):
            await asyncio.to_thread(eventually, holds)

        gate = gates["plain"]
        with gate.shut():
            plug = ask(PLUG)
            await asyncio.to_thread(gate.wait_for, 1)
            cancelled = ask(1.0)
            await reached(lambda: pending(server, "plain") == 1)
            kept = ask(2.0)
            await reached(lambda: pending(server, "plain") == 2)
            cancelled.cancel()
            with pytest.raises(asyncio.CancelledError):
                await cancelled
            await reached(lambda: in_flight(server) == 2)
        assert (await plug).as_numpy("y").item() == PLUG
        assert (await kept).as_numpy("y").item() == 2
        assert executed(gate) == [2]


def difference(after, before, name, model, **labels):
    return value(after, name, model, **labels) - value(before, name, model, **labels)


def reasons(after, before, model):
    """Return how many batches were closed, by the reason."""
    counts = {
        reason: difference(after, before, "yais_inference_batches_total", model, reason=reason)
        for reason in ("full", "preferred", "delay", "shape", "instance", "objective")
    }
    return {reason: count for reason, count in counts.items() if count}


def test_shapes_that_differ_do_not_run_together(server, client, send):
    before = scrape(server)
    with plugged(client, "shapes") as gate:
        sent = [send("shapes", *values) for values in ([1, 2], [3, 4], [5, 6, 7], [8, 9, 10], [11, 12])]
    assert [each.array("y").tolist() for each in sent] == [
        [[1, 2]],
        [[3, 4]],
        [[5, 6, 7]],
        [[8, 9, 10]],
        [[11, 12]],
    ]
    assert gate.batches[1:] == [[1, 3], [5, 8], [11]]
    after = scrape(server)
    assert reasons(after, before, "shapes") == {"instance": 2, "shape": 2}
    name = "yais_inference_batch_size"
    assert difference(after, before, f"{name}_count", "shapes") == 4
    assert difference(after, before, f"{name}_sum", "shapes") == 6
    buckets = {size: difference(after, before, f"{name}_bucket", "shapes", le=f"{size}.0") for size in (1, 2)}
    assert buckets == {1: 2, 2: 4}


def test_why_batches_close(server, client, send):
    before = scrape(server)
    client.infer("patient", tensors({"x": np.ones((4, 1), np.float32)}), client_timeout=SOON)
    client.infer("patient", tensors({"x": row(1)}), client_timeout=SOON)
    pair = [send("preferred", 1, waiting=1), Sent(client, "preferred", {"x": row(2)})]
    for each in pair:
        each.result()
    after = scrape(server)
    assert reasons(after, before, "patient") == {"full": 1, "delay": 1}
    assert reasons(after, before, "preferred") == {"preferred": 1}


def test_larger_than_the_largest_batch(client):
    sent = Sent(client, "shapes", {"x": np.ones((9, 1), np.float32)})
    assert sent.error() == (
        "INVALID_ARGUMENT",
        "[request id: <id_unknown>] inference request batch-size must be <= 8 for 'shapes'",
    )
