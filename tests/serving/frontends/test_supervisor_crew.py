"""The crew, with processes that do what is hard to come by."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from link_pair import SOON, wait_until

from yais.serving.frontends import crew as crews
from yais.serving.frontends.crew import Crew
from yais.serving.options import ServerOptions


@pytest.fixture
def crew(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Crew]:
    monkeypatch.setattr(sys, "path", [str(Path(__file__).parent), *sys.path])
    monkeypatch.setattr(crews, "_ENGINE", "crew_engine")
    monkeypatch.setattr(crews, "_FRONTEND", "crew_frontend")
    made = Crew(ServerOptions((tmp_path,), frontends=1), logs=False)
    made.start()
    yield made
    made.stop()
    made.hurry()
    assert made.over.wait(SOON)


def test_a_link_that_has_ended_is_replaced_once(crew: Crew) -> None:
    assert crew.started.wait(SOON)
    assert crew.failure is None
    crew.stop()
    assert crew.over.wait(SOON)
    assert crew.clean


def test_a_process_is_replaced_though_one_that_it_forked_has_its_connection(crew: Crew) -> None:
    assert crew.started.wait(SOON)
    before = crew.engine_pid
    assert before is not None
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: crew.engine_pid not in {None, before})
