"""Gates for models in another process: they are in that of the tests, which serves them."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.managers import BaseManager, BaseProxy
from typing import Any

ADDRESS = "YAIS_TEST_GATES"
"""Variable of the environment that says where they are."""


class FarGate(BaseProxy):
    """A gate of the other process; what models need of `Gate`."""

    @contextmanager
    def passing(self, values: list[float]) -> Iterator[None]:
        """See `Gate`."""
        passed = self._callmethod("enter", (values,))
        try:
            assert passed, "held up for too long"
            yield
        finally:
            self._callmethod("leave")

    def note(self, what: Any) -> None:
        """See `Gate`."""
        self._callmethod("note", (what,))


class _Manager(BaseManager):
    pass


class FarGates(dict[str, FarGate]):
    """Gates by their names."""

    def __init__(self) -> None:
        super().__init__()
        _Manager.register("gate", proxytype=FarGate)
        self._manager: Any = _Manager(os.environ[ADDRESS], b"gates")
        self._manager.connect()

    def __missing__(self, name: str) -> FarGate:
        gate: FarGate = self._manager.gate(name)
        return self.setdefault(name, gate)


def serve_gates(gates: Mapping[str, Any]) -> None:
    """Serve gates to the processes that are started from here, from now on. Idempotent."""
    if ADDRESS in os.environ:
        return
    _Manager.register("gate", gates.__getitem__, FarGate)
    server = _Manager(authkey=b"gates").get_server()
    os.environ[ADDRESS] = str(server.address)
    threading.Thread(target=server.serve_forever, name="gates", daemon=True).start()
