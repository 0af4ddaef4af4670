"""What a model answered, for people and as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from yais.client.classes import class_scores
from yais.client.infer_call import InferAnswer
from yais.core.tensor import DataType, TensorSpec

__all__ = ["answer_json", "answer_text", "finite"]

Array = npt.NDArray[Any]

_WIDTH = 76  # of the values, which are indented by 4
_ALL = 200  # elements up to which all are shown
_LONG = 60  # characters of an element of BYTES that are shown


def answer_text(answer: InferAnswer, types: Mapping[str, DataType], *, classes: bool = False) -> str:
    """Return an answer as lines of at most 80 columns; long outputs are shortened.

    Parameters
    ----------
    types
        Of outputs, by name, where the arrays do not tell: BF16.
    classes
        Whether the outputs are classes that were asked for.
    """
    lines = [f"model {answer.model}, version {answer.version}"]
    for name, array in answer.outputs.items():
        lines += _classes(name, array) if classes else _values(_spec(name, array, types), array)
    return "\n".join(lines)


def answer_json(answer: InferAnswer, types: Mapping[str, DataType]) -> dict[str, Any]:
    """Return an answer as `json.dumps` takes it: the JSON of the protocol, but null for what is no number."""
    return {
        "model_name": answer.model,
        "model_version": answer.version,
        "outputs": [_described(_spec(name, array, types), array) for name, array in answer.outputs.items()],
    }


def finite(value: float) -> float | None:
    """Return a number as JSON has it: None for what is none, or infinite."""
    return value if math.isfinite(value) else None


def _spec(name: str, array: Array, types: Mapping[str, DataType]) -> TensorSpec:
    return TensorSpec(name, types.get(name, DataType.of(array.dtype)), array.shape)


def _values(spec: TensorSpec, array: Array) -> Iterator[str]:
    yield str(spec)
    text = np.array2string(
        array,
        max_line_width=_WIDTH,
        threshold=_ALL,
        edgeitems=3 if array.ndim <= 2 else 1,
        precision=6,
        formatter={"object": _element} if array.dtype == np.object_ else None,
    )
    yield from (f"    {line}" for line in text.splitlines())


def _classes(name: str, array: Array) -> Iterator[str]:
    rows = array.reshape(-1, array.shape[-1])
    for number, row in enumerate(rows):
        yield name if len(rows) == 1 else f"{name}, item {number}"
        for score in class_scores(row):
            yield f"    {score.value} ({score.index}){f' = {score.label}' * bool(score.label)}"


def _element(element: Any) -> str:
    text = json.dumps(element[: 4 * _LONG].decode("utf-8", "backslashreplace"), ensure_ascii=False)
    return text if len(text) <= _LONG + 2 else f'{text[: _LONG + 1]}..."'


def _described(spec: TensorSpec, array: Array) -> dict[str, Any]:
    flat = array.ravel().tolist()
    if spec.datatype is DataType.BYTES:
        flat = [element.decode("utf-8", "backslashreplace") for element in flat]
    elif array.dtype.kind == "f":
        flat = [finite(value) for value in flat]
    return {"name": spec.name, "datatype": spec.datatype.value, "shape": list(spec.shape), "data": flat}
