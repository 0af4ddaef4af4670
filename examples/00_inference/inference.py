"""Runs two models in this process, and says what happens on the way. See README.md."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from nearest import Nearest
from numpy.typing import NDArray

import yais

DIGITS = Path(__file__).resolve().parents[1] / "models" / "digits"
TIMEOUT = 60.0  # seconds, for whatever is waited for

Images = NDArray[np.uint8]  # [n, 8, 8], from 0 for paper to 16 for ink
Outputs = dict[str, NDArray[Any]]

IMAGE = yais.TensorSpec("image", yais.DataType.FP32, (-1, 1, 8, 8))
DIGIT = yais.TensorSpec("digit", yais.DataType.INT64, (-1,))


def plan(manager: yais.InferenceManager, examples: Images, labels: NDArray[Any]) -> None:
    """Register a file and a callable, see what that takes, take it."""
    print("1. What it will take, before anything is taken")
    manager.register("digits", DIGITS / "1" / "model.onnx", max_batch_size=32)
    nearest = Nearest(pixels(examples), labels)
    manager.register("nearest", nearest, inputs=[IMAGE], outputs=[DIGIT], max_batch_size=32)
    print(indented(manager.plan()))
    manager.allocate()
    print(f"   ready: {', '.join(manager.get_models())}")


def by_hand(manager: yais.InferenceManager, images: Images, labels: NDArray[Any]) -> None:
    """Fill the memory that the engine reads."""
    print("\n2. One request by hand, its inputs written where the engine reads them")
    digits = manager.infer_runner("digits")
    count = min(32, len(images))
    with digits.bindings(count, timeout=TIMEOUT) as bindings:
        bindings["image"][:] = images[:count, None]  # converted on the way, and not copied again
        print(f"   {bindings!r}")
        print(f"   who has bindings has a lane:\n   {manager!r}")
        found = digits.infer(bindings).get(TIMEOUT)["probabilities"].argmax(axis=1)
    print(f"   {np.count_nonzero(found == labels[:count])} of {count} images are right")


def early_release(manager: yais.InferenceManager, images: Images) -> None:
    """Look at the pools from within an execution, and from where its answer is made."""
    print("\n3. Early release: what an execution has, and what is left to give back when it answers")
    seen = []

    def look(inputs: Mapping[str, NDArray[Any]]) -> Outputs:
        seen.append(repr(manager))
        return {"digit": np.zeros(len(inputs["image"]), np.int64)}

    def post(_: Outputs) -> None:
        seen.append(repr(manager))

    # A late registration: there is room for it, so it takes requests at once.
    manager.register("look", look, inputs=[IMAGE], outputs=[DIGIT], max_batch_size=32)
    manager.infer_runner("look", post=post).infer(image=pixels(images[:1])).get(TIMEOUT)
    manager.unregister("look", TIMEOUT)
    print(f"   execute: {seen[0]}")
    print(f"   post:    {seen[1]}")


def many(
    manager: yais.InferenceManager, images: Images, labels: NDArray[Any], count: int, batch: int
) -> bool:
    """Put `count` requests in flight; return whether the models are as good as they should be."""
    print(f"\n4. {count} requests in flight, each of {batch} images as they come from the file")
    runners = [
        manager.infer_runner("digits", pre=prepare, post=lambda out: out["probabilities"].argmax(axis=1)),
        manager.infer_runner("nearest", pre=prepare, post=lambda out: out["digit"]),
    ]
    picks = np.random.default_rng(0).integers(len(images), size=(count, batch))
    started = time.perf_counter()
    futures = [runners[index % 2].infer(images=images[pick]) for index, pick in enumerate(picks)]
    print(f"   meanwhile:\n   {manager!r}")
    answers = [future.get(TIMEOUT) for future in futures]
    seconds = time.perf_counter() - started
    print(f"   {count} answers in {seconds:.2f} s, {count * batch / seconds:,.0f} images/s")
    good = True
    for first, name, least in (0, "digits", 0.9), (1, "nearest", 0.7):
        right = np.array(
            [answer == labels[pick] for answer, pick in zip(answers, picks, strict=True)][first::2]
        )
        print(f"   {name}: {right.mean():.1%} right")
        good &= bool(right.mean() >= least)
    return good


def waits(manager: yais.InferenceManager) -> None:
    """Print where the time of a request went."""
    print("\n5. Where the time went, in ms of an average request")
    stages = ["queue", "buffers", "token", "stream", "compute", "request"]
    print("   model  ", *(f"{stage:>9}" for stage in stages), f"{'load ratio':>11}")
    for name in manager.get_models():
        counts = manager.find(name).counts()
        requests = counts.success.count
        means = [getattr(counts, f"{stage}_seconds").sum / requests * 1000 for stage in stages]
        load = counts.load_ratio.sum / requests
        print(f"   {name:7}", *(f"{mean:9.3f}" for mean in means), f"{load:11.1f}")


def prepare(given: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """Make a model's inputs of what `infer` was given."""
    return {"image": pixels(given["images"])}


def pixels(images: Images) -> NDArray[np.float32]:
    return images[:, None].astype(np.float32)


def indented(text: object) -> str:
    return "\n".join(f"   {line}" for line in str(text).splitlines())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=400, help="in flight at once; at least 2")
    parser.add_argument("--batch", type=int, default=32, help="images of each request, at most 32")
    parser.add_argument("--lanes", type=int, default=3, help="requests whose data is in memory")
    parser.add_argument("--tokens", type=int, default=2, help="executions at once")
    arguments = parser.parse_args()

    held_out = np.load(DIGITS / "held_out.npz")
    images, labels = held_out["images"], held_out["labels"].astype(np.int64)
    shown, kept = slice(100), slice(100, None)  # `nearest` compares with the first 100
    try:
        # As many threads as lanes: it is the tokens, not the threads, that bound the executions.
        with yais.InferenceManager(
            arguments.tokens, arguments.lanes, execute_threads=arguments.lanes
        ) as manager:
            plan(manager, images[shown], labels[shown])
            by_hand(manager, images[kept], labels[kept])
            early_release(manager, images[kept])
            good = many(manager, images[kept], labels[kept], max(2, arguments.requests), arguments.batch)
            waits(manager)
    except (yais.YaisError, ValueError) as error:
        sys.exit(str(error))
    if not good:
        sys.exit("a model is worse than it was")


if __name__ == "__main__":
    main()
