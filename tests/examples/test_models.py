"""The example models compute what they say, and their generators belong to them."""

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import onnxruntime
import pytest

MODELS = Path(__file__).parents[2] / "examples" / "models"

Loader = Callable[[str], ModuleType]


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Loader:
    # No __pycache__ in the model repository.
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def from_path(path: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(Path(path).stem, MODELS / path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return from_path


def session(name: str) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(
        MODELS / name / "1" / "model.onnx", providers=["CPUExecutionProvider"]
    )


def held_out() -> tuple[np.ndarray, np.ndarray]:
    with np.load(MODELS / "digits" / "held_out.npz") as file:
        return file["images"], file["labels"]


def signature(values: list[onnxruntime.NodeArg]) -> list[tuple[str, str, list[str | int]]]:
    return [(value.name, value.type, value.shape) for value in values]


@pytest.mark.parametrize("name", ["simple", "digits"])
def test_the_model_is_one_small_valid_file_that_old_runtimes_read(name):
    path = MODELS / name / "1" / "model.onnx"
    assert [file.name for file in path.parent.iterdir()] == ["model.onnx"]
    assert path.stat().st_size < 1_000_000
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert model.ir_version <= 10
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 17)]


@pytest.mark.parametrize("batch", [1, 7, 64])
def test_simple_adds_and_subtracts(batch):
    simple = session("simple")
    row = ("tensor(int32)", ["batch", 16])
    assert signature(simple.get_inputs()) == [("INPUT0", *row), ("INPUT1", *row)]
    assert signature(simple.get_outputs()) == [("OUTPUT0", *row), ("OUTPUT1", *row)]
    random = np.random.default_rng(batch)
    a, b = random.integers(-(2**30), 2**30, (2, batch, 16), dtype=np.int32)
    total, difference = simple.run(["OUTPUT0", "OUTPUT1"], {"INPUT0": a, "INPUT1": b})
    np.testing.assert_array_equal(total, a + b)
    np.testing.assert_array_equal(difference, a - b)


def test_the_generator_of_simple_reproduces_the_file(load, tmp_path):
    generator = load("simple/generate.py")
    generator.main(tmp_path)
    written = tmp_path / "1" / "model.onnx"
    first = written.read_bytes()
    generator.main(tmp_path)
    assert written.read_bytes() == first
    assert onnx.load(written) == onnx.load(MODELS / "simple" / "1" / "model.onnx")


def test_digits_recognises_the_held_out_images():
    digits = session("digits")
    assert signature(digits.get_inputs()) == [("image", "tensor(float)", ["batch", 1, 8, 8])]
    assert signature(digits.get_outputs()) == [("probabilities", "tensor(float)", ["batch", 10])]
    images, labels = held_out()
    (probabilities,) = digits.run(None, {"image": images[:, None].astype(np.float32)})
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    assert np.mean(probabilities.argmax(axis=1) == labels) >= 0.97


def test_digits_answers_alike_alone_and_in_a_batch():
    digits = session("digits")
    images = held_out()[0][:32, None].astype(np.float32)
    (together,) = digits.run(None, {"image": images})
    alone = [digits.run(None, {"image": image[None]})[0][0] for image in images]
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-6)


def test_digits_has_a_label_for_each_output():
    labels = (MODELS / "digits" / "labels.txt").read_text().splitlines()
    assert labels == ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


def test_the_held_out_images_are_no_training_images(load):
    split = load("digits/train.py").split()
    assert set(split.train).isdisjoint(split.held_out)
    assert len(split.train) + len(split.held_out) == len(split.images)
    images, labels = held_out()
    assert (images.dtype, labels.dtype) == (np.uint8, np.uint8)
    np.testing.assert_array_equal(images, split.images[split.held_out])
    np.testing.assert_array_equal(labels, split.labels[split.held_out])
    # No image stands twice in the data, so that the pictures can be compared as well as their places.
    seen = {image.tobytes() for image in split.images[split.train]}
    assert not any(image.tobytes() in seen for image in images)
    assert (MODELS / "digits" / "held_out.npz").stat().st_size < 50_000
