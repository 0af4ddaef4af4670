"""What every kind of load can do."""

from __future__ import annotations

from typing import Protocol

from yais.load.recording import Recording

__all__ = ["Load"]


class Load(Protocol):
    """Requests that are being sent. Thread-safe. Closing the transport ends it."""

    def start(self) -> None:
        """Begin; once."""

    def wait(self, seconds: float) -> bool:
        """Let it run for `seconds`; return at once, with True, when it is over."""

    def recording(self) -> Recording:
        """Return what came of it so far."""

    def take(self) -> Recording:
        """Return what came of it since the last call, or the start: a window of time."""

    def stop(self, timeout: float) -> Recording:
        """Send no more, give those in flight `timeout` seconds to end, and return what came of all."""
