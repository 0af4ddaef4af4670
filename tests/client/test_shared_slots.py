"""Slots of shared memory for requests: who may use one, and when it is free again."""

from __future__ import annotations

import os
import random
import re
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from endpoint_calls import connected, serving
from gated_models import TENSORS, gates, write_python
from serving_models import SOON

from yais.client.infer_call import InferCall, InputTensor
from yais.client.shared_slots import SharedSlots
from yais.core.tensor import DataType, TensorSpec
from yais.errors import (
    Cancelled,
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    Unavailable,
    Unimplemented,
)
from yais.memory.shared_region import SharedRegion
from yais.protocol import kserve_pb2 as pb
from yais.rpc.client import Channels

NAME = f"yais-test-slots-{os.getpid()}"

SLOW_READER = """
from gated_models import gates

class Model:
    def execute(self, inputs):
        with gates["slow_reader"].passing([0.0]):
            pass
        with gates["read"].passing(inputs["x"][:, 0].tolist()):
            return {"y": inputs["x"]}
"""
"""Reads its input when its gate has let it pass, and tells what it has read."""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    directory = tmp_path_factory.mktemp("models")
    slow = TENSORS + "max_batch_size: 4 instance_group { count: 4 }"
    write_python(directory, "slow_reader", SLOW_READER, slow)
    with serving(directory, allow_client_shm=True) as running:
        yield running


@pytest.fixture
def endpoint(server):
    with connected("grpc", server) as known:
        yield known


@pytest.fixture
def slots(server, endpoint):
    with Channels(f"127.0.0.1:{server.port}") as channels:
        slots = SharedSlots(channels, count=2, size=1024, name=NAME, timeout=3 * SOON)
        yield slots
        assert slots.close(SOON)
    assert files() == set()
    assert registered(endpoint) == set()


def files():
    return {name for name in os.listdir("/dev/shm") if name.startswith(NAME)}


def registered(endpoint):
    return set(endpoint.call("SystemSharedMemoryStatus", pb.SystemSharedMemoryStatusRequest()).regions)


def forget(endpoint, name=""):
    endpoint.call("SystemSharedMemoryUnregister", pb.SystemSharedMemoryUnregisterRequest(name=name))


def call_of(slot, *values, model="gated"):
    """Write a row of values into a slot; return the request."""
    array = np.array([values], np.float32)
    slot.view[: array.nbytes] = array.tobytes()
    return InferCall(
        model, [InputTensor(TensorSpec("x", DataType.FP32, array.shape), slot.place(array.nbytes))]
    )


def send(slots, *values, model="gated", timeout=None):
    lease = slots.acquire(SOON)
    return slots.infer(lease, call_of(lease.item, *values, model=model), timeout=timeout)


def ask(slots, *values, **options):
    return send(slots, *values, **options).result(SOON).outputs["y"][0].tolist()


def free(slots):
    return slots.statistics().available


def test_inputs_are_read_where_they_lie_and_the_slot_is_registered_once(slots, endpoint):
    assert ask(slots, 1.0, 2.0) == [1.0, 2.0]
    (name,) = registered(endpoint)
    assert files() == {name}
    assert ask(slots, 3.0) == [3.0]  # the same slot, which was free again
    assert registered(endpoint) == {name} and free(slots) == 2


def test_who_finds_no_slot_is_refused_and_an_answer_makes_room(slots):
    with gates["gated"].shut():
        pending = [send(slots, 1.0), send(slots, 2.0)]
        with pytest.raises(ResourceExhausted, match=r"no slot became free within 0\.01 s"):
            slots.acquire(0.01)
    assert [one.result(SOON).outputs["y"].item() for one in pending] == [1.0, 2.0]
    slots.acquire(0.0).release()


@pytest.mark.parametrize("how", ["cancelled", "late"])
def test_what_a_server_may_still_read_is_not_written_to(slots, endpoint, how):
    read = gates["read"]
    with gates["slow_reader"].shut():
        read.batches.clear()
        pending = send(slots, 7.0, model="slow_reader", timeout=2.0 if how == "late" else None)
        gates["slow_reader"].wait_for(1)
        (old,) = registered(endpoint)
        if how == "cancelled":
            assert pending.cancel()
        else:
            with pytest.raises(DeadlineExceeded):
                pending.result(SOON)
        # Both slots are free, and written to by the next, while the model has not read yet.
        until(lambda: free(slots) == 2)
        with slots.acquire(0.0) as one, slots.acquire(0.0) as other:
            for slot in one, other:
                slot.view[:] = b"\xff" * slot.size
        assert old not in files()
        assert ask(slots, 8.0) == [8.0]
        until(lambda: old not in registered(endpoint))
    read.wait_for(1)
    assert read.batches == [[7.0]]


def until(holds):
    deadline = time.monotonic() + SOON
    while not holds():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.001)


def test_a_server_that_has_forgotten_the_region_is_told_again(slots, endpoint):
    assert ask(slots, 1.0) == [1.0]
    before = registered(endpoint)
    forget(endpoint)
    assert ask(slots, 2.0) == [2.0]
    assert registered(endpoint) == before


def test_what_the_server_says_of_the_request_costs_no_region(slots, endpoint):
    assert ask(slots, 1.0) == [1.0]
    before = registered(endpoint)
    with pytest.raises(NotFound, match="unknown model"):
        ask(slots, 1.0, model="none")
    with pytest.raises(InvalidArgument, match="'INPUT0'"):
        ask(slots, 1.0, model="simple")
    assert registered(endpoint) == before and free(slots) == 2


