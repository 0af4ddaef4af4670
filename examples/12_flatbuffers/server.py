"""Summarises samples sent as FlatBuffers: `python examples/12_flatbuffers/server.py [--port 50051]`."""

from __future__ import annotations

import argparse

from codec import Samples, Summary, read_samples, write_summary

import yais


class Summarise(yais.Context[Samples, Summary, yais.Resources]):
    def execute(self, samples: Samples) -> Summary:
        if not samples.size:
            raise yais.InvalidArgument("got no samples, expected at least one")
        return Summary(samples.size, float(samples.mean()), float(samples.std()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=50051)
    address = f"0.0.0.0:{parser.parse_args().port}"

    # A service by its name: there is no protobuf descriptor, so each RPC brings its codec.
    service = yais.Service("yais.examples.samples.Statistics")
    service.register("Summarise", Summarise, deserialize=read_samples, serialize=write_summary)
    server = yais.Server(address)
    server.add(service)
    server.run(started=lambda: print(f"statistics listens on port {server.port}; Ctrl-C ends it", flush=True))


if __name__ == "__main__":
    main()
