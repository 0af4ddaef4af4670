"""No configuration keeps the server busy or takes its memory before there is a request."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_hostile_configurations():
    """In a process of its own, which has little memory and time."""
    script = Path(__file__).parent / "hostile_configs.py"
    done = subprocess.run(
        [sys.executable, str(script), "300"], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "'served': " in done.stdout and "'served': 0," not in done.stdout
