"""Helpers for tests: those of this package, and those of services built with it.

- `serving`: a server on a free port and a channel to it, while a block lasts.
- `FaultyNetwork`: a connection that stalls, breaks or is cut in the middle of a message, on command.
- `ManualClock`: time that passes when a test says so.
- `FakeMachine`: the files of a machine with other CPUs, nodes, GPUs or limits than this one.
- `FakeEngine`: a model that computes with a function and can be stopped and made to fail.
- `SimulatedGpu`: a GPU that takes time and computes nothing, on any clock.
- `FakeDevice`, `FakeDeviceEngine`: a GPU and a model on it, in host memory, each phase of which can be held.
- `yais.testing.cuda.FakeCuda`, `yais.testing.tensorrt.FakeTensorRT`: what CUDA and TensorRT are called by.
"""

from yais.testing.clock import ManualClock
from yais.testing.device import FakeDevice
from yais.testing.device_engine import FakeDeviceEngine
from yais.testing.engine import FakeEngine
from yais.testing.machine import FakeMachine
from yais.testing.network import FaultyNetwork
from yais.testing.server import Served, serving
from yais.testing.simulated_gpu import SimulatedGpu

__all__ = [
    "FakeDevice",
    "FakeDeviceEngine",
    "FakeEngine",
    "FakeMachine",
    "FaultyNetwork",
    "ManualClock",
    "Served",
    "SimulatedGpu",
    "serving",
]
