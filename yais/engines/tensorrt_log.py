"""What TensorRT logs: lines of the logger "yais.tensorrt", and the reasons of errors."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator
from typing import Any

__all__ = ["complaints", "tensorrt_logger"]

_log = logging.getLogger("yais.tensorrt")

# By the numbers of ILogger.Severity.
_LEVELS = (logging.ERROR, logging.ERROR, logging.WARNING, logging.INFO, logging.DEBUG)

_REMEMBERED = 3  # lines: the last says what failed, those before it why


class _Complaints(threading.local):
    """The errors logged on this thread during its present call; None outside of one."""

    lines: list[str] | None = None


_complaints = _Complaints()


@contextlib.contextmanager
def complaints() -> Iterator[list[str]]:
    """Collect the errors that TensorRT logs on this thread until the end: the last few."""
    before = _complaints.lines
    lines: list[str] = []
    _complaints.lines = lines
    try:
        yield lines
    finally:
        _complaints.lines = before


def tensorrt_logger(trt: Any) -> Any:
    """Return a logger for a TensorRT, which has to outlive all that is made with it. Thread-safe."""

    class _Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            _note(int(severity), message)

    return _Logger()


def _note(severity: int, message: str) -> None:
    level = _LEVELS[min(severity, len(_LEVELS) - 1)]
    lines = _complaints.lines
    if level == logging.ERROR and lines is not None:
        lines.append(message)
        del lines[:-_REMEMBERED]
    _log.log(level, "%s", message)
