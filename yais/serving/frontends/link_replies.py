"""Answers as messages to a frontend."""

from __future__ import annotations

import os
import pickle
import threading
from collections.abc import Callable, Sequence

from yais.errors import Cancelled, InvalidArgument
from yais.inference.request import InferResponse
from yais.serving.frontends.form_numbers import FormNumbers
from yais.serving.frontends.link_contents import put_all
from yais.serving.frontends.link_frames import Message
from yais.serving.frontends.link_messages import ANSWER, FORM, HELLO, REPLY, RESPONSE, error_message
from yais.serving.frontends.payload_memory import PayloadWriter

__all__ = ["ReplyWriter"]


class ReplyWriter:
    """Writes the answers to a frontend. Thread-safe.

    Parameters
    ----------
    post
        Takes the messages, and their descriptors.
    """

    def __init__(self, post: Callable[[Message, list[int]], None]) -> None:
        self._post = post
        self._lock = threading.Lock()
        self._numbers = FormNumbers(lambda number, form: post((FORM, number, pickle.dumps(form)), []))
        self._payload: PayloadWriter | None = None
        self._over = False

    @property
    def shared_bytes(self) -> int:
        """See `LinkStatistics`."""
        return 0 if self._payload is None else self._payload.shared_bytes

    @property
    def overflows(self) -> int:
        """See `LinkStatistics`."""
        return 0 if self._payload is None else self._payload.overflows

    def greet(self, size: int) -> None:
        """Say where contents are going to be. Raises as `PayloadWriter` does."""
        self._payload = PayloadWriter(size)
        self._post((HELLO, size), [os.dup(self._payload.descriptor)])

    def response(self, number: int, response: InferResponse, *, final: bool) -> None:
        """Write the answer to a request, or one of several.

        Raises
        ------
        Cancelled
            The frontend is gone.
        InvalidArgument, TypeError
            The contents are none.
        """
        with self._lock:
            payload = self._expect_open()
            descriptors: list[int] = []
            form = self._numbers.number(response.form, lambda: response.form)
            contents = put_all(payload, response.data, descriptors)
            if final:
                self._post((ANSWER, number, form, response.id, contents), descriptors)
            else:
                self._post((RESPONSE, number, form, contents), descriptors)

    def reply(self, number: int, data: bytes) -> None:
        """Write the answer to a call. Raises Cancelled if the frontend is gone."""
        with self._lock:
            payload = self._expect_open()
            descriptors: list[int] = []
            contents = payload.put([data], len(data), descriptors)
            self._post((REPLY, number, contents), descriptors)

    def error(self, number: int, error: BaseException) -> None:
        """Write that a request has failed."""
        self._post(error_message(number, error), [])

    def take_back(self, places: Sequence[int]) -> None:
        """Take back contents. Raises InvalidArgument if they are not out."""
        with self._lock:
            if self._payload is None:
                raise InvalidArgument("got memory given back, expected that the frontend says of its first")
            for place in places:
                self._payload.take_back(place)

    def close(self) -> None:
        """Give the memory up."""
        with self._lock:
            self._over = True
            if self._payload is not None:
                self._payload.close()

    def _expect_open(self) -> PayloadWriter:
        if self._payload is None or self._over:
            raise Cancelled("the frontend is gone")
        return self._payload
