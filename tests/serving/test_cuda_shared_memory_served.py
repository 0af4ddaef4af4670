"""CUDA shared memory over gRPC and HTTP; the GPU is a fake, and so is the client's process on it."""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator
from contextlib import ExitStack

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.http as triton_http
from many_threads import in_threads
from onnx_models import EXAMPLES, identity, write
from serving_models import SOON, Wire, eventually, infer_request, one_process, serving_models
from shared_files import identity_request, place, shared_file
from tritonclient.utils import InferenceServerException

from yais.errors import Unavailable
from yais.protocol import kserve_pb2 as pb
from yais.protocol.tensor_codec import encode_bytes
from yais.serving.http.options import HttpOptions
from yais.testing.cuda import FakeCuda

pytestmark = one_process

INTERNAL = grpc.StatusCode.INTERNAL
INVALID_ARGUMENT = grpc.StatusCode.INVALID_ARGUMENT
NOT_FOUND = grpc.StatusCode.NOT_FOUND

SIZE = 1000
FLOATS = np.array([0.0, -0.0, np.inf, np.nan, 1e-45, 3.5, 2, 1], np.float32)


@pytest.fixture(scope="module")
def cuda() -> Iterator[FakeCuda]:
    """The server's."""
    with FakeCuda() as fake:
        yield fake


