"""Shared memory as clients make it, and requests whose tensors are in it."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from yais.protocol import kserve_pb2 as pb

DIRECTORY = Path("/dev/shm")


@contextmanager
def shared_file(size: int, mode: int = 0o600, *, name: str | None = None) -> Iterator[Path]:
    """Make a file of zeros in shared memory that is only promised, as by ftruncate; its name is its key."""
    path = DIRECTORY / (name or f"yais-test-{secrets.token_hex(8)}")
    with path.open("xb") as file:
        os.fchmod(file.fileno(), mode)
        file.truncate(size)
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def place(tensor: Any, region: str, byte_size: int, offset: int = 0) -> None:
    """Say that an input's or output's contents are in shared memory."""
    tensor.parameters["shared_memory_region"].string_param = region
    tensor.parameters["shared_memory_byte_size"].int64_param = byte_size
    if offset:
        tensor.parameters["shared_memory_offset"].int64_param = offset


def identity_request(elements: int, region: str, *, to: int | None = None) -> pb.ModelInferRequest:
    """Make a request of FP32 numbers from the beginning of a region, and, with `to`, back to that offset."""
    request = pb.ModelInferRequest(model_name="identity_fp32")
    request.inputs.add(name="X", datatype="FP32", shape=[1, elements])
    place(request.inputs[0], region, 4 * elements)
    if to is not None:
        place(request.outputs.add(name="Y"), region, 4 * elements, to)
    return request
