"""Work on several threads at once."""

from __future__ import annotations

import threading
from collections.abc import Callable

SOON = 20.0


def in_threads(count: int, work: Callable[[int], object]) -> None:
    """Run `work(index)` on threads that start together; raise what one of them raises."""
    start = threading.Barrier(count)
    errors: list[BaseException] = []

    def run(index: int) -> None:
        try:
            start.wait(SOON)
            work(index)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(index,)) for index in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(3 * SOON)
        assert not thread.is_alive(), "a thread hangs"
    for error in errors:
        raise error
