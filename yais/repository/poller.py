"""The poller: a thread that looks at something every so many seconds."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from yais.core.thread_pool import name_thread

__all__ = ["Poller"]

_log = logging.getLogger("yais.repository")


class Poller:
    """Calls `look` again and again, the first time after `seconds`. What it raises is logged.

    Raises
    ------
    ValueError
        `seconds` is not above 0, or more than threads can wait.
    """

    def __init__(self, seconds: float, look: Callable[[], object]) -> None:
        if not 0 < seconds <= threading.TIMEOUT_MAX:
            most = f"{threading.TIMEOUT_MAX:.0f}"
            raise ValueError(f"got poll_seconds={seconds}, expected more than 0 and at most {most}")
        self._seconds = seconds
        self._look = look
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="yais-poll", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def close(self, timeout: float) -> bool:
        """End the thread; return whether it has ended within `timeout` seconds. Idempotent."""
        self._ended.set()
        if self._thread.ident is not None:
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        name_thread(self._thread.name)
        while not self._ended.wait(self._seconds):
            try:
                self._look()
            except Exception as error:
                _log.warning("the model repositories could not be polled: %s", error)
