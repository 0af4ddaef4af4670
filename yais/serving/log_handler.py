"""The handlers of logs: to a file, or to standard error."""

from __future__ import annotations

import logging
import logging.handlers

__all__ = ["log_handler"]


def log_handler(file: str) -> logging.Handler:
    """Return a handler that appends to a file, opened anew once what rotates it has moved it away.

    Several processes may write to one file: a record is one write. What UTF-8 has not, the name of a file
    perhaps, is escaped.

    Parameters
    ----------
    file
        Its path; empty for standard error.

    Raises
    ------
    OSError
        The file cannot be written.
    """
    if not file:
        return logging.StreamHandler()
    return logging.handlers.WatchedFileHandler(file, encoding="utf-8", errors="backslashreplace")
