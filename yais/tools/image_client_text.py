"""What images are, for people and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from yais.client.classify import ClassifiedBatch
from yais.tools.answer_text import finite

__all__ = ["Group", "batch_json", "batch_text"]

Group = Sequence[Path]
"""The files of the images of one request."""


def batch_text(group: Group, answer: ClassifiedBatch) -> str:
    """Return an answer as lines, in the form of Triton's image_client."""
    lines = [f"Request {answer.number}, batch size {len(group)}"]
    for path, scores in zip(group, answer.images, strict=True):
        lines.append(f"Image '{click.format_filename(path)}':")
        for score in scores:
            label = f" = {score.label}" if score.label else ""
            lines.append(f"    {score.value} ({score.index}){label}")
    return "\n".join(lines)


def batch_json(group: Group, answer: ClassifiedBatch) -> dict[str, Any]:
    """Return an answer as `json.dumps` takes it; null for scores that are no numbers."""
    return {
        "request": answer.number,
        "images": [
            {
                "file": str(path),
                "classes": [
                    {"value": finite(float(score.value)), "index": score.index, "label": score.label}
                    for score in scores
                ],
            }
            for path, scores in zip(group, answer.images, strict=True)
        ],
    }
