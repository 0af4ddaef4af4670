"""What Triton's four clients send and get is the same with frontend processes: those tests, once more."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from frontend_servers import frontends_serving
from test_triton_infer import *  # noqa: F403
from test_triton_shared_memory import (  # noqa: F401
    regions,
    test_a_region_of_20_megabytes,
    test_bad_places,
    test_bytes_with_nuls,
    test_one_in_memory_and_one_not,
    test_simple_shm,
    test_simple_string_shm,
)
from triton_models import fill_triton

from yais.repository.repository import ControlMode
from yais.serving.frontends.supervisor import Supervisor
from yais.serving.http.options import HttpOptions

del test_parameters  # noqa: F821 - it looks inside the server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Supervisor]:
    """A server whose models and shared memory clients may change."""
    with frontends_serving(
        fill_triton(tmp_path_factory.mktemp("models")),
        http=HttpOptions("127.0.0.1", 0, header_forward_pattern="x-.*"),
        header_forward_pattern="x-.*",
        control=ControlMode.EXPLICIT,
        load=("*",),
        allow_client_shm=True,
        metrics_port=0,
    ) as running:
        yield running
