"""Events: marks in the order of a stream, which threads sleep on."""

from __future__ import annotations

import collections
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from yais.core.clock import Deadline

if TYPE_CHECKING:
    from yais.memory.cuda.device import CudaDevice

__all__ = ["CudaEvent", "EventPool"]


_LOOK = 0.001  # seconds between two looks; CUDA has no wait with an end


class EventPool:
    """The events of one device that nobody holds, for their next use. Thread-safe."""

    def __init__(self, device: CudaDevice) -> None:
        self._device = device
        self._spare: collections.deque[Any] = collections.deque()
        self._closed = False

    def __repr__(self) -> str:
        return f"<EventPool: {len(self._spare)} events spare>"

    def take(self) -> Any:
        """Return a CUevent that nobody holds; made where there is none. Raises `CudaError`."""
        try:
            return self._spare.pop()
        except IndexError:
            flags = self._device.toolkit.driver.CUevent_flags
            # The thread that waits sleeps, where it would spin by default.
            wanted = int(flags.CU_EVENT_BLOCKING_SYNC) | int(flags.CU_EVENT_DISABLE_TIMING)
            return self._device.toolkit.call("cuEventCreate", wanted)

    def give(self, event: Any) -> None:
        """Take an event back. Waits for no lock."""
        if not self._closed:  # else it is gone with the context
            self._spare.append(event)

    def close(self) -> None:
        """Destroy what is spare, and keep nothing that comes back from now on."""
        self._closed = True
        while self._spare:
            self._device.quietly("destroy an event", partial(self._destroy, self._spare.pop()))

    def _destroy(self, event: Any) -> None:
        self._device.toolkit.call("cuEventDestroy", event)


class CudaEvent:
    """A moment in the order of a stream: when all that was queued there before is done. Thread-safe.

    CUDA's own event is used again once this object is gone, so never while somebody waits for it.
    """

    __slots__ = ("_device", "_done", "_event")

    def __init__(self, device: CudaDevice, event: Any) -> None:
        self._device = device
        self._event = event
        self._done = False

    def __repr__(self) -> str:
        return f"<CudaEvent {self.handle:#x} of GPU {self._device.index}{', done' if self._done else ''}>"

    @property
    def handle(self) -> int:
        """The address of the CUevent, for whoever calls CUDA."""
        return int(self._event)

    @property
    def done(self) -> bool:
        """Whether the moment has come.

        Raises
        ------
        CudaError
            Some earlier work on the GPU failed.
        """
        if not self._done:
            toolkit = self._device.toolkit
            self._device.activate()
            (status,) = toolkit.driver.cuEventQuery(self._event)
            if int(status) == int(toolkit.driver.CUresult.CUDA_ERROR_NOT_READY):
                return False
            if int(status):
                raise toolkit.failure("cuEventQuery", status)
            self._done = True
        return True

    def wait(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds, looking each millisecond; return whether it has come; see `done`."""
        deadline = Deadline.after(timeout)
        while not self.done:
            if deadline.expired():
                return False
            time.sleep(_LOOK)
        return True

    def sync(self) -> None:
        """Sleep until the moment has come, without the interpreter's lock.

        Raises
        ------
        CudaError
            Some earlier work on the GPU failed.
        """
        if not self._done and not self._device.closed:  # it closes once all of it is done
            self._device.activate()
            self._device.toolkit.call("cuEventSynchronize", self._event)
        self._done = True

    def __del__(self) -> None:
        self._device.events.give(self._event)
