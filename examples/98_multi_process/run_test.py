"""Throughput or latency of N processes that serve the same model, each with as many requests in flight."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack

from copies import PATIENCE, copies

from yais.client.connection import Connection
from yais.client.grpc_endpoint import GrpcEndpoint
from yais.client.infer_call import InferCall
from yais.errors import YaisError
from yais.load.closed_load import ClosedLoad
from yais.load.inputs import generated, model_inputs
from yais.load.recording import Recording

IN_FLIGHT = {"throughput": 16, "latency": 1}
"""For each process."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=IN_FLIGHT)
    parser.add_argument("copies", type=int)
    parser.add_argument("--model", default="digits")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=5.0)
    options = parser.parse_args()
    if options.copies < 1:
        parser.error(f"got {options.copies} copies, expected at least 1")
    try:
        with copies(options.copies, options.model) as addresses:
            loaded = load(addresses, options.model, options.batch, IN_FLIGHT[options.what], options.seconds)
    except YaisError as error:
        sys.exit(f"{error.code.name}: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
    print(report(loaded, options.batch))


def load(addresses: Sequence[str], model: str, batch: int, in_flight: int, seconds: float) -> list[Recording]:
    """Keep requests in flight at each server; return what came of those of each."""
    with ExitStack() as stack:
        loads = []
        for address in addresses:
            endpoint = stack.enter_context(GrpcEndpoint(Connection(address)))
            transport = endpoint.transport()
            call = InferCall(model, generated(model_inputs(endpoint, model), batch))
            loads.append(ClosedLoad(transport, [transport.encode(call)], in_flight))
        for each in loads:
            each.start()
        time.sleep(seconds)
        return [each.stop(PATIENCE) for each in loads]


def report(recordings: Sequence[Recording], batch: int) -> str:
    """Return what came of all in one line."""
    whole = Recording()
    for recording in recordings:
        whole.add(recording)
    if whole.failed:
        raise SystemExit(f"{whole.failed.total()} requests failed: {whole.texts}")
    rate = sum(recording.rate_completed for recording in recordings)
    p50, p90, p99 = whole.percentiles(50, 90, 99)
    return (
        f"{len(recordings)} processes: {rate * batch:.0f} inferences/s, "
        f"{rate / len(recordings):.0f} requests/s each; "
        f"latency p50 {p50:.2f} ms, p90 {p90:.2f} ms, p99 {p99:.2f} ms"
    )


if __name__ == "__main__":
    main()
