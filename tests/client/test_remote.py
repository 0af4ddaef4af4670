"""RemoteInferenceManager: what is particular to models of a server; the rest is in test_managers.py."""

from __future__ import annotations

import concurrent.futures

import ml_dtypes
import numpy as np
import pytest
from onnx_models import EXAMPLES
from serving_models import SOON, eventually, fill, serving_models

import yais
from yais.client.remote import RemoteInferenceManager
from yais.core.tensor import DataType, TensorSpec
from yais.testing import serving

ROWS = np.arange(32, dtype=np.int32).reshape(2, 1, 16)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with serving_models(EXAMPLES, fill(tmp_path_factory.mktemp("models"))) as running:
        yield running


@pytest.fixture(scope="module")
def manager(server):
    with RemoteInferenceManager(f"127.0.0.1:{server.port}", timeout=SOON) as connected:
        yield connected


def identity(manager, datatype):
    return manager.infer_runner(f"identity_{datatype.lower()}")


def test_what_a_model_takes_and_gives(manager):
    digits = manager.infer_runner("digits")
    assert digits.name == "digits"
    assert digits.input_bindings() == {"image": TensorSpec("image", DataType.FP32, (-1, 1, 8, 8))}
    assert digits.output_bindings() == {"probabilities": TensorSpec("probabilities", DataType.FP32, (-1, 10))}
    assert digits.max_batch_size() == 32
    fixed = manager.infer_runner("fixed", "1")
    assert (fixed.input_bindings()["X"].shape, fixed.max_batch_size()) == ((2, 3), 0)
    assert repr(digits) == (
        "<InferRemoteRunner digits: (image: FP32[-1, 1, 8, 8]) -> (probabilities: FP32[-1, 10])>"
    )


def test_infer(manager):
    simple = manager.infer_runner("simple")
    future = simple.infer(INPUT1=ROWS[1], INPUT0=ROWS[0])
    outputs = future.get(SOON)
    assert list(outputs) == ["OUTPUT0", "OUTPUT1"]
    np.testing.assert_array_equal(outputs["OUTPUT0"], ROWS[0] + ROWS[1])
    np.testing.assert_array_equal(outputs["OUTPUT1"], ROWS[0] - ROWS[1])
    assert outputs["OUTPUT0"].dtype == np.int32


def test_digits_are_recognised(manager):
    with np.load(EXAMPLES / "digits" / "held_out.npz") as file:
        images, labels = file["images"][:32], file["labels"][:32]
    future = manager.infer_runner("digits").infer(image=images[:, None].astype(np.float32))
    found = future.result(SOON)["probabilities"].argmax(axis=1)
    assert np.mean(found == labels) >= 0.9


@pytest.mark.parametrize(
    "datatype", [kind.value for kind in DataType if kind not in {DataType.BYTES, DataType.BF16}]
)
def test_every_type(manager, datatype):
    dtype = DataType(datatype).numpy
    sent = np.array([[0, 1, 1, 0]], dtype)
    got = identity(manager, datatype).infer(X=sent).result(SOON)["Y"]
    assert got.dtype == dtype
    np.testing.assert_array_equal(got, sent)


def test_no_elements(manager):
    assert identity(manager, "FP32").infer(X=np.zeros((3, 0), np.float32)).result(SOON)["Y"].shape == (3, 0)
    assert identity(manager, "BYTES").infer(X=np.empty((1, 0), object)).result(SOON)["Y"].shape == (1, 0)


@pytest.mark.parametrize(
    "sent",
    [
        [[b"a\0", b"\0", b"", b"\xff"]],
        [["ä\0", "", "€", "x" * 1000]],
        np.array([[b"a\0", "ä", b"\xfe", ""]], object),
        np.array([[b"ab", b"cde"]]),
        np.array([["ab", "äöü"]]),
    ],
)
def test_bytes(manager, sent):
    got = identity(manager, "BYTES").infer(X=sent).result(SOON)["Y"]
    expected = [
        text.encode() if isinstance(text, str) else bytes(text) for text in np.ravel(np.asarray(sent, object))
    ]
    assert got.shape == (1, len(expected))
    assert got.ravel().tolist() == expected


@pytest.mark.parametrize(
    "sent",
    [
        [[1.5, -0.0, 3.0e38]],
        np.array([[1, -2]], np.int64),
        np.array([[0.5, 256.0]], ml_dtypes.bfloat16),
        np.array([[0.5]], np.float16),
    ],
)
def test_bf16(manager, sent):
    got = identity(manager, "BF16").infer(X=sent).result(SOON)["Y"]
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, np.asarray(sent).astype(np.float32), rtol=2**-7)
    exact = np.float32(1.00390625)  # is cut, not rounded, to the next below
    assert identity(manager, "BF16").infer(X=[[exact]]).result(SOON)["Y"] == 1.0


