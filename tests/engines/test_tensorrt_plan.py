"""The headers of plans."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yais.engines.tensorrt_plan import PlanHeader
from yais.errors import InvalidArgument

# The first bytes of a plan that TensorRT-RTX 1.7.1.116 built, of 590,988 bytes.
REAL_RTX = bytes.fromhex("76747274000000000200000000000000 8c040900000000000107017476747274")


def header(tag: bytes = b"ftrt", form: int = 0, version: tuple[int, ...] = (10, 16, 1, 11)) -> bytes:
    return struct.pack("<4sIQQ4B", tag, form, 0, 28, *version)


def test_of_a_plan_of_tensorrt() -> None:
    found = PlanHeader.of(header())
    assert found == PlanHeader("tensorrt", (10, 16, 1, 11))
    assert str(found) == "TensorRT 10.16.1.11"


def test_of_a_real_plan_of_rtx() -> None:
    found = PlanHeader.of(REAL_RTX + bytes(590_988 - len(REAL_RTX)))
    assert found == PlanHeader("tensorrt_rtx", (1, 7, 1, 116))
    assert str(found) == "TensorRT-RTX 1.7.1.116"


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        (b"", "got b'' as the first bytes, expected a TensorRT plan"),
        (b"\x08\x07\x12\x05 ONNX", "'yais build' makes plans"),
        (header()[:27], "got a plan of 27 bytes, expected a header of 28"),
        (header(form=1), "got a plan of format 1, expected format 0"),
        (REAL_RTX, "got 32 bytes of a plan, expected 590988 as its header says: it is cut short"),
    ],
)
def test_what_is_none_is_refused(plan: bytes, message: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        PlanHeader.of(plan)
    assert message in str(refused.value)


@given(st.binary(max_size=64).map(lambda tail: b"ftrt" + tail) | st.binary(max_size=64))
def test_any_bytes_are_read_or_refused(plan: bytes) -> None:
    found: Any = None
    try:
        found = PlanHeader.of(plan)
    except InvalidArgument:
        return
    assert found.version == tuple(plan[24:28])
