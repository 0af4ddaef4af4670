"""What is logged, and how; clients may look and change it."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["LogOptions", "LogSettings"]


@dataclass(frozen=True, slots=True)
class LogOptions:
    """What is logged at the start.

    Attributes
    ----------
    info, warning, error
        Whether messages of this level are.
    verbose
        0 for nothing more, 1 for more, 2 for everything.
    format
        Of the moments: "default" or "ISO8601".
    file
        Where to; empty for standard error.
    """

    info: bool = True
    warning: bool = True
    error: bool = True
    verbose: int = 0
    format: str = "default"
    file: str = ""


class LogSettings:
    """The settings of the LogSettings RPC. Thread-safe."""

    def __init__(self, options: LogOptions) -> None:
        self.options = options
