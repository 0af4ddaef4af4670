"""Tests that need a GPU: scripts/gpu-check.

They are collected where a driver answers, not elsewhere, and wherever YAIS_GPU is 1. With YAIS_GPU=simulated
those that can run on a fake GPU do, which tells whether the tests are right.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import pytest

from benchmarks.gpu_machine import AnyKernels, GpuMachine, gpu_machine
from yais.errors import FailedPrecondition
from yais.memory.cuda.device import CudaDevice
from yais.memory.cuda.toolkit import why_no_cuda

WANTED = os.environ.get("YAIS_GPU", "")
SIMULATED = WANTED == "simulated"

collect_ignore_glob = [] if WANTED or not why_no_cuda() else ["test_*"]


@pytest.fixture(scope="module")
def machine() -> Iterator[GpuMachine]:
    with contextlib.ExitStack() as stack:
        try:
            machine = stack.enter_context(gpu_machine(simulated=SIMULATED))
        except FailedPrecondition as error:
            pytest.skip(str(error))
        yield machine


@pytest.fixture
def gpu(machine: GpuMachine) -> Iterator[CudaDevice]:
    """The GPU; nothing of what a test takes may stay."""
    before = machine.device.statistics().held_bytes
    yield machine.device
    after = machine.device.statistics().held_bytes
    assert {kind: size for kind, size in after.items() if size != before.get(kind, 0)} == {}


@pytest.fixture
def real_gpu(gpu: CudaDevice) -> CudaDevice:
    """The GPU, for what a fake cannot do."""
    if SIMULATED:
        pytest.skip("needs a GPU")
    return gpu


@pytest.fixture
def kernels(machine: GpuMachine) -> AnyKernels:
    return machine.kernels
