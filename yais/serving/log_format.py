"""Lines of a log as Triton writes them."""

from __future__ import annotations

import json
import logging
import time

from yais.telemetry.json_log import JsonFormatter
from yais.telemetry.trace_ids import trace_ids

__all__ = ["FORMATS", "LogFormatter", "log_formatter"]

FORMATS = ("default", "ISO8601", "json")
"""The formats of lines; the last is not Triton's."""


def log_formatter(name: str) -> logging.Formatter:
    """Return what formats lines as one of `FORMATS`."""
    return JsonFormatter() if name == "json" else LogFormatter(name)


class LogFormatter(logging.Formatter):
    """Formats records as Triton does, which is what collectors of its logs know.

        I0922 10:00:00.123456 4711 server.py:87] "started"           default
        2026-09-22T10:00:00Z I 4711 server.py:87] "started"          ISO8601

    Times are UTC. The message is a JSON string, so that one record is one line, whatever it says; only a
    traceback follows on lines of its own. Where the record belongs to a request or a trace, their ids follow
    the message: `request_id="mine" trace_id="0af7651916cd43dd8448eb211c80319c" span_id="b7ad6b7169203331"`.

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
        line = f"{self._head(record)} {place} {_quoted(record.getMessage())}{_ids(record)}"
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


def _ids(record: logging.LogRecord) -> str:
    request = getattr(record, "request_id", "")
    ids = {**({"request_id": request} if request else {}), **trace_ids(record)}
    return "".join(f" {name}={_quoted(value)}" for name, value in ids.items())


def _quoted(text: object) -> str:
    return json.dumps(str(text), ensure_ascii=False)


def _letter(level: int) -> str:
    if level >= logging.ERROR:
        return "E"
    return "W" if level >= logging.WARNING else "I"
