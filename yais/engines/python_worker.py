"""The program of a worker process: runs one Python model for a server.

    python -m yais.engines.python_worker FD      a connected socket, to talk over (worker_channel.py)

It ends when the server's end of the socket is closed, whatever the model is doing.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import select
import socket
import sys
import threading
import traceback
from collections.abc import Sequence
from typing import Any

from yais.engines.engine import Array
from yais.engines.python import PythonEngine
from yais.engines.python_model import PythonFile, PythonModelConfig, load_python_model
from yais.engines.tensor_packing import pack, packed_size, unpack
from yais.engines.worker_channel import WorkerChannel
from yais.errors import InvalidArgument, ResourceExhausted, YaisError
from yais.memory.shared_region import SharedRegion

__all__ = ["main"]


class _Worker:
    """The loop that answers the server."""

    def __init__(self, channel: WorkerChannel, engine: PythonEngine) -> None:
        self._channel = channel
        self._engine = engine
        self._regions: dict[str, SharedRegion] = {}

    def run(self) -> None:
        """Answer until the server closes the model or is gone."""
        while (message := self._channel.receive())[0] != "close":
            if message[0] == "attach":
                self._attach(message)
                continue
            try:
                if message[0] == "execute":
                    self._reply(self._engine.execute(self._inputs(message)))
                else:
                    self._stream(self._inputs(message))
            except (Exception, SystemExit) as error:
                self._channel.send(described(error))
        self._engine.close()

    def _stream(self, inputs: list[Array]) -> None:
        with contextlib.closing(self._engine.stream(inputs)) as results:
            for outputs in results:
                self._reply(outputs)
                if self._channel.receive()[0] == "stop":
                    break
        self._channel.send(("end",))

    def _attach(self, message: tuple[Any, ...]) -> None:
        _, use, name, size = message
        if use in self._regions:
            self._regions.pop(use).close()
        self._regions[use] = SharedRegion.attach(name, size=size)
        self._channel.send(("attached",))

    def _inputs(self, message: tuple[Any, ...]) -> list[Any]:
        arrays = unpack(message[1], self._regions["inputs"].view())
        return [arrays.get(spec.name) for spec in self._engine.inputs]

    def _reply(self, outputs: Sequence[Array]) -> None:
        named = {spec.name: array for spec, array in zip(self._engine.outputs, outputs, strict=True)}
        size = packed_size(named)
        if "outputs" not in self._regions or size > self._regions["outputs"].size:
            self._channel.send(("room", size))
            answer = self._channel.receive()
            if answer[0] == "refused":
                raise ResourceExhausted(answer[1])
            self._attach(answer)
        self._channel.send(("outputs", pack(named, self._regions["outputs"].view())))


def described(error: BaseException) -> tuple[Any, ...]:
    """Return an error as a message to the server."""
    code = int(error.code) if isinstance(error, YaisError) else None
    return ("error", code, type(error).__name__, str(error), "".join(traceback.format_exception(error)))


def main(descriptor: int) -> None:
    """Load the model that the server names, and run it; or only ask it for its configuration."""
    faulthandler.enable()
    connection = socket.socket(fileno=descriptor)
    threading.Thread(target=_watch, args=(connection.fileno(),), daemon=True).start()
    channel = WorkerChannel(connection)
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):  # the server is gone
        task, *arguments = channel.receive()
        try:
            if task == "complete":
                path, known = arguments
                channel.send(("completed", PythonFile(path).auto_complete(known)))
                return
            engine = _load(*arguments)
        except Exception as error:
            channel.send(described(error))
            return
        channel.send(("ready", engine.decoupled))
        _Worker(channel, engine).run()


def _load(config: PythonModelConfig) -> PythonEngine:
    engine = load_python_model(config)
    if not isinstance(engine, PythonEngine):
        raise InvalidArgument(
            f"{config.path} has a pipeline, which calls other models: expected no 'worker_process'"
        )
    return engine


def _watch(descriptor: int) -> None:
    """End the process when the server is gone, also while the model is busy."""
    poll = select.poll()
    poll.register(descriptor, 0)  # a hang-up is always reported
    poll.poll()
    os._exit(1)


if __name__ == "__main__":
    main(int(sys.argv[1]))
