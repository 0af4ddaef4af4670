"""ModelInfer: from the wire to a model, and back."""

from __future__ import annotations

from yais.core.future import Future
from yais.inference.request import InferResponse, ResponseForm
from yais.protocol.infer_request import InferMessage
from yais.protocol.infer_response import ResponseHead, encode_infer_response
from yais.protocol.tensor_codec import encode_bytes
from yais.rpc.context import Context
from yais.serving.call_trace import CallTrace
from yais.serving.front_resources import FrontResources

__all__ = ["InferContext", "contents_of", "encode_response", "head_of"]

_UNARY = "ModelInfer RPC doesn't support models with decoupled transaction policy"

_MAX_HEADS = 4096  # kept heads of responses


class InferContext(Context[InferMessage, InferResponse, FrontResources]):
    """Serves ModelInfer.

    Attributes
    ----------
    protocol, trace
        See `TracedCaller`.
    """

    protocol = "GRPC"
    trace: CallTrace | None = None

    def execute(self, message: InferMessage) -> Future[InferResponse]:
        """Submit the request to its model."""
        return self.resources.infer(message, self, decoupled=_UNARY)

    def on_finish(self) -> None:
        """Tell when the answer was sent."""
        if self.trace is not None:
            self.trace.sent()


def encode_response(response: InferResponse) -> bytes:
    """Return a response as a ModelInferResponse on the wire."""
    head = _heads.get(response.form)
    if head is None:
        if len(_heads) >= _MAX_HEADS:
            _heads.clear()
        head = _heads[response.form] = head_of(response.form)
    return encode_infer_response(head, response.id, contents_of(response))


def contents_of(response: InferResponse) -> list[memoryview | bytes]:
    """Return the contents of the outputs as they are on the wire."""
    return [data if isinstance(data, memoryview) else encode_bytes(data) for data in response.data]


def head_of(form: ResponseForm) -> ResponseHead:
    """Return the head of responses of a form; worth keeping."""
    return ResponseHead.of(form.model_name, form.model_version, form.outputs, form.parameters)


_heads: dict[ResponseForm, ResponseHead] = {}
