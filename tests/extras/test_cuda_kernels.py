"""The kernels of tests/gpu and benchmarks/gpu.py compile; that needs no GPU."""

from __future__ import annotations

import pytest

from benchmarks.gpu_kernels import compiled


@pytest.mark.parametrize("architecture", ["sm_75", "sm_89", "sm_90", "sm_120"])
def test_kernels_compile(architecture: str) -> None:
    code = bytes(compiled(architecture).code)
    assert code.startswith(b"\x7fELF")
    assert b"twice" in code
    assert b"reversed" in code
