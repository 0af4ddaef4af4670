"""What is in a model, as far as its files say it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from yais.build.plan_record import Layer, Tensor
from yais.build.shape_ranges import Profile

__all__ = ["ModelDescription"]


@dataclass(frozen=True, slots=True)
class ModelDescription:
    """What is in a file.

    Attributes
    ----------
    kind
        "onnx" or "plan".
    title
        The kind for people, with the version.
    facts
        What else is to be said, by name: text, numbers, or lists of text.
    inputs, outputs
        Its tensors; -1 for a dimension of any size.
    profiles
        The shapes that a plan takes, where these are known.
    layers
        Layers of a plan as the builder got them, or the engine has them; operators of ONNX.
    memory
        Bytes by what they are for.
    notes
        What is not said, and why.
    """

    kind: str
    title: str
    facts: Mapping[str, object]
    inputs: tuple[Tensor, ...] = ()
    outputs: tuple[Tensor, ...] = ()
    profiles: tuple[Profile, ...] = ()
    layers: tuple[Layer, ...] = ()
    memory: Mapping[str, int] | None = None
    notes: tuple[str, ...] = ()
