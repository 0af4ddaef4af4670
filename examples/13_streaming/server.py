"""Ping-pong and even-odds, in callbacks and in asyncio. See README.md."""

from __future__ import annotations

import argparse

from even_odds import EvenOdds, EvenOddsAsync, Workers
from ping_pong import PingPong, PingPongAsync
from streaming_pb2 import DESCRIPTOR

import yais


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=50051)
    address = f"0.0.0.0:{parser.parse_args().port}"

    service = yais.Service(DESCRIPTOR.services_by_name["Streaming"])
    service.register("PingPong", PingPong)
    service.register("PingPongAsync", PingPongAsync)
    service.register("EvenOdds", EvenOdds)
    service.register("EvenOddsAsync", EvenOddsAsync)
    server = yais.Server(address, resources=Workers())
    server.add(service)
    server.run(started=lambda: print(f"streaming listens on port {server.port}; Ctrl-C ends it", flush=True))


if __name__ == "__main__":
    main()
