"""Responses of models as the replies of ModelStreamInfer."""

from __future__ import annotations

from yais.inference.request import InferResponse, ResponseForm
from yais.protocol.infer_response import ResponseHead
from yais.protocol.stream_response import encode_stream_response, stream_head
from yais.protocol.tensor_codec import encode_bytes

__all__ = ["encode_reply"]

_MAX_HEADS = 4096  # kept heads of responses

_heads: dict[tuple[ResponseForm, bool], ResponseHead] = {}


def encode_reply(response: InferResponse, *, final: bool) -> bytes:
    """Return a response as a ModelStreamInferResponse on the wire; `final` if no more come to its request."""
    head = _heads.get((response.form, final))
    if head is None:
        head = _head(response.form, final=final)
    contents = [data if isinstance(data, memoryview) else encode_bytes(data) for data in response.data]
    return encode_stream_response(head, response.id, contents)


def _head(form: ResponseForm, *, final: bool) -> ResponseHead:
    if len(_heads) >= _MAX_HEADS:
        _heads.clear()
    head = ResponseHead.of(form.model_name, form.model_version, form.outputs, form.parameters)
    head = _heads[form, final] = stream_head(head, final=final)
    return head
