"""A closed-loop load generator: C requests in flight, each answer starts the next one.

It prints one JSON object: requests, seconds, requests/s, p50 and p99 in µs, the CPU time that the generator
itself and, with --server-pid, the server spent on each request. Of workloads of streams C are open, and what
is counted are answers.
"""

# Measured on 2 cores against a minimal completion-queue echo server, one process, requests/s at 1 / 8 / 32
# in flight, and the generator's own CPU time per request at 32 (medians of three runs, grpcio 1.85):
#
#   grpc.aio with uvloop                          2.8k /  9.9k / 12.4k   87 µs
#   the same, GRPC_EXPERIMENTS below              3.0k / 10.6k / 14.1k   55 µs
#   the channel's completion queue                3.2k / 14.1k / 16.7k   66 µs
#   the same, GRPC_EXPERIMENTS below              3.9k / 21.7k / 24.7k   40 µs   <- taken
#   the same, two channels, a thread each            - / 13.7k / 19.6k   49 µs   (p99 of 4 ms: the GIL)
#
# and, in another run, sync futures with callbacks 2.7k / 7.0k / 9.2k (107 µs) where grpc.aio made
# 2.1k / 8.1k / 12.8k and the channel's queue 2.9k / 10.2k / 14.7k. Hence one channel, driven directly:
# the thread that waits for the answer is then also the one that reads it from the socket.

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("GRPC_EXPERIMENTS", "-event_engine_client")
sys.path.insert(0, str(Path(__file__).parents[1]))

from grpc._cython import cygrpc  # type: ignore[attr-defined]  # after the environment it reads

from benchmarks.cpu_time import cpu_seconds
from benchmarks.stream_loops import PingPong, Replies
from benchmarks.workloads import WORKLOADS, Workload


@dataclass(frozen=True)
class Result:
    """What was measured in one window; latencies and CPU time in microseconds."""

    requests: int
    seconds: float
    rate: float
    p50: float
    p99: float
    load_cpu: float
    server_cpu: float | None


class Unary:
    """Calls in flight on one channel, driven by one thread."""

    def __init__(self, target: str, workload: Workload) -> None:
        self._channel = cygrpc.Channel(target.encode(), (), None)
        self._method = workload.method.encode()
        self._request = workload.request
        self._expected = workload.expected
        self._in_flight = 0

    def start(self) -> None:
        """Put one more call in flight."""
        operations = (
            cygrpc.SendInitialMetadataOperation(None, 0),
            cygrpc.SendMessageOperation(self._request, 0),
            cygrpc.SendCloseFromClientOperation(0),
            cygrpc.ReceiveInitialMetadataOperation(0),
            cygrpc.ReceiveMessageOperation(0),
            cygrpc.ReceiveStatusOnClientOperation(0),
        )
        self._channel.integrated_call(
            0, self._method, None, None, None, None, ((operations, time.perf_counter()),), None
        )
        self._in_flight += 1

    def finish(self) -> Any:
        """Wait for one call to end; return its event, or raise if it failed."""
        event = self._channel.next_call_event()
        self._in_flight -= 1
        status = event.batch_operations[5]
        if status.code() != cygrpc.StatusCode.ok:
            raise SystemExit(f"the server answered status {status.code()}: {status.details()}")
        return event

    def check(self) -> None:
        """Make one call and look at its answer."""
        self.start()
        answer = self.finish().batch_operations[4].message()
        if not all(part in answer for part in self._expected):
            raise SystemExit(f"the server's answer is wrong: {answer!r}")

    def run(self, seconds: float) -> tuple[int, list[float]]:
        """Go on for a while; return how many calls ended, and how long each took, in seconds."""
        latencies = []
        end = time.perf_counter() + seconds
        now = 0.0
        while now < end:
            event = self.finish()
            now = time.perf_counter()
            latencies.append(now - event.tag)
            self.start()
        return len(latencies), latencies

    def drain(self) -> None:
        """Wait for the calls in flight."""
        while self._in_flight:
            self.finish()


LOOPS: dict[str, type[Any]] = {"unary": Unary, "ping-pong": PingPong, "replies": Replies}


def measure(
    target: str, workload: Workload, concurrency: int, warmup: float, seconds: float, server_pid: int | None
) -> Result:
    """Load a server, first for a warm-up that does not count."""
    loop = LOOPS[workload.kind](target, workload)
    loop.check()
    for _ in range(concurrency):
        loop.start()
    loop.run(warmup)
    cpu = cpu_seconds(server_pid) if server_pid else 0.0
    begin, own = time.perf_counter(), time.process_time()
    count, latencies = loop.run(seconds)
    elapsed, own = time.perf_counter() - begin, time.process_time() - own
    cpu = cpu_seconds(server_pid) - cpu if server_pid else 0.0
    if not latencies:
        raise SystemExit(f"nothing ended within {seconds} s")
    loop.drain()
    latencies.sort()
    p50, p99 = (latencies[int(len(latencies) * quantile)] * 1e6 for quantile in (0.50, 0.99))
    server = cpu * 1e6 / count if server_pid else None
    return Result(count, elapsed, count / elapsed, p50, p99, own * 1e6 / count, server)


def main() -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", required=True, help="HOST:PORT of the server")
    parser.add_argument("--workload", choices=sorted(WORKLOADS), default="echo")
    parser.add_argument("--concurrency", type=int, default=1, help="requests in flight")
    parser.add_argument("--warmup", type=float, default=0.5, help="seconds before the measured window")
    parser.add_argument("--seconds", type=float, default=2.0, help="the measured window")
    parser.add_argument("--server-pid", type=int, help="report the CPU time of this process and its session")
    options = parser.parse_args()
    # A server that stops answering ends the program, wherever it waits.
    signal.alarm(int(options.warmup + options.seconds) + 20)
    workload = WORKLOADS[options.workload]
    result = measure(
        options.target, workload, options.concurrency, options.warmup, options.seconds, options.server_pid
    )
    print(json.dumps(asdict(result)), flush=True)


if __name__ == "__main__":
    main()
