"""Servers that stand in for each other, as processes, and load that says what became of each request."""

from __future__ import annotations

import signal
import socket
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from serving_models import SOON, Wire, eventually, infer_request
from yais_command import Serving

from yais.client.connection import Connection
from yais.client.unary_transport import UnaryTransport
from yais.load.closed_load import ClosedLoad
from yais.load.recording import Recording
from yais.protocol import kserve_pb2 as pb
from yais.rpc.client import Channels

MODELS = Path(__file__).parents[2] / "examples/models"
MODEL_INFER = "/inference.GRPCInferenceService/ModelInfer"
ONES = np.ones((1, 16), np.int32)
REQUEST = infer_request("simple", {"INPUT0": ONES, "INPUT1": ONES}).SerializeToString()


@contextmanager
def reserved() -> Iterator[int]:
    """Keep a port for whoever listens on it with SO_REUSEPORT."""
    with socket.socket() as keeper:
        keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        keeper.bind(("127.0.0.1", 0))
        yield keeper.getsockname()[1]


class Server:
    """A `yais serve` of the model `simple`, which can be ended and started again at the same port."""

    def __init__(self, port: int, *options: object) -> None:
        self.port = port
        self.address = f"127.0.0.1:{port}"
        self._options = options
        self.start()

    def start(self) -> None:
        """Begin to start; `ready` waits."""
        models = ("--model-repository", MODELS, "--model-control-mode", "explicit", "--load-model", "simple")
        where = ("--grpc-address", "127.0.0.1", "--grpc-port", self.port, "--reuse-grpc-port", 1)
        only = ("--allow-http", 0, "--allow-metrics", 0, "--log-info", 0)
        self._serving = Serving(*models, *where, *only, *self._options)

    def ready(self) -> None:
        """Wait until it serves."""
        assert self._serving.port == self.port

    def terminate(self) -> None:
        """Send it SIGTERM: `ended` waits."""
        self._serving.process.send_signal(signal.SIGTERM)

    def ended(self) -> None:
        """Wait for its clean end."""
        assert self._serving.end() == (0, "")

    def drain(self) -> None:
        """Send it SIGTERM, and wait for its clean end."""
        self.terminate()
        self.ended()

    def kill(self) -> None:
        """Send it SIGKILL, and wait. Idempotent."""
        if self._serving.process.poll() is None:
            assert self._serving.end(signal.SIGKILL)[0] == -signal.SIGKILL

    def inferences(self) -> int:
        """Ask it, not a balancer, how many requests it has answered."""
        return inferences(self.port)


def inferences(port: int) -> int:
    """Ask the server at a port how many requests to `simple` it has answered."""
    with Wire(port) as wire:
        (simple,) = wire.call("ModelStatistics", pb.ModelStatisticsRequest(name="simple")).model_stats
    return simple.inference_stats.success.count


@contextmanager
def servers_with(*options: Sequence[object]) -> Iterator[list[Server]]:
    """Run servers, each with its options, that are ready; whatever becomes of them, none is left."""
    with ExitStack() as stack:
        servers = [Server(stack.enter_context(reserved()), *each) for each in options]
        for server in servers:
            stack.callback(server.kill)
        for server in servers:
            server.ready()
        yield servers


class Loads:
    """Requests in flight on several connections, until `stop`.

    Parameters
    ----------
    target, channel_options
        As those of `Channels`.
    connections, in_flight
        How many, and how many requests on each.
    headers
        Of each request.
    """

    def __init__(
        self,
        target: str | Sequence[str],
        *,
        connections: int = 4,
        in_flight: int = 4,
        headers: Sequence[tuple[str, str]] = (),
        **channel_options: Any,
    ) -> None:
        self.in_flight = connections * in_flight
        self._transports = [
            UnaryTransport(
                Channels(target, **channel_options),
                MODEL_INFER,
                Connection("", timeout=SOON, headers=headers),
            )
            for _ in range(connections)
        ]
        self._loads = [ClosedLoad(transport, [REQUEST], in_flight) for transport in self._transports]
        for load in self._loads:
            load.start()

    def completed(self) -> int:
        """Count the requests that were answered with OK."""
        return sum(load.recording().completed for load in self._loads)

    def more(self, count: int) -> None:
        """Wait until so many more are answered with OK."""
        enough = self.completed() + count
        eventually(lambda: self.completed() >= enough)

    def stop(self) -> Counter[str]:
        """End; return how many requests ended with which status, by name, but for OK."""
        recordings: list[Recording] = [load.stop(SOON) for load in self._loads]
        for transport in self._transports:
            transport.close()
        assert [recording.outstanding for recording in recordings] == [0] * len(recordings)
        failed: Counter[str] = Counter()
        for recording in recordings:
            failed.update({code.name: count for code, count in recording.failed.items()})
        return failed


BROKEN = {"UNAVAILABLE", "UNKNOWN", "INTERNAL"}
"""What clients and balancers say of requests that were in flight on a server that was killed."""
