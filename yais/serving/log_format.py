"""Lines of a log as Triton writes them."""

from __future__ import annotations

import json
import logging
import time

__all__ = ["LogFormatter"]


class LogFormatter(logging.Formatter):
    """Formats records as Triton does, which is what collectors of its logs know.

        I0922 10:00:00.123456 4711 server.py:87] "started"           default
        2026-09-22T10:00:00Z I 4711 server.py:87] "started"          ISO8601

    Times are UTC. The message is a JSON string, so that one record is one line, whatever it says; only a
    traceback follows on lines of its own.

    Parameters
    ----------
    style
        "default" or "ISO8601".
    """

    def __init__(self, style: str) -> None:
        super().__init__()
        self._iso = style == "ISO8601"

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        place = f"{record.process} {record.filename}:{record.lineno}]"
        line = f"{self._head(record)} {place} {json.dumps(record.getMessage(), ensure_ascii=False)}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line

    def _head(self, record: logging.LogRecord) -> str:
        seconds, microseconds = divmod(int(record.created * 1e6), 1_000_000)
        moment = time.gmtime(seconds)
        letter = _letter(record.levelno)
        if self._iso:
            return f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', moment)} {letter}"
        return f"{letter}{time.strftime('%m%d %H:%M:%S', moment)}.{microseconds:06}"


def _letter(level: int) -> str:
    if level >= logging.ERROR:
        return "E"
    return "W" if level >= logging.WARNING else "I"
