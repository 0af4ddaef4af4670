"""Models and servers to test with are made by the modules beside the tests of the server."""

import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path += [str(Path(__file__).parents[1] / part) for part in ("serving", "engines")]

from yais.core.timer import Timer
from yais.inference.tokens import Tokens
from yais.lane import Lanes
from yais.repository.repository import ModelRepository


@pytest.fixture
def make_repository() -> Iterator[Callable[..., ModelRepository]]:
    """Return a function that makes repositories, which are closed afterwards, with all their threads."""
    before = set(threading.enumerate())
    lanes, timer = Lanes("test", threads={"execute": 2}), Timer("test-timer")
    made: list[ModelRepository] = []

    def make(*roots: Path, **options: Any) -> ModelRepository:
        repository = ModelRepository(roots, lanes=lanes, tokens=Tokens(3), timer=timer, **options)
        made.append(repository)
        return repository

    yield make
    assert all([repository.close(20.0) for repository in made])  # noqa: C419 - close every one
    assert timer.close(20.0)
    assert lanes.close()
    left = [thread for thread in threading.enumerate() if thread not in before]
    assert [thread.name for thread in left if thread.name.startswith("yais")] == []
