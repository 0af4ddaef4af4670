"""Responses of models as the replies of ModelStreamInfer."""

from __future__ import annotations

from yais.inference.request import InferResponse, ResponseForm
from yais.protocol.infer_response import ResponseHead
from yais.protocol.stream_response import encode_stream_response, stream_head
from yais.serving.infer import contents_of, head_of

__all__ = ["encode_reply"]

_MAX_HEADS = 4096  # kept heads of responses

_heads: dict[tuple[ResponseForm, bool], ResponseHead] = {}


def encode_reply(response: InferResponse, *, final: bool) -> bytes:
    """Return a response as a ModelStreamInferResponse on the wire; `final` if no more come to its request."""
    head = _heads.get((response.form, final))
    if head is None:
        if len(_heads) >= _MAX_HEADS:
            _heads.clear()
        head = _heads[response.form, final] = stream_head(head_of(response.form), final=final)
    return encode_stream_response(head, response.id, contents_of(response))
