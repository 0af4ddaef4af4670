"""How a call ended, as its caller sees it."""

from __future__ import annotations

from dataclasses import dataclass, field

from yais.errors import Code, YaisError, error_of
from yais.rpc.core_channel import CoreStatus
from yais.rpc.metadata import Metadata

__all__ = ["Status"]


@dataclass(frozen=True, slots=True)
class Status:
    """The code, the message and the trailing metadata with which a call ended."""

    code: Code
    message: str = ""
    trailing_metadata: Metadata = field(default_factory=lambda: Metadata(()))

    @classmethod
    def of(cls, status: CoreStatus) -> Status:
        """Make one of what gRPC core tells."""
        return cls(status.code, status.message, Metadata(status.trailing_metadata))

    @property
    def ok(self) -> bool:
        """Whether the call succeeded."""
        return self.code is Code.OK

    def error(self) -> YaisError:
        """Return the error for a status that is not OK; its `trailing_metadata` is that of the status."""
        error = error_of(self.code, self.message)
        error.trailing_metadata = self.trailing_metadata
        return error

    def check(self) -> None:
        """Raise the error unless the call succeeded."""
        if not self.ok:
            raise self.error()
