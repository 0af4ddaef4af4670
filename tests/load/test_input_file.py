"""Files for a model's one input."""

from __future__ import annotations

import numpy as np
import pytest
from model_takes import array_of, taking
from PIL import Image

from yais.client.image import Scaling
from yais.errors import InvalidArgument
from yais.load.input_file import read_input_file
from yais.load.inputs import from_arrays


@pytest.fixture
def picture(tmp_path):
    """A red picture, 4 wide and 2 high, whose upper left pixel is blue."""
    image = Image.new("RGB", (4, 2), (255, 0, 0))
    image.putpixel((0, 0), (0, 0, 255))
    image.save(tmp_path / "a.png")
    return tmp_path / "a.png"


RED = [[0, 255, 255, 255], [255, 255, 255, 255]]


@pytest.mark.parametrize(
    ("shape", "said", "axis"),
    [
        ((3, 2, 4), "FORMAT_NCHW", 0),
        ((3, 2, 4), "FORMAT_NONE", 0),
        ((2, 4, 3), "FORMAT_NHWC", 2),
        ((2, 4, 3), "FORMAT_NONE", 2),
    ],
)
def test_images_are_laid_out_as_the_model_wants_them(picture, shape, said, axis):
    model = taking(("x", "UINT8", shape), batch=2, x={"format": said})
    (tensor,) = from_arrays(model, read_input_file(picture, model))
    (image,) = array_of(tensor)
    red, green, blue = np.moveaxis(image, axis, 0)
    assert red.tolist() == RED
    assert (green == 0).all() and (blue == 255 - np.array(RED)).all()


def test_the_configuration_decides_where_the_shape_does_not(picture):
    channels = {}
    for said in ("FORMAT_NCHW", "FORMAT_NHWC"):
        model = taking(("x", "UINT8", (3, 3, 3)), x={"format": said})
        channels[said] = read_input_file(picture, model)["x"]
    np.testing.assert_array_equal(channels["FORMAT_NCHW"], channels["FORMAT_NHWC"].transpose(2, 0, 1))
    assert not np.array_equal(channels["FORMAT_NCHW"], channels["FORMAT_NHWC"])


def test_images_are_scaled(picture):
    model = taking(("x", "FP32", (3, 2, 4)))
    (red, _, _) = read_input_file(picture, model, Scaling.INCEPTION)["x"]
    np.testing.assert_allclose(red, np.array(RED) / 127.5 - 1)


def test_arrays_and_anything(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(3.0))
    model = taking(("x", "FP64", (3,)))
    assert read_input_file(tmp_path / "a.npy", model)["x"].tolist() == [0, 1, 2]
    (tmp_path / "a.bin").write_bytes(b"\0\1")
    texts = taking(("x", "BYTES", (1, 1)), batch=2)
    (tensor,) = from_arrays(texts, read_input_file(tmp_path / "a.bin", texts))
    assert array_of(tensor).tolist() == [[[b"\0\1"]]]


@pytest.mark.parametrize(
    ("specs", "text"),
    [
        (
            [("x", "FP32", (1,)), ("y", "FP32", (1,))],
            "got a file for model 'm', expected values for each of x, y",
        ),
        ([("x", "FP32", (2, 4, 4))], "got shape [2, 4, 4] for input 'x', expected an image's: "),
        ([("x", "FP32", (-1, -1, 3))], "got shape [-1, -1, 3] for input 'x', expected an image's: "),
    ],
)
def test_models_that_take_no_images(picture, specs, text):
    with pytest.raises(InvalidArgument) as caught:
        read_input_file(picture, taking(*specs))
    assert str(caught.value).startswith(text)
