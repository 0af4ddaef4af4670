"""Shared memory over gRPC: clients of other processes, and what is wrong with requests."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
from onnx_models import EXAMPLES
from server_state import in_flight, pending
from serving_models import SOON, Wire, eventually, infer_request, one_process, serving_models
from shared_files import identity_request, place, shared_file
from tritonclient.utils import InferenceServerException

import yais
from yais.core.tensor import DataType, TensorSpec
from yais.protocol import kserve_pb2 as pb
from yais.protocol.tensor_codec import encode_bytes
from yais.testing.engine import FakeEngine

INVALID_ARGUMENT = grpc.StatusCode.INVALID_ARGUMENT
UNIMPLEMENTED = grpc.StatusCode.UNIMPLEMENTED
NOT_FOUND = grpc.StatusCode.NOT_FOUND
INTERNAL = grpc.StatusCode.INTERNAL

FLOATS = np.array([0.0, -0.0, np.inf, np.nan, 1e-45, 3.5, 2, 1], np.float32)


@pytest.fixture(scope="module")
def server(model_repository):
    with serving_models(EXAMPLES, model_repository) as running:
        yield running


@pytest.fixture(scope="module")
def wire(server):
    with Wire(server.port) as connected:
        yield connected


@pytest.fixture
def client(server):
    with triton.InferenceServerClient(f"127.0.0.1:{server.port}") as connected:
        yield connected
        connected.unregister_system_shared_memory(client_timeout=SOON)


@pytest.fixture
def path(client):
    """A file of 1000 bytes, registered as `mine`, of which the region is all but the first 100."""
    with shared_file(1000) as path:
        client.register_system_shared_memory("mine", f"/{path.name}", 900, 100, client_timeout=SOON)
        yield path


def write(path: Path, contents: bytes, offset: int = 0) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(contents)


def mapped(path: Path) -> int:
    return Path("/proc/self/maps").read_text().count(str(path))


# --- Clients of other processes -----------------------------------------------------------------------


def test_a_client_in_a_process_of_its_own(server, client):
    program = Path(__file__).with_name("shared_memory_client.py")
    command = [sys.executable, "-W", "error", str(program), str(server.port)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("done\n", "", 0)
    assert "/dev/shm/yais-client" not in Path("/proc/self/maps").read_text()


def test_status_says_what_was_registered(client, path):
    regions = client.get_system_shared_memory_status("mine", client_timeout=SOON, as_json=True)["regions"]
    expected = {"name": "mine", "key": f"/{path.name}", "offset": "100", "byte_size": "900"}
    assert regions == {"mine": expected}


@pytest.mark.parametrize(
    ("call", "status", "text"),
    [
        (
            lambda client: client.register_system_shared_memory("mine", "/other", 8),
            "ALREADY_EXISTS",
            "shared memory region 'mine' already in manager",
        ),
        (
            lambda client: client.register_system_shared_memory("new", "/other", 8),
            "INTERNAL",
            "Unable to open shared memory region: '/other'",
        ),
        (
            lambda client: client.get_system_shared_memory_status("new"),
            "NOT_FOUND",
            "Unable to find system shared memory region: 'new'",
        ),
        (
            lambda client: client.get_cuda_shared_memory_status("mine"),
            "NOT_FOUND",
            "The region named 'mine' is registered as system shared memory, not CUDA shared memory",
        ),
        (
            lambda client: client.get_cuda_shared_memory_status("new"),
            "NOT_FOUND",
            "Unable to find cuda shared memory region: 'new'",
        ),
        (
            lambda client: client.register_cuda_shared_memory("new", "QUJD" * 21 + "QQ==", 0, 8),
            "INVALID_ARGUMENT",
            "failed to register CUDA shared memory region: 'new', GPUs not supported",
        ),
    ],
)
@pytest.mark.usefixtures("path")
def test_refusals(client, call, status, text):
    with pytest.raises(InferenceServerException) as caught:
        call(client)
    assert (caught.value.status(), caught.value.message()) == (f"StatusCode.{status}", text)


def test_without_a_gpu(wire):
    request = pb.CudaSharedMemoryRegisterRequest(name="new", raw_handle=bytes(64), byte_size=8)
    text = "failed to register CUDA shared memory region: 'new', GPUs not supported"
    assert wire.refusal(request, "CudaSharedMemoryRegister") == (INVALID_ARGUMENT, text)
    wire.call("CudaSharedMemoryUnregister", pb.CudaSharedMemoryUnregisterRequest(name="new"))


def test_numbers_beyond_what_a_file_can_have(wire, path):
    text = "failed to register shared memory region 'new': invalid args"
    for offset, size in [(2**64 - 1, 2**64 - 1), (0, 1001), (1, 1000), (0, 0), (2**63, 2**63)]:
        request = pb.SystemSharedMemoryRegisterRequest(
            name="new", key=path.name, offset=offset, byte_size=size
        )
        assert wire.refusal(request, "SystemSharedMemoryRegister") == (INVALID_ARGUMENT, text)


def test_shared_memory_is_among_the_extensions(client):
    extensions = client.get_server_metadata(client_timeout=SOON).extensions
    assert {"system_shared_memory", "cuda_shared_memory"} <= set(extensions)


# --- Tensors ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("offset", [0, 3, 333])
def test_numbers_in_and_out(wire, path, offset):
    """Whatever the offset is, and in place as well."""
    write(path, FLOATS.tobytes(), 100)
    response = wire.infer(identity_request(8, "mine", to=offset))
    (output,) = response.outputs
    said = {key: value.int64_param or value.string_param for key, value in output.parameters.items()}
    placed = {"shared_memory_region": "mine", "shared_memory_byte_size": 32}
    assert said == placed | ({"shared_memory_offset": offset} if offset else {})
    assert list(response.raw_output_contents) == [b""] and list(output.shape) == [1, 8]
    assert path.read_bytes()[100 + offset :][:32] == FLOATS.tobytes()


def test_an_input_in_shared_memory_beside_one_in_the_message(wire, path):
    a, b = np.arange(16, dtype=np.int32), np.full(16, 5, np.int32)
    write(path, a.tobytes(), 500)
    request = infer_request("simple", {"INPUT0": a.reshape(1, 16), "INPUT1": b.reshape(1, 16)})
    place(request.inputs[0], "mine", 64, 400)
    del request.raw_input_contents[0]
    request.outputs.add(name="OUTPUT1")
    place(request.outputs.add(name="OUTPUT0"), "mine", 900)
    response = wire.infer(request)
    assert response.raw_output_contents[0] == (a - b).tobytes()
    assert response.raw_output_contents[1] == b""
    assert path.read_bytes()[100:164] == (a + b).tobytes()


def test_texts(wire, path):
    texts = np.array([b"", b"a\0b", "äö".encode()], np.object_)
    wired = bytes(encode_bytes(texts))
    write(path, wired, 150)
    request = pb.ModelInferRequest(model_name="identity_bytes")
    request.inputs.add(name="X", datatype="BYTES", shape=[1, 3])
    place(request.inputs[0], "mine", len(wired), 50)
    place(request.outputs.add(name="Y"), "mine", 300, 200)
    response = wire.infer(request)
    assert response.outputs[0].parameters["shared_memory_byte_size"].int64_param == len(wired)
    assert path.read_bytes()[300 : 300 + len(wired)] == wired


@pytest.mark.parametrize(
    ("contents", "text"),
    [
        (
            b"\xff\xff\xff\x7fabc",
            (
                "incomplete string data for inference input 'X' for model 'identity_bytes', expecting "
                "string of length 2147483647 but only 3 bytes available"
            ),
        ),
        (
            b"\1\0\0\0a\0\0",
            (
                "incomplete string length indicator for inference input 'X' for model 'identity_bytes', "
                "expecting 4 bytes but only 2 bytes available"
            ),
        ),
    ],
)
def test_texts_that_do_not_add_up(wire, path, contents, text):
    write(path, contents, 100)
    request = pb.ModelInferRequest(model_name="identity_bytes")
    request.inputs.add(name="X", datatype="BYTES", shape=[1, 2])
    place(request.inputs[0], "mine", len(contents))
    assert wire.refusal(request) == (INVALID_ARGUMENT, text)


def test_an_empty_tensor(wire, path):
    before = path.read_bytes()
    response = wire.infer(identity_request(0, "mine", to=0))
    assert list(response.raw_output_contents) == [b""]
    assert path.read_bytes() == before


def test_batches_of_several_requests(wire, path):
    """Eight requests at once that wait for each other, each to a place of its own."""
    rows = np.arange(16, dtype=np.float32).reshape(8, 2)
    write(path, rows.tobytes(), 100)
    calls = []
    for row in range(8):
        request = pb.ModelInferRequest(model_name="waiting")
        request.inputs.add(name="X", datatype="FP32", shape=[1, 2])
        place(request.inputs[0], "mine", 8, 8 * row)
        place(request.outputs.add(name="Y"), "mine", 8, 500 - 8 * row)
        calls.append(wire.method("ModelInfer").future(request, timeout=SOON))
    for call in calls:
        call.result(SOON)
    assert path.read_bytes()[600 - 56 : 608] == rows[::-1].tobytes()


def addresses(path: Path) -> list[range]:
    """Return where a file is mapped."""
    found = []
    for line in Path("/proc/self/maps").read_text().splitlines():
        if line.endswith(str(path)):
            start, end = line.split()[0].split("-")
            found.append(range(int(start, 16), int(end, 16)))
    return found


def test_the_engine_reads_the_clients_memory():
    """Nothing is copied on the way to an engine, which cannot write to it."""
    seen: list[np.ndarray] = []

    def double(x):
        seen.append(x)
        return [x * 2]

    spec = TensorSpec("X", DataType.FP32, (-1, 8))
    manager = yais.InferenceManager()
    manager.register("double", FakeEngine([spec], [replace(spec, name="Y")], double), max_batch_size=4)
    manager.allocate()
    server = manager.serve(0, block=False, address="127.0.0.1")
    with manager, ExitStack() as stack, shared_file(1000) as path, Wire(server.port) as wire:
        stack.callback(server.stop)
        write(path, FLOATS.tobytes(), 103)
        register = pb.SystemSharedMemoryRegisterRequest(name="mine", key=path.name, offset=100, byte_size=500)
        wire.call("SystemSharedMemoryRegister", register)
        request = identity_request(8, "mine")
        request.model_name = "double"
        place(request.inputs[0], "mine", 32, 3)
        seen.clear()
        assert wire.infer(request).raw_output_contents[0] == (FLOATS * 2).tobytes()
        (given,) = seen
        (where,) = addresses(path)
        assert given.ctypes.data == where.start + 103
        assert not given.flags.writeable


# --- What is wrong with requests ----------------------------------------------------------------------

OFFSET = "Invalid offset for shared memory region: 'mine'"
SIZE = "Invalid offset + byte size for shared memory region: 'mine'"


@pytest.mark.parametrize("output", [False, True])
@pytest.mark.parametrize(
    ("offset", "size", "text"),
    [
        (900, 32, OFFSET),
        (-1, 32, OFFSET),
        (-(2**63), 32, OFFSET),
        (2**63 - 1, 2**63 - 1, OFFSET),
        (0, 901, SIZE),
        (899, 2, SIZE),
        (0, -1, SIZE),
        (100, -(2**63), SIZE),
        (1, 2**63 - 1, SIZE),
    ],
)
def test_beyond_the_region(wire, path, output, offset, size, text):
    before = path.read_bytes()
    request = identity_request(8, "mine", to=0)
    tensor = request.outputs[0] if output else request.inputs[0]
    place(tensor, "mine", size, offset)
    assert wire.refusal(request) == (INVALID_ARGUMENT, text)
    assert path.read_bytes() == before


@pytest.mark.usefixtures("path")
def test_sizes_that_do_not_fit_the_tensor(wire):
    for size in (31, 33, 0):
        request = identity_request(8, "mine")
        place(request.inputs[0], "mine", size)
        code, text = wire.refusal(request)
        assert code is INVALID_ARGUMENT
        assert text.endswith(
            f"input byte size mismatch for input 'X' for model 'identity_fp32'. Expected 32, got {size}"
        )


def test_an_output_that_does_not_fit(wire, path):
    before = path.read_bytes()
    request = identity_request(8, "mine", to=0)
    place(request.outputs[0], "mine", 31)
    assert wire.refusal(request) == (
        INTERNAL,
        (
            "shared memory size specified with the request for output 'Y' (31 bytes) should be at least 32 "
            "bytes to hold the results"
        ),
    )
    assert path.read_bytes() == before


def test_only_what_is_written_of_a_place_is_set_aside(wire):
    """The place may be of any size, and to set it aside takes long."""
    with shared_file(1 << 30) as large:
        register = pb.SystemSharedMemoryRegisterRequest(name="large", key=large.name, byte_size=1 << 30)
        wire.call("SystemSharedMemoryRegister", register)
        request = infer_request("identity_fp32", {"X": FLOATS[None]})
        place(request.outputs.add(name="Y"), "large", (1 << 30) - 8192, 8192)
        (output,) = wire.infer(request).outputs
        assert output.parameters["shared_memory_byte_size"].int64_param == FLOATS.nbytes
        assert large.stat().st_blocks * 512 <= 4096
        with large.open("rb") as file:
            file.seek(8192)
            assert file.read(FLOATS.nbytes) == FLOATS.tobytes()
        wire.call("SystemSharedMemoryUnregister", pb.SystemSharedMemoryUnregisterRequest(name="large"))


def test_contents_beside_shared_memory(wire):
    request = identity_request(8, "mine")
    request.inputs[0].contents.fp32_contents.extend([0.0] * 8)
    assert wire.refusal(request) == (
        INVALID_ARGUMENT,
        (
            "unexpected 'content' provided when using shared memory for input tensor 'X' for model "
            "'identity_fp32'"
        ),
    )


def test_a_failed_request_writes_nothing(wire, path):
    before = path.read_bytes()
    request = infer_request("table", {"index": np.array([[9]], np.int64)})
    place(request.outputs.add(name="value"), "mine", 8)
    code, text = wire.refusal(request)
    assert code is INTERNAL and "model 'table' failed" in text
    assert path.read_bytes() == before


def test_an_unregistered_region(wire, client, path):
    assert wire.infer(identity_request(8, "mine"))
    client.unregister_system_shared_memory("mine", client_timeout=SOON)
    text = "Unable to find shared memory region: 'mine'"
    assert wire.refusal(identity_request(8, "mine")) == (NOT_FOUND, text)
    eventually(lambda: not mapped(path))  # the thread that answered may not have let go yet


def test_the_same_name_for_another_file(wire, client, path):
    """What is remembered of a request is not where its region was."""
    write(path, FLOATS.tobytes(), 100)
    client.unregister_system_shared_memory("mine", client_timeout=SOON)
    with shared_file(32) as other:
        write(other, FLOATS[::-1].tobytes())
        client.register_system_shared_memory("mine", other.name, 32, client_timeout=SOON)
        assert wire.infer(identity_request(8, "mine")).raw_output_contents[0] == FLOATS[::-1].tobytes()
        client.unregister_system_shared_memory("mine", client_timeout=SOON)


# --- While a request runs -----------------------------------------------------------------------------


def waiting_request(to: int) -> pb.ModelInferRequest:
    request = identity_request(2, "mine", to=to)
    request.model_name = "waiting"
    return request


def full_batch(wire: Wire) -> None:
    """Let those go that wait for a batch of 8."""
    wire.infer(infer_request("waiting", {"X": np.ones((7, 2), np.float32)}))


@one_process
def test_unregistered_while_in_use(server, wire, client, path):
    write(path, FLOATS.tobytes(), 100)
    call = wire.method("ModelInfer").future(waiting_request(500), timeout=SOON)
    eventually(lambda: pending(server, "waiting"))
    client.unregister_system_shared_memory(client_timeout=SOON)
    assert mapped(path)
    full_batch(wire)
    call.result(SOON)
    assert path.read_bytes()[600:608] == FLOATS[:2].tobytes()
    eventually(lambda: not mapped(path))


def test_made_smaller_while_in_use(server, wire, path):
    """The output is no longer there when the model has run: an error, and no crash."""
    with shared_file(100_000) as large:
        register = pb.SystemSharedMemoryRegisterRequest(name="large", key=large.name, byte_size=100_000)
        wire.call("SystemSharedMemoryRegister", register)
        request = waiting_request(0)
        place(request.outputs[0], "large", 8, 90_000)
        call = wire.method("ModelInfer").future(request, timeout=SOON)
        eventually(lambda: pending(server, "waiting"))
        os.truncate(large, 4096)
        full_batch(wire)
        with pytest.raises(grpc.RpcError) as caught:
            call.result(SOON)
        assert caught.value.code() is INVALID_ARGUMENT
        assert caught.value.details().startswith(SIZE.replace("mine", "large"))


def test_made_smaller_before(wire, path):
    os.truncate(path, 110)
    for to in (None, 0):
        code, text = wire.refusal(identity_request(8, "mine", to=to))
        assert code is INVALID_ARGUMENT and text.startswith(SIZE)


def test_who_gave_up_gets_nothing(server, wire, path):
    before = path.read_bytes()
    call = wire.method("ModelInfer").future(waiting_request(500), timeout=SOON)
    eventually(lambda: pending(server, "waiting"))
    call.cancel()
    eventually(lambda: not in_flight(server))
    wire.infer(infer_request("waiting", {"X": np.ones((8, 2), np.float32)}))
    assert path.read_bytes() == before


def test_many_cycles_leave_nothing(wire):
    with shared_file(5000) as path:
        register = pb.SystemSharedMemoryRegisterRequest(name="cycle", key=path.name, byte_size=5000)
        unregister = pb.SystemSharedMemoryUnregisterRequest(name="cycle")
        request = identity_request(8, "cycle", to=4000)
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(300):
            wire.call("SystemSharedMemoryRegister", register)
            wire.infer(request)
            wire.call("SystemSharedMemoryUnregister", unregister)
        eventually(lambda: mapped(path) <= 1)
        assert len(os.listdir("/proc/self/fd")) <= before + 10


def test_clients_that_come_and_go_while_others_infer(server, wire):
    """Each of them sees its own numbers or is told that the region is not there; nothing else happens."""
    unexpected: list[object] = []
    answered = 0
    lock = threading.Lock()

    def infers(path: Path, number: int) -> None:
        nonlocal answered
        with Wire(server.port) as mine:
            request = identity_request(1000, "contended", to=4000 * (1 + number))
            for _ in range(60):
                try:
                    mine.infer(request)
                except grpc.RpcError as error:
                    if error.code() is not NOT_FOUND:
                        unexpected.append(error)
                    continue
                got = path.read_bytes()[4000 * (1 + number) :][:4000]
                if got != path.read_bytes()[:4000]:
                    unexpected.append(got)
                with lock:
                    answered += 1

    def comes_and_goes(path: Path) -> None:
        register = pb.SystemSharedMemoryRegisterRequest(name="contended", key=path.name, byte_size=16_000)
        with Wire(server.port) as mine:
            for _ in range(60):
                try:
                    mine.call("SystemSharedMemoryRegister", register)
                    mine.call("SystemSharedMemoryStatus")
                    mine.call("SystemSharedMemoryUnregister")
                except grpc.RpcError as error:
                    if error.code() is not grpc.StatusCode.ALREADY_EXISTS:
                        unexpected.append(error)
            mine.call("SystemSharedMemoryUnregister")

    with shared_file(16_000) as path:
        write(path, np.random.default_rng(3).random(1000, np.float32).tobytes())
        wire.call(
            "SystemSharedMemoryRegister",
            pb.SystemSharedMemoryRegisterRequest(name="contended", key=path.name, byte_size=16_000),
        )
        wire.infer(identity_request(1000, "contended", to=4000))
        threads = [threading.Thread(target=infers, args=(path, number)) for number in range(3)]
        threads += [threading.Thread(target=comes_and_goes, args=(path,)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert not unexpected and not any(thread.is_alive() for thread in threads)
        assert answered


# --- Not allowed --------------------------------------------------------------------------------------


def test_a_server_that_does_not_allow_it(model_repository):
    disabled = "Client shared memory is disabled. Start the server with '--allow-client-shm=true' to enable."
    with (
        serving_models(model_repository, allow_client_shm=False) as server,
        Wire(server.port) as wire,
        shared_file(100) as path,
    ):
        register = pb.SystemSharedMemoryRegisterRequest(name="mine", key=path.name, byte_size=100)
        assert wire.refusal(register, "SystemSharedMemoryRegister") == (UNIMPLEMENTED, disabled)
        register = pb.CudaSharedMemoryRegisterRequest(name="mine", raw_handle=bytes(64), byte_size=100)
        assert wire.refusal(register, "CudaSharedMemoryRegister") == (UNIMPLEMENTED, disabled)
        for to in (None, 0):
            assert wire.refusal(identity_request(8, "mine", to=to)) == (UNIMPLEMENTED, disabled)
        for kind in ("System", "Cuda"):
            assert not wire.call(f"{kind}SharedMemoryStatus").regions
            wire.call(f"{kind}SharedMemoryUnregister")
