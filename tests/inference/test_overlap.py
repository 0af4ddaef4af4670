"""What overlaps on a device is what theory says, to the nanosecond of a virtual clock."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from managing import ones
from overlapping import Bench, Setup, bench

from yais import RemoteInferenceManager
from yais.core.future import Future

SETUPS = [
    # One at a time: every stage waits for the one before.
    Setup(2, 3, 4, tokens=1, lanes=1, in_flight=1),
    Setup(2, 3, 4, tokens=8, lanes=1, in_flight=16, engines=8),
    Setup(2, 3, 4, tokens=8, lanes=8, in_flight=1, engines=8),
    # Two lanes, three: less than fill the stages.
    Setup(5, 5, 5, tokens=2, lanes=2),
    Setup(5, 5, 5, tokens=3, lanes=3, engines=3),
    # The copies to the device, the copies from it.
    Setup(9, 2, 3, tokens=4, lanes=8),
    Setup(2, 3, 9, tokens=4, lanes=8),
    # What computes is full.
    Setup(1, 7, 2, tokens=2, lanes=8),
    Setup(1, 7, 2, tokens=4, lanes=16, engines=3),
    # More tokens than fill it change nothing.
    Setup(1, 7, 2, tokens=8, lanes=16),
]


def measured(setup: Setup, models: int = 1, count: int = 0, *, gpu: bool = False) -> Bench:
    """Run requests in process; by default so many that what was at first has no influence on the last."""
    with bench(setup, models, gpu=gpu) as run:
        runners = [run.manager.infer_runner(model.name) for model in run.models]

        def submit(number: int) -> Future[Any]:
            return runners[number % models].infer(x=ones(value=number))

        run.run(submit, count or 4 * setup.in_flight + 2 * run.setup.cycle)
        return run


@pytest.mark.parametrize("setup", SETUPS, ids=str)
def test_the_slowest_circuit_sets_the_rate(setup: Setup) -> None:
    run = measured(setup)
    assert run.ends == run.setup.ends(len(run.ends))
    assert run.period() == run.setup.period


@pytest.mark.parametrize(
    ("stages", "in_flight", "period"),
    [((2, 6, 2), 16, 6), ((6, 2, 1), 16, 6), ((1, 2, 6), 16, 6), ((4, 4, 4), 16, 4), ((4, 4, 4), 2, 6)],
)
def test_one_token_is_enough_to_fill_a_device(
    stages: tuple[int, int, int], in_flight: int, period: int
) -> None:
    """It is back before outputs are copied, and lent to who has copied inputs already; models share it."""
    run = measured(Setup(*stages, tokens=1, lanes=8, in_flight=in_flight), models=8)
    assert run.setup.instances == 8
    assert run.period() == period == run.setup.period


@pytest.mark.parametrize("stages", [(2, 6, 2), (6, 2, 1), (1, 2, 6), (4, 4, 4)])
@pytest.mark.parametrize("gpu", [False, True], ids=["host", "gpu"])
def test_one_model_with_one_token_overlaps_its_copies(stages: tuple[int, int, int], gpu: bool) -> None:
    """As it is registered by default: with an instance for each lane, and not for each token."""
    run = measured(Setup(*stages, tokens=1, lanes=4, instances=0), gpu=gpu)
    assert run.setup.instances == 4
    assert run.period() == max(stages)


def test_throughput_rises_with_tokens_until_the_device_is_full() -> None:
    """The original's table, from 1 context to 8: here the GPU computes five executions at once."""
    rates = [
        1 / measured(Setup(1, 30, 1, tokens=tokens, lanes=16, instances=16, engines=5), models=16).period()
        for tokens in (1, 2, 4, 8)
    ]
    assert rates == [Fraction(1, 30), Fraction(2, 30), Fraction(4, 30), Fraction(5, 30)]


DURATIONS = st.integers(1, 6)


@settings(max_examples=25, deadline=None)
@given(
    st.builds(
        Setup,
        DURATIONS,
        DURATIONS,
        DURATIONS,
        tokens=st.integers(1, 4),
        lanes=st.integers(1, 6),
        instances=st.integers(1, 6),
        in_flight=st.integers(1, 8),
        engines=st.integers(1, 3),
    )
)
def test_every_answer_comes_when_it_must(setup: Setup) -> None:
    run = measured(setup, count=20)
    assert run.ends == run.setup.ends(20)


@settings(deadline=None)
@given(
    st.builds(
        Setup,
        DURATIONS,
        DURATIONS,
        DURATIONS,
        tokens=st.integers(1, 8),
        lanes=st.integers(1, 8),
        instances=st.integers(1, 8),
        in_flight=st.integers(1, 8),
        engines=st.integers(1, 4),
    )
)
def test_the_law_is_that_of_the_event_graph(setup: Setup) -> None:
    """In the long run; at first answers come earlier or later, by no more than one takes."""
    spent = setup.copy_in + setup.compute + setup.copy_out
    for number, end in enumerate(setup.ends(400), 1):
        assert abs(end - number * setup.period) <= 2 * spent


@pytest.mark.parametrize("tokens", [1, 2, 4, 8])
def test_it_is_so_on_a_gpu_of_its_own(tokens: int) -> None:
    run = measured(Setup(1, 12, 1, tokens=tokens, lanes=12, instances=8, engines=4), models=8, gpu=True)
    assert run.period() == run.setup.period == Fraction(12, min(tokens, 4))


@pytest.mark.parametrize(
    "setup",
    [
        Setup(2, 6, 2, tokens=1, lanes=1),
        Setup(2, 6, 2, tokens=2, lanes=4),
        Setup(1, 8, 1, tokens=8, lanes=12, engines=4),
    ],
    ids=str,
)
@pytest.mark.parametrize("gpu", [False, True], ids=["host", "gpu"])
def test_it_is_so_through_a_server(setup: Setup, gpu: bool) -> None:
    with bench(setup, gpu=gpu) as run:
        server = run.manager.serve(0, block=False, address="127.0.0.1")
        try:
            with RemoteInferenceManager(f"127.0.0.1:{server.port}") as remote:
                runner = remote.infer_runner("M0")
                count = 4 * setup.in_flight + 2 * run.setup.cycle
                run.run(lambda number: runner.infer(x=ones(value=number)), count)
        finally:
            assert server.stop()
        assert run.period() == run.setup.period
        if not gpu:
            assert run.ends == run.setup.ends(len(run.ends))
