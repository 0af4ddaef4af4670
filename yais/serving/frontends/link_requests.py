"""Requests as messages to the engine process: by the numbers of their forms, and several as a bundle."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from typing import Any

from yais.rpc.completion_queue import MetadataItem
from yais.serving.frontends.form_numbers import FormNumbers
from yais.serving.frontends.link_bundles import without_meaning
from yais.serving.frontends.link_contents import put_all, put_together
from yais.serving.frontends.link_frames import Message
from yais.serving.frontends.link_messages import BUNDLE, CALL, FORM, INFER
from yais.serving.frontends.link_outgoing import OutgoingRequest
from yais.serving.frontends.payload_memory import PayloadWriter

__all__ = ["RequestWriter"]

Post = Callable[[Message, list[int]], None]
"""Has a message sent with its descriptors, after those posted before."""


class RequestWriter:
    """Writes the requests of a frontend. Not thread-safe.

    Parameters
    ----------
    memory
        Bytes of shared memory for contents.
    post
        Takes the messages.

    Attributes
    ----------
    payload
        The memory.
    limits
        Items of a bundle, by the number of a form, as far as the engine process has said.
    requests, bundles
        How many requests were written, and how many bundles of them.
    """

    def __init__(self, memory: int, post: Post) -> None:
        self.payload = PayloadWriter(memory)
        self.limits: dict[int, int] = {}
        self.requests = self.bundles = 0
        self._post = post
        self._numbers = FormNumbers(self._tell)

    def groups(self, requests: Sequence[OutgoingRequest]) -> Sequence[Sequence[OutgoingRequest]]:
        """Return requests in groups, each of which is to be written as one."""
        if len(requests) < 2:
            return [requests] if requests else []
        groups: list[list[OutgoingRequest]] = []
        growing: dict[Any, tuple[list[OutgoingRequest], int]] = {}  # and how many more each takes
        for request in requests:
            key = (request.form, *request.message.parameters)
            group, room = growing.get(key) or ([], 0)
            if not room:
                group, room = [], self._most_together(request)
                groups.append(group)
            elif not request.plain:
                groups.append([request])
                continue
            group.append(request)
            growing[key] = group, room - 1
        return groups

    def write(self, number: int, group: Sequence[OutgoingRequest]) -> None:
        """Write a request, or several as a bundle, of which the first has this number.

        Raises
        ------
        InvalidArgument, TypeError
            The contents of a request are none. Nothing is written then.
        """
        first = group[0]
        message = first.message
        form: Any = 0
        parameters: Any = 0
        if not message.repeats:
            form, parameters = first.request_form(), tuple(message.parameters)
        else:
            form = self._number(first)
            if message.parameters:
                kept = tuple(message.parameters)
                parameters = self._numbers.number(kept, lambda: kept)
                form = self._number(first)  # all may have been forgotten
        if len(group) > 1:
            self._write_bundle(number, group, form, parameters)
        else:
            descriptors: list[int] = []
            contents = put_all(self.payload, message.data, descriptors)
            moments = first.accepted, first.waited, first.deadline
            fields = form, parameters, message.id, *moments, first.headers, contents
            self._post((INFER, number, *fields), descriptors)
        self.requests += len(group)

    def write_call(
        self, number: int, method: str, request: bytes, headers: tuple[MetadataItem, ...] | None
    ) -> None:
        """Write a call."""
        descriptors: list[int] = []
        contents = self.payload.put([request], len(request), descriptors)
        self._post((CALL, number, method, contents, headers), descriptors)
        self.requests += 1

    def _write_bundle(
        self, number: int, group: Sequence[OutgoingRequest], form: int, parameters: int
    ) -> None:
        descriptors: list[int] = []
        data: list[Any] = [each.message.data for each in group]  # all of it `plain`
        contents = put_together(self.payload, data, descriptors)
        ids = [each.message.id for each in group]
        moments = [(each.accepted, each.waited) for each in group]
        due = [each.deadline for each in group if each.deadline is not None]
        deadline = max(due) if len(due) == len(group) else None
        self._post((BUNDLE, number, form, parameters, ids, moments, deadline, contents), descriptors)
        self.bundles += 1

    def _number(self, request: OutgoingRequest) -> int:
        return self._numbers.number(request.form, request.request_form)

    def _most_together(self, request: OutgoingRequest) -> int:
        """Return how many requests of its kind may be written as one: 1 for no others with this."""
        message = request.message
        if not message.repeats or not without_meaning(message.parameters):
            return 1
        limit = self.limits.get(self._number(request), 0)
        if not limit or not request.plain:
            return 1
        return max(limit // message.inputs[0].spec.shape[0], 1)

    def _tell(self, number: int, form: Any) -> None:
        if not number:
            self.limits.clear()
        self._post((FORM, number, pickle.dumps(form)), [])  # what cannot be sent is known here
