"""PyTorch models on lanes with device memory: that of a fake, so that PyTorch's CPU can compute on it."""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch_models import NAMES, Affine, Constant, InPlace, Picky, Several, export, identity, script, spec

from yais.core.tensor import DataType, TensorSpec
from yais.engines import torch_device
from yais.engines.kinds import EngineSettings
from yais.engines.torch_device import TorchDeviceEngine
from yais.engines.torch_gpu import TorchGpu
from yais.errors import FailedPrecondition, Internal, InvalidArgument
from yais.inference.manager import InferenceManager
from yais.inference.request import InferRequest
from yais.lane import Lane, Placement
from yais.memory.arena import Arena
from yais.memory.device_array import DeviceArray
from yais.repository.devices import Devices
from yais.serving.server import InferenceServer, ServerOptions
from yais.testing.cuda import FakeCuda

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")

SOON = 20.0
X = spec("x", -1, 3)


class HostMemory:
    """Has PyTorch compute on the memory of a fake GPU, on the thread that asks, when the stream is done."""

    name = "cpu"

    def __init__(self) -> None:
        self.viewed: list[int] = []
        self.current: list[int] = []
        self.released = 0

    def synchronize(self) -> None:
        """Do nothing."""

    def release(self) -> None:
        """Count the call."""
        self.released += 1

    def on(self, stream: Any) -> AbstractContextManager[Any]:
        """Wait for the stream."""
        self.current.append(stream.handle)
        stream.sync()
        return contextlib.nullcontext()

    def view(self, array: DeviceArray) -> Any:
        """Return a tensor on the memory."""
        self.viewed.append(array.address)
        tensor = torch.from_numpy(np.asarray(OnHost(array)))
        return tensor.view(torch.bfloat16) if array.datatype is DataType.BF16 else tensor


class OnHost:
    """Tells of an array what it would tell of itself, but that it is on the host."""

    def __init__(self, array: DeviceArray) -> None:
        self._array = array

    @property
    def __array_interface__(self) -> dict[str, Any]:
        return self._array.__cuda_array_interface__


@contextlib.contextmanager
def lane_of(cuda: FakeCuda, *, device: int = 4096, staging: int = 4096, gpu: int = 0) -> Iterator[Lane]:
    """Have a lane on a fake GPU; in the end its stream has nothing to do."""
    gpu_device, place = cuda.device(gpu), Placement("gpu0")
    stream = gpu_device.stream(place)
    lane = Lane("lane", place, {}, Arena(gpu_device.staging(place), staging), stream)
    lane.device = gpu_device.memory(place).allocate(device, stream=stream) if device else None
    try:
        yield lane
    finally:
        pending = cuda.gpus[gpu].pending
        with contextlib.suppress(Internal):
            stream.sync()
        lane.staging.close()
        if lane.device is not None:
            lane.device.close()
        stream.close()
        assert pending == 0


def engine_of(path: Path, memory: HostMemory | None = None, **given: Any) -> TorchDeviceEngine:
    """Load a model for a fake GPU."""
    return TorchDeviceEngine(path, EngineSettings("m", gpu=0, **given), memory=memory or HostMemory())


