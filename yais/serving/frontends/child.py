"""What the two kinds of child processes have in common: how they are set up, and how they end."""

from __future__ import annotations

import contextlib
import gc
import logging
import resource
import signal
import socket
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from yais.errors import YaisError
from yais.repository.heap import keep_memory
from yais.serving.frontends.control import ControlChannel, Failed, Setup
from yais.serving.log_handler import log_handler

__all__ = ["Child", "freeze", "plain_error", "run_child"]

_log = logging.getLogger("yais.serving")

_FILES = 65536  # that a process may have open, if the system lets it; far above what is needed


class Child(Protocol):
    """What a child process does."""

    def run(self) -> bool:
        """Do it until the end; return whether every request was answered."""


def run_child(make: Callable[[ControlChannel, Setup], Child]) -> None:
    """Be a child process, whose one argument is the file descriptor of its control connection.

    The exit status is 0 if all that had begun has ended in order, else 1.
    """
    # The supervisor alone decides about the end: service managers send signals to every process. Handlers,
    # so that processes started from here have those of the system again.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: None)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):  # each large tensor on a link is a file
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, _FILES), most))
    connection = socket.socket(fileno=int(sys.argv[1]))
    connection.set_inheritable(False)
    channel = ControlChannel(connection)
    received = channel.receive()
    if received is None:
        sys.exit(1)
    setup, _ = received
    assert isinstance(setup, Setup)
    keep_memory()
    clean = False
    try:
        clean = make(channel, _with_log(setup)).run()
    except (ImportError, OSError, ValueError, YaisError) as error:
        channel.send(Failed(plain_error(error)))
    except Exception as error:
        _log.exception("unexpected error")
        channel.send(Failed(plain_error(error)))
    sys.exit(not clean)


def freeze() -> None:
    """Keep the garbage collector from looking again at what is there by now, and stays."""
    gc.collect()
    gc.freeze()


def _with_log(setup: Setup) -> Setup:
    """Return the setup with a handler for the log, added to the root logger; if this process has one."""
    if not setup.logs:
        return setup
    handler = log_handler(setup.options.logging.file)
    logging.getLogger().addHandler(handler)
    options = replace(setup.options, logging=replace(setup.options.logging, handler=handler))
    return replace(setup, options=options)


def plain_error(error: Exception) -> Exception:
    """Return an error that can be sent: a `YaisError` of the same kind, else an OSError."""
    if isinstance(error, YaisError):
        return type(error)(str(error))
    return OSError(str(error) or type(error).__name__)
