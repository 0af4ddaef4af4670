"""Messages of a frontend as the requests that they stand for."""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from yais.errors import InvalidArgument
from yais.protocol.infer_request import InferMessage
from yais.rpc.completion_queue import MetadataItem
from yais.serving.frontends.form_numbers import KnownForms
from yais.serving.frontends.link_bundles import bundle_form, parts_of
from yais.serving.frontends.link_caller import LinkCaller, caller_of
from yais.serving.frontends.link_contents import get_all
from yais.serving.frontends.link_messages import RequestForm
from yais.serving.frontends.payload_memory import Contents, PayloadReader
from yais.serving.http.caller import HttpCaller

__all__ = ["Incoming", "IncomingBundle", "RequestReader"]

Descriptors = collections.deque[int]


class Incoming(NamedTuple):
    """A request, or several in one."""

    form: RequestForm
    message: InferMessage
    caller: LinkCaller | HttpCaller


@dataclass(frozen=True, slots=True)
class IncomingBundle:
    """Several requests of one form.

    Attributes
    ----------
    form
        Of each.
    number
        Of that form.
    whole
        All of them as one.
    ids, moments
        Of each: what its sender calls it, when it came in, and how long it waited for a context.
    """

    form: RequestForm
    number: int
    whole: Incoming
    ids: Sequence[str]
    moments: Sequence[tuple[int, int]]

    def requests(self) -> Iterator[Incoming]:
        """Return each by itself."""
        form, whole = self.form, self.whole.message
        parts = [parts_of(tensor, len(self.ids)) for tensor in whole.data]
        for index, (id_, moments) in enumerate(zip(self.ids, self.moments, strict=True)):
            message = _message(form, whole.parameters, id_, [part[index] for part in parts])
            caller = caller_of(*moments, self.whole.caller.deadline.at, (), http=form.http)
            yield Incoming(form, message, caller)


class RequestReader:
    """Reads the requests of a frontend. Not thread-safe.

    Whatever is wrong with a message raises InvalidArgument, or TypeError for too few fields or too many.
    """

    def __init__(self) -> None:
        self._payload: PayloadReader | None = None
        self._forms = KnownForms()
        self._wide: dict[tuple[int, int], RequestForm] = {}  # of bundles, by number and requests

    def greet(self, descriptors: Descriptors, size: int, freed: Callable[[int], object]) -> None:
        """Take in where contents are; see `PayloadReader`."""
        self._payload = PayloadReader.take(descriptors, size, freed)

    def told(self, number: int, form: Any) -> None:
        """Take in a form."""
        self._forms.told(number, form)
        if not number:
            self._wide.clear()

    def form(self, number: int) -> RequestForm:
        """Return a form."""
        form: RequestForm = self._forms[number]
        return form

    def request(
        self,
        descriptors: Descriptors,
        form: int | RequestForm,
        parameters: int | Sequence[Any],
        id_: str,
        accepted: int,
        waited: int,
        deadline: int | None,
        headers: tuple[MetadataItem, ...],
        contents: Sequence[Contents | None],
    ) -> Incoming:
        """Return a request."""
        known = self.form(form) if isinstance(form, int) else form
        data = get_all(self._expect_greeted(), contents, descriptors, known.of_bytes)
        message = _message(known, self._parameters(parameters), id_, data)
        return Incoming(known, message, caller_of(accepted, waited, deadline, headers, http=known.http))

    def bundle(
        self,
        descriptors: Descriptors,
        number: int,
        parameters: int,
        ids: Sequence[str],
        moments: Sequence[tuple[int, int]],
        deadline: int | None,
        contents: Sequence[Contents],
    ) -> IncomingBundle:
        """Return a bundle."""
        form, count = self.form(number), len(ids)
        wide = self._wide.get((number, count))
        if wide is None:
            wide = self._wide[number, count] = bundle_form(form, count)
        data = get_all(self._expect_greeted(), contents, descriptors, ())
        message = _message(wide, self._parameters(parameters), "", data)
        caller = caller_of(*min(moments), deadline, (), http=form.http)
        return IncomingBundle(form, number, Incoming(wide, message, caller), ids, moments)

    def contents(self, descriptors: Descriptors, contents: Contents) -> bytes:
        """Return what came with a call."""
        return bytes(self._expect_greeted().get(contents, descriptors))

    def close(self) -> None:
        """Let go of the memory; it stays as long as its contents are read."""
        self._payload = None

    def _parameters(self, parameters: int | Sequence[Any]) -> Sequence[Any]:
        if not isinstance(parameters, int):
            return parameters
        kept: Sequence[Any] = self._forms[parameters] if parameters else ()
        return kept

    def _expect_greeted(self) -> PayloadReader:
        if self._payload is None:
            raise InvalidArgument("got a request, expected that the frontend says of its memory first")
        return self._payload


def _message(form: RequestForm, parameters: Sequence[Any], id_: str, data: list[Any]) -> InferMessage:
    return InferMessage(
        form.model_name, form.model_version, id_, parameters, form.inputs, form.outputs, data, form.repeats
    )
