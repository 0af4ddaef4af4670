"""The batches of a model as a timeline: their stages on lanes, and the tokens they hold."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping

from yais.core.future import Future
from yais.inference.request import InferRequest, InferResponse
from yais.inference.request_trace import BatchMoments
from yais.telemetry.timeline import Span, Timeline, Track, in_rows

__all__ = ["BatchTimeline"]

_LIMIT = 10_000  # batches kept


class BatchTimeline:
    """Takes the batches of the requests that it traces, the first so many; a `RequestTrace`. Thread-safe.

    Parameters
    ----------
    limit
        Batches kept.

    Attributes
    ----------
    left_out
        Batches that came when there were as many as are kept.
    """

    def __init__(self, limit: int = _LIMIT) -> None:
        self.left_out = 0
        self._limit = limit
        self._batches: list[BatchMoments] = []
        self._told: dict[int, BatchMoments] = {}  # the last that each thread told of
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<BatchTimeline of {len(self._batches)} batches>"

    @property
    def ids(self) -> Mapping[str, str]:
        """Nothing: batches have no such trace."""
        return {}

    def mark(self, name: str, at: int) -> None:
        """Do nothing: what a request does alone is no batch's."""

    def batch(self, moments: BatchMoments) -> None:
        """Take a batch, of which each of its requests tells in turn, on one thread."""
        thread = threading.get_ident()
        with self._lock:
            if self._told.get(thread) is moments:
                return
            self._told[thread] = moments
            if not moments.output_start:  # it failed
                return
            if len(self._batches) < self._limit:
                self._batches.append(moments)
            else:
                self.left_out += 1

    def child(self, model: str, version: str, request: InferRequest) -> None:  # noqa: ARG002 - its batches are
        """Trace a request made for a traced one, too."""
        request.trace = self

    def follow(self, future: Future[InferResponse]) -> None:
        """Do nothing: the end of a request is no batch's."""

    def __len__(self) -> int:
        """Return how many batches there are."""
        return len(self._batches)

    def window(self, count: int) -> tuple[int, int]:
        """Return from when to when the middle `count` batches ran, or all if there are fewer; ns.

        Raises
        ------
        ValueError
            There are none.
        """
        with self._lock:
            batches = sorted(self._batches, key=lambda batch: batch.taken)
        if not batches:
            raise ValueError("got no batches, expected some that have ended")
        first = max(0, (len(batches) - count) // 2)
        middle = batches[first : first + count]
        return middle[0].taken, max(batch.end for batch in middle)

    def record(self, timeline: Timeline) -> None:
        """Add the stages of all batches to a timeline.

        There are as few lanes and tokens as the batches have needed at once, those numbered lowest first:
        which of them a batch had in fact makes no difference.
        """
        with self._lock:
            batches = list(self._batches)
        lanes = in_rows([(each.taken, each.end) for each in batches])
        tokens = in_rows([(each.input_end, each.output_start) for each in batches])
        for number, (each, lane, token) in enumerate(zip(batches, lanes, tokens, strict=True)):
            arguments = {"batch": number, "size": each.size}
            on_lane = Track("lanes", f"lane {lane}")
            timeline.add([Span(on_lane, name, start, end, arguments) for name, start, end in stages(each)])
            on_token = Track("tokens", f"token {token}")
            timeline.add([Span(on_token, "execute", each.input_end, each.output_start, arguments)])


def stages(batch: BatchMoments) -> Iterator[tuple[str, int, int]]:
    """Yield the name, the start and the end of each stage of a batch that took any time; ns."""
    waited = batch.start - batch.taken
    moments = [
        ("gather", batch.taken, batch.input_end - waited),
        ("wait for token", batch.input_end - waited, batch.input_end),
        ("execute", batch.input_end, batch.output_start),
        ("wait for device", batch.output_start, batch.copied),
        ("hand out", max(batch.output_start, batch.copied), batch.end),
    ]
    return ((name, start, end) for name, start, end in moments if end > start)
