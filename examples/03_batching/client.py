"""Calls the front many times at once and tells how the calls were batched and spread. See README.md."""

from __future__ import annotations

import argparse
import math
import sys
from collections import Counter

from batching_pb2 import DESCRIPTOR, ComputeReply, ComputeRequest

import yais
from yais.rpc.client import Channels, ClientUnary

COMPUTE = DESCRIPTOR.services_by_name["Compute"].methods_by_name["Compute"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=50049)
    parser.add_argument("--count", type=int, default=256)
    arguments = parser.parse_args()

    values = range(arguments.count)
    with Channels(f"localhost:{arguments.port}") as channels:
        compute: ClientUnary[ComputeRequest, ComputeReply] = ClientUnary(channels, COMPUTE, timeout=10.0)
        calls = [compute.submit(ComputeRequest(value=value)) for value in values]
        try:
            replies = [call.result() for call in calls]
        except yais.YaisError as error:
            sys.exit(f"{error.code.name}: {error}")

    if any(reply.root != math.sqrt(value) for value, reply in zip(values, replies, strict=True)):
        sys.exit("an answer is wrong")
    batches = {(reply.backend, reply.batch): reply.batch_size for reply in replies}
    print(f"{len(replies)} answers in {len(batches)} batches of at most {max(batches.values())}")
    for backend, count in sorted(Counter(backend for backend, _ in batches).items()):
        print(f"{backend}: {count} batches")


if __name__ == "__main__":
    main()
