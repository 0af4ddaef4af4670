"""What is in a model, for people and as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from yais.build.description import ModelDescription
from yais.build.plan_record import Layer, Tensor
from yais.inference.plan import byte_text
from yais.tools.table import table

__all__ = ["description_dict", "description_text", "fact_lines", "tensor_dict", "tensor_lines"]


def description_text(described: ModelDescription, *, layers: bool) -> str:
    """Return a description as text.

    Parameters
    ----------
    layers
        Whether to list them, not only count them.
    """
    lines = [described.title, *fact_lines(described.facts)]
    lines += [*tensor_lines("inputs", described.inputs), *tensor_lines("outputs", described.outputs)]
    if described.profiles:
        lines.append("profiles, from the smallest shapes over the best to the largest")
    for number, profile in enumerate(described.profiles):
        lines += [f"    {number}: {name} {shapes}" for name, shapes in profile.items()]
    lines += _layer_lines(described, listed=layers)
    lines.append("memory")
    lines += [f"    {name}: {byte_text(size)}" for name, size in (described.memory or {}).items()]
    lines += [f"note: {note}" for note in described.notes]
    return "\n".join(lines)


def fact_lines(facts: Mapping[str, object]) -> list[str]:
    """Return facts by name, lists of them in one line."""
    return [
        f"    {name}: {', '.join(map(str, fact)) if isinstance(fact, list | tuple) else fact}"
        for name, fact in facts.items()
    ]


def tensor_lines(heading: str, tensors: Iterable[Tensor]) -> list[str]:
    """Return inputs or outputs under a heading; nothing if there are none."""
    lines = [f"    {tensor.name}: {tensor.datatype}{list(tensor.shape)}" for tensor in tensors]
    return [heading, *lines] if lines else []


def description_dict(described: ModelDescription) -> dict[str, Any]:
    """Return a description as JSON has it."""
    return {
        "kind": described.kind,
        "title": described.title,
        "facts": dict(described.facts),
        "inputs": [tensor_dict(tensor) for tensor in described.inputs],
        "outputs": [tensor_dict(tensor) for tensor in described.outputs],
        "profiles": [
            {name: [shapes.least, shapes.best, shapes.most] for name, shapes in profile.items()}
            for profile in described.profiles
        ],
        "layers": [{"name": layer.name, "kind": layer.kind} for layer in described.layers],
        "memory_bytes": dict(described.memory or {}),
        "notes": list(described.notes),
    }


def tensor_dict(tensor: Tensor) -> dict[str, Any]:
    """Return an input or output as JSON has it."""
    return {"name": tensor.name, "datatype": tensor.datatype, "shape": tensor.shape}


def _layer_lines(described: ModelDescription, *, listed: bool) -> list[str]:
    layers = described.layers
    if not layers:
        return []
    lines = [f"{'operators' if described.kind == 'onnx' else 'layers'}: {len(layers)}"]
    if listed:
        return [*lines, _list(layers)]
    counts = Counter(layer.kind or "other" for layer in layers)
    return [
        *lines,
        *(f"    {kind}: {counts[kind]}" for kind in sorted(counts, key=lambda kind: (-counts[kind], kind))),
    ]


def _list(layers: tuple[Layer, ...]) -> str:
    return table(("NUMBER", "KIND", "NAME"), [(n, layer.kind, layer.name) for n, layer in enumerate(layers)])
