"""What a request costs on each side of the link between a frontend and the engine process, without gRPC.

A frontend decodes requests to `simple`, or of 600 KB, sends so many together to a real engine process, and
encodes the answers. Printed is the CPU time of each process per request, and how long such a round takes. See
benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import contextlib
import resource
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np

from benchmarks.cpu_time import cpu_seconds
from benchmarks.infer_cost import IN_FLIGHT, Call, Queue, message
from benchmarks.serving_models import FIRST, LARGE, write_onnx
from yais.core.dispatcher import set_current_dispatcher
from yais.core.future import Future
from yais.errors import Unimplemented
from yais.protocol import kserve_pb2 as pb
from yais.protocol.infer_request import decode_infer_request
from yais.rpc.metadata import Metadata
from yais.serving.frontends.link import EngineLink
from yais.serving.frontends.link_bundles import Bundles
from yais.serving.frontends.link_server import FrontendLinks
from yais.serving.infer import encode_response
from yais.serving.inference import infer
from yais.serving.options import ServerOptions
from yais.serving.server import InferenceServer

SOON = 60.0  # seconds


def large() -> bytes:
    """Return a request of 600 KB."""
    request = pb.ModelInferRequest(model_name=FIRST)
    request.inputs.add(name="X", datatype="FP32", shape=[1, LARGE])
    request.raw_input_contents.append(np.arange(LARGE, dtype=np.float32).tobytes())
    return request.SerializeToString()


REQUESTS = {"simple": message, "600 KB": large}


def engine(descriptor: int, models: Path, *, bundles: bool) -> None:
    """Serve what comes in on a descriptor until the other end is gone."""
    gone = threading.Event()
    options = ServerOptions((models,), grpc_address="127.0.0.1", grpc_port=0, metrics_port=None)

    def call(method: str, _request: bytes, _metadata: Metadata | None) -> Future[bytes]:
        raise Unimplemented(method)

    with InferenceServer(options) as server:
        resources = server._resources
        links = FrontendLinks(
            partial(infer, resources),
            call,
            bundles=Bundles(resources) if bundles else None,
            gone=lambda _: gone.set(),
        )
        links.add(0, socket.socket(fileno=descriptor))
        links.push("ready", value=True)
        gone.wait()
        links.close(SOON)


@contextlib.contextmanager
def connected(models: Path, *, bundles: bool) -> Iterator[tuple[EngineLink, int]]:
    """Start an engine process; yield a frontend's end of the link, and the number of the process."""
    ours, theirs = socket.socketpair()
    ready = threading.Event()
    link = EngineLink(told=lambda _topic, _value: ready.set())
    command = [sys.executable, __file__, "--engine", str(theirs.fileno()), "--models", str(models)]
    with theirs:
        process = subprocess.Popen(
            command + ["--single"] * (not bundles), pass_fds=[theirs.fileno()], start_new_session=True
        )
    try:
        link.connect(ours)
        if not ready.wait(SOON):
            raise TimeoutError("the engine process did not start")
        yield link, process.pid
    finally:
        link.close(1.0)
        process.wait(SOON)


def measure(link: EngineLink, pid: int, wire: bytes, count: int, seconds: float) -> str:
    """Send `count` requests at a time; return a row of the table."""
    queue = Queue()
    set_current_dispatcher(queue)
    requests = 0
    start, engine_start, own_start = time.perf_counter(), cpu_seconds(pid), time.process_time()
    while time.perf_counter() - start < seconds:
        futures = [link.infer(decode_infer_request(wire), Call()) for _ in range(count)]
        queue.drain()
        for future in futures:
            encode_response(future.result(SOON))
        requests += count
    passed, used = time.perf_counter() - start, cpu_seconds(pid) - engine_start
    own = time.process_time() - own_start
    set_current_dispatcher(None)
    return (
        f"| {count} | {used / requests * 1e6:.1f} | {own / requests * 1e6:.1f} | "
        f"{requests / passed:.0f} | {passed / requests * count * 1e6:.0f} |"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement")
    parser.add_argument("--single", action="store_true", help="send every request by itself, without bundles")
    parser.add_argument("--engine", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--models", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.engine is not None:
        engine(options.engine, options.models, bundles=not options.single)
        return
    with tempfile.TemporaryDirectory() as folder:
        write_onnx(Path(folder))
        for name, request in REQUESTS.items():
            print(f"\n{name}\n\n| in flight | engine µs | frontend µs | requests/s | round µs |")
            print("| --- | --- | --- | --- | --- |")
            with connected(Path(folder), bundles=not options.single) as (link, pid):
                measure(link, pid, request(), max(IN_FLIGHT), 0.5)  # what is done once only
                for count in IN_FLIGHT:
                    print(measure(link, pid, request(), count, options.seconds), flush=True)
    print(f"\nlargest memory of the frontend: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10} MiB")


if __name__ == "__main__":
    main()