def test_closing_takes_everything_away_and_says_what_is_still_under_way(slots, endpoint):
    with gates["gated"].shut():
        pending = send(slots, 1.0)
        gates["gated"].wait_for(1)
        assert not slots.close(0.0)
        until(lambda: registered(endpoint) == set())
        assert files() == set()
        with pytest.raises(Unavailable):
            slots.acquire(0.0)
    assert pending.result(SOON).outputs["y"].item() == 1.0


def test_connections_that_are_closed_end_what_is_under_way(server, endpoint):
    channels = Channels(f"127.0.0.1:{server.port}")
    slots = SharedSlots(channels, count=2, size=64, name=NAME, timeout=SOON)
    with gates["gated"].shut():
        pending = send(slots, 1.0)
        gates["gated"].wait_for(1)
        channels.close()
        with pytest.raises(Cancelled):
            pending.result(SOON)
        lease = slots.acquire(0.0)
        with pytest.raises(FailedPrecondition, match="closed"):
            slots.infer(lease, call_of(lease.item, 2.0)).result(SOON)
    assert slots.close(SOON)
    assert files() == set()
    forget(endpoint)


def test_there_is_no_server():
    with Channels("127.0.0.1:1") as channels:
        slots = SharedSlots(channels, count=1, size=64, name=NAME, timeout=SOON)
        with pytest.raises(Unavailable):
            ask(slots, 1.0)
        with pytest.raises(Unavailable):
            slots.clear()
        assert free(slots) == 1
        assert slots.close(SOON)
    assert files() == set()


def test_a_server_that_does_not_allow_it(tmp_path):
    with (
        serving(tmp_path, allow_client_shm=False) as refusing,
        Channels(f"127.0.0.1:{refusing.port}") as channels,
    ):
        slots = SharedSlots(channels, count=1, size=64, name=NAME, timeout=SOON)
        with pytest.raises(Unimplemented, match="--allow-client-shm"):
            ask(slots, 1.0)
        assert slots.close(SOON)


def test_what_a_killed_process_has_left_is_taken_away(slots, endpoint):
    left, other = Path("/dev/shm", f"{NAME}-0123"), Path("/dev/shm", f"{NAME}x")
    try:
        for path in left, other:
            path.write_bytes(bytes(64))
            path.chmod(0o600)
            endpoint.call(
                "SystemSharedMemoryRegister",
                pb.SystemSharedMemoryRegisterRequest(name=path.name, key=f"/{path.name}", byte_size=64),
            )
        slots.clear()
        assert files() == {other.name} == registered(endpoint)
    finally:
        left.unlink(missing_ok=True)
        other.unlink(missing_ok=True)
        forget(endpoint)


def test_places_lie_within_the_slot(slots):
    with slots.acquire(SOON) as slot:
        assert slot.place(1000, 24).offset == 24 and slot.place(0, 1024).byte_size == 0
        for byte_size, offset in (1025, 0), (1, 1024), (-1, 0), (8, -8):
            with pytest.raises(InvalidArgument, match=f"got {byte_size} bytes from {offset} on"):
                slot.place(byte_size, offset)


@pytest.mark.parametrize(("count", "size"), [(0, 64), (1, 0)])
def test_no_slots(count, size):
    with Channels("127.0.0.1:1") as channels, pytest.raises(InvalidArgument, match="expected at least 1 of"):
        SharedSlots(channels, count=count, size=size, name=NAME)


def test_a_request_that_makes_no_message_frees_its_slot(slots):
    lease = slots.acquire(SOON)
    call = InferCall("gated", call_of(lease.item, 1.0).inputs, parameters={"large": 1 << 70})
    with pytest.raises(ValueError, match="out of range"):
        slots.infer(lease, call)
    assert free(slots) == 2


def test_a_request_without_memory_for_its_slot_frees_it(slots, monkeypatch):
    def full(*_arguments, **_options):
        raise ResourceExhausted("no memory")

    monkeypatch.setattr(SharedRegion, "create", full)
    call = InferCall("gated", [InputTensor(TensorSpec("x", DataType.FP32, (1, 1)), bytes(4))])
    with pytest.raises(ResourceExhausted, match="no memory"):
        slots.infer(slots.acquire(SOON), call)
    assert free(slots) == 2


def test_many_at_once_some_of_which_are_cancelled(slots):
    wrong, errors = [], []

    def run(seed):
        chance = random.Random(seed)
        for number in range(60):
            values = [float(seed), float(number), chance.random()]
            try:
                pending = send(slots, *values)
                if chance.random() < 0.3:
                    pending.cancel()
                elif not np.allclose(pending.result(SOON).outputs["y"][0], values):
                    wrong.append(values)
            except BaseException as error:
                errors.append(error)

    threads = [threading.Thread(target=run, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SOON)
    assert not any(thread.is_alive() for thread in threads)
    assert (wrong, errors) == ([], [])
    until(lambda: free(slots) == 2)


def test_the_code_of_the_page(monkeypatch, capsys):
    root = Path(__file__).parents[2]
    (code,) = re.findall(
        r"^```python\n(.*?)^```$", (root / "docs/two-services.md").read_text(), re.MULTILINE | re.DOTALL
    )
    monkeypatch.chdir(root)
    exec(compile(code, "docs/two-services.md", "exec"), {})
    assert capsys.readouterr().out == "(1, 10)\n"
    assert not [each for each in os.listdir("/dev/shm") if each.startswith("my-service")]
