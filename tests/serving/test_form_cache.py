"""What is kept of requests: so much of it, however large they are."""

from __future__ import annotations

import yais  # noqa: F401 - before grpc
from yais.core.tensor import DataType, TensorSpec
from yais.protocol.infer_request import InferMessage, InputHeader, Parameter
from yais.serving import infer_form, request_parameters
from yais.serving.form_cache import FormCache
from yais.serving.infer_form import form_of
from yais.serving.request_parameters import request_parameters as parameters_of


def test_what_is_kept_is_bounded():
    cache: FormCache[str] = FormCache(10)
    cache.keep("a", "A", 6)
    cache.keep("a", "other", 6)
    assert cache == {"a": "A"}
    assert repr(cache) == "<FormCache 6 of 10 in 1 entries>"
    cache.keep("b", "B", 4)
    assert cache == {"a": "A", "b": "B"}
    cache.keep("c", "C", 1)
    assert cache == {"c": "C"}
    cache.keep("d", "D", 11)
    cache.keep("e", "E", 9)
    assert cache == {"c": "C", "e": "E"}


def message(count):
    return InferMessage(inputs=[InputHeader(TensorSpec("x", DataType.FP32, (1,)), {})] * count)


def test_large_requests_are_not_kept():
    before = len(infer_form._forms)
    assert form_of(asked := message(100_000)) is not form_of(asked)
    assert len(infer_form._forms) == before
    assert form_of(asked := message(100)) is form_of(asked)


def test_many_requests_with_many_inputs_are_not_kept():
    for count in range(1000, 1200):
        form_of(message(count))
    assert sum(len(form.inputs) for form in infer_form._forms.values()) <= 65536


def test_many_parameters_are_not_kept():
    for count in range(1000, 1200):
        parameters_of([Parameter(str(number), 0) for number in range(count)], repeats=True)
    assert sum(len(known.values) for known in request_parameters._kept.values()) <= 65536
    few = [Parameter("a", 1)]
    assert parameters_of(few, repeats=True) is parameters_of(few, repeats=True)
