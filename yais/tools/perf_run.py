"""A run of `yais perf`: levels of load one after another, and what is printed of them."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import click

from yais.client.endpoint import Endpoint
from yais.client.shared_regions import SharedRegions
from yais.client.transport import Transport
from yais.errors import YaisError
from yais.load.closed_load import ClosedLoad
from yais.load.inputs import ModelInputs, model_inputs
from yais.load.load import Load
from yais.load.open_load import OpenLoad
from yais.load.perf.calls import InputOptions, calls_of
from yais.load.perf.profiler import LevelResult, NothingMeasured, Profiler
from yais.load.perf.response_count import ResponseCount
from yais.load.perf.search import binary, linear
from yais.load.perf.server_statistics import ServerStatistics, has_statistics
from yais.load.perf.settings import PerfSettings
from yais.load.perf.text import (
    failure_text,
    level_text,
    level_title,
    pass_text,
    settings_text,
    summary_text,
)
from yais.load.perf.window import Window
from yais.load.schedule import Constant, Poisson
from yais.tools.exit_status import INTERRUPTED
from yais.tools.load_run import LiveLine, without_pauses
from yais.tools.perf_files import PerfFiles
from yais.tools.perf_status import UNSTABLE, PerfFailed
from yais.tools.target_options import Target

__all__ = ["PerfRun"]

_GRACE = 1.0  # seconds that requests may take longer than their timeout, of which they are told late


class PerfRun:
    """Measures a model and prints what comes of it.

    Parameters
    ----------
    verbose
        Whether to print each window.
    quiet
        Whether to print nothing but errors.

    Attributes
    ----------
    settings
        Those given, with what is known of the model.
    results
        Of the levels that were met, and of one that was interrupted.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        target: Target,
        settings: PerfSettings,
        files: PerfFiles,
        *,
        verbose: bool = False,
        quiet: bool = False,
    ) -> None:
        self._endpoint = endpoint
        self._target = target
        self._files = files
        self._verbose = verbose
        self._quiet = quiet
        self._live = LiveLine()
        self.settings = settings
        self.results: list[LevelResult] = []

    def run(self, inputs: InputOptions, *, shared: bool, streams: int) -> int:
        """Measure, print and write; return the exit status.

        Parameters
        ----------
        shared
            Whether tensors are in shared memory.
        streams
            How many there are at most for the requests; 0: they are unary.

        Raises
        ------
        PerfFailed
            What the original says of it.
        """
        model = self._model(streams)
        with ExitStack() as stack:
            regions = stack.enter_context(SharedRegions(self._endpoint)) if shared else None
            transport: Transport = self._endpoint.transport() if not streams else self._streams(streams)
            responses = ResponseCount(transport) if self.settings.decoupled else None
            transport = responses or transport
            stack.callback(transport.close)  # before the regions, which requests in flight use
            try:
                calls = calls_of(model, inputs, regions)
                statistics = self._statistics(model)
            except YaisError as error:
                raise PerfFailed(f"error: Failed to init manager inputs: {error}") from None
            requests = [transport.encode(call) for call in calls]
            self._print(settings_text(self.settings), nl=False)
            profiler = Profiler(
                lambda level: self._load(transport, requests, level),
                self.settings,
                statistics,
                responses,
                self._passed,
                self._endpoint.connection.timeout + _GRACE,
            )
            with without_pauses():
                status = self._measure(profiler)
        self._summarise()
        return status

    def _model(self, streams: int) -> ModelInputs:
        try:
            model = model_inputs(self._endpoint, self._target.model, self._target.version)
        except YaisError as error:
            raise PerfFailed(f"error: failed to get model metadata: {error}") from None
        config = model.config
        if self.settings.batch > 1 and not model.max_batch_size:
            raise PerfFailed("can not specify batch size > 1 as the model does not support batching")
        if config.HasField("sequence_batching"):
            raise PerfFailed(f"model '{model.model}' takes sequences, which are not measured")
        decoupled = config.model_transaction_policy.decoupled
        if decoupled and not streams:
            raise PerfFailed("Decoupled models must be run with `--async` and `--streaming` and `-i grpc`")
        self.settings = replace(self.settings, decoupled=decoupled, cached=config.response_cache.enable)
        return model

    def _streams(self, most: int) -> Transport:
        levels = self.settings.levels
        wanted = most if self.settings.at_rates else int(max(levels.start, levels.end or most))
        return self._endpoint.stream_transport(min(most, wanted))

    def _statistics(self, model: ModelInputs) -> ServerStatistics | None:
        if not has_statistics(self._endpoint):
            return None
        return ServerStatistics(self._endpoint, model.model, model.version, model.config)

    def _load(self, transport: Transport, requests: list[Any], level: float) -> Load:
        if not self.settings.at_rates:
            return ClosedLoad(transport, requests, int(level))
        schedule = Poisson(level) if self.settings.poisson else Constant(level)
        return OpenLoad(transport, requests, schedule)

    def _measure(self, profiler: Profiler) -> int:
        search = (binary if self.settings.binary else linear)(self.settings.levels)
        level, count, result = next(search), 0, None
        while True:
            self._print(level_title(self.settings, level))
            try:
                result = profiler.measure(level)
            except KeyboardInterrupt:  # between two levels
                return INTERRUPTED
            except NothingMeasured as error:
                raise PerfFailed(str(error)) from None
            except YaisError as error:
                raise PerfFailed(
                    "Failed to maintain requested inference load. Worker thread(s) failed to generate "
                    f"concurrent requests.\nThread [0] had error: {error}"
                ) from None
            finally:
                self._live.clear()
            count += 1
            self._show(result)
            if result.interrupted:
                return INTERRUPTED
            try:
                level = search.send(result.met)
            except StopIteration:
                break
        if count == 1 and not result.stable and not self.settings.binary:
            click.echo("Failed to obtain stable measurement.", err=True)
            return UNSTABLE
        return 0

    def _passed(self, count: int, window: Window) -> None:
        text = pass_text(self.settings, count, window)
        if self._verbose:
            self._print(text)
        elif self._live.shown:
            self._live.show(text.strip())

    def _show(self, result: LevelResult) -> None:
        if not result.met and not result.interrupted:
            click.echo(failure_text(self.settings, result), err=True)
            return
        if result.window.requests:
            self.results.append(result)
            self._print(level_text(self.settings, result, verbose=self._verbose))

    def _summarise(self) -> None:
        if not self.results:
            return
        self._print(summary_text(self.settings, self.results))
        self._files.write(self.settings, self.results)

    def _print(self, text: str, *, nl: bool = True) -> None:
        if not self._quiet:
            click.echo(text, nl=nl)
