"""Decoding of images. Needs Pillow: pip install 'yais[image]'."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import numpy.typing as npt

from yais.errors import FailedPrecondition, InvalidArgument

Array = npt.NDArray[Any]

SIDE = 8
WHITE = 16.0
MOST_PIXELS = 1 << 24  # a small file may be a very large image


class Model:
    """Makes small grey images of files."""

    def execute(self, inputs: dict[str, Array]) -> dict[str, Array]:
        images = [decoded(encoded) for encoded in inputs["encoded"][:, 0]]
        return {"image": np.stack(images)[:, None]}


def decoded(encoded: bytes) -> Array:
    """Return an image as float32[8, 8], from 0 to 16."""
    try:
        from PIL import Image  # not before there is a request: the model can be loaded without it
    except ImportError:
        raise FailedPrecondition("decoding images needs Pillow: pip install 'yais[image]'") from None
    try:
        with Image.open(io.BytesIO(encoded), formats=["PNG", "JPEG"]) as image:
            if image.width * image.height > MOST_PIXELS:
                raise InvalidArgument(f"got an image of {image.width}x{image.height}, expected a smaller one")
            grey = image.convert("L").resize((SIDE, SIDE), Image.Resampling.BOX)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        raise InvalidArgument(f"got {len(encoded)} bytes, expected a PNG or JPEG file") from None
    return np.asarray(grey, np.float32) * (WHITE / 255)
