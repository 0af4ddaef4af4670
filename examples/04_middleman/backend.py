"""Counts words; what the middleman stands in front of. See README.md."""

from __future__ import annotations

import argparse
from collections import Counter

from middleman_pb2 import DESCRIPTOR, InferReply, InferRequest, StatusReply, StatusRequest

import yais


class Backend(yais.Resources):
    texts = 0


class Infer(yais.Context[InferRequest, InferReply, Backend]):
    def execute(self, request: InferRequest) -> InferReply:
        self.trailing_metadata.append(("served-by", "backend"))
        if not request.text:
            raise yais.InvalidArgument("got an empty text, expected some words")
        self.resources.texts += 1
        return InferReply(words=Counter(request.text.split()))


class Status(yais.Context[StatusRequest, StatusReply, Backend]):
    def execute(self, request: StatusRequest) -> StatusReply:  # noqa: ARG002
        return StatusReply(ready=True, texts=self.resources.texts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=50051)
    address = f"0.0.0.0:{parser.parse_args().port}"

    service = yais.Service(DESCRIPTOR.services_by_name["Inference"])
    service.register("Infer", Infer)
    service.register("Status", Status)
    server = yais.Server(address, resources=Backend())
    server.add(service)
    server.run(started=lambda: print(f"backend listens on port {server.port}; Ctrl-C ends it", flush=True))


if __name__ == "__main__":
    main()