def run(engine: TorchDeviceEngine, lane: Lane, *arrays: Any) -> list[Any]:
    """Run a model on a lane to the end."""
    execution = engine.begin(list(arrays), lane)
    execution.launch(None)
    execution.wait()
    return [array.copy() for array in execution.outputs()]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with models."""
    path = tmp_path_factory.mktemp("models")
    ones, twos = torch.ones(2, 3), torch.full((2, 3), 2.0)
    export(path / "affine.pt2", Affine(), [ones])
    export(path / "bounded.pt2", Affine(), [ones], most=4)
    export(path / "several.pt2", Several(), [ones], {"more": {"q": twos}})
    export(path / "inplace.pt2", InPlace(), [ones])
    export(path / "constant.pt2", Constant(), [ones], dynamic=False)
    script(path / "picky.pt", Picky())
    return path


@pytest.fixture
def cuda() -> Iterator[FakeCuda]:
    """Return a fake GPU, which must hold nothing in the end."""
    with FakeCuda() as fake:
        yield fake
    assert fake.held == {}


@pytest.mark.parametrize("room", [4096, 16])
def test_an_input_that_is_on_the_gpu(cuda: FakeCuda, files: Path, room: int) -> None:
    """It is copied there: to the lane, or to memory of PyTorch's, which is the host's here."""
    engine = engine_of(files / "affine.pt2")
    assert engine.takes_device_arrays
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    with lane_of(cuda, device=room) as lane, cuda.device().memory().allocate(x.nbytes + 3) as memory:
        (expected,) = run(engine, lane, x)
        cuda.view(memory.handle + 3, x.nbytes)[:] = x.tobytes()
        before = len(cuda.gpus[0].timeline)
        given = DeviceArray(memory.handle + 3, x.shape, DataType.FP32, gpu=0, stream=lane.stream)
        (y,) = run(engine, lane, given)
        np.testing.assert_array_equal(y, expected)
        copies = [work.kind for work in list(cuda.gpus[0].timeline)[before:] if work.label.endswith("bytes")]
        assert copies[0] == ("compute" if room > 16 else "copy_out")


def test_tensors_lie_in_the_lanes_memory(cuda: FakeCuda, files: Path) -> None:
    memory = HostMemory()
    engine = engine_of(files / "several.pt2", memory)
    engine.select(["x", "more_q"], ["pair.0", "total"])
    with lane_of(cuda) as lane:
        x, q = np.full((4, 3), 5, np.float32), np.full((4, 3), 2, np.float32)
        difference, total = run(engine, lane, x, q)
        assert lane.device is not None
        assert memory.viewed == [lane.device.handle, lane.device.handle + 256]
        assert set(memory.current) == {lane.stream.handle}
        assert (difference == 3).all()
        assert (total == 7).all()
        before = cuda.calls.count("cuMemcpyAsync")
        run(engine, lane, x, q)
        assert cuda.calls.count("cuMemcpyAsync") == before + 4  # two in, two out, and no other


def test_outputs_are_in_the_lanes_staging_memory(cuda: FakeCuda, files: Path) -> None:
    engine = engine_of(files / "affine.pt2")
    with lane_of(cuda) as lane:
        execution = engine.begin([np.ones((2, 3), np.float32)], lane)
        execution.launch(None)
        execution.wait()
        (y,) = execution.outputs()
        assert lane.staging.statistics().used == Arena.padded(y.nbytes)
        np.testing.assert_array_equal(y, [[2, 3, 4]] * 2)
        del y, execution


@pytest.mark.parametrize(("device", "staging"), [(0, 4096), (4096, 16), (256, 16)])
def test_what_does_not_fit_runs_all_the_same(cuda: FakeCuda, files: Path, device: int, staging: int) -> None:
    engine = engine_of(files / "affine.pt2")
    with lane_of(cuda, device=device, staging=staging) as lane:
        x = np.arange(300, dtype=np.float32).reshape(100, 3)
        np.testing.assert_array_equal(run(engine, lane, x)[0], 2 * x + [0, 1, 2])


@pytest.mark.parametrize("datatype", NAMES)
@pytest.mark.parametrize("batch", [0, 1, 3])
def test_every_type(cuda: FakeCuda, datatype: DataType, batch: int, tmp_path: Path) -> None:
    path = export(tmp_path / "m.pt2", identity(NAMES[datatype]), [torch.zeros(2, 5, dtype=NAMES[datatype])])
    bits = np.random.default_rng(0).integers(0, 2, (batch, 5)).astype(datatype.numpy)
    if datatype is DataType.BF16:
        bits[:] = 0x3F80 + bits
    with lane_of(cuda) as lane:
        for array in (bits, np.asfortranarray(bits)):
            (result,) = run(engine_of(path), lane, array)
            assert result.dtype == datatype.numpy
            np.testing.assert_array_equal(result, array)


def test_what_a_lane_is_planned_for(files: Path) -> None:
    assert engine_of(files / "bounded.pt2").device_size == 256  # 4 x 3 x 4 bytes, rounded up
    assert engine_of(files / "affine.pt2").device_size == 512  # 32 x 3 x 4
    assert engine_of(files / "affine.pt2", max_batch=100).device_size == 1280
    engine = engine_of(files / "several.pt2", max_batch=1)
    assert (engine.device_size, engine.scratch_size, engine.gpu) == (512, 0, 0)


def test_a_model_that_writes_to_its_inputs(cuda: FakeCuda, files: Path) -> None:
    with lane_of(cuda) as lane:
        x = np.zeros((2, 3), np.float32)
        assert (run(engine_of(files / "inplace.pt2"), lane, x)[0] == 1).all()
        assert (x == 0).all()


def test_a_model_that_gives_what_is_its_own(cuda: FakeCuda, files: Path) -> None:
    engine = engine_of(files / "constant.pt2")
    with lane_of(cuda) as lane:
        for _ in range(2):
            execution = engine.begin([np.ones((2, 3), np.float32)], lane)
            execution.launch(None)
            execution.wait()
            constant = execution.outputs()[1]
            assert (constant == 1).all()
            constant[:] = 7
            del constant, execution
            lane.staging.reset()


def test_the_end_gives_the_memory_back(files: Path) -> None:
    memory = HostMemory()
    engine = engine_of(files / "affine.pt2", memory)
    program = engine._program
    assert program is not None
    parameter = weakref.ref(program.state[0])
    del program
    engine.close()
    assert parameter() is None
    assert memory.released
    engine.close()


def test_executions_that_are_dropped(cuda: FakeCuda, files: Path) -> None:
    engine = engine_of(files / "affine.pt2")
    with lane_of(cuda) as lane:
        x = np.ones((2, 3), np.float32)
        engine.begin([x], lane)
        lane.stream.sync()
        np.testing.assert_array_equal(run(engine, lane, x)[0], [[2, 3, 4]] * 2)
        engine.close()
        with pytest.raises(FailedPrecondition, match="closed"):
            engine.begin([x], lane)


@pytest.mark.parametrize(
    ("x", "error", "text"),
    [
        (np.full((1, 3), -1, np.float32), Internal, "negative numbers are not for me"),
        (np.ones((5, 3), np.float32), InvalidArgument, "was not exported for these shapes"),
    ],
)
def test_an_error_of_the_model_leaves_nothing_behind(
    cuda: FakeCuda, files: Path, x: Any, error: type[Exception], text: str
) -> None:
    name = "picky.pt" if error is Internal else "bounded.pt2"
    engine = engine_of(files / name, inputs=(X,), outputs=(spec("OUTPUT__0", -1, 3),))
    with lane_of(cuda) as lane:
        execution = engine.begin([x], lane)
        with pytest.raises(error, match=text):
            execution.launch(None)
        assert cuda.gpus[0].pending == 0
        assert run(engine, lane, np.ones((1, 3), np.float32))[0].shape == (1, 3)


@pytest.mark.parametrize(
    "call", ["cuMemcpyAsync", "cuEventRecord", "cuEventSynchronize", "cuStreamSynchronize"]
)
@pytest.mark.parametrize("after", range(4))
def test_an_error_of_any_call_leaves_nothing_behind(
    cuda: FakeCuda, files: Path, call: str, after: int
) -> None:
    engine = engine_of(files / "several.pt2")
    engine.select(["x", "more_q"], ["pair.0", "total"])
    x, q = np.full((4, 3), 5, np.float32), np.full((4, 3), 2, np.float32)
    with lane_of(cuda) as lane:
        cuda.fail(call, "CUDA_ERROR_INVALID_VALUE", after=after)
        error = None
        try:
            results = run(engine, lane, x, q)
        except Internal as caught:
            error = caught
            lane.stream.sync()
            assert cuda.gpus[0].pending == 0
        else:
            assert (results[1] == 7).all()
        assert error is None or "CUDA_ERROR_INVALID_VALUE" in str(error)
        if call == "cuMemcpyAsync":
            assert error is not None
        if error is not None:
            lane.staging.reset()
            assert (run(engine, lane, x, q)[1] == 7).all()


@pytest.mark.parametrize(("call", "after"), [("cuMemcpyAsync", 1), ("cuEventRecord", 1)])
def test_what_was_queued_has_ended_when_launch_raises(files: Path, call: str, after: int) -> None:
    engine = engine_of(files / "several.pt2")
    engine.select(["x", "more_q"], ["pair.0", "total"])
    x = np.ones((4, 3), np.float32)
    with FakeCuda(copy_seconds=lambda size: 0.02) as cuda, lane_of(cuda) as lane:
        execution = engine.begin([x, x], lane)
        cuda.fail(call, "CUDA_ERROR_INVALID_VALUE", after=after)
        with pytest.raises(Internal, match="CUDA_ERROR_INVALID_VALUE"):
            execution.launch(None)
        assert cuda.gpus[0].pending == 0
        del execution


def test_memory_that_pytorch_does_not_get(
    cuda: FakeCuda, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For what it computes, or for an input that has no room on the lane."""
    engine, x = engine_of(files / "affine.pt2"), np.ones((2, 3), np.float32)

    def refuse(*_: Any, **__: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

    with lane_of(cuda) as lane, monkeypatch.context() as patch:
        patch.setattr(engine._program, "run", refuse)
        execution = engine.begin([x], lane)
        with pytest.raises(MemoryError, match="Tried to allocate"):
            execution.launch(None)
    with lane_of(cuda, device=0) as lane, monkeypatch.context() as patch:
        patch.setattr(torch, "empty", refuse)
        with pytest.raises(MemoryError, match="Tried to allocate"):
            engine.begin([x], lane)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=st.lists(st.integers(1, 6), min_size=1, max_size=5), seed=st.integers(0, 99))
