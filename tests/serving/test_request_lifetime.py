"""What becomes of requests that nobody waits for any more, and of what they held."""

from __future__ import annotations

import gc

import grpc
import numpy as np
import pytest
from server_state import in_flight, pending
from serving_models import SOON, eventually, infer_request, outputs_of

from yais.protocol import kserve_pb2 as pb
from yais.protocol.infer_request import InputHeader

ONE = np.ones((1, 2), np.float32)
EIGHT = np.ones((8, 2), np.float32)


def inferences(wire, model):
    (statistics,) = wire.call("ModelStatistics", pb.ModelStatisticsRequest(name=model)).model_stats
    return statistics.inference_count


def waiting_request(*, classified):
    request = infer_request("waiting", {"X": ONE})
    if classified:
        request.outputs.add(name="Y").parameters["classification"].int64_param = 1
    return request


@pytest.mark.parametrize("classified", [False, True])
@pytest.mark.parametrize("end", ["cancel", "deadline"])
def test_who_no_longer_waits_is_not_computed_for(server, wire, end, classified):
    """It leaves no trace in the batch of those that came later."""
    before = inferences(wire, "waiting")
    request = waiting_request(classified=classified)
    if end == "cancel":
        call = wire.method("ModelInfer").future(request, timeout=SOON)
        eventually(lambda: pending(server, "waiting"))
        call.cancel()
    else:
        call = wire.method("ModelInfer").future(request, timeout=0.05)
        with pytest.raises(grpc.RpcError) as caught:
            call.result(SOON)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    eventually(lambda: not in_flight(server))
    response = wire.infer(infer_request("waiting", {"X": EIGHT}))
    np.testing.assert_array_equal(outputs_of(response)["Y"], EIGHT)
    assert inferences(wire, "waiting") == before + 8


def test_a_deadline_that_is_over_on_arrival(server, wire):
    before = inferences(wire, "identity_fp32")
    call = wire.method("ModelInfer").future(infer_request("identity_fp32", {"X": ONE}), timeout=-1)
    with pytest.raises(grpc.RpcError) as caught:
        call.result(SOON)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert inferences(wire, "identity_fp32") == before


def headers():
    gc.collect()
    return sum(isinstance(thing, InputHeader) for thing in gc.get_objects())


def test_requests_of_one_form_leave_one_form_behind(wire):
    """Typed contents differ from request to request, and may be huge: nothing of them must be kept."""
    before = headers()
    for number in range(20):
        request = pb.ModelInferRequest(model_name="identity_fp32")
        contents = request.inputs.add(name="X", datatype="FP32", shape=[1, 1000]).contents
        contents.fp32_contents.extend([number] * 1000)
        assert outputs_of(wire.infer(request))["Y"].tolist() == [[number] * 1000]
    assert headers() <= before + 1


def test_forms_that_do_not_repeat_are_not_kept() -> None:
    from yais.protocol import kserve_pb2
    from yais.protocol.infer_request import decode_infer_request
    from yais.serving.infer_form import _forms, form_of

    def form(text: str) -> object:
        message = kserve_pb2.ModelInferRequest(model_name="m")
        message.parameters["remark"].string_param = text
        return form_of(decode_infer_request(message.SerializeToString()))

    assert form("short") is form("short")
    kept = len(_forms)
    assert form("long" * 100) is not form("long" * 100)
    assert len(_forms) == kept
