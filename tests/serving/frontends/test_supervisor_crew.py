"""The crew, with processes that do what is hard to come by."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from crew_frontend import COUNTS
from link_pair import SOON, wait_until

from yais.engines.child_process import ChildProcess
from yais.serving.frontends import crew as crews
from yais.serving.frontends.crew import Crew
from yais.serving.frontends.process_place import ProcessPlace
from yais.serving.options import ServerOptions


@pytest.fixture
def crew(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Crew]:
    monkeypatch.setattr(sys, "path", [str(Path(__file__).parent), *sys.path])
    monkeypatch.setattr(crews, "_ENGINE", "crew_engine")
    monkeypatch.setattr(crews, "_FRONTEND", "crew_frontend")
    made = Crew(ServerOptions((tmp_path,), frontends=1, grace=0.0), logs=False)
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


def test_counts_do_not_wait_for_an_engine_process_that_is_stopped(crew: Crew) -> None:
    """Nor are they half written when it goes on: it ends in order."""
    assert crew.started.wait(SOON)
    engine, (frontend,) = crew.engine_pid, crew.frontend_pids
    assert engine is not None
    assert frontend is not None
    wait_until(lambda: crew.in_flight == COUNTS)
    os.kill(engine, signal.SIGSTOP)
    os.kill(frontend, signal.SIGKILL)
    wait_until(lambda: crew.frontend_pids[0] not in {None, frontend})
    wait_until(lambda: crew.in_flight == COUNTS)
    os.kill(engine, signal.SIGCONT)
    crew.stop()
    assert crew.over.wait(SOON)
    assert crew.clean


@pytest.mark.parametrize("victim", ["engine", "frontend"])
def test_a_stop_ends_what_is_stopped(crew: Crew, victim: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert crew.started.wait(SOON)
    pids = {"engine": crew.engine_pid, "frontend": crew.frontend_pids[0]}
    monkeypatch.setattr(crews, "_LATE", 0.5)
    os.kill(pids[victim] or 0, signal.SIGSTOP)
    crew.stop()
    assert crew.over.wait(SOON)
    assert not crew.clean
    for pid in pids.values():
        with pytest.raises(ProcessLookupError):
            os.kill(pid or 0, 0)


def test_a_stop_while_processes_start(crew: Crew) -> None:
    crew.stop()
    assert crew.over.wait(SOON)


def test_a_stop_does_not_wait_for_what_cannot_be_killed(
    crew: Crew, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert crew.started.wait(SOON)
    end = ChildProcess.end

    def in_the_kernel(process: ChildProcess) -> str:
        end(process)  # for the test's sake
        raise subprocess.TimeoutExpired("process", 5.0)

    monkeypatch.setattr(ChildProcess, "end", in_the_kernel)
    monkeypatch.setattr(ChildProcess, "status", None)  # as of what has not ended
    before = crew.frontend_pids[0]
    os.kill(before or 0, signal.SIGKILL)
    wait_until(lambda: crew.frontend_pids[0] not in {None, before})
    assert f"process {before} is left behind" in caplog.text
    crew.stop()
    assert crew.over.wait(SOON)
    assert not crew.clean


def test_who_waits_goes_on_if_the_crew_cannot(crew: Crew, monkeypatch: pytest.MonkeyPatch) -> None:
    assert crew.started.wait(SOON)
    end, ended = ProcessPlace.end, []

    def broken(place: ProcessPlace) -> tuple[bool, str]:
        ended.append(end(place))  # for the test's sake
        raise ValueError("unexpected")

    monkeypatch.setattr(ProcessPlace, "end", broken)
    crew.stop()
    assert crew.over.wait(SOON)
    assert isinstance(crew.failure, ValueError)
    monkeypatch.undo()
    for place in crew._places:
        if place.pid is not None:
            place.end()
