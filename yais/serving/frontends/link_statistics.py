"""The numbers of a link."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["LinkStatistics"]


@dataclass(slots=True)
class LinkStatistics:
    """The numbers of one end of a link since it was made, or of several ends together.

    Attributes
    ----------
    requests
        Inference requests and other calls: at a frontend those sent, at the engine those received.
    bundles
        Messages that stood for more than one inference request each.
    pending
        Requests without an answer now.
    sends
        System calls that sent anything.
    sent_bytes
        Bytes of messages that were sent, without what lies in shared memory.
    shared_bytes
        Bytes that were put into shared memory to be sent.
    overflows
        Contents that found the shared memory full, or were too large for it, and got memory of their own.
    """

    requests: int = 0
    bundles: int = 0
    pending: int = 0
    sends: int = 0
    sent_bytes: int = 0
    shared_bytes: int = 0
    overflows: int = 0

    def __add__(self, other: LinkStatistics) -> LinkStatistics:
        return LinkStatistics(
            self.requests + other.requests,
            self.bundles + other.bundles,
            self.pending + other.pending,
            self.sends + other.sends,
            self.sent_bytes + other.sent_bytes,
            self.shared_bytes + other.shared_bytes,
            self.overflows + other.overflows,
        )
