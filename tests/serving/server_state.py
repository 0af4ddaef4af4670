"""What a server is doing now, in this process or with frontends."""

from __future__ import annotations

from scraping import scrape

from yais.serving.frontends.supervisor import Supervisor
from yais.serving.server import InferenceServer


def pending(server: InferenceServer | Supervisor, model: str) -> int:
    """Return how many requests wait for a model, whose newest version alone has any."""
    if isinstance(server, InferenceServer):
        return server.repository.find(model).model.pending
    return _total(server, "yais_inference_pending_requests", "model", model)


def in_flight(server: InferenceServer | Supervisor) -> int:
    """Return how many requests are being served; with frontends, those that the engine process has."""
    if isinstance(server, InferenceServer):
        return server.in_flight
    return _total(server, "yais_link_pending")


def _total(server: Supervisor, metric: str, *label: str) -> int:
    metrics = scrape(server).items()
    return int(sum(value for (name, labels), value in metrics if name == metric and label in (*labels, ())))
