"""A build that a person watches, and can end."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import click

from yais.build.options import BuildOptions
from yais.build.plan import BuiltPlan, build_plan

__all__ = ["run_build"]

_STEP = 0.1  # seconds between two looks at how far it is
_PARTS = 1000
_WIDTH = 40  # columns for what is being done


class _Watched:
    """A build: how far it is, and whether it is to end.

    Written by threads of the builder, and by a handler of signals, which must take no lock.
    """

    def __init__(self) -> None:
        self.name = ""
        self.part = 0.0
        self.interrupted = False

    def report(self, name: str, part: float) -> None:
        self.name, self.part = name, part

    def interrupt(self, number: int, _frame: object) -> None:
        self.interrupted = True
        signal.signal(number, signal.SIG_DFL)


def run_build(path: Path, options: BuildOptions) -> BuiltPlan:
    """Build a plan, with a bar on stderr if that is a terminal. To be called on the main thread.

    Raises
    ------
    KeyboardInterrupt
        Ctrl-C, after the builder has ended; a second one ends the process at once.
    YaisError
        See `build_plan`.
    """
    watched = _Watched()
    # On a thread of its own: signals come to the first one, and must not come in the middle of the builder.
    with _interrupting(watched), ThreadPoolExecutor(1, "yais-build") as threads:
        building = threads.submit(
            build_plan, path, options, report=watched.report, cancelled=lambda: watched.interrupted
        )
        _watch(building, watched)
    if watched.interrupted:
        raise KeyboardInterrupt
    return building.result()


@contextmanager
def _interrupting(watched: _Watched) -> Iterator[None]:
    before = signal.signal(signal.SIGINT, watched.interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _watch(building: Future[BuiltPlan], watched: _Watched) -> None:
    if not sys.stderr.isatty():
        while not wait([building], timeout=_STEP).done:
            pass
        return
    shown: AbstractContextManager[Any] = click.progressbar(
        length=_PARTS,
        file=sys.stderr,
        show_eta=False,
        item_show_func=lambda _: watched.name[:_WIDTH].ljust(_WIDTH),
    )
    with shown as bar:
        while not wait([building], timeout=_STEP).done:
            bar.update(int(watched.part * _PARTS) - bar.pos)
            bar.render_progress()
        if building.exception() is None and not watched.interrupted:
            bar.update(_PARTS - bar.pos)
