"""Sends random samples: `python examples/12_flatbuffers/client.py [--port 50051] [--count 100000]`."""

from __future__ import annotations

import argparse
import sys

import numpy as np
from codec import Samples, Summary, read_summary, write_samples

import yais
from yais.rpc.client import Channels, ClientUnary


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=50051)
    parser.add_argument("--count", type=int, default=100_000)
    arguments = parser.parse_args()

    samples = np.random.default_rng(1).normal(5.0, 2.0, arguments.count).astype(np.float32)
    with Channels(f"localhost:{arguments.port}") as channels:
        summarise: ClientUnary[Samples, Summary] = ClientUnary(
            channels, "/yais.examples.samples.Statistics/Summarise", write_samples, read_summary, timeout=10.0
        )
        try:
            summary = summarise.call(samples)
        except yais.YaisError as error:
            sys.exit(f"{error.code.name}: {error}")
    print(f"{summary.size} samples: mean {summary.mean:.2f}, deviation {summary.deviation:.2f}")


if __name__ == "__main__":
    main()
