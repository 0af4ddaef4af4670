"""Classification by a real server over both protocols: what is asked of models, and what they are sent."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from onnx_models import EXAMPLES, identity, write
from serving_models import SOON, serving_models

from yais.client.classes import ClassScore
from yais.client.classify import ClassifiedBatch, classified
from yais.client.connection import Connection
from yais.client.endpoint import connect
from yais.client.image import Layout
from yais.client.image_model import image_model
from yais.errors import InvalidArgument, NotFound, Unavailable
from yais.serving.http.server import HttpOptions


def write_identity(repository, name, shape, layout, datatype="FP32", batch=0):
    """A model whose scores are the pixels that it is sent."""
    tensor = f"data_type: TYPE_{datatype} dims: {list(shape)}"
    config = f"""
        max_batch_size: {batch}
        input {{ name: "X" {tensor} {f"format: FORMAT_{layout}" if layout else ""} }}
        output {{ name: "Y" {tensor} label_filename: "labels.txt" }}"""
    whole = ("batch", *shape) if batch else shape
    write(repository, name, identity(datatype, whole), config, files={"labels.txt": "first\nsecond:half\n"})


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    repository = tmp_path_factory.mktemp("models")
    write_identity(repository, "row", (1, 1, 4), "NCHW", batch=3)
    write_identity(repository, "pixel", (1, 1, 3), "NHWC")
    write_identity(repository, "integers", (1, 1, 4), "NCHW", "INT32")
    write_identity(repository, "unformatted", (1, 1, 4), "")
    write_identity(repository, "square", (3, 2, 2), "NCHW")
    write_identity(repository, "flow", (2, 1, 1), "NCHW", batch=3)
    with serving_models(EXAMPLES, repository, http=HttpOptions("127.0.0.1", 0)) as running:
        yield running


def endpoint_of(server, protocol):
    port = server.http_port if protocol == "http" else server.port
    return connect(Connection(f"127.0.0.1:{port}", timeout=SOON), protocol)


@pytest.fixture(params=["grpc", "http"])
def endpoint(request, server):
    with endpoint_of(server, request.param) as connected:
        yield connected


@pytest.fixture(params=["grpc", "http", "stream"])
def way(request, server):
    """An endpoint and what carries requests to it."""
    protocol = "http" if request.param == "http" else "grpc"
    with endpoint_of(server, protocol) as connected:
        yield connected, connected.stream_transport() if request.param == "stream" else connected.transport()


def test_a_model_with_batches(endpoint):
    model = image_model(endpoint, "digits")
    assert (model.name, model.version, model.output, model.max_batch_size) == (
        "digits",
        "",
        "probabilities",
        32,
    )
    assert (model.input.spec.name, model.input.spec.shape) == ("image", (1, 8, 8))
    assert (model.input.layout, model.input.channels, model.input.size) == (Layout.NCHW, 1, (8, 8))


def test_a_model_without_batches(endpoint):
    model = image_model(endpoint, "pixel", "1")
    assert (model.version, model.max_batch_size) == ("1", 0)
    assert (model.input.spec.shape, model.input.layout, model.input.channels) == ((1, 1, 3), Layout.NHWC, 3)


@pytest.mark.parametrize(
    ("model", "text"),
    [
        ("simple", "got 2 inputs and 2 outputs for model 'simple', expected one of each"),
        ("integers", "got INT32[1, 1, 4] as output 'Y' of model 'integers', expected a vector of FP32"),
        ("square", "got FP32[3, 2, 2] as output 'Y' of model 'square', expected a vector of FP32"),
        (
            "unformatted",
            (
                "got FORMAT_NONE for input 'X' in the configuration of model 'unformatted', expected "
                "FORMAT_NCHW or FORMAT_NHWC"
            ),
        ),
        ("flow", "got shape [2, 1, 1] for input 'X', expected an image's: [1 or 3, H, W]"),
    ],
)
def test_models_that_do_not_classify_images(endpoint, model, text):
    with pytest.raises(InvalidArgument) as raised:
        image_model(endpoint, model)
    assert str(raised.value) == text


def test_models_that_are_not_there(endpoint):
    with pytest.raises(NotFound, match="'nosuch' is not found"):
        image_model(endpoint, "nosuch")
    with pytest.raises(NotFound, match="version 9 is not found"):
        image_model(endpoint, "row", "9")


def test_a_server_that_is_not_there():
    with serving_models(EXAMPLES, http=HttpOptions("127.0.0.1", 0)) as server:
        ports = {"grpc": server.port, "http": server.http_port}
    for protocol, port in ports.items():
        with (
            connect(Connection(f"127.0.0.1:{port}", timeout=SOON), protocol) as endpoint,
            pytest.raises(Unavailable),
        ):
            image_model(endpoint, "digits")


def row(*levels):
    return np.array([[levels]], np.float32)


def test_the_scores_of_each_image_of_each_batch(way):
    endpoint, transport = way
    model = image_model(endpoint, "row")
    batches = [[row(1, 5, 2, 0), row(7, 6, 8, 9)], [row(3, 2, 1, 0)]]
    found = list(classified(transport, model, batches, classes=2, in_flight=2, timeout=SOON))
    assert found == [
        ClassifiedBatch(
            1,
            [
                [ClassScore("5.000000", 1, "second:half"), ClassScore("2.000000", 2, "")],
                [ClassScore("9.000000", 3, ""), ClassScore("8.000000", 2, "")],
            ],
        ),
        ClassifiedBatch(2, [[ClassScore("3.000000", 0, "first"), ClassScore("2.000000", 1, "second:half")]]),
    ]


def test_without_a_batch_dimension(way):
    endpoint, transport = way
    model = image_model(endpoint, "pixel", "1")
    batches = [[np.array([[[1, 2, 3]]], np.float32)], [np.array([[[6, 5, 4]]], np.float32)]]
    found = list(classified(transport, model, batches, classes=9, timeout=SOON))
    assert [[score.index for score in batch.images[0]] for batch in found] == [[2, 1, 0], [0, 1, 2]]


def test_many_at_once_come_in_order(way):
    endpoint, transport = way
    model = image_model(endpoint, "row")
    batches = ([row(0, number, 0, 0)] for number in range(1, 201))
    found = list(classified(transport, model, batches, in_flight=32, timeout=SOON))
    assert [batch.number for batch in found] == list(range(1, 201))
    assert [batch.images[0][0].value for batch in found] == [f"{number}.000000" for number in range(1, 201)]


@pytest.mark.parametrize(
    ("name", "size", "text"),
    [
        ("row", 4, "got batches of 4 images, but model 'row' takes batches of at most 3"),
        ("pixel", 2, "got batches of 2 images, but model 'pixel' takes no batches"),
    ],
)
def test_batches_that_a_model_does_not_take(way, name, size, text):
    endpoint, transport = way
    model = image_model(endpoint, name)
    image = np.zeros(model.input.spec.shape, np.float32)
    answers = classified(transport, model, [[image] * (size - 1), [image] * size], timeout=SOON)
    assert len(next(answers).images) == size - 1
    with pytest.raises(InvalidArgument) as raised:
        next(answers)
    assert str(raised.value) == text


class Overheard:
    """A transport through which requests are seen and answers are put in place of the server's."""

    def __init__(self, transport, output=None):
        self.transport = transport
        self.output = output
        self.calls = []

    def encode(self, call):
        self.calls.append(call)
        return self.transport.encode(call)

    def send(self, request, done):
        self.transport.send(request, done)

    def answers(self, reply):
        (answer,) = self.transport.answers(reply)
        return (answer if self.output is None else dataclasses.replace(answer, outputs=self.output),)


def test_requests_are_numbered(endpoint):
    transport = Overheard(endpoint.transport())
    model = image_model(endpoint, "row")
    list(classified(transport, model, [[row(1, 2, 3, 4)]] * 3, timeout=SOON))
    assert [call.id for call in transport.calls] == ["1", "2", "3"]


@pytest.mark.parametrize(
    ("outputs", "got"),
    [
        ({}, "none"),
        ({"Z": np.array([[b"1:0"], [b"1:0"]], np.object_)}, "none"),
        ({"Y": np.array([b"1:0", b"2:1", b"3:2"], np.object_)}, "one of shape [3]"),
        ({"Y": np.zeros((2, 0), np.object_)}, "one of shape [2, 0]"),
    ],
)
def test_answers_that_do_not_fit_the_images(endpoint, outputs, got):
    model = image_model(endpoint, "row")
    batches = [[row(1, 2, 3, 4)] * 2]
    with pytest.raises(InvalidArgument) as raised:
        list(classified(Overheard(endpoint.transport(), outputs), model, batches, timeout=SOON))
    expected = f"got {got} as output 'Y' of model 'row', expected classes of 2 images"
    assert str(raised.value) == expected
