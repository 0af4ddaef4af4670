"""Images as inputs: the same numbers that Triton's image_client sends."""

from __future__ import annotations

import io
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from yais.client.image import ImageInput, Layout, Scaling, decode_image, preprocess, read_image
from yais.core.arrays import bf16_to_float32
from yais.core.tensor import DataType, TensorSpec
from yais.errors import FailedPrecondition, InvalidArgument

FLOATS = ["FP16", "FP32", "FP64"]
WHOLE = ["UINT8", "UINT16", "INT16", "INT32", "INT64"]


def image_input(channels=3, width=2, height=1, layout=Layout.NCHW, datatype="FP32"):
    shape = (channels, height, width) if layout is Layout.NCHW else (height, width, channels)
    return ImageInput(TensorSpec("image", DataType(datatype), shape), layout)


def picture(mode="RGB", width=2, height=1, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 4), np.uint8)
    return Image.fromarray(pixels, "RGBA").convert(mode) if mode != "RGBA" else Image.fromarray(pixels)


def as_image_client(img, layout, npdtype, c, h, w, scaling):
    """What Triton's image_client.py does, line by line."""
    sample_img = img.convert("L") if c == 1 else img.convert("RGB")
    resized_img = sample_img.resize((w, h), Image.BILINEAR)
    resized = np.array(resized_img)
    if resized.ndim == 2:
        resized = resized[:, :, np.newaxis]
    typed = resized.astype(npdtype)
    if scaling == "INCEPTION":
        scaled = (typed / 127.5) - 1
    elif scaling == "VGG":
        if c == 1:
            scaled = typed - np.asarray((128,), dtype=npdtype)
        else:
            scaled = typed - np.asarray((123, 117, 104), dtype=npdtype)
    else:
        scaled = typed
    return np.transpose(scaled, (2, 0, 1)) if layout == "FORMAT_NCHW" else scaled


@given(
    mode=st.sampled_from(["L", "RGB", "RGBA", "P", "CMYK", "1"]),
    given_size=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    size=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    channels=st.sampled_from([1, 3]),
    layout=st.sampled_from(Layout),
    datatype_and_scaling=st.one_of(
        st.tuples(st.sampled_from(FLOATS), st.sampled_from(Scaling)),
        st.tuples(st.sampled_from(["INT16", "INT32", "INT64"]), st.sampled_from([Scaling.NONE, Scaling.VGG])),
        st.tuples(st.sampled_from(WHOLE), st.just(Scaling.NONE)),
    ),
    seed=st.integers(0, 99),
)
def test_the_numbers_are_those_of_image_client(
    mode, given_size, size, channels, layout, datatype_and_scaling, seed
):
    datatype, scaling = datatype_and_scaling
    image = picture(mode, *given_size, seed)
    array = preprocess(image, image_input(channels, *size, layout, datatype), scaling)
    dtype = DataType(datatype).numpy
    expected = as_image_client(image, layout.value, dtype, channels, size[1], size[0], scaling.value)
    assert array.dtype == expected.dtype == dtype
    np.testing.assert_array_equal(array, expected)
    assert array.flags.c_contiguous
    place = bytearray(array.nbytes + 1)
    there = preprocess(
        image,
        image_input(channels, *size, layout, datatype),
        scaling,
        out=memoryview(place)[: array.nbytes],
    )
    np.testing.assert_array_equal(there, array)
    assert place == array.tobytes() + b"\0"


def test_numbers_by_hand():
    image = Image.new("RGB", (2, 1))
    image.putpixel((0, 0), (0, 51, 255))
    image.putpixel((1, 0), (123, 117, 104))
    assert preprocess(image, image_input()).tolist() == [[[0, 123]], [[51, 117]], [[255, 104]]]
    planes = image_input(layout=Layout.NHWC)
    assert preprocess(image, planes).tolist() == [[[0, 51, 255], [123, 117, 104]]]
    assert preprocess(image, planes, Scaling.VGG).tolist() == [[[-123, -66, 151], [0, 0, 0]]]
    scaled = preprocess(image, planes, Scaling.INCEPTION)
    np.testing.assert_allclose(scaled[0, 0], [-1, -0.6, 1], rtol=1e-6)
    grey = Image.new("L", (2, 1), 28)
    assert preprocess(grey, image_input(1), Scaling.VGG).tolist() == [[[-100, -100]]]


def test_a_size_that_differs_both_ways():
    wide = image_input(1, width=4, height=2)
    assert wide.size == (4, 2)
    assert preprocess(Image.new("L", (3, 3), 7), wide).tolist() == [[[7] * 4] * 2]


def test_bf16_is_cut_from_float32():
    array = preprocess(Image.new("L", (1, 1), 255), image_input(1, 1, 1, datatype="BF16"), Scaling.INCEPTION)
    assert array.dtype == np.uint16
    assert bf16_to_float32(array).tolist() == [[[1.0]]]


@pytest.mark.parametrize(("datatype", "level"), [("BF16", 77), ("INT8", 77)])
def test_types_that_need_a_look_are_written_in_place_too(datatype, level):
    place = bytearray(1 if datatype == "INT8" else 2)
    image, wanted = Image.new("L", (1, 1), level), image_input(1, 1, 1, datatype=datatype)
    preprocess(image, wanted, out=memoryview(place))
    assert place == preprocess(image, wanted).tobytes()


