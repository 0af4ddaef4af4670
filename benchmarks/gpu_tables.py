"""The tables of gpu.py."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.gpu_copies import Bandwidth
    from benchmarks.gpu_throughput import Throughput, Transport

COPY_GOAL = 0.9
"""Of the bandwidth of a plain copy that is to be reached."""

RUNNER_GOAL = 0.95
"""Of the bare engine's batches that are to be reached in process, with enough tokens."""

ORIGINAL = {1: (953.4, 1.0489, 6.5), 8: (2377.0, 0.4207, 52.0)}
"""By contexts: inferences a second, ms a batch, MiB of the GPU. ResNet-50, INT8, batches of one, V100."""


def table(head: Sequence[str], rows: Sequence[Sequence[str]], words: int) -> str:
    """Return a markdown table whose first columns are words and whose others are numbers."""
    rule = ["---"] * words + ["--:"] * (len(head) - words)
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, rule, *rows))


def size_text(size: int) -> str:
    """Return a size in the largest unit that it fills."""
    unit, name = next(
        (unit, name) for unit, name in ((1 << 20, "MiB"), (1 << 10, "KiB"), (1, "B")) if size >= unit
    )
    return f"{size / unit:.4g} {name}"


def copies_table(speeds: Sequence[Bandwidth]) -> str:
    """Return a row for each size and direction."""
    rows = [
        [
            speed.direction,
            size_text(speed.size),
            f"{speed.yais:.2f}",
            f"{speed.plain:.2f}",
            f"{speed.ratio:.1%}",
            "yes" if speed.ratio >= COPY_GOAL else "no",
            f"{speed.pageable:.2f}",
        ]
        for speed in speeds
    ]
    goal = f"at least {COPY_GOAL:.0%}"
    head = ("copy", "size", "pooled pinned memory", "plain loop", "ratio", goal, "ordinary memory")
    return table(head, rows, words=1)


def throughput_table(rates: Sequence[Throughput]) -> str:
    """Return a row for each number of tokens; the best bare loop is what all are compared with."""
    best = max(rate.bare for rate in rates)
    rows = [
        [
            str(rate.tokens),
            f"{rate.bare:.1f}",
            f"{rate.runner:.1f}",
            f"{rate.runner / best:.1%}",
            f"{rate.grpc:.1f}",
            f"{rate.grpc / best:.1%}",
        ]
        for rate in rates
    ]
    reached = max(rate.runner for rate in rates) / best
    head = (
        "tokens",
        "bare engine",
        "InferRunner",
        "of the best bare",
        "gRPC, on the wire",
        "of the best bare",
    )
    verdict = "yes" if reached >= RUNNER_GOAL else "no"
    return (
        f"{table(head, rows, words=0)}\n\n"
        f"In process, with enough tokens, {reached:.1%} of the best bare loop; wanted at least "
        f"{RUNNER_GOAL:.0%}: {verdict}."
    )


def original_table(rates: Sequence[Throughput]) -> str:
    """Return the original's two rows beside ours, as far as they were measured."""
    rows = []
    by_tokens = {rate.tokens: rate for rate in rates}
    for contexts, (rate, milliseconds, mebibytes) in ORIGINAL.items():
        rows.append(["original", str(contexts), f"{rate:.1f}", f"{milliseconds:.4f}", f"{mebibytes:.1f}"])
        if ours := by_tokens.get(contexts):
            memory = ours.device_bytes / (1 << 20)
            rows.append(
                ["yais", str(contexts), f"{ours.runner:.1f}", f"{1e3 / ours.runner:.4f}", f"{memory:.1f}"]
            )
    lines = [table(("", "contexts", "inferences/s", "ms a batch", "MiB of the GPU"), rows, words=1)]
    if {1, 8} <= set(by_tokens):
        ours_ratio = by_tokens[8].runner / by_tokens[1].runner
        original_ratio = ORIGINAL[8][0] / ORIGINAL[1][0]
        lines.append(f"8 contexts to 1: {ours_ratio:.2f}; the original: {original_ratio:.2f}.")
    return "\n\n".join(lines)


def transports_table(ways: Sequence[Transport]) -> str:
    """Return a row for each place that a client's tensors can be in."""
    names = {"wire": "on the wire", "system": "system shared memory", "cuda": "CUDA shared memory"}
    first = ways[0].rate
    rows = [
        [names[way.way], f"{way.rate:.1f}", f"{way.rate / first:.2f}", f"{1e3 * way.p50:.2f}"] for way in ways
    ]
    rows += [[name, "not run", "-", "-"] for way, name in names.items() if way not in {w.way for w in ways}]
    return table(("tensors", "requests/s", "to the wire", "p50 ms"), rows, words=1)
