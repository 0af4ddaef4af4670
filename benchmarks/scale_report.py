"""The tables and the picture of benchmarks/scale.py."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.report import table
from yais.load.chart import picture
from yais.load.plot import Axis, Line
from yais.load.scales import LinearScale

if TYPE_CHECKING:
    from yais.load.chart_style import Colour

_NO_LOSS, _ENGINE, _LINEAR = 1.0, 0.35, 0.8
_MANY, _CORES = 6, 8
"""Up to how many frontends it is to be linear, and on how many cores."""
_COLOURS: tuple[Colour, ...] = ("blue", "orange", "green", "red", "deep")


@dataclass(frozen=True, order=True)
class Key:
    """What was measured: requests of a kind, how many were in flight, and of how many frontends, or none."""

    load: str
    concurrency: int
    frontends: int

    @property
    def server(self) -> str:
        """Say what answered."""
        many = "" if self.frontends == 1 else "s"
        return f"{self.frontends} frontend{many}" if self.frontends else "one process"


@dataclass(frozen=True)
class Scaled:
    """Requests/s, latencies in µs, requests a batch; µs of CPU for each, of the generator and of the server.

    Of all the server's processes (`cpu`), and of those its frontends and its engine process.
    """

    rate: float
    p50: float
    p99: float
    batch: float
    generator: float
    cpu: float
    frontends: float
    engine: float


def figures(results: Mapping[Key, Scaled]) -> str:
    """Return the table of medians, with ratios to the one process that does everything."""
    rows = []
    for key, one in results.items():
        row = [key.load, str(key.concurrency), key.server]
        row += [f"{number:.0f}" for number in (one.rate, one.p50, one.p99)]
        row += [f"{number:.1f}" for number in (one.batch, one.generator, one.cpu, one.frontends, one.engine)]
        single = results.get(Key(key.load, key.concurrency, 0))
        ratios = (one.rate / single.rate, one.engine / single.cpu) if single and key.frontends else ()
        rows.append([*row, *([f"{ratio:.2f}" for ratio in ratios] or ["-", "-"])])
    head = (
        "load",
        "in flight",
        "server",
        "requests/s",
        "p50 µs",
        "p99 µs",
        "a batch",
        "CPU µs/request of h2load",
    )
    return table(
        (
            *head,
            "of the server",
            "of frontends",
            "of the engine",
            ": one process, requests/s",
            "engine : one process, CPU",
        ),
        rows,
        words=3,
    )


def reached(results: Mapping[Key, Scaled], cores: int) -> str:
    """Return the table of what is to be reached, and of what this run did."""
    rows = []
    for load, concurrency in dict.fromkeys((key.load, key.concurrency) for key in results):
        of = {
            key.frontends: one
            for key, one in results.items()
            if (key.load, key.concurrency) == (load, concurrency)
        }
        for name, bound, ratio, least in _goals(of, cores):
            shown = "not measured here" if ratio is None else f"{ratio:.2f}"
            fine = "-" if ratio is None else "yes" if (ratio >= bound if least else ratio <= bound) else "no"
            wanted = f"at {'least' if least else 'most'} {bound}"
            rows.append([f"`{load}`, {concurrency} in flight: {name}", wanted, shown, fine])
    return table(("figure", "wanted", "this run", "reached"), rows, words=2)


def _goals(of: Mapping[int, Scaled], cores: int) -> Iterator[tuple[str, float, float | None, bool]]:
    """Yield what is to be reached: its name, the bound, what was measured, whether that is the least."""
    one, two, single = of.get(1), of.get(2), of.get(0)
    if single:
        rate, engine = (two.rate / single.rate, two.engine / single.cpu) if two else (None, None)
        yield "2 frontends to one process, requests/s", _NO_LOSS, rate, True
        yield "engine of 2 frontends to one process, CPU", _ENGINE, engine, False
    many = of.get(_MANY) if cores >= _CORES else None
    linear = many.rate / one.rate / _MANY if one and many else None
    yield f"{_MANY} frontends to {_MANY} times one, requests/s", _LINEAR, linear, True


def throughput_picture(results: Mapping[Key, Scaled]) -> str:
    """Return a chart of requests/s over the number of frontends, relative to the one process."""
    lines = []
    most = max(key.frontends for key in results)
    for colour, (load, concurrency) in zip(
        _COLOURS, dict.fromkeys((key.load, key.concurrency) for key in results), strict=False
    ):
        single = results.get(Key(load, concurrency, 0))
        points = [
            (float(key.frontends), one.rate / single.rate)
            for key, one in results.items()
            if single and (key.load, key.concurrency) == (load, concurrency)
        ]
        lines.append(Line(f"{load}, {concurrency} in flight", points, colour))
    top = max((y for line in lines for _, y in line.points if y is not None), default=1.0)
    marks = sorted({key.frontends for key in results})
    return picture(
        "Requests/s by frontends, one process being 1",
        Axis("frontend processes; 0: one process does everything", LinearScale(0.0, max(1, most), marks)),
        Axis("ratio", LinearScale.upto(1.1 * top)),
        lines,
    )
