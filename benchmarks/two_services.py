"""What shared memory is worth between two services: examples/05_image_decode with it and without.

usage: python -m benchmarks.two_services [--rounds 5] [--count 1000] [--in-flight 32]

Without it pixels go in messages. Both ways in turn, in every round, before the same inference server; the
medians of all rounds are printed. CPU time is that of the servers, without the client.
"""

from __future__ import annotations

import argparse
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from benchmarks.cpu_time import cpu_seconds
from benchmarks.processes import START_SECONDS, BenchmarkError, child, free_port, output_of, tail

EXAMPLE = Path("examples/05_image_decode")
WAYS = {"shared memory": 64, "messages": 0}


@contextmanager
def running(name: str, logs: Path, command: list[str], port: int) -> Iterator[int]:
    """Run a server of Python until the block ends; yield its process."""
    log = logs / f"{name}.log"
    with child([sys.executable, *command], log) as process:
        give_up = time.monotonic() + START_SECONDS
        while not serves(port):
            if process.poll() is not None or time.monotonic() > give_up:
                raise BenchmarkError(f"{name} does not serve:\n{tail(log.read_text(encoding='utf-8'))}")
            time.sleep(0.05)
        yield process.pid


def serves(port: int) -> bool:
    """Return whether the server on a port says that it serves."""
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=1.0)
        except grpc.RpcError:
            return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def asked(port: int, count: int, in_flight: int) -> float:
    """Ask for so many images; return images/s."""
    command = [sys.executable, str(EXAMPLE / "client.py"), "--port", str(port)]
    command += ["--count", str(count), "--in-flight", str(in_flight)]
    said = output_of(command, 600.0)
    found = re.search(r": (\d+)/s", said)
    if found is None:
        raise BenchmarkError(f"the client said: {said}")
    return float(found[1])


def measured(rounds: int, count: int, in_flight: int) -> dict[str, list[tuple[float, float]]]:
    """Return images/s and CPU ms per image of each round, by the way."""
    results: dict[str, list[tuple[float, float]]] = {way: [] for way in WAYS}
    with ExitStack() as stack:
        logs = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        target = free_port()
        serve = ["-m", "yais.tools.main", "serve", "--model-repository", str(EXAMPLE / "models")]
        serve += ["--grpc-address", "127.0.0.1", "--grpc-port", str(target), "--allow-http", "0"]
        serve += ["--allow-metrics", "0"]
        processes = [stack.enter_context(running("inference", logs, serve, target))]
        ports = {}
        for way, slots in WAYS.items():
            ports[way] = port = free_port()
            command = [str(EXAMPLE / "service.py"), "--port", str(port), "--slots", str(slots)]
            command += ["--target", f"127.0.0.1:{target}", "--name", f"yais-benchmark-{slots}"]
            processes.append(stack.enter_context(running(f"image-{slots}", logs, command, port)))
        for number in range(rounds + 1):
            for way, port in ports.items():
                before = sum(map(cpu_seconds, processes))
                rate = asked(port, count, in_flight)
                used = sum(map(cpu_seconds, processes)) - before
                if number:  # the first is to warm up
                    results[way].append((rate, used / count * 1000))
    return results


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--count", type=int, default=1000, help="images in each round")
    parser.add_argument("--in-flight", type=int, default=32)
    arguments = parser.parse_args()
    try:
        results = measured(arguments.rounds, arguments.count, arguments.in_flight)
    except BenchmarkError as error:
        sys.exit(str(error))
    print("| pixels by | images/s | CPU ms/image |\n| --- | --: | --: |")
    for way, rounds in results.items():
        rate, used = (statistics.median(each) for each in zip(*rounds, strict=True))
        print(f"| {way} | {rate:.0f} | {used:.2f} |")


if __name__ == "__main__":
    main()
