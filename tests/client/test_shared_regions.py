"""Tensors in system shared memory, with a server that reads and writes them."""

from __future__ import annotations

import os

import numpy as np
import pytest
from endpoint_calls import connected, serving
from serving_models import SOON

from yais.client.in_order import answered_in_order
from yais.client.infer_call import InferCall, InputTensor, SharedTensor
from yais.client.shared_regions import SharedRegions
from yais.core.tensor import DataType, TensorSpec
from yais.errors import InvalidArgument, ResourceExhausted, Unavailable, Unimplemented
from yais.memory.shared_region import SharedRegion
from yais.protocol import kserve_pb2 as pb
from yais.protocol.tensor_codec import encode, encode_bytes


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("models"), allow_client_shm=True) as running:
        yield running


@pytest.fixture(scope="module", params=["grpc", "http"])
def endpoint(request, server):
    with connected(request.param, server) as known:
        yield known


@pytest.fixture(autouse=True)
def regions_here(request, monkeypatch):
    """Tell the names of the regions that this test has made and that are there; other processes make some."""
    made, create = set(), SharedRegion.create

    def recorded(*args, **kwargs):
        region = create(*args, **kwargs)
        made.add(region.name.removeprefix("/"))
        return region

    monkeypatch.setattr(SharedRegion, "create", recorded)
    yield lambda: made & set(os.listdir("/dev/shm"))
    assert not made & set(os.listdir("/dev/shm"))
    if "endpoint" in request.fixturenames:
        assert registered(request.getfixturevalue("endpoint")) == set()


def registered(endpoint):
    return set(endpoint.call("SystemSharedMemoryStatus", pb.SystemSharedMemoryStatusRequest()).regions)


def tensor(name, array):
    return InputTensor(TensorSpec(name, DataType.of(array.dtype), array.shape), encode(array))


def answer(endpoint, model, inputs, outputs=()):
    call = InferCall(model, inputs, outputs)
    ((answered,),) = answered_in_order(endpoint.transport(), [call], 1, SOON)
    return answered


def test_inputs_are_read_where_they_lie(endpoint, regions_here):
    first = np.arange(16, dtype=np.int32).reshape(1, 16)
    requests = [[tensor("INPUT0", first * n), tensor("INPUT1", first)] for n in (1, 2, 3)]
    with SharedRegions(endpoint) as regions:
        shared = regions.inputs(requests)
        assert len(regions_here() & registered_keys(endpoint)) == 1
        for number, inputs in enumerate(shared, 1):
            assert [one.spec for one in inputs] == [one.spec for one in requests[0]]
            assert all(isinstance(one.data, SharedTensor) and one.data.offset % 64 == 0 for one in inputs)
            outputs = answer(endpoint, "simple", inputs).outputs
            np.testing.assert_array_equal(outputs["OUTPUT0"], first * (number + 1))
            np.testing.assert_array_equal(outputs["OUTPUT1"], first * (number - 1))


def registered_keys(endpoint):
    status = endpoint.call("SystemSharedMemoryStatus", pb.SystemSharedMemoryStatusRequest())
    return {region.key.lstrip("/") for region in status.regions.values()}


def test_outputs_are_written_where_they_are_wanted(endpoint):
    first = np.arange(16, dtype=np.int32).reshape(1, 16)
    with SharedRegions(endpoint) as regions:
        (inputs,) = regions.inputs([[tensor("INPUT0", first), tensor("INPUT1", first * 3)]])
        outputs = regions.outputs({"OUTPUT1": 64, "OUTPUT0": 100})
        assert answer(endpoint, "simple", inputs, outputs).outputs == {}
        with SharedRegion.attach(outputs[0].shared.region) as region:
            found = {
                one.name: np.frombuffer(region.view(one.shared.offset, 64), np.int32).copy()
                for one in outputs
            }
        np.testing.assert_array_equal(found["OUTPUT0"], first[0] * 4)
        np.testing.assert_array_equal(found["OUTPUT1"], first[0] * -2)


def test_texts(endpoint):
    texts = InputTensor(TensorSpec("X", DataType.BYTES, (1, 2)), encode_bytes([b"a", b"longer"]))
    with SharedRegions(endpoint) as regions:
        (inputs,) = regions.inputs([[texts]])
        assert answer(endpoint, "identity_bytes", inputs).outputs["Y"].tolist() == [[b"a", b"longer"]]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_nothing_stays_whatever_ends_the_block(endpoint, error):
    def two():
        with SharedRegions(endpoint) as regions:
            regions.outputs({"OUTPUT0": 64})
            regions.outputs({"OUTPUT1": 64})
            assert len(registered(endpoint)) == 2
            raise error

    with pytest.raises(error):
        two()


def test_closing_twice(endpoint):
    with SharedRegions(endpoint) as regions:
        regions.outputs({"OUTPUT0": 64})
        regions.close()


def test_the_regions_of_others_stay(endpoint):
    with SharedRegions(endpoint) as ours:
        ours.outputs({"OUTPUT0": 64})
        with SharedRegions(endpoint) as theirs:
            theirs.outputs({"OUTPUT0": 64})
        assert len(registered(endpoint)) == 1


class Breaking:
    """An endpoint whose server is gone after so many calls."""

    def __init__(self, endpoint, calls):
        self._endpoint = endpoint
        self._calls = calls

    def call(self, rpc, request):
        self._calls -= 1
        if self._calls < 0:
            raise Unavailable("gone")
        return self._endpoint.call(rpc, request)


def test_a_server_that_is_gone():
    with pytest.raises(Unavailable, match="gone"), SharedRegions(Breaking(None, 0)) as regions:
        regions.outputs({"OUTPUT0": 64})


def test_a_server_that_goes(server):
    with connected("grpc", server) as known:
        with SharedRegions(Breaking(known, 1)) as regions:
            regions.outputs({"OUTPUT0": 64})
        (left,) = registered(known)
        known.call("SystemSharedMemoryUnregister", pb.SystemSharedMemoryUnregisterRequest(name=left))


def test_too_much(endpoint):
    with pytest.raises(ResourceExhausted), SharedRegions(endpoint) as regions:
        regions.outputs({"OUTPUT0": 1 << 60})


def test_a_tensor_that_is_shared_already(endpoint):
    there = InputTensor(TensorSpec("X", DataType.INT8, (1,)), SharedTensor("a", 1))
    expected = pytest.raises(InvalidArgument, match="got input 'X' in shared memory, expected its contents")
    with expected, SharedRegions(endpoint) as regions:
        regions.inputs([[there]])


def test_servers_that_do_not_allow_it(tmp_path):
    expected = pytest.raises(Unimplemented, match="--allow-client-shm")
    with (
        serving(tmp_path, allow_client_shm=False) as refusing,
        connected("grpc", refusing) as known,
        expected,
        SharedRegions(known) as regions,
    ):
        regions.outputs({"OUTPUT0": 64})
