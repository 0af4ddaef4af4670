"""Asks the image service what is on images. See README.md."""

from __future__ import annotations

import argparse
import io
import sys
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from itertools import cycle, islice
from pathlib import Path

import numpy as np
from image_decode_pb2 import DESCRIPTOR, ClassifyReply, ClassifyRequest
from PIL import Image

import yais
from yais.rpc.client import Channels, ClientUnary

Classify = ClientUnary[ClassifyRequest, ClassifyReply]

RPC = DESCRIPTOR.services_by_name["ImageClassifier"].methods_by_name["Classify"]
MADE = {"red": (220, 30, 30), "green": (30, 160, 60), "yellow": (240, 220, 40), "grey": (128, 128, 128)}


def made(colour: tuple[int, int, int], side: int = 320) -> bytes:
    """Return a JPEG file of noise around a colour."""
    noise = np.random.default_rng(0).normal(0, 25, (side, side, 3))
    file = io.BytesIO()
    Image.fromarray(np.clip(noise + colour, 0, 255).astype(np.uint8)).save(file, "JPEG")
    return file.getvalue()


def show(classify: Classify, images: Sequence[tuple[str, bytes]], classes: int) -> None:
    calls = [(name, classify.submit(ClassifyRequest(image=image, classes=classes))) for name, image in images]
    for name, call in calls:
        found = ", ".join(f"{each.label or each.index} {each.score:.2f}" for each in call.result().classes)
        print(f"{name}: {found}")


def measure(classify: Classify, images: Sequence[tuple[str, bytes]], count: int, in_flight: int) -> None:
    pending: set[Future[ClassifyReply]] = set()
    requests = [ClassifyRequest(image=image, classes=1) for _, image in images]
    began = time.perf_counter()
    for request in islice(cycle(requests), count):
        if len(pending) == in_flight:
            done, pending = wait(pending, return_when=FIRST_COMPLETED)
            for call in done:
                call.result()
        pending.add(classify.submit(request))
    for call in pending:
        call.result()
    seconds = time.perf_counter() - began
    print(f"{count} images in {seconds:.2f} s: {count / seconds:.0f}/s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("images", nargs="*", type=Path, help="files; by default images of some colours")
    parser.add_argument("--port", type=int, default=50050)
    parser.add_argument("--classes", type=int, default=1)
    parser.add_argument("--count", type=int, default=0, help="measure with so many requests")
    parser.add_argument("--in-flight", type=int, default=32)
    arguments = parser.parse_args()
    if arguments.count < 0 or arguments.in_flight < 1:
        parser.error("expected --count of 0 or more, and --in-flight of at least 1")

    images = [(path.name, path.read_bytes()) for path in arguments.images]
    images = images or [(name, made(colour)) for name, colour in MADE.items()]
    with Channels(f"localhost:{arguments.port}") as channels:
        classify: Classify = ClientUnary(channels, RPC, timeout=30.0)
        try:
            if arguments.count:
                measure(classify, images, arguments.count, arguments.in_flight)
            else:
                show(classify, images, arguments.classes)
        except yais.YaisError as error:
            sys.exit(f"{error.code.name}: {error}")


if __name__ == "__main__":
    main()
