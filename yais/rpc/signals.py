"""Termination signals as something to wait for."""

from __future__ import annotations

import contextlib
import signal
import socket
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

__all__ = ["Signals", "stop_at_signal"]

_NUMBERS = (signal.SIGTERM, signal.SIGINT)
_END = b"\0"  # no signal has this number


class Signals:
    """Keeps SIGTERM and SIGINT from their usual effects while the `with` block lasts; then all is as before.

    Only on the main thread, which alone may install handlers. What is waited for is the byte that Python's
    own handler writes at once (`signal.set_wakeup_fd`): a handler in Python runs only between two
    instructions of the main thread, so that a signal just before this thread blocks would go unnoticed,
    and one that sets an event may interrupt the very wait that holds the event's lock.
    """

    def __init__(self) -> None:
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)

    def __enter__(self) -> Self:
        """Begin to take the signals."""
        self._wakeup_fd = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        self._handlers = {number: signal.signal(number, lambda _number, _frame: None) for number in _NUMBERS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Restore what was there before."""
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup_fd)
        self._reader.close()
        self._writer.close()

    def wait(self) -> bool:
        """Wait for a signal that came since the last wait; False once `end` was called. From any thread."""
        while (byte := self._reader.recv(1)) != _END:
            if byte[0] in _NUMBERS:  # those of others come here too
                return True
        return False

    def end(self) -> None:
        """Let one wait return without a signal. From any thread, even after the `with` block."""
        with contextlib.suppress(OSError):
            self._writer.send(_END)


def stop_at_signal(signals: Signals, stop: Callable[[], object], hurry: Callable[[], object]) -> None:
    """Wait for a signal, then stop; one that comes while that lasts hurries. Nothing after `signals.end`."""
    if not signals.wait():
        return

    def heed_second() -> None:
        if signals.wait():
            hurry()

    second = threading.Thread(target=heed_second, name="yais-signals")
    second.start()
    try:
        stop()
    finally:
        signals.end()
        second.join()
