"""Watching a load until it is over or somebody has seen enough."""

from __future__ import annotations

import gc
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from yais.load.load import Load
from yais.load.recording import Recording

__all__ = ["LiveLine", "run_load", "without_pauses"]

_EVERY = 0.5  # seconds between two lines, as the original has it
_LAST_ANSWERS = 1.0  # seconds that requests in flight have after Ctrl-C


class LiveLine:
    """A line at the bottom of stderr that is written again and again, if stderr is a terminal. Thread-safe.

    Attributes
    ----------
    shown
        Whether there is a terminal to show it on.
    """

    def __init__(self) -> None:
        self.shown = sys.stderr is not None and sys.stderr.isatty()  # None: it is closed
        self._lock = threading.Lock()

    def show(self, text: str) -> None:
        """Put a text in the place of the last one, cut to the width of the terminal."""
        self._write(text[: shutil.get_terminal_size().columns - 1])

    def say(self, text: str) -> None:
        """Write a line that stays, terminal or not."""
        self._write(f"{text}\n", stays=True)

    def clear(self) -> None:
        """Take it away."""
        self._write("")

    def _write(self, text: str, *, stays: bool = False) -> None:
        if self.shown or (stays and sys.stderr is not None):
            with self._lock, suppress(OSError):  # nobody reads it: no reason to end what is measured
                sys.stderr.write(f"\r\x1b[K{text}" if self.shown else text)
                sys.stderr.flush()


@contextmanager
def without_pauses() -> Iterator[None]:
    """Keep the garbage collector, while the block lasts, from looking through all that was there before.

    That takes tens of milliseconds, which would be measured as latency.
    """
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def run_load(load: Load, line: Callable[[Recording], str], live: LiveLine | None = None) -> Recording:
    """Start a load and wait for its end; Ctrl-C ends it early.

    Parameters
    ----------
    line
        Makes the live line of what came of it so far.
    live
        Where the line is shown, for who has something else to say meanwhile.

    Returns
    -------
    Recording
        What came of it, `interrupted` after Ctrl-C.
    """
    live = live or LiveLine()
    with without_pauses():
        try:
            load.start()
            while not load.wait(_EVERY):
                if live.shown:
                    live.show(line(load.recording()))
            recording = load.stop(_LAST_ANSWERS)
        except KeyboardInterrupt:
            recording = _interrupted(load)
    if live.shown:
        live.show(line(recording))
        live.clear()
    return recording


def _interrupted(load: Load) -> Recording:
    try:
        recording = load.stop(_LAST_ANSWERS)
    except KeyboardInterrupt:  # again: without the last answers
        recording = load.recording()
    recording.interrupted = True
    return recording
