"""Who decides which models of a repository are loaded, and when."""

from __future__ import annotations

import enum

__all__ = ["ControlMode"]


class ControlMode(enum.StrEnum):
    """Who decides."""

    NONE = "none"
    """All models are loaded at the start; then nothing changes."""
    POLL = "poll"
    """The directories: they are looked at again and again."""
    EXPLICIT = "explicit"
    """Clients; at the start only the models that are named are loaded."""
