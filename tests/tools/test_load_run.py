"""Runs of the load generators, with a transport that answers by itself."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import threading

import pytest
from serving_models import SOON, eventually

from yais.client.infer_call import InferCall
from yais.load.closed_load import ClosedLoad
from yais.load.null_transport import NullTransport
from yais.tools.load_run import LiveLine, run_load, without_pauses
from yais.tools.siege_run import SiegeRun

CALL = InferCall("model", ())


class Pairs:
    """Two requests at once, again and again: of each pair one is held back where one may be outstanding."""

    def __iter__(self):
        moment = 0
        while True:
            yield moment
            yield moment
            moment += 20_000_000

    def rate(self, seconds):
        return 2 / 0.02


@pytest.mark.parametrize(("warn", "pairs", "lines"), [(True, 40, 10), (False, 2, 0)])
def test_warnings_are_not_without_end(capsys, warn, pairs, lines):
    transport = NullTransport(0.002)
    run = SiegeRun(transport, [CALL], duration=None, count=2 * pairs, max_outstanding=1, warn=warn)
    recording = run(Pairs())
    transport.close()
    assert recording.completed == 2 * pairs
    assert recording.held_back >= pairs
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err == lines * (
        "Initiated Backoff - (Siege Rate > Server Compute Rate) - Server Queues are full.\n"
    )


def test_a_run(capsys):
    """Away from a terminal nothing is shown."""
    recording = run_load(ClosedLoad(NullTransport(), [CALL], 2, count=100), lambda _: "something")
    assert (recording.completed, recording.interrupted) == (100, False)
    told = capsys.readouterr()
    assert (told.out, told.err) == ("", "")


def test_a_run_is_interrupted():
    """Ctrl-C lets what is in flight end."""
    transport = NullTransport(0.01)
    load = ClosedLoad(transport, [CALL], 3)
    main = threading.main_thread().ident
    assert main is not None

    def interrupt():
        eventually(lambda: load.recording().sent >= 3)
        signal.pthread_kill(main, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    recording = run_load(load, lambda _: "")
    thread.join(SOON)
    transport.close()
    assert recording.interrupted
    assert recording.sent == recording.completed >= 3
    assert gc.get_freeze_count() == 0


class Hanging(ClosedLoad):
    """Somebody presses Ctrl-C again while the last answers are waited for."""

    def wait(self, seconds):
        super().wait(seconds)
        raise KeyboardInterrupt

    def stop(self, timeout):
        super().stop(0)
        raise KeyboardInterrupt


def test_a_run_is_interrupted_twice():
    transport = NullTransport(0.001)
    recording = run_load(Hanging(transport, [CALL], 3), lambda _: "")
    transport.close()
    assert recording.interrupted
    assert recording.sent >= 3


@pytest.mark.parametrize("closed", ["here", "there"])
def test_live_line_where_nobody_reads(monkeypatch, closed):
    """Runs do not end because of it."""
    theirs, ours = os.pipe()
    os.close(theirs)
    with open(ours, "w", 1) as pipe:
        monkeypatch.setattr("sys.stderr", None if closed == "here" else pipe)
        live = LiveLine()
        live.say("a")
        assert not live.shown
        monkeypatch.undo()
        with contextlib.suppress(OSError):
            pipe.close()


def test_live_line_away_from_a_terminal(capsys):
    live = LiveLine()
    live.show("a")
    live.say("b")
    live.clear()
    assert (live.shown, capsys.readouterr().err) == (False, "b\n")


def test_live_line_on_a_terminal(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "10")
    live = LiveLine()
    live.shown = True
    live.show("0123456789abc")
    live.say("b")
    live.show("c")
    live.clear()
    assert capsys.readouterr().err.split("\r\x1b[K") == ["", "012345678", "b\n", "c", ""]


def test_without_pauses():
    with without_pauses():
        assert gc.get_freeze_count() > 1000
    assert gc.get_freeze_count() == 0
