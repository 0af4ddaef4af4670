"""Forms by number: what many messages have in common is sent once."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

from yais.errors import InvalidArgument

__all__ = ["FormNumbers", "KnownForms"]

_MOST = 4096
"""Forms with a number; as many as the decoders of requests keep headers."""


class FormNumbers:
    """The numbers that a sender gives to forms. Not thread-safe.

    Once they are used up all are forgotten, by the receiver too: messages arrive in order.

    Parameters
    ----------
    tell
        Called with the number of a new form and the form, before the number is used; the number is 0, and
        there is no form, when all are forgotten.
    """

    def __init__(self, tell: Callable[[int, Any], object], most: int = _MOST) -> None:
        self._tell = tell
        self._most = most
        self._numbers: dict[Hashable, int] = {}
        self._next = 1  # never used again, so that what is late means nothing else

    def __len__(self) -> int:
        return len(self._numbers)

    def number(self, key: Hashable, make: Callable[[], Any]) -> int:
        """Return the number of a form. What telling it raises leaves it without one.

        Parameters
        ----------
        key
            What tells it from others.
        make
            Returns what the receiver is told, if it is new.
        """
        number = self._numbers.get(key)
        if number is None:
            form = make()
            if len(self._numbers) >= self._most:
                self._numbers.clear()
                self._tell(0, None)
            number = self._next
            self._tell(number, form)
            self._numbers[key] = number
            self._next += 1
        return number


class KnownForms:
    """The forms that a receiver was told of. Not thread-safe."""

    def __init__(self) -> None:
        self._forms: dict[int, Any] = {}

    def __len__(self) -> int:
        return len(self._forms)

    def told(self, number: int, form: Any) -> None:
        """Take in what `FormNumbers` tells."""
        if number:
            self._forms[number] = form
        else:
            self._forms.clear()

    def __getitem__(self, number: int) -> Any:
        """Return a form. Raises InvalidArgument if there is no such number."""
        try:
            return self._forms[number]
        except KeyError:
            raise InvalidArgument(f"got form {number}, expected one that was told before") from None