def test_a_place_of_another_size():
    with pytest.raises(InvalidArgument, match=r"^got 3 bytes for input 'image', expected 4$"):
        preprocess(Image.new("L", (1, 1)), image_input(1, 1, 1), out=memoryview(bytearray(3)))


def encoded(image, kind="PNG"):
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_images_that_somebody_sends(kind):
    image = decode_image(encoded(Image.new("L", (3, 2), 255), kind))
    assert (image.size, image.getpixel((1, 1))) == ((3, 2), 255)


@pytest.mark.parametrize(
    ("sent", "text"),
    [
        (b"no picture", "got 10 bytes, expected an image, JPEG or PNG"),
        (encoded(Image.new("L", (3, 2)), "GIF"), "bytes, expected an image, JPEG or PNG"),
        (encoded(picture(width=50, height=50))[:500], "got 500 bytes, expected an image: "),
        (encoded(Image.new("L", (101, 100))), "got an image of 101x100 pixels, expected at most 10000 of"),
    ],
    ids=["none", "another format", "cut", "large"],
)
def test_what_somebody_sends_that_is_none(sent, text):
    with pytest.raises(InvalidArgument, match=text):
        decode_image(sent, most_pixels=10_000)


@pytest.mark.parametrize(
    ("datatype", "scaling", "text"),
    [
        ("INT8", "NONE", r"got values from 255 to 255 for input 'image', which INT8 cannot hold"),
        ("UINT8", "VGG", r"got values from -128 to -128 for input 'image', which UINT8 cannot hold"),
        ("INT32", "INCEPTION", r"got an array of float64 for input 'image', expected INT32"),
        ("BOOL", "NONE", r"got an array of uint8 for input 'image', expected BOOL"),
        ("BYTES", "NONE", r"for input 'image', expected bytes or text"),
    ],
)
def test_types_that_cannot_hold_pixels(datatype, scaling, text):
    level = 0 if scaling == "VGG" else 255
    with pytest.raises(InvalidArgument, match=text):
        preprocess(Image.new("L", (1, 1), level), image_input(1, 1, 1, datatype=datatype), Scaling(scaling))


@pytest.mark.parametrize(
    ("shape", "layout"),
    [
        ((8, 8), "NCHW"),
        ((1, 1, 8, 8), "NCHW"),
        ((8, 8, 3), "NCHW"),
        ((3, 8, 8), "NHWC"),
        ((4, 8, 8), "NCHW"),
        ((2, 8, 8), "NCHW"),
        ((3, -1, 8), "NCHW"),
        ((8, -1, 3), "NHWC"),
        ((3, 0, 8), "NCHW"),
        ((-1, 8, 8), "NCHW"),
        ((), "NHWC"),
    ],
)
def test_shapes_that_no_image_has(shape, layout):
    with pytest.raises(InvalidArgument) as raised:
        ImageInput(TensorSpec("image", DataType.FP32, shape), Layout[layout])
    letters = {"NCHW": "[1 or 3, H, W]", "NHWC": "[H, W, 1 or 3]"}[layout]
    assert str(raised.value) == f"got shape {list(shape)} for input 'image', expected an image's: {letters}"


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP"])
def test_files_of_many_formats(tmp_path, kind):
    path = tmp_path / "picture"  # the contents count, not the name
    Image.new("L", (3, 2), 255).save(path, kind)
    image = read_image(path)
    assert (image.size, image.convert("L").getpixel((1, 1))) == ((3, 2), 255)


def test_files_that_are_no_images(tmp_path):
    text = tmp_path / "text.png"
    text.write_text("not a picture")
    cut = tmp_path / "cut.png"
    picture(width=50, height=50).save(cut)
    cut.write_bytes(cut.read_bytes()[:500])
    for path in (text, cut, tmp_path / "missing.png", tmp_path):
        with pytest.raises(InvalidArgument, match=f"^got {path}, expected an image: "):
            read_image(path)


@pytest.mark.parametrize("most", [10, 800], ids=["much", "a little"])
def test_a_picture_too_large_to_be_honest(tmp_path, monkeypatch, most):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", most)
    path = tmp_path / "large.png"
    Image.new("L", (30, 30)).save(path)
    with pytest.raises(InvalidArgument, match=r"expected an image: .*900 pixels"):
        read_image(path)


def test_without_pillow_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(FailedPrecondition, match=r"needs Pillow: pip install 'yais\[image\]'$"):
        read_image(tmp_path / "any.png")


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_pixels_of_16_bits_keep_their_brightness(tmp_path, kind):
    path = tmp_path / "deep"
    Image.fromarray(np.array([[0, 255, 256, 32768, 65535]], np.uint16)).save(path, kind)
    row = preprocess(read_image(path), image_input(1, 5, 1))
    assert row.tolist() == [[[0, 0, 1, 128, 255]]]


def test_palettes_with_transparency(tmp_path):
    image = Image.new("P", (2, 1))
    image.putpalette([200, 10, 20] * 256)
    image.save(tmp_path / "a.png", transparency=bytes([0, 128]))
    assert preprocess(read_image(tmp_path / "a.png"), image_input(layout=Layout.NHWC)).tolist() == [
        [[200, 10, 20]] * 2
    ]
