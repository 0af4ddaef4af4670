"""What a server says that a model takes, and requests of it."""

from __future__ import annotations

import numpy as np
import pytest
from endpoint_calls import connected, serving
from onnx_models import TYPES
from serving_models import SOON

from yais.client.in_order import answered_in_order
from yais.client.infer_call import InferCall
from yais.core.tensor import DataType, TensorSpec
from yais.errors import InvalidArgument, NotFound, Unimplemented
from yais.load.inputs import generated, model_inputs
from yais.protocol import kserve_pb2 as pb
from yais.protocol.tensor_codec import encode


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("models")) as running:
        yield running


@pytest.fixture(scope="module", params=["grpc", "http"])
def endpoint(request, server):
    with connected(request.param, server) as known:
        yield known


def test_specs_are_of_one_item(endpoint):
    simple = model_inputs(endpoint, "simple")
    assert simple.specs == tuple(TensorSpec(name, DataType.INT32, (16,)) for name in ("INPUT0", "INPUT1"))
    assert (simple.model, simple.version, simple.max_batch_size) == ("simple", "", 64)
    fixed = model_inputs(endpoint, "fixed", "1")
    assert fixed.specs == (TensorSpec("X", DataType.INT32, (2, 3)),)
    assert (fixed.version, fixed.max_batch_size) == ("1", 0)


def test_unknown_models(endpoint):
    with pytest.raises(NotFound, match="Request for unknown model: 'none' is not found"):
        model_inputs(endpoint, "none")


@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("nbytes", [None, 240])
def test_what_is_made_up_is_taken(endpoint, name, nbytes):
    model = model_inputs(endpoint, f"identity_{name.lower()}")
    (tensor,) = inputs = generated(model, 3, nbytes=nbytes, seed=1)
    ((answer,),) = answered_in_order(endpoint.transport(), [InferCall(model.model, inputs)], 1, SOON)
    output = answer.outputs["Y"]
    assert output.shape == tensor.spec.shape
    if name == "BF16":  # as float32, of which it is the upper half
        output = (output.view(np.uint32) >> 16).astype(np.uint16)
    assert encode(output) == bytes(tensor.data)
    assert nbytes in {None, len(tensor.data)}


class WithoutConfig:
    """An endpoint of a server that knows only what KServe's protocol itself has."""

    def __init__(self, endpoint, said):
        self.call_all = endpoint.call
        self.said = said

    def call(self, rpc, request):
        if rpc == "ModelConfig":
            raise self.said
        return self.call_all(rpc, request)


@pytest.mark.parametrize("said", [Unimplemented("unknown method ModelConfig"), NotFound("Not Found")])
def test_servers_without_configurations(server, said):
    with connected("grpc", server) as known:
        simple = model_inputs(WithoutConfig(known, said), "simple")
    assert simple.config == pb.ModelConfigResponse().config
    assert (simple.specs[0].shape, simple.max_batch_size) == ((-1, 16), 0)
    assert [tensor.spec.shape for tensor in generated(simple)] == [(1, 16)] * 2


class Knowing:
    """An endpoint of a server that has one model, whose input is of a data type of its own."""

    def call(self, rpc, request):
        if rpc == "ModelConfig":
            raise Unimplemented("unknown method ModelConfig")
        model = pb.ModelMetadataResponse(name=request.name)
        model.inputs.add(name="X", datatype="FP8", shape=[1])
        return model


def test_unknown_data_types():
    with pytest.raises(InvalidArgument, match="got data type 'FP8' for tensor 'X', expected one of BOOL, "):
        model_inputs(Knowing(), "m")
