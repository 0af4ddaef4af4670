"""Asks the inference service, one request after the other or many at once. See README.md."""

from __future__ import annotations

import argparse
import sys
import threading
import time

from inference_service_pb2 import DESCRIPTOR, ComputeReply, ComputeRequest, Range, StatusReply, StatusRequest

import yais
from yais.rpc.client import Call, Channels, ClientUnary

RPCS = DESCRIPTOR.services_by_name["Inference"].methods_by_name

Compute = ClientUnary[ComputeRequest, ComputeReply]


def sync(compute: Compute, requests: list[ComputeRequest]) -> list[ComputeReply]:
    """Ask one after the other."""
    return [compute.call(request) for request in requests]


def at_once(compute: Compute, requests: list[ComputeRequest], in_flight: int) -> list[ComputeReply]:
    """Ask with so many on their way at a time: more wait in line at the server, and gain nothing."""
    room = threading.Semaphore(in_flight)
    calls: list[Call[ComputeReply]] = []
    for request in requests:
        room.acquire()
        call = compute.submit(request)
        call.add_done_callback(lambda _: room.release())
        calls.append(call)
    return [call.result() for call in calls]


def report(replies: list[ComputeReply], seconds: float) -> None:
    count = len(replies)
    images = sum(len(reply.digits) for reply in replies)
    total = sum(reply.total_seconds for reply in replies) / count
    compute = sum(reply.compute_seconds for reply in replies) / count
    print(f"{count} requests, {images} images in {seconds:.2f} s: {count / seconds:.0f} requests/s")
    print(f"in the service {total * 1000:.2f} ms, of which {compute * 1000:.2f} ms in the model")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=50051)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--batch", type=int, default=1, help="images in each request")
    parser.add_argument("--in-flight", type=int, default=1, help="requests at a time; 1: one after the other")
    arguments = parser.parse_args()
    if min(arguments.count, arguments.batch, arguments.in_flight) < 1:
        parser.error("got less than 1 for --count, --batch or --in-flight, expected at least 1")

    with Channels(f"localhost:{arguments.port}") as channels:
        compute: Compute = ClientUnary(channels, RPCS["Compute"], timeout=30.0)
        status: ClientUnary[StatusRequest, StatusReply] = ClientUnary(channels, RPCS["Status"], timeout=5.0)
        try:
            images = status.call(StatusRequest()).images
            firsts = [
                number * arguments.batch % max(1, images - arguments.batch)
                for number in range(arguments.count)
            ]
            requests = [ComputeRequest(own=Range(first=first, count=arguments.batch)) for first in firsts]
            began = time.perf_counter()
            if arguments.in_flight == 1:
                replies = sync(compute, requests)
            else:
                replies = at_once(compute, requests, arguments.in_flight)
            report(replies, time.perf_counter() - began)
            print(f"load ratio {status.call(StatusRequest()).load_ratio:.1f}")
        except yais.YaisError as error:
            sys.exit(f"{error.code.name}: {error}")


if __name__ == "__main__":
    main()
