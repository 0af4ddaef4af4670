"""What the two ends of a link say to each other.

A message is a tuple of plain values, the first of which says what it is. Requests have numbers, by which both
sides call them; numbers of forms are those of `yais.serving.frontends.form_numbers`; contents are
those of `yais.serving.frontends.payload_memory`, or None for inputs that are in shared memory of the client.
Moments are ns of the machine's monotonic clock, which all processes share.

    both     (HELLO, bytes of memory)                     first; with its descriptor
             (FORM, number, pickle)                       what a number means from now on
             (FREE, offsets)                              contents that the sender does not read any more
             (SYNC,)                                      to be answered with READ
             (READ,)                                      everything up to SYNC was
    frontend (INFER, request, form, parameters, id, accepted, waited, deadline, headers, contents)
             (BUNDLE, request, form, parameters, ids, (accepted, waited)s, deadline, contents)
             (CANCEL, request)
             (CREDIT, request, count)                     so many more responses may come; 0 for no more
             (CALL, request, method, contents, headers)
    engine   (ANSWER, request, form, id, contents)        the last word on a request, as the next one
             (ERROR, request, code, type, text)
             (RESPONSE, request, form, contents)          one of several
             (REPLY, request, contents)                   to CALL
             (BUNDLES, form, items)                       of a bundle of such requests; 0 for no bundles
             (SPLIT, request)                             a bundle is answered request by request

A bundle stands for as many requests as it has ids; their numbers follow each other, and the first is its own.
             (PUSH, topic, pickle)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from yais.errors import Code, YaisError, error_of, status_of
from yais.protocol.infer_request import InputHeader, OutputHeader
from yais.serving.frontends.link_frames import Message

__all__ = [
    "ANSWER",
    "BUNDLE",
    "BUNDLES",
    "CALL",
    "CANCEL",
    "CREDIT",
    "CREDITS",
    "ERROR",
    "FORM",
    "FREE",
    "HELLO",
    "INFER",
    "PUSH",
    "READ",
    "REPLY",
    "RESPONSE",
    "SPLIT",
    "SYNC",
    "RequestForm",
    "error_from",
    "error_message",
]

HELLO, FORM, FREE = range(3)
INFER, BUNDLE, CANCEL, CREDIT, CALL = range(3, 8)
ANSWER, ERROR, RESPONSE, REPLY, BUNDLES, SPLIT, PUSH = range(8, 15)
SYNC, READ = 15, 16

CREDITS = 16
"""Responses to a request that may be on their way before the frontend has taken one; a guess."""


@dataclass(frozen=True, slots=True, eq=False)
class RequestForm:
    """What requests of one form have in common.

    Attributes
    ----------
    repeats
        Whether others of the form will come: see `InferMessage`.
    http
        Whether they come in over HTTP, not gRPC.
    streams
        Whether they are answered any number of times if the model is decoupled.
    decoupled
        What is said of such a model where they are not.
    of_bytes
        Which of the inputs are BYTES.
    """

    model_name: str
    model_version: str
    inputs: Sequence[InputHeader]
    outputs: Sequence[OutputHeader]
    repeats: bool
    http: bool
    streams: bool
    decoupled: str
    of_bytes: Sequence[int]


def error_message(request: int, error: BaseException) -> Message:
    """Return the message that says how a request failed."""
    code, text = status_of(error)
    foreign = code is Code.UNKNOWN and not isinstance(error, YaisError)
    return ERROR, request, int(code), type(error).__name__ if foreign else "", str(error) if foreign else text


def error_from(code: int, kind: str, text: str) -> Exception:
    """Return the error that a message tells of: of the same status and text, and type if that is foreign."""
    if kind:
        foreign: Exception = type(kind, (Exception,), {})(text)
        return foreign
    return error_of(Code(code), text)
