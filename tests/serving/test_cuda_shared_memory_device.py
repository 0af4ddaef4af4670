"""Inputs in CUDA shared memory for models on the same GPU: to the lane, and not by way of the host."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.http as triton_http
from serving_models import SOON, Wire, eventually, infer_request, one_process, outputs_of, serving_models
from shared_files import place
from traced_models import read_traces

from yais.core.future import Future
from yais.core.tensor import DataType, TensorSpec
from yais.engines import kinds
from yais.engines.device_function import DeviceFunctionEngine
from yais.engines.kinds import EngineKind, EngineSettings
from yais.errors import Unavailable
from yais.inference.servable import ModelClosed
from yais.protocol import kserve_pb2 as pb
from yais.repository.devices import Devices
from yais.serving.http.options import HttpOptions
from yais.serving.trace_settings import TraceOptions
from yais.testing import FakeEngine
from yais.testing.cuda import FakeCuda

pytestmark = one_process

X, Y = (TensorSpec(name, DataType.FP32, (-1, 4)) for name in "XY")
CONFIG = """
backend: "doubling" max_batch_size: 8 {}
input {{ name: "X" data_type: TYPE_FP32 dims: {} }} output {{ name: "Y" data_type: TYPE_FP32 dims: 4 }}
"""
ON_0 = "instance_group { gpus: 0 count: 1 }"
WAITS = "dynamic_batching { max_queue_delay_microseconds: 60000000 }"
SIZE = 1000
ROW = np.array([[0.5, np.inf, -0.0, 3]], np.float32)


class World:
    """The server's CUDA, and a client's, whose memory is registered as `mine`."""

    def __init__(self, cuda: FakeCuda, others: FakeCuda) -> None:
        self.cuda, self.others = cuda, others
        self.memory = others.device().memory().allocate(SIZE)
        self.handle = others.device().export(self.memory)
        self.gate = threading.Event()  # of kernels
        self.gate.set()
        self.error: Exception | None = None  # of kernels' functions
        self.begun = len(cuda.gpus[0].timeline)

    def write(self, array: np.ndarray, offset: int = 0) -> None:
        self.others.view(self.memory.handle + offset, array.nbytes)[:] = array.tobytes()

    def copies(self) -> list[tuple[str, str]]:
        """Which copies there were since the last call; "compute" is one on the GPU."""
        timelines = [list(gpu.timeline) for gpu in self.cuda.gpus]
        begun, self.begun = self.begun, sum(map(len, timelines))
        work = sorted((each for line in timelines for each in line), key=lambda each: each.end)
        return [(each.kind, each.label) for each in work[begun:] if each.label.endswith("bytes")]


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    with FakeCuda() as others, FakeCuda(2) as cuda:
        made = World(cuda, others)

        def double(inputs: Any, outputs: Any, stream: Any, scratch: Any) -> None:
            def kernel() -> None:
                assert made.gate.wait(SOON)
                (x,), (y,) = [
                    [np.frombuffer(cuda.view(each.address, each.nbytes), np.float32) for each in arrays]
                    for arrays in (inputs, outputs)
                ]
                y[:] = 2 * x

            cuda.submit(stream.handle, "compute", kernel)
            if made.error is not None:
                raise made.error

        def load(path: Path, settings: EngineSettings) -> Any:
            if settings.gpu is None:
                return FakeEngine([X], [Y], lambda x: [2 * x])
            device = cuda.device(settings.gpu)
            return DeviceFunctionEngine(double, [X], [Y], gpu=settings.gpu, max_batch=8, device=device)

        kind = EngineKind("doubling", "doubling", "any", (".any",), load, uses_gpus=True)
        there = dict(kinds.engine_kinds())
        monkeypatch.setattr(kinds, "_read", lambda: ({**there, "doubling": kind}, {}))
        devices = Devices((0, 1), why_not=lambda _: "")
        monkeypatch.setattr(Devices, "here", lambda: devices)
        monkeypatch.setattr("yais.serving.cuda_shared_memory.cuda_device", cuda.device)
        yield made
        made.gate.set()
        made.memory.close()
        gc.collect()  # what was raised knows the frames it came through


@contextmanager
def serving(world: World, root: Path, config: str, dims: str = "4", **options: Any) -> Iterator[Any]:
    directory = root / "M" / "1"
    directory.mkdir(parents=True)
    (directory / "any").touch()
    (directory.parent / "config.pbtxt").write_text(CONFIG.format(config, dims))
    with serving_models(root, gpus=world.cuda.device, **options) as server, Wire(server.port) as wire:
        register(wire, world)
        world.copies()
        yield SimpleNamespace(server=server, wire=wire, model=server.repository.find("M").model)
        unregister(wire)
        eventually(lambda: "ipc" not in world.cuda.held)
        for site in server._host.sites.gpus.values():
            eventually(lambda site=site: not site.lanes.pool.statistics().lent)


def register(wire: Wire, world: World, gpu: int = 0) -> None:
    request = pb.CudaSharedMemoryRegisterRequest(
        name="mine", raw_handle=world.handle, device_id=gpu, byte_size=SIZE
    )
    wire.call("CudaSharedMemoryRegister", request)


def unregister(wire: Wire) -> None:
    wire.call("CudaSharedMemoryUnregister", pb.CudaSharedMemoryUnregisterRequest())


def asking(rows: int = 1, offset: int = 0, *, to: int | None = None) -> pb.ModelInferRequest:
    request = pb.ModelInferRequest(model_name="M")
    request.inputs.add(name="X", datatype="FP32", shape=[rows, 4])
    place(request.inputs[0], "mine", 16 * rows, offset)
    if to is not None:
        place(request.outputs.add(name="Y"), "mine", 16 * rows, to)
    return request


def doubled(wire: Wire, request: pb.ModelInferRequest) -> np.ndarray:
    return outputs_of(wire.infer(request))["Y"]


# --- What is copied --------------------------------------------------------------------------------------


@pytest.mark.parametrize("offset", [0, 3, 500, SIZE - 32])
def test_an_input_stays_on_its_gpu(world: World, tmp_path: Path, offset: int) -> None:
    with serving(world, tmp_path, ON_0) as at:
        rows = np.arange(8, dtype=np.float32).reshape(2, 4)
        world.write(rows, offset)
        for _ in range(3):
            np.testing.assert_array_equal(doubled(at.wire, asking(2, offset)), 2 * rows)
            assert world.copies() == [("compute", "32 bytes"), ("copy_out", "32 bytes")]


def test_and_its_output_goes_back_there(world: World, tmp_path: Path) -> None:
    with serving(world, tmp_path, ON_0) as at:
        world.write(ROW)
        at.wire.infer(asking(to=0))
        assert bytes(world.others.view(world.memory.handle, 16)) == (2 * ROW).tobytes()


def test_requests_of_a_batch_are_joined_on_the_host(world: World, tmp_path: Path) -> None:
    with serving(world, tmp_path, ON_0 + WAITS) as at:
        rows = np.arange(32, dtype=np.float32).reshape(8, 4)
        world.write(rows, 100)
        infer = at.wire.method("ModelInfer")
        first = [infer.future(asking(1, 100 + 16 * row), timeout=SOON) for row in range(3)]
        eventually(lambda: at.model.pending == 3)
        assert world.copies() == []  # not before they run
        wired = infer_request("M", {"X": rows[3:5]})
        calls = [*first, infer.future(wired, timeout=SOON), infer.future(asking(3, 180), timeout=SOON)]
        answers = [outputs_of(pb.ModelInferResponse.FromString(call.result(SOON)))["Y"] for call in calls]
        got = sorted(float(value) for answer in answers for value in answer.ravel())
        assert got == (2 * rows).ravel().tolist()
        for row in range(3):
            np.testing.assert_array_equal(answers[row], 2 * rows[row : row + 1])
        out = [("copy_out", "16 bytes")] * 3 + [("copy_out", "48 bytes")]
        assert sorted(world.copies()) == sorted([("copy_in", "128 bytes"), ("copy_out", "128 bytes"), *out])


@pytest.mark.parametrize(
    ("config", "dims", "options"),
    [
        ("instance_group { kind: KIND_CPU }", "4", {}),
        ("instance_group [ { gpus: 0 }, { kind: KIND_CPU } ]", "4", {}),
        ("instance_group { gpus: 1 }", "4", {}),
        (ON_0 + "response_cache { enable: true }", "4", {"cache_size": 1 << 20}),
        (ON_0, "[ 2, 2 ] reshape { shape: 4 }", {}),
    ],
)
def test_who_needs_it_on_the_host(
    world: World, tmp_path: Path, config: str, dims: str, options: dict[str, Any]
) -> None:
    with serving(world, tmp_path, config, dims, **options) as at:
        assert 0 not in at.model.gpus
        for value in range(3):
            world.write(ROW + np.float32(value), 8)
            request = asking(1, 8)
            if "reshape" in dims:
                request.inputs[0].shape[:] = [1, 2, 2]
            np.testing.assert_array_equal(doubled(at.wire, request), 2 * (ROW + np.float32(value)))
            assert world.copies()[0] == ("copy_out", "16 bytes")


def test_instances_on_both_gpus(world: World, tmp_path: Path) -> None:
    with serving(world, tmp_path, "instance_group { gpus: [ 0, 1 ] }") as at:
        assert at.model.gpus == {0, 1}
        seen = set()
        world.gate.clear()  # so that both have one
        calls = []
        for value in range(2):
            world.write(ROW + np.float32(value), 16 * value)
            calls.append(at.wire.method("ModelInfer").future(asking(1, 16 * value), timeout=SOON))
        for gpu in world.cuda.gpus:
            eventually(lambda gpu=gpu: gpu.pending >= 2)
        world.gate.set()
        for value, call in enumerate(calls):
            answer = pb.ModelInferResponse.FromString(call.result(SOON))
            np.testing.assert_array_equal(outputs_of(answer)["Y"], 2 * (ROW + np.float32(value)))
        seen = {kind for kind, _ in world.copies()}
        assert seen == {"compute", "copy_in", "copy_out"}


def test_over_http(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing is copied, however large it is, the loop is not left for another thread."""
    left: list[Any] = []
    to_thread = asyncio.to_thread

    def noted(function: Any) -> Any:
        left.append(function)
        return to_thread(function)

    monkeypatch.setattr("yais.serving.shared_tensors._MUCH", 8)
    monkeypatch.setattr("yais.serving.http.infer.asyncio.to_thread", noted)
    http = HttpOptions(address="127.0.0.1", port=0)
    with (
        serving(world, tmp_path, ON_0, http=http) as at,
        triton_http.InferenceServerClient(f"127.0.0.1:{at.server.http_port}") as client,
    ):
        tensor = triton_http.InferInput("X", [1, 4], "FP32")
        tensor.set_shared_memory("mine", 16, 20)
        world.write(ROW, 20)
        for gpus in (at.model.gpus, frozenset()):
            monkeypatch.setattr(at.model, "_gpus_of_inputs", gpus)
            np.testing.assert_array_equal(client.infer("M", [tensor]).as_numpy("Y"), 2 * ROW)
            assert bool(left) == (not gpus)


