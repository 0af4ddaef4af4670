"""What the classification extension answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from yais.errors import InvalidArgument

__all__ = ["ClassScore", "class_scores"]


@dataclass(frozen=True, slots=True)
class ClassScore:
    """A class and its score.

    Attributes
    ----------
    value
        The score as the server wrote it, "0.777365" for example.
    label
        Empty where the model has none.
    """

    value: str
    index: int
    label: str


def class_scores(output: npt.NDArray[Any]) -> list[ClassScore]:
    """Return the classes in an output, best first; those of a batch one item after the other.

    Parameters
    ----------
    output
        BYTES elements "value:index" or "value:index:label", as the server answers an output that
        `WantedOutput.classes` asks for. Labels may contain colons.

    Raises
    ------
    InvalidArgument
        They are no such texts.
    """
    return [_score(element) for element in output.ravel().tolist()]


def _score(element: Any) -> ClassScore:
    text = element.decode(errors="replace") if isinstance(element, bytes) else str(element)
    value, _, rest = text.partition(":")
    index, _, label = rest.partition(":")
    if not value or not index.isdecimal():
        raise InvalidArgument(f"got {text!r} as a class, expected VALUE:INDEX or VALUE:INDEX:LABEL")
    return ClassScore(value, int(index), label)