def test_two_lanes_interleaved(files: Path, batches: list[int], seed: int) -> None:
    engine = engine_of(files / "affine.pt2")
    random = np.random.default_rng(seed)
    with FakeCuda() as cuda, lane_of(cuda) as one, lane_of(cuda) as other:
        for batch in batches:
            arrays = [random.standard_normal((batch, 3)).astype(np.float32) for _ in range(2)]
            running = [engine.begin([x], lane) for x, lane in zip(arrays, (one, other), strict=True)]
            for execution in reversed(running):
                execution.launch(None)
            for execution, x in zip(running, arrays, strict=True):
                execution.wait()
                np.testing.assert_array_equal(execution.outputs()[0], 2 * x + np.float32([0, 1, 2]))
            running.clear()
            del execution
            one.staging.reset()
            other.staging.reset()


def test_through_a_manager(files: Path) -> None:
    with FakeCuda(gpus=2) as cuda, InferenceManager(max_exec_concurrency=2, gpus=cuda.device) as manager:
        for gpu in range(2):
            settings_ = EngineSettings("m", gpu=gpu)
            engine = TorchDeviceEngine(files / "affine.pt2", settings_, memory=HostMemory())
            manager.register(f"gpu{gpu}", engine)
        picky = TorchDeviceEngine(
            files / "picky.pt",
            EngineSettings("p", gpu=1, inputs=(X,), outputs=(spec("y", -1, 3),)),
            memory=HostMemory(),
        )
        manager.register("picky", picky)
        manager.allocate()
        runners = [manager.infer_runner(f"gpu{gpu}") for gpu in range(2)]
        failing = manager.infer_runner("picky")
        futures = []
        for number in range(60):
            x = np.full((1 + number % 4, 3), number, np.float32)
            futures.append((number, runners[number % 2].infer(x=x)))
            if number % 10 == 0:
                futures.append((-1, failing.infer(x=np.full((1, 3), -1, np.float32))))
        for number, future in futures:
            if number < 0:
                with pytest.raises(Internal, match="negative numbers are not for me"):
                    future.result(SOON)
            else:
                assert float(future.result(SOON)["OUTPUT__0"][0, 0]) == 2 * number
        assert all(gpu.timeline for gpu in cuda.gpus)
        futures.clear()  # the traces of errors hold what was there
        del future


