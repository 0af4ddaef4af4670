"""The kernel of docs/cuda.md compiles; that needs no GPU."""

from __future__ import annotations

import re
from pathlib import Path

from cuda.core import Program, ProgramOptions

PAGE = Path(__file__).parents[2] / "docs/cuda.md"


def test_the_kernel_compiles() -> None:
    found = re.search(r'^CODE = r"""\n(.*?)^"""$', PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    assert found is not None
    code = Program(found[1], "c++", ProgramOptions(arch="sm_90")).compile("cubin")
    assert b"twice" in bytes(code.code)