def test_what_is_traced(world: World, tmp_path: Path) -> None:
    file = tmp_path / "traces.json"
    trace = TraceOptions(file=str(file), level=("TIMESTAMPS", "TENSORS"), rate=1)
    with serving(world, tmp_path / "models", ON_0, trace=trace) as at:
        world.write(ROW)
        np.testing.assert_array_equal(doubled(at.wire, asking()), 2 * ROW)
    tensors = [tensor for trace in read_traces(file) for tensor in trace.tensors]
    (given,) = [tensor for activity, tensor in tensors if activity == "TENSOR_QUEUE_INPUT"]
    assert [float(value) for value in given["data"].split(",")] == ROW.ravel().tolist()


# --- What goes wrong -------------------------------------------------------------------------------------


def test_requests_that_fail_keep_no_region(world: World, tmp_path: Path) -> None:
    with serving(world, tmp_path, ON_0) as at:
        wrong_type, wrong_parameter, wrong_output, short = asking(), asking(), asking(to=0), asking()
        wrong_type.inputs[0].datatype = "INT32"
        wrong_parameter.parameters["sequence_id"].bool_param = True
        place(wrong_output.outputs.add(name="Z"), "nowhere", 8)
        place(short.inputs[0], "mine", 12)
        for request in (
            wrong_type,
            wrong_parameter,
            wrong_output,
            short,
            asking(1, SIZE - 15),
            asking(1, -1),
        ):
            code, _ = at.wire.refusal(request)
            assert code in {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND}
        assert world.copies() == []


