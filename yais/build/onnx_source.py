"""ONNX models as files: read without their weights, and checked as far as a builder does not say it well."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yais.build.onnx_graph import check_graph, graphs, tensors_of
from yais.build.onnx_package import onnx_package
from yais.errors import InvalidArgument, NotFound, Unimplemented

__all__ = ["OnnxSource", "check_inputs", "read_onnx"]

_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class OnnxSource:
    """An ONNX model.

    Attributes
    ----------
    path
        Its file.
    model
        The `onnx.ModelProto`; weights that lie in files of their own are not read.
    opset
        Version of ONNX's own operators.
    files
        All its files: `path`, then those of external weights.
    """

    path: Path
    model: Any
    opset: int
    files: tuple[Path, ...]

    def digest(self) -> str:
        """Return the SHA-256 of the contents of all files, in hexadecimal."""
        digest = hashlib.sha256()
        for file in self.files:
            with file.open("rb") as opened:
                while chunk := opened.read(_CHUNK):
                    digest.update(chunk)
        return digest.hexdigest()


def read_onnx(path: Path) -> OnnxSource:
    """Read a model and check that it is whole.

    Raises
    ------
    NotFound
        There is no such file, or one with weights of it lacks.
    InvalidArgument
        It is no ONNX model, or of a version of ONNX that is not known, or refers to what it does not have.
    FailedPrecondition
        The package onnx is not installed.
    """
    if not path.is_file():
        raise NotFound(f"{path}: {'expected a file, got a directory' if path.is_dir() else 'no such file'}")
    onnx = onnx_package()
    model = onnx.ModelProto()
    try:
        model.ParseFromString(path.read_bytes())
    except OSError as error:
        raise NotFound(f"{path}: {error.strerror}") from None
    except Exception as error:  # google.protobuf.message.DecodeError, of whichever protobuf onnx has
        raise InvalidArgument(f"{path} is no ONNX model, or not all of one: {error}") from None
    if not model.graph.node:
        raise InvalidArgument(f"{path} is no ONNX model: it has no operators")
    opset = _opset(path, model, onnx.defs.onnx_opset_version())
    check_graph(path, model.graph)
    return OnnxSource(path, model, opset, (path, *_external_files(path, model)))


def check_inputs(source: OnnxSource) -> None:
    """Check that a plan can have such inputs and outputs.

    Raises
    ------
    Unimplemented
        One is text.
    InvalidArgument
        An input without a number of dimensions, which builders take for a scalar; or with none of something.
    """
    text = onnx_package().TensorProto.STRING
    weights = {tensor.name for tensor in source.model.graph.initializer}
    for each in source.model.graph.input:
        kind = each.type.tensor_type
        if each.name in weights or not each.type.HasField("tensor_type"):
            continue
        if not kind.HasField("shape"):
            raise InvalidArgument(
                f"{source.path}: the input '{each.name}' has no number of dimensions, expected one: -1 in a "
                "shape is of any size: export the model with shapes"
            )
        if any(size.HasField("dim_value") and size.dim_value == 0 for size in kind.shape.dim):
            raise InvalidArgument(
                f"{source.path}: the input '{each.name}' has a dimension of 0, expected 1 or more"
            )
    for each in (*source.model.graph.input, *source.model.graph.output):
        if each.type.tensor_type.elem_type == text:
            raise Unimplemented(
                f"{source.path}: '{each.name}' is text, which TensorRT does not have: serve the model with "
                "ONNX Runtime, or take that part of it out"
            )


def _opset(path: Path, model: Any, known: int) -> int:
    opset = max((each.version for each in model.opset_import if each.domain in {"", "ai.onnx"}), default=1)
    if opset > known:
        raise InvalidArgument(
            f"{path}: got a model of opset {opset}, expected one up to {known}, the newest that the "
            f"installed onnx knows: export it with opset_version={known} or lower, or install a newer onnx"
        )
    return int(opset)


def _external_files(path: Path, model: Any) -> Iterator[Path]:
    """Yield the files that weights lie in, each once, and check that they have them."""
    ends: dict[str, int] = {}
    for graph in graphs(model.graph):
        for tensor in tensors_of(graph):
            entries = {entry.key: entry.value for entry in tensor.external_data}
            if "location" in entries:
                parts = [entries.get(key, "0") for key in ("offset", "length")]
                if "\0" in entries["location"] or not all(map(str.isdecimal, parts)):
                    raise InvalidArgument(
                        f"{path}: the weights '{tensor.name}' lie in {entries!r}, expected a file, and an "
                        "offset and a length in bytes"
                    )
                end = sum(map(int, parts))
                ends[entries["location"]] = max(end, ends.get(entries["location"], 0))
    for location, end in ends.items():
        file = path.parent / location
        if not file.resolve().is_relative_to(path.parent.resolve()):
            raise InvalidArgument(f"{path}: weights in '{location}', expected a file beside the model")
        if not file.is_file():
            raise NotFound(
                f"{path}: its weights lie in {file}, which does not exist: keep the files of a model together"
            )
        if (size := file.stat().st_size) < end:
            raise InvalidArgument(f"{path}: got {size} bytes of weights in {file}, expected {end}")
        yield file
