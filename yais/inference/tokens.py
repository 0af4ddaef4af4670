"""Execution tokens: how many executions may run at once, whatever the model.

A token owns the activation memory of one execution, as large as the largest model needs, and models borrow
it: memory is tokens x the largest, not the sum over models. A model's own limit (its instances) is taken
before the token, so that a model at its limit never holds one (DESIGN.md, D5).
"""

from __future__ import annotations

from yais.core.clock import Deadline
from yais.core.pool import Pool
from yais.lane import DeviceMemory
from yais.memory.device_buffer import DeviceBuffer

__all__ = ["Token", "Tokens"]


class Token:
    """The right to execute.

    Attributes
    ----------
    scratch
        Activation memory; None where no model needs any.
    """

    __slots__ = ("scratch",)

    def __init__(self) -> None:
        self.scratch: DeviceBuffer | None = None


class Tokens:
    """All execution tokens, and the pool that lends them. Thread-safe.

    Parameters
    ----------
    count
        Executions at once, at least one.
    memory
        Where activation memory comes from; only needed for models that need some.

    Attributes
    ----------
    pool
        Lends them.
    scratch_size
        Bytes of activation memory each token owns.
    """

    def __init__(self, count: int, *, memory: DeviceMemory | None = None) -> None:
        self._memory = memory
        self._tokens = [Token() for _ in range(count)]
        self.scratch_size = 0
        self.pool: Pool[Token] = Pool(self._tokens, name="execution tokens")

    def __repr__(self) -> str:
        return f"<Tokens of {self.scratch_size} bytes: {self.pool!r}>"

    @property
    def size(self) -> int:
        """How many tokens there are."""
        return len(self._tokens)

    def reserve(self, scratch: int, timeout: float) -> None:
        """Give every token at least `scratch` bytes; executions in flight end undisturbed.

        What they had is freed once there is the new, so for a moment there is both. Not from two threads at
        once.

        Raises
        ------
        ValueError
            There is no memory resource to take them from.
        DeadlineExceeded
            A token did not come back within `timeout` seconds in all.
        OSError, MemoryError
            There is no such memory; then the tokens are as they were.
        """
        if scratch <= self.scratch_size:
            return
        if self._memory is None:
            raise ValueError(f"got scratch={scratch}, expected 0: the tokens have no memory resource")
        deadline = Deadline.after(timeout)
        leases = []
        fresh: list[DeviceBuffer] = []
        try:
            for _ in self._tokens:
                leases.append(self.pool.acquire(deadline.remaining() or 0.0))  # noqa: PERF401 - may fail
            for _ in self._tokens:
                fresh.append(self._memory.allocate(scratch))  # noqa: PERF401 - may fail
            for lease in leases:
                if lease.item.scratch is not None:
                    lease.item.scratch.close()
                lease.item.scratch = fresh.pop()
            self.scratch_size = scratch
        finally:
            for buffer in fresh:
                buffer.close()
            for lease in leases:
                lease.release()

    def close(self) -> None:
        """Free the memory. Nothing may be executing."""
        for token in self._tokens:
            if token.scratch is not None:
                token.scratch.close()
                token.scratch = None
