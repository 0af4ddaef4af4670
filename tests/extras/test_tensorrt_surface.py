"""The bindings of TensorRT-RTX as they are installed: their names, and what works without a GPU."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import tensorrt_rtx_bindings as trt

from yais.engines.tensorrt_log import complaints
from yais.engines.tensorrt_plan import PlanHeader
from yais.engines.tensorrt_runtime import TensorRTRuntime, tensorrt_runtime
from yais.errors import FailedPrecondition, InvalidArgument
from yais.testing.cuda import FakeCuda
from yais.testing.tensorrt import FakeTensorRT

RECORDED = Path(__file__).parents[1] / "engines" / "surfaces" / "tensorrt-rtx-1.7.1.json"


def members(kind: type) -> set[str]:
    return {name for name in dir(kind) if not name.startswith("_")}


@pytest.fixture(scope="module")
def plan() -> bytes:
    """A real plan of y = relu(x), for SM 8.9."""
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(0)
    x = network.add_input("x", trt.float32, (-1, 4))
    y = network.add_activation(x, trt.ActivationType.RELU).get_output(0)
    y.name = "y"
    network.mark_output(y)
    profile = builder.create_optimization_profile()
    profile.set_shape("x", (1, 4), (4, 4), (8, 4))
    config = builder.create_builder_config()
    config.add_optimization_profile(profile)
    config.num_compute_capabilities = 1
    config.set_compute_capability(trt.ComputeCapability.SM89, 0)
    return bytes(builder.build_serialized_network(network, config))


def test_what_was_recorded_is_there() -> None:
    recorded: dict[str, Any] = json.loads(RECORDED.read_text())
    if recorded["version"] == trt.__version__:
        ours = {"tensorrt_rtx", "tensorrt_rtx_libs", "ctypes", "os", "sys", "warnings"}  # modules of its own
        assert set(recorded["names"]) - ours == members(trt) - ours
    for name, names in recorded["classes"].items():
        assert set(names) <= members(getattr(trt, name)), name


def test_the_fake_has_nothing_else() -> None:
    with FakeCuda() as cuda, FakeTensorRT(cuda, trt.__version__, "tensorrt_rtx") as fake:
        for name in members(fake.module):
            assert members(getattr(fake.module, name)) <= members(getattr(trt, name)), name


def test_the_header_of_a_real_plan(plan: bytes) -> None:
    assert str(PlanHeader.of(plan)) == f"TensorRT-RTX {trt.__version__}"
    with pytest.raises(InvalidArgument, match=f"got {len(plan) - 1} bytes of a plan, expected {len(plan)}"):
        PlanHeader.of(plan[:-1])


def test_it_is_found_and_speaks_through_our_log(caplog: pytest.LogCaptureFixture) -> None:
    runtime = tensorrt_runtime("tensorrt_rtx")
    assert runtime.flavour == "tensorrt_rtx" and trt.__version__ in str(runtime)
    with caplog.at_level(logging.DEBUG, "yais.tensorrt"), complaints() as lines:
        runtime._logger.log(trt.ILogger.Severity.ERROR, "one")
        runtime._logger.log(trt.ILogger.Severity.VERBOSE, "two")
    assert lines == ["one"]
    assert [(each.levelno, each.message) for each in caplog.records] == [
        (logging.ERROR, "one"),
        (logging.DEBUG, "two"),
    ]


def test_why_a_plan_cannot_be_loaded_is_told(plan: bytes) -> None:
    runtime = TensorRTRuntime(trt)
    broken = plan[:64] + bytes(len(plan) - 64)
    with pytest.raises((InvalidArgument, FailedPrecondition), match=r"cannot load the plan: .*Error Code"):
        runtime.load(broken, PlanHeader.of(broken))


def test_allocators_can_be_given() -> None:
    from yais.engines.tensorrt_weights import PlanAllocations

    with FakeCuda() as cuda:
        allocations = PlanAllocations(cuda.device())
        allocator = allocations.allocator(trt)
        trt.Runtime(TensorRTRuntime(trt)._logger).gpu_allocator = allocator
        address = allocator.allocate_async(1000, 256, 0, 0)
        assert address % 256 == 0 and cuda.held == {"managed": 1000}
        assert allocator.reallocate(address, 256, 2000) == 0
        assert allocator.deallocate_async(address, 0)
        assert allocator.deallocate(0) and not allocator.deallocate(12345)
        allocations.loaded()
        assert cuda.held == {}
        assert allocator.deallocate(allocator.allocate(10, 0, 0))
