"""What is logged, and how; clients may look and change it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from yais.errors import InvalidArgument, Unimplemented
from yais.serving.log_format import FORMATS, log_formatter

__all__ = ["LogOptions", "LogSettings", "LogValue"]

LogValue = bool | int | str
"""The value of a setting."""

# Fields and types of the settings that can be changed, by their names; and what Triton calls the types.
_FIELDS: Mapping[str, tuple[str, type, str]] = {
    "log_info": ("info", bool, "boolean"),
    "log_warning": ("warning", bool, "boolean"),
    "log_error": ("error", bool, "boolean"),
    "log_verbose_level": ("verbose", int, "int32"),
    "log_format": ("format", str, "string"),
}


@dataclass(frozen=True, slots=True)
class LogOptions:
    """What is logged at the start.

    Attributes
    ----------
    info, warning, error
        Whether messages of this level are.
    verbose
        0 for nothing more, 1 for what helps to find errors in yais, 2 for that of other libraries, too.
    format
        Of the lines: "default" or "ISO8601", see `LogFormatter`, or "json", see `JsonFormatter`.
    file
        Where `handler` writes; empty for standard error. It cannot be changed.
    handler
        What the settings act on: its lines, and the levels of the loggers "yais" and root. None leaves
        logging to the program, as a library should: the settings then are kept and have no effect.
    """

    info: bool = True
    warning: bool = True
    error: bool = True
    verbose: int = 0
    format: str = "default"
    file: str = ""
    handler: logging.Handler | None = field(default=None, repr=False, compare=False)


class LogSettings:
    """The settings of the LogSettings RPC. Thread-safe."""

    def __init__(self, options: LogOptions) -> None:
        self.options = options
        self._lock = threading.Lock()
        if options.handler is not None:
            for earlier in list(options.handler.filters):
                if isinstance(getattr(earlier, "__self__", None), LogSettings):
                    options.handler.removeFilter(earlier)  # of a server before, which nobody can change now
            options.handler.addFilter(self._wanted)
            self._apply(options.handler)

    def __repr__(self) -> str:
        return f"<LogSettings {self.values()}>"

    def values(self) -> dict[str, LogValue]:
        """Return the value of every setting, by its name in the protocol."""
        options = self.options
        changeable = {name: getattr(options, attribute) for name, (attribute, *_) in _FIELDS.items()}
        return {"log_file": options.file, **changeable}

    def update(self, changes: Mapping[str, LogValue | None]) -> None:
        """Change settings, all of them or, if one of them cannot be, none.

        Raises
        ------
        InvalidArgument
            There is no such setting, or it has another type (None is none), or not this value.
        Unimplemented
            It is the file.
        """
        fields = {_field(name, value): value for name, value in changes.items()}
        if not fields:
            return
        with self._lock:
            # No **fields of mixed types for the type checker to see through.
            options = replace(self.options, **fields)  # type: ignore[arg-type]
            self.options = options
            if options.handler is not None:
                self._apply(options.handler)

    def _apply(self, handler: logging.Handler) -> None:
        options = self.options
        handler.setFormatter(log_formatter(options.format))
        # What is not wanted anyway is not to cost anything; `_wanted` sees the rest.
        least = logging.INFO if options.info else logging.WARNING
        logging.getLogger("yais").setLevel(logging.DEBUG if options.verbose else least)
        logging.getLogger().setLevel(logging.DEBUG if options.verbose > 1 else logging.WARNING)

    def _wanted(self, record: logging.LogRecord) -> bool:
        options, level = self.options, record.levelno
        if level >= logging.ERROR:
            return options.error
        if level >= logging.WARNING:
            return options.warning
        if level >= logging.INFO:
            return options.info
        return options.verbose > 0


def _field(name: str, value: LogValue | None) -> str:
    """Return the field of a setting that may be changed to a value."""
    if name == "log_file":
        raise Unimplemented("log file location can not be updated through network protocol")
    if name not in _FIELDS:
        raise InvalidArgument(f"got the log setting '{name}', expected one of {', '.join(_FIELDS)}")
    attribute, kind, expected = _FIELDS[name]
    if type(value) is not kind:
        raise InvalidArgument(f"expect {expected} for '{name}'")
    if kind is str and value not in FORMATS:
        raise InvalidArgument(f"invalid argument for log_format, got: {value}")
    return attribute
