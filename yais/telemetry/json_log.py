"""Logs as JSON, an object a line, with the request and the trace that a record belongs to."""

from __future__ import annotations

import json
import logging
import math
import time
from typing import Any

from yais.telemetry.trace_ids import trace_ids

__all__ = ["JsonFormatter"]

# What every record has, and what formatters add; the rest is what was said with `extra`.
_USUAL = frozenset(vars(logging.LogRecord("", 0, "", 0, "", (), None))) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    r"""Formats a record as one line of JSON.

        {"time": "2026-09-22T10:00:00.123456Z", "level": "ERROR", "logger": "yais.inference",
         "message": "model 'm' failed", "pid": 4711, "source": "batch_run.py:436",
         "model": "m", "request_id": "mine", "trace_id": "0af7651916cd43dd8448eb211c80319c",
         "span_id": "b7ad6b7169203331", "error": "ValueError: broken", "traceback": "Traceback ..."}

    (wrapped here). The first six are always there; `error` and `traceback` with an exception; `trace_id` and
    `span_id` where the record says so, or else of OpenTelemetry's current span; further ones are those of
    `extra`, as of `AccessLog`. Times are UTC. Values are strings, numbers, booleans, null, or lists of such.
    All of it is ASCII, whatever was logged.

    Examples
    --------
    >>> handler = logging.StreamHandler()
    >>> handler.setFormatter(JsonFormatter())
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        seconds, microseconds = divmod(int(record.created * 1e6), 1_000_000)
        fields: dict[str, Any] = {
            "time": f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{microseconds:06}Z",
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "pid": record.process,
            "source": f"{record.filename}:{record.lineno}",
        }
        said = {name: _plain(value) for name, value in vars(record).items() if name not in _USUAL}
        fields = {**fields, **said, **trace_ids(record), **fields}  # nobody overrides what is always there
        if record.exc_info and record.exc_info[1] is not None:
            error = record.exc_info[1]
            fields["error"] = f"{type(error).__name__}: {error}"
            fields["traceback"] = self.formatException(record.exc_info)
        return json.dumps(fields)


def _plain(value: object) -> object:
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return str(value)
