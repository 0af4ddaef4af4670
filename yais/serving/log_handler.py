"""The handlers of logs: to a file, or to standard error."""

from __future__ import annotations

import contextlib
import logging
import logging.handlers
import sys

__all__ = ["log_handler"]


class _LogFile(logging.handlers.WatchedFileHandler):
    """Appends to a file. That it cannot be written, standard error is told once, and who logs never."""

    def __init__(self, file: str) -> None:
        super().__init__(file, encoding="utf-8", errors="backslashreplace")
        self._lost = 0  # records since the last that was written

    def emit(self, record: logging.LogRecord) -> None:
        lost = self._lost
        try:
            super().emit(record)
        except OSError:  # of opening it anew
            self.handleError(record)
        if self._lost == lost:
            self._lost = 0

    def close(self) -> None:
        with contextlib.suppress(OSError):  # what is still to be written was told to be lost
            super().close()

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (logging's name)
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
            return
        self._lost += 1
        if self._lost == 1:
            with contextlib.suppress(OSError):
                print(f"cannot write the log '{self.baseFilename}': {error.strerror}", file=sys.stderr)


def log_handler(file: str) -> logging.Handler:
    """Return a handler that appends to a file, opened anew once what rotates it has moved it away.

    Several processes may write to one file: a record is one write. What UTF-8 has not, the name of a file
    perhaps, is escaped. Records that cannot be written, of a full disk perhaps, are lost; a line on standard
    error says so, the next one only after a record that was written.

    Parameters
    ----------
    file
        Its path; empty for standard error.

    Raises
    ------
    OSError
        The file cannot be written.
    """
    return _LogFile(file) if file else logging.StreamHandler()