@pytest.fixture(scope="module")
def server(cuda, model_repository):
    http = HttpOptions(address="127.0.0.1", port=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("yais.serving.cuda_shared_memory.cuda_device", cuda.device)
        with serving_models(EXAMPLES, model_repository, http=http) as running:
            yield running
        assert "ipc" not in cuda.held


@pytest.fixture(scope="module")
def wire(server):
    with Wire(server.port) as connected:
        yield connected


@pytest.fixture
def client(server):
    with triton.InferenceServerClient(f"127.0.0.1:{server.port}") as connected:
        yield connected
        connected.unregister_cuda_shared_memory(client_timeout=SOON)
        connected.unregister_system_shared_memory(client_timeout=SOON)


class Region:
    """Memory on the GPU of another process, registered as `mine`; `handle` is what Triton's clients give."""

    def __init__(self, others: FakeCuda) -> None:
        self.others = others
        self.memory = others.device().memory().allocate(SIZE)
        self.handle = base64.b64encode(others.device().export(self.memory))
        self.write(bytes(SIZE))

    def write(self, contents: bytes, offset: int = 0) -> None:
        self.others.view(self.memory.handle + offset, len(contents))[:] = contents

    def read(self, offset: int = 0, size: int = SIZE) -> bytes:
        return bytes(self.others.view(self.memory.handle + offset, size))


@pytest.fixture
def others() -> Iterator[FakeCuda]:
    with FakeCuda() as fake:
        yield fake


@pytest.fixture
def region(others, client):
    made = Region(others)
    client.register_cuda_shared_memory("mine", made.handle, 0, SIZE, client_timeout=SOON)
    yield made
    client.unregister_cuda_shared_memory(client_timeout=SOON)
    made.memory.close()


# --- Regions ---------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("region")
def test_status_says_what_was_registered(client):
    regions = client.get_cuda_shared_memory_status("mine", client_timeout=SOON, as_json=True)["regions"]
    assert regions == {"mine": {"name": "mine", "byte_size": "1000"}}  # JSON leaves zeros out
    assert client.get_cuda_shared_memory_status(client_timeout=SOON).regions["mine"].device_id == 0


def test_a_name_is_of_one_kind(client, region):
    with shared_file(100) as path:
        client.register_system_shared_memory("theirs", path.name, 100, client_timeout=SOON)
        for call, text in [
            (
                lambda: client.register_system_shared_memory("mine", path.name, 100),
                "shared memory region 'mine' already in manager",
            ),
            (
                lambda: client.register_cuda_shared_memory("theirs", region.handle, 0, 8),
                "shared memory region 'theirs' already in manager",
            ),
            (
                lambda: client.register_cuda_shared_memory("mine", region.handle, 0, 8),
                "shared memory region 'mine' already in manager",
            ),
            (
                lambda: client.get_system_shared_memory_status("mine"),
                "The region named 'mine' is registered as CUDA shared memory, not system shared memory",
            ),
            (
                lambda: client.get_cuda_shared_memory_status("theirs"),
                "The region named 'theirs' is registered as system shared memory, not CUDA shared memory",
            ),
        ]:
            with pytest.raises(InferenceServerException) as caught:
                call()
            assert caught.value.message() == text
        client.unregister_system_shared_memory("mine")  # none of its kind
        assert client.get_cuda_shared_memory_status("mine").regions


def test_handles_that_do_not_open(client):
    with pytest.raises(InferenceServerException) as caught:
        client.register_cuda_shared_memory("new", base64.b64encode(bytes(64)), 0, 8)
    assert caught.value.status() == "StatusCode.INVALID_ARGUMENT"
    text = "failed to register CUDA shared memory region 'new': failed to open CUDA IPC handle: "
    assert caught.value.message().startswith(text)


# --- Tensors ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("offset", [0, 3, 333])
def test_numbers_in_and_out(wire, region, offset):
    region.write(FLOATS.tobytes())
    response = wire.infer(identity_request(8, "mine", to=offset))
    (output,) = response.outputs
    said = {key: value.int64_param or value.string_param for key, value in output.parameters.items()}
    placed = {"shared_memory_region": "mine", "shared_memory_byte_size": 32}
    assert said == placed | ({"shared_memory_offset": offset} if offset else {})
    assert list(response.raw_output_contents) == [b""] and list(output.shape) == [1, 8]
    assert region.read(offset, 32) == FLOATS.tobytes()


def test_an_input_on_a_gpu_beside_ones_elsewhere(wire, client, region):
    """The first input on the GPU, the second in system memory; the outputs the other way round."""
    a, b = np.arange(16, dtype=np.int32), np.full(16, 5, np.int32)
    region.write(a.tobytes(), 400)
    with shared_file(128) as path:
        path.write_bytes(b.tobytes() + bytes(64))
        client.register_system_shared_memory("theirs", path.name, 128, client_timeout=SOON)
        request = infer_request("simple", {"INPUT0": a.reshape(1, 16), "INPUT1": b.reshape(1, 16)})
        place(request.inputs[0], "mine", 64, 400)
        place(request.inputs[1], "theirs", 64)
        del request.raw_input_contents[:]
        place(request.outputs.add(name="OUTPUT0"), "theirs", 64, 64)
        place(request.outputs.add(name="OUTPUT1"), "mine", 900)
        wire.infer(request)
        assert path.read_bytes()[64:] == (a + b).tobytes()
    assert region.read(0, 64) == (a - b).tobytes()


def test_texts(wire, region):
    texts = np.array([b"", b"a\0b", "äö".encode()], np.object_)
    wired = bytes(encode_bytes(texts))
    region.write(wired, 50)
    request = pb.ModelInferRequest(model_name="identity_bytes")
    request.inputs.add(name="X", datatype="BYTES", shape=[1, 3])
    place(request.inputs[0], "mine", len(wired), 50)
    place(request.outputs.add(name="Y"), "mine", 300, 200)
    response = wire.infer(request)
    assert response.outputs[0].parameters["shared_memory_byte_size"].int64_param == len(wired)
    assert region.read(200, len(wired)) == wired


def test_an_empty_tensor(wire, region):
    response = wire.infer(identity_request(0, "mine", to=0))
    assert list(response.raw_output_contents) == [b""]
    assert region.read() == bytes(SIZE)


def test_batches_of_several_requests(wire, region):
    rows = np.arange(16, dtype=np.float32).reshape(8, 2)
    region.write(rows.tobytes())
    calls = []
    for row in range(8):
        request = pb.ModelInferRequest(model_name="waiting")
        request.inputs.add(name="X", datatype="FP32", shape=[1, 2])
        place(request.inputs[0], "mine", 8, 8 * row)
        place(request.outputs.add(name="Y"), "mine", 8, 500 - 8 * row)
        calls.append(wire.method("ModelInfer").future(request, timeout=SOON))
    for call in calls:
        call.result(SOON)
    assert region.read(500 - 56, 64) == rows[::-1].tobytes()


def test_over_http(server, others):
    made = Region(others)
    with triton_http.InferenceServerClient(f"127.0.0.1:{server.http_port}") as client:
        client.register_cuda_shared_memory("over http", made.handle, 0, SIZE)
        listed = {"name": "over http", "device_id": 0, "byte_size": SIZE}
        assert client.get_cuda_shared_memory_status() == [listed]
        assert client.get_cuda_shared_memory_status("over http") == [listed]
        made.write(FLOATS.tobytes(), 8)
        tensor = triton_http.InferInput("X", [1, 8], "FP32")
        tensor.set_shared_memory("over http", 32, 8)
        output = triton_http.InferRequestedOutput("Y")
        output.set_shared_memory("over http", 32, 500)
        client.infer("identity_fp32", [tensor], outputs=[output])
        assert made.read(500, 32) == FLOATS.tobytes()
        tensor.set_shared_memory("over http", 32, 980)
        with pytest.raises(InferenceServerException, match=r"Invalid offset \+ byte size"):
            client.infer("identity_fp32", [tensor], outputs=[output])
        client.unregister_cuda_shared_memory("over http")
        assert client.get_cuda_shared_memory_status() == []
    made.memory.close()


# --- What goes wrong -------------------------------------------------------------------------------------


@pytest.mark.parametrize("output", [False, True])
@pytest.mark.parametrize(
    ("offset", "size", "text"),
    [
        (SIZE, 32, "Invalid offset for shared memory region: 'mine'"),
        (-(2**63), 32, "Invalid offset for shared memory region: 'mine'"),
        (0, SIZE + 1, "Invalid offset + byte size for shared memory region: 'mine'"),
        (1, 2**63 - 1, "Invalid offset + byte size for shared memory region: 'mine'"),
        (0, -1, "Invalid offset + byte size for shared memory region: 'mine'"),
    ],
)
def test_beyond_the_region(wire, region, output, offset, size, text):
    request = identity_request(8, "mine", to=0)
    place(request.outputs[0] if output else request.inputs[0], "mine", size, offset)
    assert wire.refusal(request) == (INVALID_ARGUMENT, text)
    assert region.read() == bytes(SIZE)


def test_an_output_that_does_not_fit(wire, region):
    request = identity_request(8, "mine", to=0)
    place(request.outputs[0], "mine", 31)
    code, text = wire.refusal(request)
    assert code is INTERNAL and text.endswith("should be at least 32 bytes to hold the results")
    assert region.read() == bytes(SIZE)


@pytest.mark.usefixtures("region")
def test_an_unregistered_region(wire, client, cuda):
    assert wire.infer(identity_request(8, "mine"))
    client.unregister_cuda_shared_memory("mine", client_timeout=SOON)
    text = "Unable to find shared memory region: 'mine'"
    assert wire.refusal(identity_request(8, "mine")) == (NOT_FOUND, text)
    request = infer_request("identity_fp32", {"X": FLOATS[None]})
    place(request.outputs.add(name="Y"), "mine", 32)
    assert wire.refusal(request) == (NOT_FOUND, text)
    assert "ipc" not in cuda.held


@pytest.mark.parametrize("after", [0, 1])
def test_a_copy_that_fails(cuda, wire, region, after):
    """Of the input, or of the output: that request alone fails."""
    region.write(FLOATS.tobytes())
    cuda.fail("cuMemcpyAsync", "CUDA_ERROR_INVALID_VALUE", after=after)
    code, text = wire.refusal(identity_request(8, "mine", to=500))
    assert code is INTERNAL
    verb = "write" if after else "read"
    assert f"cannot {verb} CUDA shared memory region 'mine': cuMemcpyAsync: CUDA_ERROR_INVALID_VALUE" in text
    assert region.read(500, 32) == bytes(32)
    wire.infer(identity_request(8, "mine", to=500))
    assert region.read(500, 32) == FLOATS.tobytes()


def test_requests_that_fail_keep_no_region(cuda, wire, client, region):
    """However they fail, the mapping goes when it is unregistered."""
    missing = identity_request(8, "mine", to=0)
    missing.model_name = "no such model"
    wrong_type = identity_request(8, "mine", to=0)
    wrong_type.inputs[0].datatype = "INT32"
    wrong_output = identity_request(8, "mine", to=0)
    place(wrong_output.outputs.add(name="Z"), "nowhere", 8)
    wrong_parameter = identity_request(8, "mine", to=0)
    wrong_parameter.parameters["sequence_id"].bool_param = True
    failing = infer_request("table", {"index": np.array([[9]], np.int64)})
    place(failing.outputs.add(name="value"), "mine", 8)
    for request in (missing, wrong_type, wrong_output, wrong_parameter, failing):
        wire.refusal(request)
    client.unregister_cuda_shared_memory("mine", client_timeout=SOON)
    eventually(lambda: "ipc" not in cuda.held)
    assert region.read() == bytes(SIZE)


@pytest.mark.usefixtures("region")
def test_a_model_that_goes_keeps_no_region(cuda, wire, client, monkeypatch):
    def refuse(*_arguments):
        raise Unavailable("it was here a moment ago")

    monkeypatch.setattr("yais.serving.inference._submitted", refuse)
    code, text = wire.refusal(identity_request(8, "mine", to=0))
    assert (code, text) == (grpc.StatusCode.UNAVAILABLE, "it was here a moment ago")
    client.unregister_cuda_shared_memory("mine", client_timeout=SOON)
    assert "ipc" not in cuda.held


# --- While a request runs --------------------------------------------------------------------------------


def waiting_request(to: int) -> pb.ModelInferRequest:
    request = identity_request(2, "mine", to=to)
    request.model_name = "waiting"
    return request


def full_batch(wire: Wire) -> None:
    """Let those go that wait for a batch of 8."""
    wire.infer(infer_request("waiting", {"X": np.ones((7, 2), np.float32)}))


def test_unregistered_while_in_use(server, cuda, wire, client, region):
    region.write(FLOATS.tobytes())
    call = wire.method("ModelInfer").future(waiting_request(500), timeout=SOON)
    eventually(lambda: server.repository.find("waiting").model.pending)
    client.unregister_cuda_shared_memory(client_timeout=SOON)
    assert cuda.held["ipc"]
    full_batch(wire)
    call.result(SOON)
    assert region.read(500, 8) == FLOATS[:2].tobytes()
    eventually(lambda: "ipc" not in cuda.held)


def test_cancelled_while_it_waits(server, cuda, wire, client, region):
    call = wire.method("ModelInfer").future(waiting_request(500), timeout=SOON)
    eventually(lambda: server.repository.find("waiting").model.pending)
    client.unregister_cuda_shared_memory(client_timeout=SOON)
    call.cancel()
    eventually(lambda: "ipc" not in cuda.held)
    assert region.read() == bytes(SIZE)


def test_the_client_frees_its_memory(wire, others, client, cuda):
    """What it registered is no more: its own request fails, and nobody else's."""
    made = Region(others)
    client.register_cuda_shared_memory("gone", made.handle, 0, SIZE, client_timeout=SOON)
    made.memory.close()
    others.close()
    request = identity_request(8, "gone")
    code, text = wire.refusal(request)
    assert code is INTERNAL and "cannot read CUDA shared memory region 'gone'" in text


def test_nothing_is_left_behind(cuda, wire, client, others):
    made = Region(others)
    streams = cuda.objects.get("FakeStream", 0)
    for _ in range(50):
        client.register_cuda_shared_memory("again", made.handle, 0, SIZE, client_timeout=SOON)
        wire.infer(identity_request(8, "again", to=500))
        client.unregister_cuda_shared_memory("again", client_timeout=SOON)
    assert "ipc" not in cuda.held
    assert cuda.objects["FakeStream"] <= streams + 1
    made.memory.close()


def test_many_clients(server, others):
    """Each works in a region of its own, which comes and goes."""

    def works(number: int) -> None:
        name = f"region {number}"
        with ExitStack() as stack:
            made = Region(others)
            stack.callback(made.memory.close)
            client = stack.enter_context(triton.InferenceServerClient(f"127.0.0.1:{server.port}"))
            wire = stack.enter_context(Wire(server.port))
            for turn in range(10):
                client.register_cuda_shared_memory(name, made.handle, 0, SIZE, client_timeout=SOON)
                row = np.full(8, 100 * number + turn, np.float32)
                made.write(row.tobytes())
                wire.infer(identity_request(8, name, to=500))
                assert made.read(500, 32) == row.tobytes()
                client.unregister_cuda_shared_memory(name, client_timeout=SOON)

    in_threads(4, works)


def test_a_large_copy_does_not_hold_up_others_over_http(tmp_path):
    write(tmp_path, "large", identity("FP32"), "max_batch_size: 1")
    size = 4 << 20
    http = HttpOptions(address="127.0.0.1", port=0)
    gate = threading.Event()
    opened: list[bool] = []
    fakes = FakeCuda(), FakeCuda(engines={"copy_out": 1})
    with fakes[0] as others, fakes[1] as cuda, pytest.MonkeyPatch.context() as patch:
        patch.setattr("yais.serving.cuda_shared_memory.cuda_device", cuda.device)
        held = cuda.device().stream()
        memory = others.device().memory().allocate(size)
        handle = base64.b64encode(others.device().export(memory))
        row = np.arange(size // 4, dtype=np.float32)
        others.view(memory.handle, size)[:] = row.tobytes()
        with serving_models(tmp_path, http=http) as server:
            url = f"127.0.0.1:{server.http_port}"
            with triton_http.InferenceServerClient(url, concurrency=2) as client:
                client.register_cuda_shared_memory("large", handle, 0, size)
                tensor = triton_http.InferInput("X", [1, size // 4], "FP32")
                tensor.set_shared_memory("large", size)
                cuda.submit(held.handle, "copy_out", lambda: opened.append(gate.wait(SOON)))
                asked = client.async_infer("large", [tensor])
                eventually(lambda: cuda.gpus[0].pending_by_kind()["copy_out"] == 2)
                assert client.is_server_live()
                gate.set()
                assert asked.get_result().as_numpy("Y").tobytes() == row.tobytes()
                assert opened == [True]
        memory.close()
