"""Every call of CUDA fails in turn: the error is told, nothing is lost, and what comes next works."""

from __future__ import annotations

import functools
import gc
import traceback

import numpy as np
import pytest

from yais.core.cpu_set import CpuSet
from yais.core.topology import NumaNode
from yais.errors import InvalidArgument
from yais.lane import Placement
from yais.memory import fallbacks as module
from yais.memory.cuda.device import CudaDevice
from yais.memory.cuda.error import CudaError
from yais.memory.fallbacks import fallbacks
from yais.testing.cuda import FakeCuda

SOON = 20.0
NODE = NumaNode(0, CpuSet(), CpuSet(), {}, 0)
FREES = {
    "cuMemFree",
    "cuMemFreeHost",
    "cuMemHostUnregister",
    "cuIpcCloseMemHandle",
    "cuStreamDestroy",
    "cuEventDestroy",
    "cuGraphExecDestroy",
    "cuGraphDestroy",
    "cuDevicePrimaryCtxRelease",
}
"""Calls that give something back. When one fails, that is lost; it is logged."""


@pytest.fixture(autouse=True)
def counted(monkeypatch):
    """Fall-backs, counted from 0."""
    monkeypatch.setattr(module, "_counts", type(module._counts)())


def everything(cuda: FakeCuda, client: FakeCuda) -> Exception | None:
    """Use all there is, and give all of it back on every path; return the error that was told."""
    device = CudaDevice(0, toolkit=cuda.toolkit)
    told = None
    try:
        with device:
            use(device, client)
    except (CudaError, MemoryError, InvalidArgument) as error:
        traceback.clear_frames(error.__traceback__)  # they have views of pinned memory
        told = error.with_traceback(None)
    if not device.close(SOON):
        gc.collect()
        assert device.close(SOON)
    return told


def use(device: CudaDevice, client: FakeCuda) -> None:
    stream, other = device.stream(), device.stream()
    near = Placement("near", NODE)
    theirs = client.device().memory().allocate(64)
    with (
        theirs,
        device.memory().allocate(64) as memory,
        device.managed().allocate(64) as managed,
        device.staging(near).allocate(64) as pooled,
        device.staging().allocate(64) as pinned,
        device.open_ipc(client.device().export(theirs), 64) as mapped,
    ):
        source, target = pooled.array(np.uint8), pinned.array(np.uint8)
        source[:] = 1
        stream.copy_in(memory.handle, source)
        managed.prefetch(stream)
        other.wait(stream.record())
        other.copy(mapped.handle, memory.handle, 64)
        other.copy_out(target, mapped.handle)
        other.completed().result(SOON)
        assert target.all()
        graph = stream.capture(functools.partial(stream.copy_in, memory.handle, source))
        graph.launch(stream)
        stream.sync()
        graph.close()
        device.export(memory)
        device.statistics()
        device.core()
        stream.sync()
        del source, target
    stream.close()
    other.close()


def run(cuda: FakeCuda) -> Exception | None:
    with FakeCuda() as client:
        try:
            return everything(cuda, client)
        except (CudaError, MemoryError) as error:  # there was no device to begin with
            return error.with_traceback(None)


def all_calls() -> list[tuple[str, int]]:
    with FakeCuda() as cuda:
        assert run(cuda) is None
        calls = cuda.calls
    calls = [name for name in calls if name != "cuStreamEndCapture"]  # the real one ends it nevertheless
    return [(name, number) for name in sorted(set(calls)) for number in range(min(calls.count(name), 4))]


@pytest.mark.parametrize(("call", "number"), all_calls())
def test_a_call_fails(call, number, caplog):
    error = ["CUDA_ERROR_INVALID_VALUE", "CUDA_ERROR_OUT_OF_MEMORY"][number % 2]
    cuda = FakeCuda()
    cuda.fail(call, error, after=number)
    raised = run(cuda)
    assert cuda.calls.count(call) > number
    if raised is not None:
        assert error in str(raised)
    if call in FREES:
        assert raised is not None or "could not" in caplog.text
        return
    assert raised is not None or error in caplog.text or fallbacks() != {}
    assert raised is None or isinstance(raised, MemoryError) == (number % 2 == 1)
    assert cuda.held == {}
    assert set(cuda.objects) <= {"FakeEvent"}  # in the frames of what was logged; they go with the context
    assert run(cuda) is None
    assert cuda.close()


@pytest.mark.parametrize("number", [0, 1, 3])
@pytest.mark.parametrize(
    "call", ["cuMemcpyAsync", "cuEventRecord", "cuEventSynchronize", "cuMemAlloc", "cuStreamCreate"]
)
def test_a_gpu_fails_for_good(call, number, caplog):
    cuda = FakeCuda()
    cuda.fail(call, "CUDA_ERROR_ILLEGAL_ADDRESS", after=number)
    raised = run(cuda)
    if raised is None:  # there are not so many calls, or they were only to wait for an end
        assert cuda.calls.count(call) <= number or "ILLEGAL_ADDRESS" in caplog.text
    else:
        assert "start the process again" in str(raised)
    assert cuda.close()
