"""Optimization profiles: the shapes that a plan is built for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from yais.errors import InvalidArgument

__all__ = ["DEFAULT_BATCH", "NetworkInput", "Profile", "ShapeRange", "largest_batch", "profiles"]


_MOST = 2**31 - 1  # what optimization profiles hold, though TensorRT's dimensions have 64 bits


@dataclass(frozen=True, slots=True)
class ShapeRange:
    """Shapes of an input.

    Attributes
    ----------
    least, best, most
        Elements in each dimension: the smallest, those that the plan is made fastest for, the largest.
    """

    least: tuple[int, ...]
    best: tuple[int, ...]
    most: tuple[int, ...]

    def __post_init__(self) -> None:
        if not len(self.least) == len(self.best) == len(self.most):
            raise InvalidArgument(f"got the shapes {self}, expected as many dimensions in each")
        ordered = zip(self.least, self.best, self.most, strict=True)
        if not all(0 <= least <= best <= most for least, best, most in ordered):
            raise InvalidArgument(
                f"got the shapes {self}, expected none to be smaller than the one before it"
            )
        if max(self.most, default=0) > _MOST:
            raise InvalidArgument(f"got the shapes {self}, expected at most {_MOST} in a dimension")

    @classmethod
    def parse(cls, text: str) -> ShapeRange:
        """Return the range of "1x3x224x224:4x3x224x224:8x3x224x224".

        Of two shapes the second is both the best and the largest, of one all three.

        Raises
        ------
        InvalidArgument
            It is nothing like that.
        """
        parts = text.split(":")
        sizes = [part.split("x") for part in parts]
        if len(parts) > 3 or not all(size.isascii() and size.isdecimal() for part in sizes for size in part):
            raise InvalidArgument(
                f"got the shapes '{text}', expected one to three of them such as 1x3x224x224:8x3x224x224"
            )
        shapes = [tuple(int(size) for size in part) for part in sizes]
        return cls(shapes[0], shapes[len(shapes) // 2], shapes[-1])

    def __str__(self) -> str:
        return ":".join("x".join(map(str, shape)) for shape in (self.least, self.best, self.most))


Profile = Mapping[str, ShapeRange]
"""The shapes of each input whose shape is not fixed, by name."""

DEFAULT_BATCH = ShapeRange((1,), (8,), (32,))
"""Batches that a plan is built for if nothing is said."""


@dataclass(frozen=True, slots=True)
class NetworkInput:
    """An input of a network: its name, and its shape with -1 where any size will do."""

    name: str
    shape: tuple[int, ...]


def profiles(
    inputs: Sequence[NetworkInput],
    batches: Sequence[ShapeRange] = (),
    shapes: Mapping[str, Sequence[ShapeRange]] | None = None,
) -> tuple[Profile, ...]:
    """Return the profiles to build for; none if every shape is fixed.

    Parameters
    ----------
    inputs
        Of the network.
    batches
        Sizes of the first dimension, of one dimension each: for the inputs in which only that is open.
    shapes
        Shapes of inputs by name, with the batch. Where there are several, here or in `batches`, each makes a
        profile of its own; what is there once is the same in all.

    Raises
    ------
    InvalidArgument
        They do not fit the inputs, or each other, or do not say enough.
    """
    shapes = shapes or {}
    _check_names(inputs, shapes)
    open_inputs = [each for each in inputs if -1 in each.shape]
    if not open_inputs and batches:
        raise InvalidArgument(
            f"got batches, expected none: the shapes of the network are fixed: {_text(inputs)}"
        )
    count = max([len(batches), 1, *map(len, shapes.values())])
    for name, ranges in (("batches", batches), *shapes.items()):
        if len(ranges) not in {0, 1, count}:
            raise InvalidArgument(
                f"got {len(ranges)} ranges for '{name}', expected 1 or {count}, one a profile"
            )
    if not open_inputs:
        return ()
    if batches and all(each.name in shapes for each in open_inputs):
        raise InvalidArgument(
            "got batches, expected none: the shapes that are given for every input have them already"
        )
    made = []
    for number in range(count):
        batch = batches[number % len(batches)] if batches else DEFAULT_BATCH
        made.append(
            {each.name: _range(each, batch, shapes.get(each.name, ()), number) for each in open_inputs}
        )
    return tuple(made)


def largest_batch(inputs: Sequence[NetworkInput], made: Sequence[Profile]) -> int:
    """Return the largest batch that can be served; 0 if the inputs have no batch dimension in common.

    Raises
    ------
    InvalidArgument
        A smaller one is in no profile.
    """
    if not inputs or not made or not all(each.shape and each.shape[0] == -1 for each in inputs):
        return 0
    spans = [
        (max(each.least[0] for each in profile.values()), min(each.most[0] for each in profile.values()))
        for profile in made
    ]
    covered = 0
    for least, most in sorted(spans):
        if least > covered + 1:
            raise InvalidArgument(
                f"no profile takes a batch of {covered + 1}, expected them to take every one from 1 to "
                f"{max(most for _, most in spans)}: a server makes batches of any size"
            )
        covered = max(covered, most)
    return covered


def _range(each: NetworkInput, batch: ShapeRange, ranges: Sequence[ShapeRange], number: int) -> ShapeRange:
    if ranges:
        return ranges[number % len(ranges)]
    if -1 in each.shape[1:]:
        example = "x".join("1" if size < 0 else str(size) for size in each.shape)
        raise InvalidArgument(
            f"input '{each.name}' has dimensions of any size beside the batch: {list(each.shape)}: say its "
            f"shapes, smallest, best and largest (--shape {each.name}={example}:...)"
        )
    rest = each.shape[1:]
    return ShapeRange(batch.least + rest, batch.best + rest, batch.most + rest)


def _check_names(inputs: Sequence[NetworkInput], shapes: Mapping[str, Sequence[ShapeRange]]) -> None:
    known = {each.name: each for each in inputs}
    for name, ranges in shapes.items():
        if name not in known:
            raise InvalidArgument(f"got shapes for the input '{name}', expected one of {', '.join(known)}")
        shape = known[name].shape
        for each in ranges:
            wrong = len(each.most) != len(shape) or any(
                size not in {-1, least} or (size >= 0 and least != most)
                for size, least, most in zip(shape, each.least, each.most, strict=True)
            )
            if wrong:
                raise InvalidArgument(f"got the shapes {each} for '{name}', expected ones like {list(shape)}")


def _text(inputs: Sequence[NetworkInput]) -> str:
    return ", ".join(f"{each.name} {list(each.shape)}" for each in inputs)
