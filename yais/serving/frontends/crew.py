"""The processes of a server: started, brought together, started again, ended in order."""

from __future__ import annotations

import contextlib
import enum
import logging
import selectors
import socket
import threading
from dataclasses import replace

from yais.core.clock import NANOSECONDS, Deadline, monotonic
from yais.errors import Unavailable
from yais.serving.frontends.control import (
    Connect,
    Failed,
    FrontendCounts,
    Hurry,
    Listening,
    Loaded,
    Message,
    Parted,
    Ready,
    Setup,
    Status,
    Stop,
    Waiting,
)
from yais.serving.frontends.process_place import ProcessPlace
from yais.serving.frontends.restart_plan import RestartPlan
from yais.serving.model_report import ModelReport
from yais.serving.options import ServerOptions

__all__ = ["Crew"]

_log = logging.getLogger("yais.serving")

_ENGINE = "yais.serving.frontends.engine_process"
_FRONTEND = "yais.serving.frontends.frontend_process"

_LATE = 15.0  # seconds that a process may take to end, beyond what requests may


class _Phase(enum.Enum):
    RUNNING = enum.auto()
    DRAINING = enum.auto()  # the frontends end
    ENDING = enum.auto()  # the engine process does
    OVER = enum.auto()


class Crew:
    """One engine process and some frontends, and the thread that looks after them.

    Parameters
    ----------
    options
        Of the server; the ports are reserved.
    logs
        Whether the processes write logs, as the options say.

    Attributes
    ----------
    started
        Set once every process was up and the models were loaded, or `failure` says why not.
    over
        Set when no process is left.
    failure
        Why it could not be started.
    reports
        What became of the models, when the engine process was started last.
    metrics_port
        Where the engine process offers the metrics.
    clean
        Whether every process that was told to stop ended in order.
    """

    def __init__(self, options: ServerOptions, *, logs: bool) -> None:
        self.started, self.over = threading.Event(), threading.Event()
        self.failure: Exception | None = None
        self.reports: list[ModelReport] = []
        self.metrics_port = options.metrics_port
        self.clean = True
        self._options = options
        self._logs = logs
        self._engine = ProcessPlace("the engine process", _ENGINE)
        self._frontends = [
            ProcessPlace(f"frontend {number}", _FRONTEND) for number in range(options.frontends)
        ]
        self._places = [self._engine, *self._frontends]
        self._plan = RestartPlan(self._places)
        self._link = 0  # links so far
        self._links: dict[int, int] = {}  # the last one of each frontend
        self._phase = _Phase.RUNNING
        self._ending: list[ProcessPlace] = []  # those that this phase waits for
        self._deadline = Deadline.after(0.0)
        self._stop_wanted = self._hurry_wanted = self._hurried = False
        self._selector = selectors.DefaultSelector()
        self._woken, self._wake = socket.socketpair()
        self._wake.setblocking(False)
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._run, name="yais-supervisor", daemon=True)

    def __repr__(self) -> str:
        return f"<Crew {self._phase.name}: {self._places!r}>"

    @property
    def engine_pid(self) -> int | None:
        """Number of the engine process; None while there is none."""
        return self._engine.pid

    @property
    def frontend_pids(self) -> list[int | None]:
        """Numbers of the frontends' processes; None for one that is to be started."""
        return [place.pid for place in self._frontends]

    @property
    def serving(self) -> bool:
        """Whether a frontend is ready, so that clients may have come: perhaps before `started`."""
        return any(place.ready for place in self._frontends)

    @property
    def in_flight(self) -> int:
        """Requests being served by all frontends, about a second ago."""
        return sum(place.counts.in_flight for place in self._frontends)

    def start(self) -> None:
        """Begin to start the processes."""
        self._thread.start()

    def stop(self) -> None:
        """Begin to end them: the frontends, when their requests have ended, then the engine process."""
        self._stop_wanted = True
        self._wake_up()

    def hurry(self) -> None:
        """Let a stop not wait for requests."""
        self._hurry_wanted = True
        self._wake_up()

    def _wake_up(self) -> None:
        with contextlib.suppress(OSError):  # full, or over
            self._wake.send(b"\0")

    # --- On the thread ----------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while self._phase is not _Phase.OVER:
                self._launch_due()
                for key, _ in self._selector.select(self._timeout()):
                    place = key.data
                    if place is None:
                        self._woken.recv(4096)
                    elif key.fileobj is place.channel:
                        self._receive(place)
                    elif place.channel is not None:
                        self._receive_rest(place)
                self._wind_up()
        except Exception as error:
            _log.exception("unexpected error of the supervisor, which ends")
            self.failure = error
        try:
            self._end_all()
        except Exception:
            _log.exception("unexpected error at the end of the supervisor")
        self.started.set()  # whatever has happened: others wait for these
        self.over.set()

    def _end_all(self) -> None:
        with self._selector, self._woken, self._wake:
            for place in self._places:
                place.kill()
            for place in self._places:
                if place.pid is not None:
                    place.end()

    def _timeout(self) -> float | None:
        if self._phase is not _Phase.RUNNING:
            return self._deadline.remaining()
        due = self._plan.next_due
        return None if due is None else max(0.0, (due - monotonic()) / NANOSECONDS)

    def _launch_due(self) -> None:
        if self._phase is not _Phase.RUNNING:
            return
        for place in self._plan.due(monotonic()):
            number = None if place is self._engine else self._frontends.index(place)
            self._plan.started(place, monotonic())
            try:
                channel = place.launch(Setup(self._options, number, self._logs))
            except OSError as error:
                self._failed(place, OSError(f"cannot start {place.name}: {error}"))
                self._again(place, str(error))
                continue
            self._selector.register(channel, selectors.EVENT_READ, place)
            if place.exit is not None:
                self._selector.register(place.exit, selectors.EVENT_READ, place)
            if self._plan.restarts(place):
                _log.info("%s is started again, as process %d", place.name, place.pid)

    def _receive(self, place: ProcessPlace) -> None:
        assert place.channel is not None
        received = place.channel.receive()
        if received is None:
            self._ended(place)
        else:
            self._heed(place, received[0])

    def _receive_rest(self, place: ProcessPlace) -> None:
        """Take what a process has said, which has ended: what it has forked may keep the connection open."""
        while place.channel is not None and place.channel.has_more():
            self._receive(place)
        if place.channel is not None:
            self._ended(place)

    def _heed(self, place: ProcessPlace, message: Message) -> None:
        match message:
            case Failed(error):
                self._failed(place, error)
                if self._phase is _Phase.RUNNING and not self._stop_wanted:
                    _log.error("%s could not start: %s", place.name, error)
                place.kill()
            case Listening(port):
                self.metrics_port = port
                self._options = replace(self._options, metrics_port=port)
                place.up = True
                self._tell()
                for number, frontend in enumerate(self._frontends):
                    self._bring_together(number, frontend)
            case Loaded(reports):
                self.reports = reports
                place.ready = True
            case Waiting():
                place.up = True
                self._bring_together(self._frontends.index(place), place)
                self._tell()
            case Parted(link):
                number = self._frontends.index(place)
                if link == self._links.get(number):
                    self._bring_together(number, place)
            case Ready():
                place.ready = True
            case FrontendCounts():
                place.count(message)
                self._tell()
        if all(each.ready for each in self._places):
            self.started.set()

    def _bring_together(self, number: int, frontend: ProcessPlace) -> None:
        """Connect a frontend with the engine process, if both are up."""
        if frontend.up and self._engine.up:
            ours, theirs = socket.socketpair()
            self._link += 1
            self._links[number] = self._link
            with ours, theirs:
                self._engine.send(Connect(number, self._link), ours)
                frontend.send(Connect(number, self._link), theirs)

    def _tell(self) -> None:
        """Tell the engine process how the frontends are; not while it does not read, which may last."""
        if self._engine.up and self._engine.channel is not None and self._engine.channel.takes():
            status = Status(
                running=sum(place.up for place in self._frontends),
                wanted=len(self._frontends),
                frontend_restarts=sum(map(self._plan.restarts, self._frontends)),
                engine_restarts=self._plan.restarts(self._engine),
                counts={number: place.counts for number, place in enumerate(self._frontends)},
            )
            self._engine.send(status)

    def _ended(self, place: ProcessPlace) -> None:
        """Take that a process has ended, or is about to."""
        assert place.channel is not None
        self._selector.unregister(place.channel)
        if place.exit is not None:
            self._selector.unregister(place.exit)
        in_order, how = place.end()
        if self._phase is not _Phase.RUNNING:
            self.clean = self.clean and in_order
            return
        self._failed(place, Unavailable(f"{place.name} {how} before it was ready"))
        self._again(place, how)
        self._tell()

    def _again(self, place: ProcessPlace, how: str) -> None:
        delay = self._plan.ended(place, monotonic())
        if not self._stop_wanted:
            _log.warning("%s %s; another is started in %.1f s", place.name, how, delay)

    def _failed(self, place: ProcessPlace, error: Exception) -> None:
        """Take that a process did not start, which ends the server if it has not been up before."""
        if not self.started.is_set() and not self._plan.restarts(place) and self.failure is None:
            self.failure = error
            self._stop_wanted = self._hurry_wanted = True

    def _wind_up(self) -> None:
        """Go on to end, if that is wanted."""
        if self._stop_wanted and self._phase is _Phase.RUNNING:
            self._enter(_Phase.DRAINING, self._frontends, Stop())
        if self._hurry_wanted and self._phase is _Phase.DRAINING and not self._hurried:
            self._hurried = True
            self._enter(_Phase.DRAINING, self._frontends, Hurry())
        if self._phase is _Phase.DRAINING and not any(place.pid for place in self._frontends):
            self._enter(_Phase.ENDING, [self._engine], Stop())
        if self._phase is _Phase.ENDING and not self._engine.pid:
            self._phase = _Phase.OVER
        elif self._phase is not _Phase.RUNNING and self._deadline.expired():
            late = [place for place in self._ending if place.pid is not None]
            for place in late:
                place.kill()
            for place in late:
                self._ended(place)

    def _enter(self, phase: _Phase, places: list[ProcessPlace], message: Message) -> None:
        self._phase, self._ending = phase, places
        requests = 0.0 if self._hurried else self._options.drain_delay + self._options.grace
        self._deadline = Deadline.after(requests + _LATE)
        for place in places:
            place.send(message)
