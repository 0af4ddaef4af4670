"""Decodes images and has them classified by an inference server. See README.md."""

from __future__ import annotations

import argparse
import sys

from classifier import ImageClassifier
from image_decode_pb2 import DESCRIPTOR, Class, ClassifyReply, ClassifyRequest

import yais
from yais.client.classes import class_scores


class Classify(yais.Context[ClassifyRequest, ClassifyReply, ImageClassifier]):
    async def execute(self, request: ClassifyRequest) -> ClassifyReply:
        resources = self.resources
        asked = await resources.decoders.submit(resources.ask, request.image, request.classes, self)
        output = (await asked).outputs[resources.model.output]
        if not request.classes:
            return ClassifyReply(scores=output.ravel())
        return ClassifyReply(
            classes=[
                Class(label=each.label, index=each.index, score=float(each.value))
                for each in class_scores(output)
            ]
        )


def make_server(
    address: str, resources: ImageClassifier, *, grace: float = 30.0, drain_delay: float = 0.0
) -> yais.Server:
    service = yais.Service(DESCRIPTOR.services_by_name["ImageClassifier"])
    service.register("Classify", Classify, contexts=200)
    server = yais.Server(
        address, resources=resources, max_message_bytes=16 << 20, grace=grace, drain_delay=drain_delay
    )

    async def look() -> None:
        # Balancers send nothing here while nothing is behind it.
        ready = await resources.ready()
        if server.health.serving() != ready:  # watchers are told of every report
            server.health.report(serving=ready)

    server.every(0.5, look)
    server.add(service)
    return server


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--port", type=int, default=50050)
    parser.add_argument("--target", default="127.0.0.1:8001", help="the inference server")
    parser.add_argument("--model", default="colours")
    parser.add_argument("--threads", type=int, default=2, help="images decoded at a time")
    parser.add_argument("--slots", type=int, default=64, help="images in shared memory; 0: send pixels")
    parser.add_argument("--name", default="yais-image-decode", help="of the shared memory")
    parser.add_argument("--wait", type=float, default=1.0, help="seconds for a free slot")
    parser.add_argument("--grace", type=float, default=30.0, help="seconds for calls in flight at the end")
    parser.add_argument("--drain-delay", type=float, default=0.0, help="seconds before calls are refused")
    arguments = parser.parse_args()

    resources = ImageClassifier(
        arguments.target,
        arguments.model,
        threads=arguments.threads,
        slots=arguments.slots,
        name=arguments.name,
        wait=arguments.wait,
    )
    address = f"0.0.0.0:{arguments.port}"
    server = make_server(address, resources, grace=arguments.grace, drain_delay=arguments.drain_delay)
    try:
        server.run(
            started=lambda: print(f"image service listens on port {server.port}; Ctrl-C ends it", flush=True)
        )
    except yais.YaisError as error:
        sys.exit(f"{error.code.name}: {error}")


if __name__ == "__main__":
    main()
