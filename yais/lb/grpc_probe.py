"""A question for the health of a gRPC server, as bytes: for balancers that speak HTTP/2 but not gRPC."""

from __future__ import annotations

__all__ = ["ANY_STATUS", "SERVING", "health_question"]

SERVING = "00000000020801"
"""What is in the answer of a server that serves, in hexadecimal: a message of two bytes, field 1 is 1."""

ANY_STATUS = "0000000002080[0-3]"
"""A regular expression for what is in any answer: a server that drains says 2, NOT_SERVING."""

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _SETTINGS = 0, 1, 4
_END_STREAM, _END_HEADERS = 1, 4
_METHOD_POST, _SCHEME_HTTP = b"\x83", b"\x86"  # of HPACK's table
_AUTHORITY, _PATH, _CONTENT_TYPE, _NEW = b"\x01", b"\x04", b"\x0f\x10", b"\x00"


def health_question(service: str) -> bytes:
    """Return all that a client sends to call `grpc.health.v1.Health/Check`: preface, settings, one request.

    Parameters
    ----------
    service
        Name to ask about, ASCII, up to 100 characters; "" for the server as a whole.
    """
    name = service.encode("ascii")
    message = bytes([0x0A, len(name)]) + name if name else b""
    headers = (
        _METHOD_POST
        + _SCHEME_HTTP
        + _PATH
        + _text(b"/grpc.health.v1.Health/Check")
        + _AUTHORITY
        + _text(b"health")
        + _CONTENT_TYPE
        + _text(b"application/grpc")
        + _NEW
        + _text(b"te")
        + _text(b"trailers")
    )
    return (
        _PREFACE
        + _frame(_SETTINGS, 0, 0, b"")
        + _frame(_HEADERS, _END_HEADERS, 1, headers)
        + _frame(_DATA, _END_STREAM, 1, b"\0" + len(message).to_bytes(4, "big") + message)
    )


def _text(text: bytes) -> bytes:
    return bytes([len(text)]) + text


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload
