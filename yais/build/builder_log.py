"""What a builder says while it works."""

from __future__ import annotations

import functools
import logging
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

__all__ = ["BuilderMessages", "builder_log", "collecting"]

_log = logging.getLogger("yais.build")

_MEMORY = re.compile(r"Total (Activation|Weights) Memory: (\d+)")
_NO_DRIVER = re.compile(r"\s*\[?(checkMacros|In ScopedCuda|Error reading CUDA).*")


@dataclass(slots=True)
class BuilderMessages:
    """What was said during one build.

    Attributes
    ----------
    errors, warnings
        Each once, in order.
    memory
        Bytes of device memory by what they are for ("activation", "weights"), as the builder counts them.
    """

    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    memory: dict[str, int] = field(default_factory=dict)

    def add(self, level: int, text: str) -> None:
        """Add a message.

        Parameters
        ----------
        level
            Of `logging`.
        """
        if found := _MEMORY.search(text):
            kind, size = found.groups()
            self.memory[kind.lower()] = max(int(size), self.memory.get(kind.lower(), 0))
        # That there is no driver is said over and over where a builder needs none.
        if level >= logging.WARNING and not _NO_DRIVER.match(text):
            messages = self.errors if level >= logging.ERROR else self.warnings
            if text not in messages:
                messages.append(text)


class _Receiver:
    """Where the messages of a module go: its one logger lives as long as the process, as builders want it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.messages = BuilderMessages()


@functools.cache
def builder_log(module: Any) -> Any:
    """Return the `ILogger` of a builder's module, the same each time. Thread-safe."""
    levels = {
        module.ILogger.INTERNAL_ERROR: logging.ERROR,
        module.ILogger.ERROR: logging.ERROR,
        module.ILogger.WARNING: logging.WARNING,
        module.ILogger.INFO: logging.INFO,
        module.ILogger.VERBOSE: logging.DEBUG,
    }

    class Log(module.ILogger):  # type: ignore[misc]  # of a module that is known when it is there
        def __init__(self) -> None:
            module.ILogger.__init__(self)
            self.receiver = _Receiver()

        def log(self, severity: Any, message: str) -> None:
            level = levels.get(severity, logging.DEBUG)
            _log.debug("%s: %s", logging.getLevelName(level), message)
            self.receiver.messages.add(level, message)

    return Log()


@contextmanager
def collecting(module: Any) -> Iterator[BuilderMessages]:
    """Collect what a module says within the block; a second one waits for the first."""
    receiver: _Receiver = builder_log(module).receiver
    with receiver.lock:
        receiver.messages = BuilderMessages()
        yield receiver.messages