def test_a_copy_or_a_kernel_that_fails(world: World, tmp_path: Path) -> None:
    with serving(world, tmp_path, ON_0) as at:
        world.write(ROW)
        world.cuda.fail("cuMemcpyAsync", "CUDA_ERROR_INVALID_VALUE")
        code, text = at.wire.refusal(asking())
        assert code is grpc.StatusCode.INTERNAL and "CUDA_ERROR_INVALID_VALUE" in text
        world.error = LookupError("on purpose")
        code, text = at.wire.refusal(asking())
        assert code is grpc.StatusCode.INTERNAL and "on purpose" in text
        world.error = None
        np.testing.assert_array_equal(doubled(at.wire, asking()), 2 * ROW)
        unregister(at.wire)
        eventually(lambda: "ipc" not in world.cuda.held)


def test_unregistered_while_in_use(world: World, tmp_path: Path) -> None:
    """While one request is on the device and another in the queue: the mapping stays for both."""
    with serving(world, tmp_path, ON_0) as at:
        world.write(ROW)
        world.gate.clear()
        infer = at.wire.method("ModelInfer")
        calls = [infer.future(asking(), timeout=SOON) for _ in range(2)]
        eventually(lambda: at.model.pending == 1 and world.cuda.gpus[0].pending)
        unregister(at.wire)
        code, _ = at.wire.refusal(asking())
        assert code is grpc.StatusCode.NOT_FOUND
        assert world.cuda.held["ipc"]
        world.gate.set()
        for call in calls:
            answer = pb.ModelInferResponse.FromString(call.result(SOON))
            np.testing.assert_array_equal(outputs_of(answer)["Y"], 2 * ROW)
        eventually(lambda: "ipc" not in world.cuda.held)


