"""Whatever is wrong with a request, its sender is told what, in Triton's words where it has some."""

from __future__ import annotations

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
from bad_requests import BAD, BATCH_NOTE, NO_MESSAGE, UNIMPLEMENTED, simple
from infer_streams import Conversation
from serving_models import SOON, infer_request
from tritonclient.utils import InferenceServerException

INVALID_ARGUMENT = grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("name", BAD)
def test_a_bad_request_is_told_what_is_wrong(wire, name):
    bad = BAD[name]
    assert wire.refusal(bad.message, bad.rpc) == (bad.code, bad.text)


@pytest.mark.parametrize("name", BAD)
def test_it_is_told_so_again(wire, name):
    """What is remembered of a request must not make a second one pass, or fail in another way."""
    bad = BAD[name]
    assert wire.refusal(bad.message, bad.rpc) == wire.refusal(bad.message, bad.rpc)


@pytest.mark.parametrize("rpc", UNIMPLEMENTED)
def test_what_is_not_implemented_says_so(wire, rpc):
    path = f"/inference.GRPCInferenceService/{rpc}"
    assert wire.refusal(b"", rpc) == (grpc.StatusCode.UNIMPLEMENTED, f"Method not found: {path}")


def test_triton_shows_the_text_as_it_is(client):
    tensor = triton.InferInput("INPUT0", [1, 16], "INT32")
    tensor.set_data_from_numpy(np.zeros((1, 16), np.int32))
    with pytest.raises(InferenceServerException) as caught:
        client.infer("simple", [tensor], request_id="7", client_timeout=SOON)
    assert caught.value.status() == "StatusCode.INVALID_ARGUMENT"
    assert caught.value.message() == (
        "[request id: 7] expected 2 inputs but got 1 inputs for model 'simple'. Got input(s) ['INPUT0'], "
        "but missing required input(s) ['INPUT1']. Please provide all required input(s)."
    )


@pytest.mark.parametrize("name", [name for name, bad in BAD.items() if bad.rpc == "ModelInfer"])
def test_a_stream_is_told_the_same_and_goes_on(wire, name):
    """Unless it is sent what is no message."""
    bad = BAD[name]
    with Conversation(wire.channel) as stream:
        stream.send(bad.message, simple(id="good"))
        if bad.text == NO_MESSAGE:
            assert stream.status() == (bad.code, bad.text)
        else:
            assert stream.next().error_message == bad.text
            assert stream.next().infer_response.id == "good"


def test_a_good_form_with_bad_contents_and_back(wire):
    """The form of a request is checked once and remembered, the size of its contents each time."""
    good = simple()
    bad = simple()
    bad.raw_input_contents[1] = bad.raw_input_contents[1][:-4]
    text = (
        "[request id: <id_unknown>] input byte size mismatch for input 'INPUT1' for model 'simple'. "
        "Expected 64, got 60"
    )
    for _ in range(3):
        assert len(wire.infer(good).raw_output_contents) == 2
        assert wire.refusal(bad) == (INVALID_ARGUMENT, text)


def test_the_same_form_for_another_model(wire):
    """What one model made of a form must not count for another."""
    array = np.zeros((2, 3), np.int32)
    for model in ("fixed", "identity_int32"):
        assert len(wire.infer(infer_request(model, {"X": array})).raw_output_contents) == 1
    longer = np.zeros((9, 3), np.int32)
    _, text = wire.refusal(infer_request("fixed", {"X": longer}))
    assert text == (
        "[request id: <id_unknown>] unexpected shape for input 'X' for model 'fixed'. "
        "Expected [2,3], got [9,3]."
    )
    _, text = wire.refusal(infer_request("identity_int32", {"X": longer}))
    assert text == "[request id: <id_unknown>] inference request batch-size must be <= 8 for 'identity_int32'"


def test_the_note_is_tritons():
    assert BATCH_NOTE.startswith("NOTE: Setting a non-zero max_batch_size in the model config requires")
