"""Which requests go to a pool of servers."""

from __future__ import annotations

import re
from dataclasses import dataclass

from yais.errors import InvalidArgument

__all__ = ["MODEL_HEADER", "Route"]

MODEL_HEADER = "custom-metadata-model-name"
"""The header in which clients name the model, so that nobody has to decode the request.

TensorRT Laboratory has this name in its example of routes.
"""

_SERVICE = "inference.GRPCInferenceService"
_METHOD = re.compile(r"[A-Za-z_][\w.]*/[A-Za-z_]\w*", re.ASCII)
_MODEL = re.compile(r"[\w.\-]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class Route:
    """Requests for a model, or of a method, and the pool that they go to.

    Attributes
    ----------
    pool
        Its name.
    model
        Requests whose header names this model; "" for any.
    method
        Calls of this method, as "inference.GRPCInferenceService/ModelInfer"; "" for any.

    Raises
    ------
    InvalidArgument
        Neither a model nor a method is named, or the name is none.
    """

    pool: str
    model: str = ""
    method: str = ""

    def __post_init__(self) -> None:
        if not self.model and not self.method:
            raise InvalidArgument(f"route to {self.pool!r}: got neither a model nor a method, expected one")
        if self.model and not _MODEL.fullmatch(self.model):
            raise InvalidArgument(
                f"route to {self.pool!r}: got model {self.model!r}, expected letters, digits, '_', '-', '.'"
            )
        if self.method and not _METHOD.fullmatch(self.method):
            raise InvalidArgument(
                f"route to {self.pool!r}: got method {self.method!r}, expected PACKAGE.SERVICE/METHOD, or the"
                f" name of a method of {_SERVICE}"
            )

    @classmethod
    def of_model(cls, text: str) -> Route:
        """Return the route that "MODEL=POOL" names; InvalidArgument if it names none."""
        model, pool = _halves(text, "MODEL=POOL")
        return cls(pool, model=model)

    @classmethod
    def of_method(cls, text: str) -> Route:
        """Return the route that "METHOD=POOL" names; InvalidArgument if it names none.

        A method without a service is one of KServe's: "ModelInfer=POOL".
        """
        method, pool = _halves(text, "METHOD=POOL")
        method = method.removeprefix("/")
        return cls(pool, method=method if "/" in method else f"{_SERVICE}/{method}")


def _halves(text: str, form: str) -> tuple[str, str]:
    first, equals, pool = text.rpartition("=")
    if not equals or not first or not pool:
        raise InvalidArgument(f"route: got {text!r}, expected {form}")
    return first, pool