@pytest.mark.parametrize("config", [ON_0, ON_0 + WAITS])
def test_cancelled(world: World, tmp_path: Path, config: str) -> None:
    """In the queue, or on the device, which goes on reading: the mapping goes when it is done."""
    with serving(world, tmp_path, config) as at:
        world.gate.clear()
        call = at.wire.method("ModelInfer").future(asking(), timeout=SOON)
        eventually(lambda: at.model.pending or world.cuda.gpus[0].pending)
        call.cancel()
        if config == ON_0:
            assert world.cuda.held["ipc"]
        world.gate.set()
        unregister(at.wire)
        eventually(lambda: "ipc" not in world.cuda.held)
        register(at.wire, world)
        if config == ON_0:
            world.write(ROW)
            np.testing.assert_array_equal(doubled(at.wire, asking()), 2 * ROW)


def test_cancelled_between_its_copy_and_a_token(world: World, tmp_path: Path) -> None:
    """The copy is queued, nobody waits any more: the mapping is not taken from under it."""
    with serving(world, tmp_path, ON_0, gpu_executions=1) as at:
        site = at.server._host.sites.of(0)
        with site.tokens.pool.acquire(SOON):
            lanes = [site.lanes.pool.acquire(SOON) for _ in range(site.lanes.size)]
            held = threading.Event()
            for lane in lanes:  # what is queued next waits
                world.cuda.submit(lane.item.stream.handle, "compute", lambda: held.wait(SOON))
                lane.release()
            call = at.wire.method("ModelInfer").future(asking(), timeout=SOON)
            eventually(lambda: world.cuda.gpus[0].pending > len(lanes))
            call.cancel()
            eventually(call.done)
            unregistering = at.wire.method("CudaSharedMemoryUnregister").future(
                pb.CudaSharedMemoryUnregisterRequest(), timeout=SOON
            )
            eventually(unregistering.done)
            assert world.cuda.held["ipc"]
            held.set()
        eventually(lambda: "ipc" not in world.cuda.held)
        register(at.wire, world)
        world.write(ROW)
        np.testing.assert_array_equal(doubled(at.wire, asking()), 2 * ROW)


def test_a_model_that_is_replaced_meanwhile(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next one may be elsewhere: it gets the contents."""
    with serving(world, tmp_path, ON_0) as at:
        world.write(ROW)
        submit, seen = at.model.submit, []

        def closed_once(request: Any) -> Any:
            seen.append(type(request.data[0]).__name__)
            if len(seen) > 1:
                return submit(request)
            future: Future[Any] = Future()
            future.set_exception(ModelClosed("it was here a moment ago"))
            return future

        monkeypatch.setattr(at.model, "submit", closed_once)
        np.testing.assert_array_equal(doubled(at.wire, asking()), 2 * ROW)
        assert seen == ["DeviceContents", "bytes"]


def test_a_model_that_goes_keeps_no_region(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_arguments: Any) -> None:
        raise Unavailable("it was here a moment ago")

    with serving(world, tmp_path, ON_0) as at:
        monkeypatch.setattr("yais.serving.inference._submitted", refuse)
        assert at.wire.refusal(asking()) == (grpc.StatusCode.UNAVAILABLE, "it was here a moment ago")
        unregister(at.wire)
        assert "ipc" not in world.cuda.held


def test_many_clients(world: World, tmp_path: Path) -> None:
    """Regions come and go while requests of others run: each gets what is its own, and nothing is left."""
    with serving(world, tmp_path, "instance_group { gpus: 0 count: 3 } dynamic_batching {}") as at:
        errors: list[BaseException] = []

        def works(number: int) -> None:
            name = f"region {number}"
            try:
                with Wire(at.server.port) as wire:
                    for turn in range(15):
                        wire.call(
                            "CudaSharedMemoryRegister",
                            pb.CudaSharedMemoryRegisterRequest(
                                name=name, raw_handle=world.handle, device_id=0, byte_size=SIZE
                            ),
                        )
                        row = ROW + np.float32(100 * number + turn)
                        world.write(row, 100 * number)
                        request = asking(1, 100 * number, to=100 * number + 50)
                        for tensor in (*request.inputs, *request.outputs):
                            tensor.parameters["shared_memory_region"].string_param = name
                        wire.infer(request)
                        got = bytes(world.others.view(world.memory.handle + 100 * number + 50, 16))
                        assert got == (2 * row).tobytes()
                        one = pb.CudaSharedMemoryUnregisterRequest(name=name)
                        wire.call("CudaSharedMemoryUnregister", one)
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=works, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert not errors and not any(thread.is_alive() for thread in threads)
        assert any(kind == "compute" for kind, _ in world.copies())
