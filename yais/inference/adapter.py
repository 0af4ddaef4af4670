"""Adapters: what lies between the tensors of requests and those of an engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from yais.engines.engine import Array
from yais.inference.job import Job
from yais.inference.scheduling.queue import Batch

__all__ = ["Adapter"]


class Adapter(Protocol):
    """Changes the tensors of a batch on their way into an engine and out of it. Thread-safe.

    Several are applied one after the other, and on the way out in the opposite order. They see arrays whose
    rows are the jobs' in their order, or for batches with gaps (`Batch.rows`) what the adapter before made of
    them.
    """

    def inputs(
        self, arrays: list[Array | None], jobs: Sequence[Job], batch: Batch[Job]
    ) -> list[Array | None]:
        """Return the inputs of the engine. The given arrays may be read-only.

        Parameters
        ----------
        arrays
            Those of the requests, in the signature's order; None for an optional one that they leave out.
        jobs
            The batch's, or one of them if the batch failed and they run one by one.
        """

    def outputs(self, arrays: Sequence[Array], jobs: Sequence[Job], batch: Batch[Job]) -> Sequence[Array]:
        """Return the outputs of the requests, in the signature's order, of what the engine gave.

        Called before the engine's instance is free again.
        """
