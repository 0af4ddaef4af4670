"""Images as inputs of models that classify them. Needs Pillow: pip install 'yais[image]'.

What is done to the pixels is what Triton's `image_client` does (kserve-v2.md, section 5).
"""

from __future__ import annotations

import enum
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import numpy.typing as npt

from yais.core.arrays import converted
from yais.core.tensor import DataType, TensorSpec
from yais.errors import FailedPrecondition, InvalidArgument

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["ImageInput", "Layout", "Scaling", "decode_image", "preprocess", "read_image"]

Array = npt.NDArray[Any]

# Mean red, green and blue of ImageNet, and the middle of grey, as image_client takes them away.
_MEANS = {1: (128,), 3: (123, 117, 104)}


class Scaling(enum.Enum):
    """What becomes of pixels, which are whole numbers from 0 to 255."""

    NONE = "NONE"
    """They stay."""
    INCEPTION = "INCEPTION"
    """They go from -1 to 1."""
    VGG = "VGG"
    """The mean colour of ImageNet is taken away; of grey, 128."""


class Layout(enum.Enum):
    """Where an image's channels are, by the names of model configurations."""

    NCHW = "FORMAT_NCHW"
    NHWC = "FORMAT_NHWC"


@dataclass(frozen=True, slots=True)
class ImageInput:
    """An input that takes images.

    Attributes
    ----------
    spec
        Of one image, without a batch dimension: [C, H, W] or [H, W, C], all fixed, with C 1 (grey) or 3
        (red, green, blue).
    layout
        Which of the two.

    Raises
    ------
    InvalidArgument
        Images have no such shape.
    """

    spec: TensorSpec
    layout: Layout

    def __post_init__(self) -> None:
        shape = self.spec.shape
        if len(shape) != 3 or min(shape) < 1 or self.channels not in _MEANS:
            letters = "1 or 3, H, W" if self.layout is Layout.NCHW else "H, W, 1 or 3"
            raise InvalidArgument(
                f"got shape {list(shape)} for input '{self.spec.name}', expected an image's: [{letters}]"
            )

    @property
    def channels(self) -> int:
        """1 for grey, 3 for colours."""
        return self.spec.shape[0 if self.layout is Layout.NCHW else 2]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height, pixels."""
        start = 1 if self.layout is Layout.NCHW else 0
        height, width = self.spec.shape[start : start + 2]
        return width, height


def read_image(path: Path) -> Image.Image:
    """Return the image in a file, of any format that Pillow reads.

    Raises
    ------
    InvalidArgument
        There is none, or more of it than Pillow takes for an honest one.
    FailedPrecondition
        Pillow is not installed.
    """
    return _decoded(path, str(path))


def decode_image(
    encoded: bytes, *, formats: Sequence[str] = ("JPEG", "PNG"), most_pixels: int = 1 << 24
) -> Image.Image:
    """Return an image that somebody has sent. Lets go of the interpreter while it decodes.

    Parameters
    ----------
    formats
        By Pillow's names.
    most_pixels
        How many it may have: a small file may be a very large image.

    Raises
    ------
    InvalidArgument
        It is none of these formats, broken, or too large.
    FailedPrecondition
        Pillow is not installed.
    """
    got = f"{len(encoded)} bytes"
    return _decoded(io.BytesIO(encoded), got, formats=formats, most_pixels=most_pixels)


def _decoded(
    source: Path | BinaryIO,
    got: str,
    *,
    formats: Sequence[str] | None = None,
    most_pixels: int | None = None,
) -> Image.Image:
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError:
        raise FailedPrecondition("reading images needs Pillow: pip install 'yais[image]'") from None
    try:
        # A file is opened here, so that it is closed whatever ends this, Ctrl-C too.
        file = source.open("rb") if isinstance(source, Path) else source
        with file, Image.open(file, formats=None if formats is None else tuple(formats)) as image:
            if most_pixels is not None and image.width * image.height > most_pixels:
                size = f"{image.width}x{image.height} pixels"
                raise InvalidArgument(f"got an image of {size}, expected at most {most_pixels} of them")
            image.load()
            return image
    except UnidentifiedImageError:
        expected = "an image: its format is none that Pillow reads"
        if formats is not None:
            expected = f"an image, {' or '.join(formats)}"
        raise InvalidArgument(f"got {got}, expected {expected}") from None
    # The warning, of images not quite as large, is an error where warnings are.
    except (
        OSError,
        SyntaxError,
        ValueError,
        Image.DecompressionBombError,
        Image.DecompressionBombWarning,
    ) as error:
        raise InvalidArgument(f"got {got}, expected an image: {error}") from None


def preprocess(
    image: Image.Image, wanted: ImageInput, scaling: Scaling = Scaling.NONE, *, out: memoryview | None = None
) -> Array:
    """Return an image as a model takes it: made grey or colour, resized (bilinear), scaled.

    Parameters
    ----------
    out
        Where to write it, as many bytes as it has, in shared memory for example; by default to new memory.

    Returns
    -------
    Array
        Of `wanted.spec`'s shape and of its datatype's numpy type, contiguous.

    Raises
    ------
    InvalidArgument
        The input's type cannot hold the pixels, INT8 for instance, or scaled ones. Or `out` has another size.
    """
    from PIL.Image import Resampling

    coloured = _of_eight_bits(image).convert("L" if wanted.channels == 1 else "RGB")
    resized = np.asarray(coloured.resize(wanted.size, Resampling.BILINEAR))
    pixels = resized.reshape(*resized.shape[:2], wanted.channels)
    scaled = _scaled(pixels, wanted, scaling)
    arranged = scaled.transpose(2, 0, 1) if wanted.layout is Layout.NCHW else scaled
    return converted(arranged, wanted.spec) if out is None else _written(arranged, wanted.spec, out)


def _written(array: Array, spec: TensorSpec, out: memoryview) -> Array:
    """Write an array to memory, as a tensor's type; return it there."""
    dtype = spec.datatype.numpy
    if out.nbytes != array.size * dtype.itemsize:
        got = f"{out.nbytes} bytes for input '{spec.name}'"
        raise InvalidArgument(f"got {got}, expected {array.size * dtype.itemsize}")
    there: Array = np.frombuffer(out, dtype).reshape(array.shape)
    # In one step where every value fits; BF16, which is held as bits, is none that numpy converts to.
    direct = spec.datatype is not DataType.BF16 and np.can_cast(array.dtype, dtype, "safe")
    np.copyto(there, array if direct else converted(array, spec))
    return there


def _of_eight_bits(image: Image.Image) -> Image.Image:
    """Return an image that Pillow converts to grey or colour as it looks."""
    if image.mode.startswith("I;16") or (image.mode, image.format) == ("I", "PNG"):
        from PIL.Image import fromarray

        # Of 16 bits; Pillow would cut all above 255 off.
        return fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode == "P" and "transparency" in image.info:  # Pillow warns of what it drops
        return image.convert("RGBA")
    return image


def _scaled(pixels: Array, wanted: ImageInput, scaling: Scaling) -> Array:
    if scaling is Scaling.NONE:
        return pixels
    typed = pixels.astype(_working_type(wanted.spec.datatype))
    if scaling is Scaling.INCEPTION:
        typed = typed / 127.5 - 1
    else:
        typed -= np.asarray(_MEANS[wanted.channels], typed.dtype)
    return typed


def _working_type(datatype: DataType) -> np.dtype[Any]:
    # That of the model, as image_client does, so that FP16 rounds alike. BF16, which numpy lacks, is cut from
    # float32 at the end, and whole numbers are kept from overflowing.
    if datatype.numpy.kind == "f":
        return datatype.numpy
    return np.dtype(np.float32 if datatype is DataType.BF16 else np.int64)
