"""Metrics of the frontend processes and their links."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from operator import attrgetter

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from yais.serving.frontends.control import Status
from yais.serving.frontends.link_statistics import LinkStatistics

__all__ = ["FrontendCollector"]

_OF_LINKS = {
    "requests": "Requests that came in over the links of frontends.",
    "bundles": "Messages that stood for more than one inference request each.",
    "sends": "System calls that sent something to a frontend.",
    "sent_bytes": "Bytes of messages to frontends, without what lies in shared memory.",
    "shared_bytes": "Bytes put into shared memory for frontends.",
    "overflows": "Contents for frontends that found the shared memory full, or were too large for it.",
}


class FrontendCollector(Collector):
    """Collects how the frontends are. Thread-safe.

    Parameters
    ----------
    status
        Returns what the supervisor says of them.
    links
        Returns the numbers of the links, by the numbers of the frontends.
    """

    def __init__(
        self, status: Callable[[], Status], links: Callable[[], Mapping[int, LinkStatistics]]
    ) -> None:
        self._status = status
        self._links = links

    def collect(self) -> Iterator[Metric]:
        """Return the metrics of now."""
        yield from _of_processes(self._status())
        yield from _of_links(self._links())

    def describe(self) -> list[Metric]:
        """Return none: they are asked for when they are wanted."""
        return []


def _of_processes(status: Status) -> Iterator[Metric]:
    frontends = GaugeMetricFamily("yais_frontends", "Frontend processes.", labels=["state"])
    frontends.add_metric(["running"], status.running)
    frontends.add_metric(["wanted"], status.wanted)
    yield frontends
    yield CounterMetricFamily(
        "yais_frontend_restarts",
        "Frontend processes started in the place of one that ended.",
        value=status.frontend_restarts,
    )
    yield CounterMetricFamily(
        "yais_engine_restarts",
        "Engine processes started in the place of one that ended.",
        value=status.engine_restarts,
    )
    in_flight = GaugeMetricFamily(
        "yais_frontend_in_flight", "Requests that a frontend is serving.", labels=["frontend"]
    )
    requests = CounterMetricFamily(
        "yais_frontend_requests", "RPCs and HTTP requests that a frontend has taken.", labels=["frontend"]
    )
    for number, counts in sorted(status.counts.items()):
        in_flight.add_metric([str(number)], counts.in_flight)
        requests.add_metric([str(number)], counts.requests)
    yield in_flight
    yield requests


def _of_links(links: Mapping[int, LinkStatistics]) -> Iterator[Metric]:
    for name, text in _OF_LINKS.items():
        family = CounterMetricFamily(f"yais_link_{name}", text, labels=["frontend"])
        for number, statistics in sorted(links.items()):
            family.add_metric([str(number)], attrgetter(name)(statistics))
        yield family
    pending = GaugeMetricFamily(
        "yais_link_pending", "Requests of a frontend without an answer.", labels=["frontend"]
    )
    for number, statistics in sorted(links.items()):
        pending.add_metric([str(number)], statistics.pending)
    yield pending
