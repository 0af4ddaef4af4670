"""The models that read a digit from an image file, as an ensemble and as a pipeline, by Triton's client."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton
from PIL import Image
from tritonclient.utils import InferenceServerException

from yais.serving.server import InferenceServer, ServerOptions

MODELS = Path(__file__).parents[2] / "examples" / "models"
NAMES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
TIMEOUT = 60.0

Array = np.ndarray[Any, Any]

BOTH = pytest.mark.parametrize("model", ["read_digit", "read_digit_pipeline"])


@pytest.fixture(scope="module")
def server() -> Iterator[InferenceServer]:
    options = ServerOptions((MODELS,), grpc_address="127.0.0.1", grpc_port=0, metrics_port=None)
    with InferenceServer(options) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: InferenceServer) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(f"127.0.0.1:{server.port}") as connected:
        yield connected


def held_out(count: int) -> tuple[Array, Array]:
    with np.load(MODELS / "digits" / "held_out.npz") as file:
        return file["images"][:count], file["labels"][:count]


def encoded(image: Array, kind: str = "PNG", side: int = 8) -> bytes:
    """A digit, grey from 0 to 16, as a file of a picture."""
    picture = Image.fromarray((image * (255 / 16)).round().astype(np.uint8))
    file = io.BytesIO()
    picture.resize((side, side), Image.Resampling.NEAREST).save(file, kind)
    return file.getvalue()


def infer(client: triton.InferenceServerClient, model: str, files: list[bytes], *outputs: str) -> Any:
    given = triton.InferInput("encoded", [len(files), 1], "BYTES")
    given.set_data_from_numpy(np.array(files, np.object_)[:, None])
    wanted = [triton.InferRequestedOutput(name) for name in outputs] or None
    return client.infer(model, [given], outputs=wanted, client_timeout=TIMEOUT, request_id="one")


def labels(result: Any) -> list[str]:
    return [element.decode() for element in result.as_numpy("label")[:, 0]]


@BOTH
@pytest.mark.parametrize(("kind", "side"), [("PNG", 8), ("PNG", 64), ("JPEG", 64)])
def test_digits_are_read(client: triton.InferenceServerClient, model: str, kind: str, side: int) -> None:
    images, digits = held_out(96)
    found: list[str] = []
    for start in range(0, len(images), 32):
        files = [encoded(image, kind, side) for image in images[start : start + 32]]
        result = infer(client, model, files)
        probabilities = result.as_numpy("probabilities")
        assert [NAMES[row.argmax()] for row in probabilities] == labels(result)
        found += labels(result)
    expected = [NAMES[digit] for digit in digits]
    right = sum(one == other for one, other in zip(found, expected, strict=True))
    assert right >= 0.95 * len(expected)


def test_both_answer_as_the_model_alone(client: triton.InferenceServerClient) -> None:
    images, _ = held_out(8)
    given = triton.InferInput("image", [8, 1, 8, 8], "FP32")
    pixels = np.stack([np.asarray(Image.open(io.BytesIO(encoded(image))), np.float32) for image in images])
    given.set_data_from_numpy(pixels[:, None] * np.float32(16 / 255))
    alone = client.infer("digits", [given], client_timeout=TIMEOUT).as_numpy("probabilities")
    for model in ("read_digit", "read_digit_pipeline"):
        result = infer(client, model, [encoded(image) for image in images])
        np.testing.assert_allclose(result.as_numpy("probabilities"), alone, rtol=1e-4, atol=1e-6)


@BOTH
def test_one_output_is_asked_for(client: triton.InferenceServerClient, model: str) -> None:
    images, _ = held_out(1)
    result = infer(client, model, [encoded(images[0])], "label")
    response = result.get_response()
    assert [output.name for output in response.outputs] == ["label"]
    assert (response.model_name, response.model_version, response.id) == (model, "1", "one")


@pytest.mark.parametrize(
    ("model", "text"),
    [
        ("read_digit", "in ensemble 'read_digit', model 'decode': got 5 bytes, expected a PNG or JPEG file"),
        ("read_digit_pipeline", "got 5 bytes, expected a PNG or JPEG file"),
    ],
)
def test_what_is_no_image(client: triton.InferenceServerClient, model: str, text: str) -> None:
    with pytest.raises(InferenceServerException) as caught:
        infer(client, model, [b"image"])
    assert caught.value.status() == "StatusCode.INVALID_ARGUMENT"
    assert str(caught.value.message()).startswith(text)


def test_statistics_are_the_ensembles_and_its_models(client: triton.InferenceServerClient) -> None:
    images, _ = held_out(4)
    names = ("read_digit", "decode", "digits", "label")

    def counted() -> dict[str, tuple[int, int]]:
        every = {name: client.get_inference_statistics(name).model_stats[0] for name in names}
        return {
            name: (stats.inference_count, stats.inference_stats.success.count)
            for name, stats in every.items()
        }

    before = counted()
    infer(client, "read_digit", [encoded(image) for image in images])
    after = counted()
    for name in names:
        assert [b - a for a, b in zip(before[name], after[name], strict=True)] == [4, 1]


def test_the_configuration_of_the_ensemble(client: triton.InferenceServerClient) -> None:
    config = client.get_model_config("read_digit").config
    assert [step.model_name for step in config.ensemble_scheduling.step] == ["decode", "digits", "label"]
    metadata = client.get_model_metadata("read_digit")
    assert [(tensor.name, tensor.datatype, list(tensor.shape)) for tensor in metadata.inputs] == [
        ("encoded", "BYTES", [-1, 1])
    ]
