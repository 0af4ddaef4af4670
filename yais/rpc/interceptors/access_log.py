"""The access log: a line for each call, when it is over."""

from __future__ import annotations

import logging
import re

from yais.core.clock import NANOSECONDS, Clock, monotonic
from yais.errors import Code
from yais.rpc.interceptor import Ended, IncomingCall, Interceptor

__all__ = ["AccessLog"]

_LOGGER = logging.getLogger("yais.access")

_ODD = re.compile(r'[^!-~]|["\\=]')


class AccessLog(Interceptor):
    r"""Logs each call when it is over.

        /package.Service/Method peer=ipv4:10.0.0.1:5000 identity=alice code=OK seconds=0.000312

    The record has the five values as attributes, too (`extra`, what structured formatters use): `method`,
    `peer`, `identity` (None if unknown), `code` (such as "OK") and `seconds` (float). What a caller could
    choose is escaped, so that it can forge neither a line nor a field: a line feed is written as "\u{a}".

    As the first of `Server(interceptors=...)` it logs what the others refuse, too. Thread-safe.

    Parameters
    ----------
    logger
        Where the lines go, "yais.access" by default. yais configures no logging: without a handler and a
        level they go nowhere.
    level
        Level of the lines.
    clock
        Measures the seconds from arrival to end.

    Examples
    --------
    >>> logging.basicConfig(level=logging.INFO)
    >>> server = Server("0.0.0.0:50051", interceptors=[AccessLog()])
    """

    def __init__(
        self,
        logger: logging.Logger = _LOGGER,
        level: int = logging.INFO,
        clock: Clock = monotonic,
    ) -> None:
        self._logger = logger
        self._level = level
        self._clock = clock

    def begin(self, call: IncomingCall) -> Ended | None:
        """Note the moment; log when the call is over."""
        if not self._logger.isEnabledFor(self._level):
            return None
        started = self._clock() - call.waited

        def ended(code: Code) -> None:
            fields = {
                "method": _plain(call.method),
                "peer": _plain(call.peer),
                "identity": None if call.identity is None else _plain(call.identity),
                "code": code.name,
                "seconds": (self._clock() - started) / NANOSECONDS,
            }
            self._logger.log(
                self._level,
                "%s peer=%s identity=%s code=%s seconds=%.6f",
                fields["method"],
                fields["peer"],
                fields["identity"] or "-",
                fields["code"],
                fields["seconds"],
                extra=fields,
            )

        return ended


def _plain(text: str) -> str:
    return _ODD.sub(_escaped, text)


def _escaped(match: re.Match[str]) -> str:
    character = match[0]
    # Letters of all languages stay; blanks, control and formatting characters do not.
    if character.isalnum():
        return character
    return f"\\u{{{ord(character):x}}}"
