"""Files to compare with.

After a change on purpose: YAIS_GOLDEN=write pytest tests/load tests/tools/test_siege_report.py, and read the
difference.
"""

from __future__ import annotations

import os
from pathlib import Path

GOLDEN = Path(__file__).with_name("golden")


def same(name: str, text: str, folder: Path = GOLDEN) -> None:
    """Check that a text is that of a file, by default of one beside this."""
    file = folder / name
    if os.environ.get("YAIS_GOLDEN") == "write":
        folder.mkdir(exist_ok=True)
        file.write_text(text, "utf-8")
    assert file.read_text("utf-8") == text
