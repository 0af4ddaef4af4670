"""A client of gpu_throughput.py: requests in flight, with tensors on the wire or in shared memory."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import grpc
import numpy as np
import numpy.typing as npt

import yais  # noqa: F401 - before grpc
from yais.protocol import kserve_pb2 as pb

SERVICE = "/inference.GRPCInferenceService/"
WAYS = ("wire", "system", "cuda")

Floats = npt.NDArray[np.float32]


def ask(channel: grpc.Channel, rpc: str, request: Any, answer: type[Any]) -> Any:
    """Call an RPC once."""
    call = channel.unary_unary(
        SERVICE + rpc,
        request_serializer=type(request).SerializeToString,
        response_deserializer=answer.FromString,
    )
    return call(request, timeout=30)


def request_of(model: str, array: Floats) -> pb.ModelInferRequest:
    """Return a request of one input x and one output y, without contents."""
    request = pb.ModelInferRequest(model_name=model)
    request.inputs.add(name="x", datatype="FP32", shape=array.shape)
    request.outputs.add(name="y")
    return request


def place(parameters: Any, region: str, offset: int, size: int) -> None:
    """Say where a tensor is."""
    parameters["shared_memory_region"].string_param = region
    parameters["shared_memory_offset"].int64_param = offset
    parameters["shared_memory_byte_size"].int64_param = size


@contextlib.contextmanager
def on_the_wire(channel: grpc.Channel, model: str, array: Floats) -> Iterator[tuple[bytes, Any]]:  # noqa: ARG001
    """Yield a request, and what returns the output of its answer."""
    request = request_of(model, array)
    request.raw_input_contents.append(array.tobytes())
    yield request.SerializeToString(), lambda answer: np.frombuffer(answer.raw_output_contents[0], np.float32)


@contextlib.contextmanager
def in_system_memory(channel: grpc.Channel, model: str, array: Floats) -> Iterator[tuple[bytes, Any]]:
    """Yield the same with tensors in a region of this machine."""
    from yais.memory.shared_region import SharedRegion

    size = array.nbytes
    with SharedRegion.create(2 * size) as region:
        name = region.name.lstrip("/")
        register = pb.SystemSharedMemoryRegisterRequest(name=name, key=region.name, byte_size=2 * size)
        ask(channel, "SystemSharedMemoryRegister", register, pb.SystemSharedMemoryRegisterResponse)
        region.view(0, size)[:] = array.tobytes()
        request = request_of(model, array)
        place(request.inputs[0].parameters, name, 0, size)
        place(request.outputs[0].parameters, name, size, size)
        yield request.SerializeToString(), lambda _: np.frombuffer(bytes(region.view(size, size)), np.float32)
        unregister = pb.SystemSharedMemoryUnregisterRequest(name=name)
        ask(channel, "SystemSharedMemoryUnregister", unregister, pb.SystemSharedMemoryUnregisterResponse)


@contextlib.contextmanager
def in_cuda_memory(channel: grpc.Channel, model: str, array: Floats) -> Iterator[tuple[bytes, Any]]:
    """Yield the same with tensors in a region of the GPU."""
    from yais.memory.cuda.device import cuda_device

    size, device = array.nbytes, cuda_device(0)
    stream = device.stream()
    back = np.zeros(array.size, np.float32)

    def output(_: Any) -> Floats:
        stream.copy_out(back, memory.handle + size)
        stream.sync()
        return back

    with device.memory().allocate(2 * size) as memory:
        stream.copy_in(memory.handle, array)
        stream.sync()
        handle = device.export(memory)
        register = pb.CudaSharedMemoryRegisterRequest(
            name="gpu", raw_handle=handle, device_id=0, byte_size=2 * size
        )
        ask(channel, "CudaSharedMemoryRegister", register, pb.CudaSharedMemoryRegisterResponse)
        request = request_of(model, array)
        place(request.inputs[0].parameters, "gpu", 0, size)
        place(request.outputs[0].parameters, "gpu", size, size)
        yield request.SerializeToString(), output
        unregister = pb.CudaSharedMemoryUnregisterRequest(name="gpu")
        ask(channel, "CudaSharedMemoryUnregister", unregister, pb.CudaSharedMemoryUnregisterResponse)
    stream.close()


def load(channel: grpc.Channel, request: bytes, in_flight: int, seconds: float) -> dict[str, float]:
    """Keep requests in flight for so long; return the rate and the median latency."""
    call: Any = channel.unary_unary(SERVICE + "ModelInfer")  # bytes in, bytes out
    free = threading.Semaphore(in_flight)
    times: list[float] = []
    failures: list[grpc.RpcError] = []
    begin = time.perf_counter()
    while time.perf_counter() < begin + seconds and not failures:
        free.acquire()
        now = time.perf_counter()

        def done(future: Any, sent: float = now) -> None:
            if future.code() is grpc.StatusCode.OK:
                times.append(time.perf_counter() - sent)
            else:
                failures.append(future)
            free.release()

        call.future(request, timeout=30).add_done_callback(done)
    for _ in range(in_flight):
        free.acquire()
    if failures:
        raise failures[0]
    return {"rate": len(times) / (time.perf_counter() - begin), "p50": median(times)}


def main() -> None:
    """Measure one way, and print it as JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--way", choices=WAYS, default=WAYS[0])
    parser.add_argument("--floats", type=int, required=True, help="of the one input")
    parser.add_argument("--in-flight", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=3.0)
    given = parser.parse_args()
    array = np.arange(given.floats, dtype=np.float32).reshape(1, -1)
    options: list[tuple[str, Any]] = [
        ("grpc.max_receive_message_length", -1),
        ("grpc.max_send_message_length", -1),
    ]
    with contextlib.ExitStack() as stack:
        channel = stack.enter_context(grpc.insecure_channel(f"127.0.0.1:{given.port}", options))
        way: Any = {"wire": on_the_wire, "system": in_system_memory, "cuda": in_cuda_memory}[given.way]
        request, output = stack.enter_context(way(channel, given.model, array))
        answer = ask(channel, "ModelInfer", pb.ModelInferRequest.FromString(request), pb.ModelInferResponse)
        np.testing.assert_array_equal(output(answer), 2 * array[0])
        load(channel, request, given.in_flight, given.seconds / 5)  # warms up
        print(json.dumps(load(channel, request, given.in_flight, given.seconds)))


if __name__ == "__main__":
    main()