def test_what_the_server_refuses(manager):
    future = manager.infer_runner("simple").infer(
        INPUT0=np.zeros((65, 16), int), INPUT1=np.zeros((65, 16), int)
    )
    with pytest.raises(yais.InvalidArgument) as caught:
        future.result(SOON)
    expected = "[request id: <id_unknown>] inference request batch-size must be <= 64 for 'simple'"
    assert str(caught.value) == expected
    with pytest.raises(yais.Internal, match=r"model 'table' failed: .*out of data bounds"):
        manager.infer_runner("table").infer(index=[[99]]).result(SOON)


@pytest.mark.parametrize(
    ("name", "version", "error", "text"),
    [
        ("none", "", yais.NotFound, "Request for unknown model: 'none' is not found"),
        ("simple", "2", yais.NotFound, "Request for unknown model: 'simple' version 2 is not found"),
        (
            "simple",
            "x",
            yais.InvalidArgument,
            "failed to get model version from specified version string 'x'",
        ),
    ],
)
def test_models_that_are_not_there(manager, name, version, error, text):
    with pytest.raises(error) as caught:
        manager.infer_runner(name, version)
    assert str(caught.value).startswith(text)


def test_a_server_that_is_ready(manager):
    assert manager.server_ready() is True


def test_a_server_that_is_not_there():
    with serving_models(EXAMPLES) as server:
        port = server.port
    with RemoteInferenceManager(f"127.0.0.1:{port}", timeout=SOON) as manager:
        assert manager.server_ready() is False
        with pytest.raises(yais.Unavailable, match="refused"):
            manager.infer_runner("simple")


def test_a_server_that_goes_away():
    with serving_models(EXAMPLES) as server:
        manager = RemoteInferenceManager(f"127.0.0.1:{server.port}", timeout=SOON)
        simple = manager.infer_runner("simple")
    with manager, pytest.raises(yais.Unavailable):
        simple.infer(INPUT0=ROWS[0], INPUT1=ROWS[1]).result(SOON)


def test_a_server_of_something_else():
    with serving() as served, RemoteInferenceManager(f"127.0.0.1:{served.port}", timeout=SOON) as manager:
        with pytest.raises(yais.Unimplemented, match="Method not found"):
            manager.infer_runner("simple")
        with pytest.raises(yais.Unimplemented):
            manager.server_ready()


@pytest.mark.parametrize("of", ["request", "manager"])
def test_timeout(server, of):
    with RemoteInferenceManager(
        f"127.0.0.1:{server.port}", timeout=2.0 if of == "manager" else SOON
    ) as manager:
        waiting = manager.infer_runner("waiting")
        late = waiting.infer_with_deadline(0.05, X=[[1.0]]) if of == "request" else waiting.infer(X=[[1.0]])
        with pytest.raises(yais.DeadlineExceeded):
            late.result(SOON)
        empty_the_queue(waiting)


def test_cancel(server, manager):
    waiting = manager.infer_runner("waiting")
    future = waiting.infer_with_deadline(10 * SOON, X=[[1.0]])
    eventually(lambda: server.in_flight)
    assert future.cancel()
    assert future.cancelled()
    with pytest.raises(concurrent.futures.CancelledError):
        future.result(SOON)
    eventually(lambda: not server.in_flight)  # the server was told
    empty_the_queue(waiting)


def test_closing_cancels_what_is_in_flight(server):
    with RemoteInferenceManager(f"127.0.0.1:{server.port}", timeout=SOON) as manager:
        waiting = manager.infer_runner("waiting")
        future = waiting.infer(X=[[1.0]])
        eventually(lambda: server.in_flight)
    with pytest.raises(yais.Cancelled):
        future.result(SOON)
    with RemoteInferenceManager(f"127.0.0.1:{server.port}", timeout=SOON) as manager:
        empty_the_queue(manager.infer_runner("waiting"))


def test_ten_megabytes(manager):
    sent = np.arange(8 * 327_680, dtype=np.float32).reshape(8, -1)
    np.testing.assert_array_equal(identity(manager, "FP32").infer(X=sent).result(SOON)["Y"], sent)


def empty_the_queue(waiting):
    """Let the server notice what is dead: it looks at its queue when something happens there."""
    assert waiting.infer(X=np.ones((8, 1))).result(SOON)["Y"].shape == (8, 1)
