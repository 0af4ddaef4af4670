"""The forms of responses on a frontend: equal ones are one object, whichever way they came."""

from __future__ import annotations

from typing import Any

from yais.core.tensor import TensorSpec
from yais.inference.request import ResponseForm

__all__ = ["ResponseForms"]

_MOST = 4096  # forms kept


class ResponseForms:
    """The forms of responses, of which equal ones are the same object. Not thread-safe."""

    def __init__(self) -> None:
        self._forms: dict[Any, ResponseForm] = {}
        self._single: dict[tuple[ResponseForm, int], ResponseForm] = {}

    def the(self, form: ResponseForm) -> ResponseForm:
        """Return the object that stands for all forms equal to this one."""
        if form.parameters:
            return form
        if len(self._forms) >= _MOST:
            self._forms.clear()
            self._single.clear()
        return self._forms.setdefault((form.model_name, form.model_version, form.outputs), form)

    def single(self, form: ResponseForm, requests: int) -> ResponseForm:
        """Return the form of the response to each of so many requests, of which this is the bundle's."""
        single = self._single.get((form, requests))
        if single is None:
            outputs = tuple(
                TensorSpec(spec.name, spec.datatype, (spec.shape[0] // requests, *spec.shape[1:]))
                for spec in form.outputs
            )
            single = self.the(ResponseForm(form.model_name, form.model_version, outputs))
            if len(self._single) >= _MOST:
                self._single.clear()
            self._single[form, requests] = single
        return single
