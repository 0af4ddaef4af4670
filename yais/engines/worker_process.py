"""One worker process of a Python model, as the server sees it."""

from __future__ import annotations

import contextlib
import signal
import socket
from collections.abc import Generator, Mapping
from typing import Any

from yais.core.clock import Deadline, monotonic
from yais.engines.child_process import ChildProcess
from yais.engines.engine import Array
from yais.engines.python_model import PythonModelConfig
from yais.engines.tensor_packing import pack, packed_size, unpack
from yais.engines.worker_channel import WorkerChannel
from yais.errors import Code, DeadlineExceeded, ResourceExhausted, Unavailable, error_of
from yais.memory.shared_region import SharedRegion

__all__ = ["PythonModelError", "WorkerProcess"]

_EXIT_SECONDS = 5.0  # between the end of the connection and that of the process


class PythonModelError(Exception):
    """What a model raised in a worker process, where it is no `YaisError`: its type and message.

    A note has the traceback.
    """


class WorkerProcess:
    """Runs one model in a process of its own. For one thread at a time, but for `terminate`.

    The constructor returns while the process still starts. Whatever fails in the connection ends the
    process for good; what the model itself raises does not.

    Parameters
    ----------
    config
        Of the model.
    timeout
        Seconds that one answer may take.

    Attributes
    ----------
    decoupled
        Whether the model is a generator; known once it is ready.
    started
        When, in nanoseconds.
    """

    def __init__(self, config: PythonModelConfig, timeout: float) -> None:
        self._name = config.name
        self._config = config
        self._timeout = timeout
        self.started = monotonic()
        self.decoupled = False
        self._alive = True
        self._regions: dict[str, SharedRegion] = {}
        ours, theirs = socket.socketpair()
        self._channel = WorkerChannel(ours)
        try:
            self._process = ChildProcess("yais.engines.python_worker", theirs, f"model '{config.name}'")
        except BaseException:
            self._channel.close()
            raise
        finally:
            theirs.close()

    def __repr__(self) -> str:
        state = "alive" if self._alive else "ended"
        memory = ", ".join(f"{use}: {region.size} bytes" for use, region in self._regions.items())
        return f"<WorkerProcess {self._process.pid} of {self._name}: {state}, {memory or 'no tensors yet'}>"

    @property
    def alive(self) -> bool:
        """Whether it can be used."""
        return self._alive

    @property
    def pid(self) -> int:
        """Number of the process."""
        return self._process.pid

    def wait_ready(self, timeout: float) -> None:
        """Load the model.

        Raises
        ------
        InvalidArgument
            The model cannot be loaded; the message says why.
        Unavailable
            The process ended.
        DeadlineExceeded
            It took longer than `timeout` seconds, and was killed.
        """
        self._send(("load", self._config))
        try:
            self.decoupled = self._receive(timeout)[1]
        except BaseException:
            self._end()
            raise

    def auto_complete(self, config: Mapping[str, Any], timeout: float) -> dict[str, Any] | None:
        """Ask the model's file for its configuration instead; the process ends.

        Returns what `PythonFile.auto_complete` does. Raises as `wait_ready` does.
        """
        try:
            self._send(("complete", self._config.path, dict(config)))
            completed: dict[str, Any] | None = self._receive(timeout)[1]
        finally:
            self._end()
        return completed

    def execute(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Answer a request.

        Raises
        ------
        YaisError, PythonModelError
            The model did.
        Unavailable
            The process ended.
        DeadlineExceeded
            It took longer than the timeout, and was killed.
        """
        self._put("execute", inputs)
        return self._outputs(self._receive(self._timeout))

    def stream(self, inputs: Mapping[str, Array]) -> Generator[dict[str, Array], None, None]:
        """Answer a request any number of times; each within the timeout. Raises as `execute` does."""
        self._put("stream", inputs)
        message = self._receive(self._timeout)
        while message[0] != "end":
            outputs = self._outputs(message)
            try:
                yield outputs
            except GeneratorExit:
                self._send(("stop",))
                self._receive(self._timeout)
                raise
            self._send(("next",))
            message = self._receive(self._timeout)

    def terminate(self) -> None:
        """Ask the process to end now; whoever waits for it fails. From any thread."""
        self._process.signal(signal.SIGTERM)

    def close(self, timeout: float) -> None:
        """Let the model finalize, for at most `timeout` seconds, and end the process."""
        deadline = Deadline.after(timeout)
        if self._alive:
            with contextlib.suppress(OSError):
                self._channel.send(("close",), deadline.remaining())
            self._process.wait(deadline.remaining() or 0.0)
        self._end()

    def _put(self, what: str, inputs: Mapping[str, Array]) -> None:
        size = packed_size(inputs)
        if "inputs" not in self._regions or size > self._regions["inputs"].size:
            self._grow("inputs", size)
        self._send((what, pack(inputs, self._regions["inputs"].view())))

    def _grow(self, use: str, size: int) -> None:
        if use in self._regions:
            self._regions.pop(use).close()
        # A quarter more, so that requests which grow little by little do not all need a new one.
        region = self._regions[use] = SharedRegion.create(size + size // 4)
        try:
            self._send(("attach", use, region.name, region.size))
            self._receive(self._timeout)
        finally:
            region.unlink()

    def _outputs(self, message: tuple[Any, ...]) -> dict[str, Array]:
        # Copied, since the next request overwrites them while these are still on their way to the client.
        views = unpack(message[1], self._regions["outputs"].view())
        return {name: view if view.dtype.hasobject else view.copy() for name, view in views.items()}

    def _send(self, message: tuple[Any, ...]) -> None:
        try:
            self._channel.send(message, self._timeout)
        except OSError as error:  # a time-out, too
            raise self._failed(error) from None

    def _receive(self, timeout: float) -> tuple[Any, ...]:
        """Return the next message that is no error, making room for outputs when asked to."""
        deadline = Deadline.after(timeout)
        while True:
            try:
                message = self._channel.receive(deadline.remaining())
            except (OSError, EOFError) as error:
                raise self._failed(error, timeout) from None
            if message[0] == "error":
                raise _raised(*message[1:])
            if message[0] != "room":
                return message
            try:
                self._grow("outputs", message[1])
            except ResourceExhausted as error:
                self._send(("refused", str(error)))

    def _failed(self, error: Exception, timeout: float | None = None) -> Exception:
        """End the process, whose connection failed; return the error that says how."""
        if isinstance(error, TimeoutError):
            self._end()
            seconds = self._timeout if timeout is None else timeout
            text = f"model '{self._name}' did not answer within {seconds:g} s: its worker process was killed"
            return DeadlineExceeded(text)
        exited = self._process.wait(_EXIT_SECONDS)
        how = self._end()
        how = how if exited else "closed its connection"
        return Unavailable(f"the worker process of model '{self._name}' {how}")

    def _end(self) -> str:
        """Make sure that the process has ended, and give back what belongs to it; return how it ended."""
        self._alive = False
        how = self._process.end()
        self._channel.close()
        for region in self._regions.values():
            region.close()
        self._regions.clear()
        return how


def _raised(code: int | None, kind: str, text: str, trace: str) -> Exception:
    error = PythonModelError(f"{kind}: {text}") if code is None else error_of(Code(code), text)
    error.add_note(trace)
    return error
