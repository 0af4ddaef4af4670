"""Data types as servers name them."""

from __future__ import annotations

from yais.core.tensor import DataType
from yais.errors import InvalidArgument

__all__ = ["datatype_of"]


def datatype_of(name: str, tensor: str) -> DataType:
    """Return the data type that a server says a tensor has.

    Raises
    ------
    InvalidArgument
        It is none that is known here.
    """
    try:
        return DataType(name)
    except ValueError:
        known = ", ".join(datatype.value for datatype in DataType)
        raise InvalidArgument(
            f"got data type {name!r} for tensor '{tensor}', expected one of {known}"
        ) from None
