"""ModelStreamInferResponse to bytes, without building the message: see `yais.protocol.infer_response`."""

from __future__ import annotations

from collections.abc import Sequence

from yais.protocol import kserve_pb2
from yais.protocol.infer_response import ResponseHead, encode_varint

__all__ = ["encode_stream_error", "encode_stream_response", "stream_head"]

_INFER_RESPONSE = b"\x12"  # field 2, length-delimited

# Fields of the ModelInferResponse, length-delimited.
_ID = b"\x1a"
_RAW_OUTPUT = b"\x32"

_FINAL = "triton_final_response"


def _parameter(*, final: bool) -> bytes:
    message = kserve_pb2.ModelInferResponse()
    message.parameters[_FINAL].bool_param = final
    return message.SerializeToString()


_SAYS_FINAL, _SAYS_MORE = _parameter(final=True), _parameter(final=False)


def stream_head(head: ResponseHead, *, final: bool) -> ResponseHead:
    """Return a head that also says whether its response is the last one to a request."""
    return ResponseHead(head.wire + (_SAYS_FINAL if final else _SAYS_MORE))


def encode_stream_response(
    head: ResponseHead, request_id: str, contents: Sequence[bytes | memoryview]
) -> bytes:
    """Return the wire form of a response in a stream.

    Parameters
    ----------
    head
        Of `stream_head`.
    contents
        Row-major little-endian bytes of each output, in the order of the head's; copied once, here.
    """
    wire = head.wire
    parts: list[bytes | memoryview] = [wire]
    length = len(wire)
    if request_id:
        text = request_id.encode()
        size = encode_varint(len(text))
        parts += (_ID, size, text)
        length += 1 + len(size) + len(text)
    for data in contents:
        size = encode_varint(len(data))
        parts += (_RAW_OUTPUT, size, data)
        length += 1 + len(size) + len(data)
    return b"".join((_INFER_RESPONSE, encode_varint(length), *parts))


def encode_stream_error(text: str, request_id: str) -> bytes:
    """Return the wire form of what a stream says instead of a response: the last to its request."""
    message = kserve_pb2.ModelStreamInferResponse(error_message=text)
    message.infer_response.id = request_id
    message.infer_response.parameters[_FINAL].bool_param = True
    return message.SerializeToString()
