"""Results as the CSV that perf_analyzer writes: microseconds, a row for each level."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from yais.load.perf.profiler import LevelResult
from yais.load.perf.server_times import Identity, ServerTimes, merged
from yais.load.perf.settings import PerfSettings
from yais.load.perf.text import number, percentiles

__all__ = ["write_results_csv"]

_SERVER = (
    "Network+Server Send/Recv",
    "Server Queue",
    "Server Compute Input",
    "Server Compute Infer",
    "Server Compute Output",
)
_CACHE = ("Server Cache Hit", "Server Cache Miss")


def write_results_csv(
    path: Path, settings: PerfSettings, results: Sequence[LevelResult], *, verbose: bool = False
) -> None:
    """Write a file, rows in the order of their throughput.

    For an ensemble there is one more beside it for each model of it: "decode_v1.results.csv".

    Parameters
    ----------
    results
        At least one.
    verbose
        Whether to have the mean latency and its parts, too.

    Raises
    ------
    OSError
        It cannot be written.
    """
    ordered = sorted(results, key=lambda result: result.window.throughput)
    servers = [result.window.server for result in ordered if result.window.server is not None]
    served = bool(servers)
    _write(path, [_header(settings, served, verbose), *_rows(settings, ordered, served, verbose)])
    for model in merged(servers).composing if served else ():
        part = path.with_name(f"{model[0]}_v{model[1]}.{path.name}")
        _write(part, [_composing_header(settings), *_composing_rows(settings, ordered, model)])


def _write(path: Path, rows: Sequence[Sequence[str]]) -> None:
    path.write_text("".join(f"{','.join(row)}\n" for row in rows), "utf-8")


def _level_name(settings: PerfSettings) -> str:
    return "Request Rate" if settings.at_rates else "Concurrency"


def _header(settings: PerfSettings, served: bool, verbose: bool) -> list[str]:
    names = [_level_name(settings), "Inferences/Second"]
    if settings.decoupled:
        names.append("Response Throughput")
    names.append("Client Send")
    if served:
        names += [*_SERVER, *(_CACHE if settings.cached else ())]
    names += ["Client Recv", *(f"p{each} latency" for each in percentiles(settings))]
    if verbose:
        names += [] if settings.percentile else ["Avg latency"]
        names += ["request/response", "response wait"]
    return names


def _rows(
    settings: PerfSettings, results: Sequence[LevelResult], served: bool, verbose: bool
) -> Iterator[list[str]]:
    for result in results:
        window = result.window
        send = 0 if settings.decoupled else window.send_mean
        row = [number(result.level), number(window.throughput)]
        if settings.decoupled:
            row.append(number(window.responses / window.seconds))
        row.append(_us(send))
        if served:
            row += _server_fields(settings, window.server or ServerTimes(), window.mean - send)
        row += ["0", *(_us(window.percentile(each)) for each in percentiles(settings))]
        if verbose:
            row += [] if settings.percentile else [_us(window.mean)]
            row += [_us(send), str(max(0, window.service_mean // 1000 - send // 1000))]
        yield row


def _composing_header(settings: PerfSettings) -> list[str]:
    cache = _CACHE if settings.cached else ()
    return [_level_name(settings), "Inferences/Second", "Client Send", *_SERVER, *cache, "Client Recv"]


def _composing_rows(
    settings: PerfSettings, results: Sequence[LevelResult], model: Identity
) -> Iterator[list[str]]:
    for result in results:
        whole = result.window.server or ServerTimes()
        part = whole.composing.get(model, ServerTimes())
        share = part.success.count / whole.success.count if whole.success.count else 0.0
        fields = _server_fields(settings, part, part.success.mean)
        yield [number(result.level), number(share * result.window.throughput), "0", *fields, "0"]


def _server_fields(settings: PerfSettings, times: ServerTimes, total: int) -> list[str]:
    """Return what is left of a time, for the network, and the server's parts of it."""
    parts = [times.queue, times.compute_input, times.compute_infer, times.compute_output]
    cache = [times.cache_hit, times.cache_miss]
    accounted = times.queue.mean + times.compute.mean + sum(each.mean for each in cache)
    fields = [_us(max(0, total - accounted)), *(_us(each.mean) for each in parts)]
    return [*fields, *(_us(each.mean) for each in cache)] if settings.cached else fields


def _us(nanoseconds: int) -> str:
    return str(nanoseconds // 1000)
