"""Sites: where batches run. The lanes and the execution tokens of the host, or of one GPU."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass

from yais.core.clock import Deadline
from yais.core.pool import PoolStatistics
from yais.errors import DeadlineExceeded, Unavailable
from yais.inference.plan import ModelPlan, byte_text, staging_bytes
from yais.inference.tokens import Tokens
from yais.lane import Lanes
from yais.memory.cuda.error import CudaError

__all__ = ["Site", "SiteStatistics"]

_log = logging.getLogger("yais.inference")


@dataclass(frozen=True, slots=True)
class SiteStatistics:
    """What all models of a site share: how many there are, are free and are waited for."""

    tokens: PoolStatistics
    lanes: PoolStatistics


class Site:
    """Lanes and tokens that go together: a batch takes all it needs of one site. Thread-safe.

    Parameters
    ----------
    lanes, tokens
        What it lends.
    gpu
        Number of its GPU; None for the host.

    Attributes
    ----------
    lost
        Why nothing works there until the process is started again; empty while it does.
    """

    def __init__(self, lanes: Lanes, tokens: Tokens, *, gpu: int | None = None) -> None:
        self.lanes = lanes
        self.tokens = tokens
        self.gpu = gpu
        self.lost = ""
        self._reserving = threading.Lock()  # two that each hold some of the lanes would wait for each other

    def __repr__(self) -> str:
        return f"<Site {self}: {self.lanes.pool!r}, {self.tokens.pool!r}>"

    def __str__(self) -> str:
        return "host" if self.gpu is None else f"GPU {self.gpu}"

    def note(self, error: BaseException) -> None:
        """Look at an error of its device: after one that stays, the site is `lost`."""
        if isinstance(error, CudaError) and error.sticky and not self.lost:
            self.lost = str(error)
            _log.error("%s is lost: %s", self, error)

    def check(self) -> None:
        """Raise Unavailable if the site is lost."""
        if self.lost:
            raise Unavailable(f"{self} is lost: {self.lost}")

    def reserve(self, staging: int, timeout: float, *, device: int = 0, scratch: int = 0) -> None:
        """Make the memory at least so large: of each lane, and the activation memory of each token.

        Does nothing if it is. Else it waits for what is lent, so work in flight ends undisturbed. Memory
        never shrinks: the next model finds it.

        Parameters
        ----------
        staging, device
            Bytes for each lane, on the host and on the device.
        scratch
            Bytes for each token.
        timeout
            Seconds to wait for lanes, tokens, and others who reserve.

        Raises
        ------
        DeadlineExceeded
            They did not come back in time.
        ValueError
            Activation memory is asked for, and the tokens know no memory.
        OSError, MemoryError
            There is too little; the message has the numbers. Then all is as it was.
        """
        deadline = Deadline.after(timeout)
        if not self._reserving.acquire(timeout=timeout):
            raise DeadlineExceeded(f"{self!r}: others who reserve memory did not end within {timeout} s")
        try:
            # A lane is taken before a token, as batches do it.
            with self.lanes.reserving(staging, deadline.remaining() or 0.0, device=device):
                self.tokens.reserve(scratch, deadline.remaining() or 0.0)
        except CudaError as error:
            self.note(error)
            raise
        except MemoryError as error:
            wanted = self._described(staging, device, scratch)
            reason = " ".join(str(error).split())
            raise MemoryError(f"{self} has too little memory for {wanted}: {reason}") from error
        finally:
            self._reserving.release()

    @property
    def reserved(self) -> str:
        """What there is by now, in words."""
        return self._described(self.lanes.staging_size, self.lanes.device_size, self.tokens.scratch_size)

    def fits(self, plan: ModelPlan) -> bool:
        """Whether what is reserved does for a model."""
        return (
            staging_bytes([plan]) <= self.lanes.staging_size
            and plan.device <= self.lanes.device_size
            and plan.scratch <= self.tokens.scratch_size
        )

    def statistics(self) -> SiteStatistics:
        """Return the numbers of now."""
        return SiteStatistics(self.tokens.pool.statistics(), self.lanes.pool.statistics())

    def close(self, timeout: float) -> bool:
        """End the threads and free the memory; return whether all was given back in `timeout` seconds.

        If not, the memory is left to those who have it. May be called again.
        """
        ended = self.lanes.close(timeout)
        if ended:
            self.tokens.close()
        return ended

    def _described(self, staging: int, device: int, scratch: int) -> str:
        lanes, tokens = self.lanes.size, self.tokens.size
        return (
            f"{tokens} execution tokens with {byte_text(scratch)} of activation memory each, {lanes} lanes "
            f"with {byte_text(device)} of device and {byte_text(staging)} of staging memory each, "
            f"{byte_text(lanes * device + tokens * scratch)} on the device in all"
        )
