"""What frontends know of the models: as much as it takes to read a request and to order the answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from yais.errors import InvalidArgument
from yais.inference.layout import Signature
from yais.repository.repository import ModelEntry, ModelState
from yais.repository.versions import version_number

__all__ = ["Catalogue", "ModelTraits", "catalogue_of", "find_traits"]


@dataclass(frozen=True, slots=True)
class ModelTraits:
    """A model that takes requests.

    Attributes
    ----------
    decoupled
        Whether it answers any number of times.
    signature
        What it takes and gives.
    """

    decoupled: bool
    signature: Signature


Catalogue = Mapping[tuple[str, str], ModelTraits]
"""The models that take requests, by name and version; the newest also as version ""."""


def catalogue_of(entries: Iterable[ModelEntry]) -> dict[tuple[str, str], ModelTraits]:
    """Return the catalogue of entries, which are by name and ascending version."""
    catalogue: dict[tuple[str, str], ModelTraits] = {}
    for entry in entries:
        if entry.state is ModelState.READY and entry.loaded is not None:
            model = entry.loaded.model
            traits = ModelTraits(model.decoupled, model.signature)
            catalogue[entry.name, entry.version] = catalogue[entry.name, ""] = traits
    return catalogue


def find_traits(catalogue: Catalogue, name: str, version: str) -> ModelTraits | None:
    """Return what is known of a model, however its version is written; None if it takes no requests."""
    traits = catalogue.get((name, version))
    if traits is not None or not version:
        return traits
    try:
        number = version_number(version)
    except InvalidArgument:
        return None
    return catalogue.get((name, str(number or "")))
