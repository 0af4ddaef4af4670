"""What a ModelInfer request costs between the wire and the wire, without gRPC.

The bytes of a request to `simple` are decoded, run as `yais serve` runs them on the thread of a queue (all
that are in flight, then the queue is empty), and the answers encoded. Printed is the CPU time of the thread
per request, the best of several repetitions. See benchmarks/README.md.
"""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np

from yais.core.clock import NEVER, Deadline, monotonic
from yais.core.dispatcher import set_current_dispatcher
from yais.protocol import kserve_pb2 as pb
from yais.protocol.infer_request import decode_infer_request
from yais.rpc.metadata import Metadata
from yais.serving.infer import encode_response
from yais.serving.inference import infer
from yais.serving.options import ServerOptions
from yais.serving.server import InferenceServer

MODELS = Path(__file__).parents[1] / "examples" / "models"
IN_FLIGHT = (1, 8, 32, 128)
REQUESTS, REPETITIONS = 600, 40


class Queue:
    """A queue that runs empty when it is told to; see `yais.core.dispatcher.Dispatcher`."""

    def __init__(self) -> None:
        self._callbacks: list[Callable[[], None]] = []

    def when_drained(self, callback: Callable[[], None]) -> None:
        """Take what is to be called then."""
        self._callbacks.append(callback)

    def drain(self) -> None:
        """Run empty."""
        while self._callbacks:
            callbacks, self._callbacks = self._callbacks, []
            for callback in callbacks:
                callback()


class Call:
    """A call that has just arrived; see `yais.serving.caller.Caller`."""

    waited = 0
    protocol = "GRPC"
    deadline: Deadline = NEVER
    metadata = Metadata(())

    def __init__(self) -> None:
        self.accepted = monotonic()


def message() -> bytes:
    """Return the request of perf_analyzer."""
    request = pb.ModelInferRequest(model_name="simple", id="1")
    request.parameters["triton_enable_empty_final_response"].bool_param = True
    for name in ("INPUT0", "INPUT1"):
        request.inputs.add(name=name, datatype="INT32", shape=[1, 16])
        request.raw_input_contents.append(np.arange(16, dtype=np.int32).tobytes())
    return request.SerializeToString()


def main() -> None:
    """Measure and print."""
    options = ServerOptions((MODELS,), grpc_address="127.0.0.1", grpc_port=0, metrics_port=None)
    wire = message()
    with InferenceServer(options) as server:
        resources = server._resources
        gc.collect()
        gc.freeze()
        queue = Queue()
        set_current_dispatcher(queue)

        def serve(count: int) -> None:
            futures = [infer(resources, decode_infer_request(wire), Call()) for _ in range(count)]
            queue.drain()
            for future in futures:
                encode_response(future.result(1.0))

        for count in IN_FLIGHT:
            rounds = max(1, REQUESTS // count)
            best = float("inf")
            for _ in range(REPETITIONS):
                start = time.thread_time_ns()
                for _ in range(rounds):
                    serve(count)
                best = min(best, (time.thread_time_ns() - start) / (rounds * count))
            print(f"{count:4} in flight: {best / 1e3:5.1f} us per request")
        set_current_dispatcher(None)


if __name__ == "__main__":
    main()