def test_a_server_with_instances_on_two_gpus_and_the_cpus(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[int] = []

    def memory(gpu: int) -> HostMemory:
        used.append(gpu)
        return HostMemory()

    devices = Devices((0, 1), frozenset(), why_not=lambda backend: "")
    monkeypatch.setattr(Devices, "here", lambda: devices)
    monkeypatch.setattr(torch_device, "TorchGpu", memory)
    version = tmp_path / "affine" / "1"
    version.mkdir(parents=True)
    (version / "model.pt2").write_bytes((files / "affine.pt2").read_bytes())
    (tmp_path / "affine/config.pbtxt").write_text(
        "instance_group { kind: KIND_GPU count: 2 } instance_group { kind: KIND_CPU count: 1 } "
        "max_batch_size: 8"
    )
    address = {"grpc_address": "127.0.0.1", "grpc_port": 0, "metrics_port": None}
    with FakeCuda(gpus=2) as cuda:
        options = ServerOptions((tmp_path,), gpus=cuda.device, **address)  # type: ignore[arg-type]
        with InferenceServer(options) as server:
            config = server.repository.find("affine").config
            assert [list(group.gpus) for group in config.instance_group] == [[0, 1], []]
            model = server.repository.find("affine").model
            answers = []
            for number in range(50):
                x = np.full((2, 3), number, np.float32)
                request = InferRequest([TensorSpec("x", DataType.FP32, x.shape)], [x.tobytes()])
                answers.append((number, model.submit(request)))
            for number, future in answers:
                data = bytes(future.result(SOON).data[0])
                assert np.frombuffer(data, np.float32)[0] == 2 * number
            assert used == [0, 1]


def test_threads_on_lanes_of_their_own(files: Path) -> None:
    engine = engine_of(files / "affine.pt2")
    wrong: list[object] = []

    def work(number: int) -> None:
        try:
            with lane_alone(number) as lane:
                for step in range(30):
                    x = np.full((1 + step % 3, 3), number, np.float32)
                    (y,) = run(engine, lane, x)
                    lane.staging.reset()
                    if not np.array_equal(y, 2 * x + np.float32([0, 1, 2])):
                        wrong.append((number, y))
        except BaseException as error:
            wrong.append(error)
            raise

    with contextlib.ExitStack() as stack:
        cuda = stack.enter_context(FakeCuda())
        lanes = [stack.enter_context(lane_of(cuda)) for _ in range(4)]

        def lane_alone(number: int) -> AbstractContextManager[Lane]:
            return contextlib.nullcontext(lanes[number])

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(SOON)
        assert not any(thread.is_alive() for thread in threads)
    assert not wrong


def test_a_gpu_that_this_pytorch_has_not() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    what = "0 GPUs" if torch.version.cuda else "no CUDA: it is a build for CPUs"
    with pytest.raises(FailedPrecondition, match=f"got GPU 0, and this PyTorch .* has {what}"):
        TorchGpu(0)


def test_what_is_asked_of_pytorch_for_gpus_is_there() -> None:
    assert {"ExternalStream", "stream", "synchronize", "device_count", "is_available"} <= set(dir(torch.cuda))
    assert callable(torch.from_dlpack)
    from torch.export.passes import move_to_device_pass

    assert callable(move_to_device_pass)
