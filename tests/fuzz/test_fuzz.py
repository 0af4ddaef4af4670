"""No input brings the server down, makes it hang or is answered with a wrong status; others lose nothing.

`scripts/fuzz` sends many more inputs of the same kinds.
"""

from __future__ import annotations

import pytest
from fuzz_surfaces import SURFACES
from fuzz_target import target
from fuzz_witness import Witness
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from serving_models import eventually

EXAMPLES = 250


@pytest.fixture(scope="module")
def attacked():
    with target() as running:
        yield running


@pytest.mark.parametrize("surface", SURFACES)
def test_bad_input_is_answered_and_harms_nobody(attacked, surface):
    before = attacked.usage

    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(random=st.randoms(use_true_random=False))
    def attack(random):
        SURFACES[surface](attacked, random)

    with Witness(attacked.port, attacked.http_port) as witness:
        attack()
        asked = witness.count
        eventually(lambda: witness.failed or witness.count > asked + 2)
    attacked.restore()
    eventually(lambda: attacked.usage.flat(before))
