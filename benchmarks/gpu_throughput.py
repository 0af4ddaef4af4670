"""Batches a second on a GPU: the bare engine in a loop, `InferRunner`, and gRPC."""

from __future__ import annotations

import collections
import contextlib
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.gpu_machine import twice_function
from yais.core.tensor import DataType, TensorSpec
from yais.engines.device_function import DeviceFunctionEngine
from yais.engines.device_tensors import DeviceTensors
from yais.engines.single_lane import single_lane
from yais.inference.manager import InferenceManager

if TYPE_CHECKING:
    from benchmarks.gpu_machine import GpuMachine

FLOATS = 3 * 224 * 224
"""Of an input: an image, as the original's networks take it."""

MILLISECONDS = 1.0
"""That a batch computes on an idle GPU, as the original's did (ResNet-50, INT8, batch 1)."""

PART = 0.4
"""Of the GPU that a batch fills, so that 8 at once are 2.5 times as fast as one, as the original's were."""

MODEL = "twice"
_CLIENT = Path(__file__).parent / "gpu_client.py"
_PER_TOKEN = 4  # requests in flight
_WARM_UP = 1.0  # seconds
_LAUNCHES = 20  # that are timed together


@dataclass(frozen=True)
class Throughput:
    """Batches a second with so many tokens, of each way to ask.

    Attributes
    ----------
    bare
        The engine by itself: as many threads as tokens, each with memory and a stream of its own.
    runner
        `InferRunner.infer`, in process.
    grpc
        Another process asks over gRPC, tensors on the wire.
    device_bytes
        Of the GPU's memory, for lanes and tokens.
    """

    tokens: int
    bare: float
    runner: float
    grpc: float
    device_bytes: int


class Network:
    """A model that keeps a part of the GPU busy for a set time: y = 2x, for batches of one."""

    def __init__(self, machine: GpuMachine, milliseconds: float = MILLISECONDS, floats: int = FLOATS) -> None:
        self.machine = machine
        self.floats = floats
        self.rounds = 0
        self.rounds = _rounds(self, milliseconds)

    def engine(self) -> DeviceFunctionEngine:
        """Return a new engine of it."""
        specs = [TensorSpec(name, DataType.FP32, (-1, self.floats)) for name in ("x", "y")]
        function = twice_function(self.machine.kernels, self.rounds, PART)
        return DeviceFunctionEngine(function, specs[:1], specs[1:], max_batch=1, device=self.machine.device)

    def input(self) -> np.ndarray[Any, np.dtype[np.float32]]:
        """Return a batch of one."""
        return np.arange(self.floats, dtype=np.float32).reshape(1, -1)


def _rounds(network: Network, milliseconds: float) -> int:
    """Return how much arithmetic takes so long; the GPU's clock is up by then."""
    machine = network.machine
    if machine.simulated:
        return int(milliseconds * 1e6)
    stream, rounds = machine.device.stream(), 1000
    with machine.device.memory().allocate(8 * network.floats) as memory:
        end = time.perf_counter() + _WARM_UP
        while True:
            begin = time.perf_counter()
            for _ in range(_LAUNCHES):
                x, y = memory.handle, memory.handle + 4 * network.floats
                machine.kernels.twice(stream, x, y, network.floats, rounds, part=PART)
            stream.sync()
            passed = time.perf_counter() - begin
            rounds = max(1, int(rounds * min(_LAUNCHES * milliseconds / 1e3 / passed, 100.0)))
            if time.perf_counter() > end:
                break
    stream.close()
    return rounds


def bare(network: Network, threads: int, seconds: float) -> float:
    """Return the batches a second of the engine alone, on so many threads."""
    counts = [0] * threads
    barrier = threading.Barrier(threads + 1)
    end = threading.Event()

    def work(index: int) -> None:
        engine, array = network.engine(), network.input()
        size = DeviceTensors.size([array.nbytes, array.nbytes])
        with single_lane(network.machine.device, device=size, staging=array.nbytes) as (lane, scratch):
            source = network.machine.device.staging().allocate(array.nbytes)
            pinned = source.array(np.float32, array.shape)
            pinned[...] = array
            barrier.wait(60)
            while not end.is_set():
                execution = engine.begin([pinned], lane)
                execution.launch(scratch)
                execution.wait()
                execution.outputs()
                lane.staging.reset()
                counts[index] += 1
            del pinned
            source.close()

    workers = [threading.Thread(target=work, args=(index,)) for index in range(threads)]
    for worker in workers:
        worker.start()
    barrier.wait(60)
    begin = time.perf_counter()
    time.sleep(seconds)
    total, passed = sum(counts), time.perf_counter() - begin
    end.set()
    for worker in workers:
        worker.join(60)
    return total / passed


@contextlib.contextmanager
def served(network: Network, tokens: int) -> Iterator[InferenceManager]:
    """Yield a manager that has the network, ready."""
    with contextlib.closing(
        InferenceManager(max_exec_concurrency=tokens, gpus=lambda _: network.machine.device)
    ) as manager:
        manager.register(MODEL, network.engine(), max_batch_size=1)
        manager.allocate()
        yield manager


def runner(manager: InferenceManager, network: Network, in_flight: int, seconds: float) -> float:
    """Return the batches a second that one thread gets of `InferRunner`."""
    model, array = manager.infer_runner(MODEL), network.input()
    np.testing.assert_array_equal(model.infer(x=array).get(timeout=60)["y"], 2 * array)
    waiting = collections.deque(model.infer(x=array) for _ in range(in_flight))
    count, begin = 0, time.perf_counter()
    while time.perf_counter() < begin + seconds:
        waiting.popleft().get(timeout=60)
        waiting.append(model.infer(x=array))
        count += 1
    passed = time.perf_counter() - begin
    for future in waiting:
        future.get(timeout=60)
    return count / passed


def asked(network: Network, port: int, in_flight: int, seconds: float, way: str = "wire") -> dict[str, float]:
    """Return the rate and the median latency, s, that another process gets over gRPC."""
    command = [sys.executable, str(_CLIENT), "--port", str(port), "--model", MODEL, "--way", way]
    command += ["--floats", str(network.floats), "--in-flight", str(in_flight), "--seconds", str(seconds)]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=seconds * 3 + 60, check=False)
    if answer.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{answer.stderr}")
    found: dict[str, float] = json.loads(answer.stdout)
    return found


def throughput(network: Network, tokens: int, seconds: float) -> Throughput:
    """Measure with so many tokens."""
    alone = bare(network, tokens, seconds)
    with served(network, tokens) as manager:
        held = network.machine.device.statistics().held_bytes.get("device", 0)
        inside = runner(manager, network, _PER_TOKEN * tokens, seconds)
        server = manager.serve(0, block=False, address="127.0.0.1")
        try:
            outside = asked(network, server.port, _PER_TOKEN * tokens, seconds)["rate"]
        finally:
            server.stop()
    return Throughput(tokens, alone, inside, outside, held)


@dataclass(frozen=True)
class Transport:
    """What a client in another process gets, by where tensors are."""

    way: str
    rate: float
    p50: float


def transports(network: Network, tokens: int, seconds: float) -> list[Transport]:
    """Measure tensors on the wire, in system shared memory and in CUDA's, which needs a GPU."""
    ways = ("wire", "system") if network.machine.simulated else ("wire", "system", "cuda")
    with served(network, tokens) as manager:
        server = manager.serve(0, block=False, address="127.0.0.1")
        try:
            return [
                Transport(way, **asked(network, server.port, _PER_TOKEN * tokens, seconds, way))
                for way in ways
            ]
        finally:
            server.stop()
