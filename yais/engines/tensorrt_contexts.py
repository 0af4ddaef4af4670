"""The execution contexts of an engine, lent one by one."""

from __future__ import annotations

import threading
from collections.abc import Callable

from yais.engines.tensorrt_context import PlanContext
from yais.engines.tensorrt_profiles import Form
from yais.errors import FailedPrecondition

__all__ = ["PlanContexts"]


class PlanContexts:
    """Lends execution contexts. Thread-safe.

    Nobody waits for one: as many as run at once are made, and those who run are limited already, by the
    instances of the model and by execution tokens. CUDA graphs are only good while their context keeps its
    form (TensorRT's advice is a context for each graph), so with them there are more, each for its form.

    Parameters
    ----------
    make
        Makes one.
    count
        To begin with.
    forms
        For so many forms at once each of these has a context of its own.

    Raises
    ------
    Exception
        What `make` raises.
    """

    def __init__(self, make: Callable[[], PlanContext], count: int, forms: int = 1) -> None:
        self._make = make
        self._most = count * forms
        self._lock = threading.Lock()
        self._making = threading.Lock()  # TensorRT does not say that an engine can make two at once
        self._closed = False
        self._free: list[PlanContext] = []  # the one that came back last at the end
        self.size = 0
        try:
            for context in [self.borrow() for _ in range(count)]:
                self.give_back(context)
        except BaseException:
            self.close()
            raise

    def borrow(self, form: Form | None = None) -> PlanContext:
        """Return one that nobody has, to be given back once: best one that had this form last.

        Raises
        ------
        FailedPrecondition
            They are closed.
        """
        with self._lock:
            if self._closed:
                raise FailedPrecondition("the engine is closed, expected an open one")
            taken = self._choose(form)
            if taken is not None:
                self._free.remove(taken)
                return taken
            self.size += 1
        try:
            with self._making:
                return self._make()
        except BaseException:
            with self._lock:
                self.size -= 1
            raise

    def _choose(self, form: Form | None) -> PlanContext | None:
        """Return a free one to use; None to make another."""
        for context in reversed(self._free):
            if form is None or context.form in {form, None}:
                return context
        return self._free[0] if self._free and self.size >= self._most else None

    def give_back(self, context: PlanContext) -> None:
        """Take one back, whose execution is over. Once they are closed it is freed."""
        with self._lock:
            if not self._closed:
                self._free.append(context)
                return
        context.close()

    def close(self) -> None:
        """Free those that are not lent; the others are freed as they come back. Idempotent."""
        with self._lock:
            self._closed = True
            free, self._free = self._free, []
        for context in free:
            context.close()
