"""Plans of ensembles, and the order in which their steps run: no threads, no clock."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yais.core.tensor import DataType, TensorSpec
from yais.errors import InvalidArgument
from yais.inference.ensemble_plan import EnsemblePlan, Step
from yais.inference.ensemble_run import EnsembleRun


def spec(name: str, *shape: int, datatype: DataType = DataType.FP32) -> TensorSpec:
    return TensorSpec(name, datatype, shape or (1,))


def step(model: str, takes: str, gives: str) -> Step:
    """A step whose model's inputs are i0, i1, ... and outputs o0, o1, ..."""
    inputs = {f"i{number}": tensor for number, tensor in enumerate(takes.split())}
    return Step(model, "", inputs, {f"o{number}": tensor for number, tensor in enumerate(gives.split())})


def plan(*steps: Step, inputs: str = "x", outputs: str = "y") -> EnsemblePlan:
    return EnsemblePlan.of(
        "E", steps, [spec(name) for name in inputs.split()], [spec(name) for name in outputs.split()]
    )


# --- What is refused ----------------------------------------------------------------------------------

REFUSED: list[tuple[dict[str, Any], list[Step], str]] = [
    ({}, [], "must specify 'step' for ensemble 'E'"),
    ({}, [step("", "x", "y")], "must specify 'model_name' in step 0 of ensemble 'E'"),
    ({}, [step("a", "", "y")], "must specify 'input_map' in step 0 of ensemble 'E'"),
    ({}, [step("a", "x", "y"), step("b", "x", "")], "must specify 'output_map' in step 1 of ensemble 'E'"),
    (
        {},
        [step("a", "x", "y"), step("b", "x", "y")],
        "ensemble tensor 'y' can appear in an output map only once for ensemble 'E' step 1",
    ),
    (
        {},
        [step("a", "x", "y y")],
        "ensemble tensor 'y' can appear in an output map only once for ensemble 'E' step 0",
    ),
    (
        {},
        [step("a", "x", "x y")],
        (
            "ensemble tensor 'x' can appear in an output map only once for ensemble 'E' step 0, and it is an "
            "input of the ensemble"
        ),
    ),
    ({"inputs": "x z"}, [step("a", "x", "y")], "ensemble input 'z' for ensemble 'E' is not used"),
    ({"outputs": "y z"}, [step("a", "x", "y")], "ensemble output 'z' for ensemble 'E' is not used"),
    (
        {},
        [step("a", "x q", "y")],
        "output 'y' for ensemble 'E' is not written: nothing gives 'q'",
    ),
    (
        {},
        [step("a", "x r", "q"), step("b", "q", "r y")],
        "output 'y' for ensemble 'E' is not written: steps wait for each other in a cycle, for ['q', 'r']",
    ),
    (
        {},
        [step("a", "x", "y"), step("b", "q", "q")],
        "ensemble tensor 'q' is unused in ensemble 'E': steps wait for each other in a cycle, for ['q']",
    ),
    (
        {},
        [step("a", "x", "y q")],
        "ensemble tensor 'q' is unused in ensemble 'E': no step takes it, and it is no output",
    ),
    (
        {},
        [step("E", "x", "y")],
        "circular dependency between ensembles: step 0 of ensemble 'E' is itself",
    ),
]


@pytest.mark.parametrize(("tensors", "steps", "text"), REFUSED, ids=[case[2][:60] for case in REFUSED])
def test_what_is_refused(tensors: dict[str, Any], steps: list[Step], text: str) -> None:
    with pytest.raises(InvalidArgument, match=f"^{re.escape(text)}$"):
        plan(*steps, **tensors)


def test_an_input_may_be_an_output_and_be_taken_twice() -> None:
    made = plan(step("a", "x x", "y"), outputs="x y")
    run: EnsembleRun[int] = EnsembleRun(made, made.route(["x", "y"]))
    assert run.start({"x": 1}) == [0] and run.take(0) == {"x": 1}
    assert run.complete(0, [2]) == [] and run.finished and run.outputs() == {"x": 1, "y": 2}
    assert run.held == 0


# --- What runs ----------------------------------------------------------------------------------------


def test_only_what_is_needed_runs() -> None:
    made = plan(step("a", "x", "p q"), step("b", "p", "y"), step("c", "q", "z"), outputs="y z")
    route = made.route(["z"])
    assert set(route.missing) == {0, 2}
    assert [tuple(produced) for produced in route.produced[0]] == [("o1", "q")]
    assert set(made.route(["y", "z"]).missing) == {0, 1, 2}
    only_inputs = plan(step("a", "x", "y"), outputs="x y").route(["x"])
    run: EnsembleRun[int] = EnsembleRun(made, only_inputs)
    assert run.start({"x": 1}) == [] and run.finished and run.outputs() == {"x": 1}


def test_an_input_that_is_missing_keeps_nobody_waiting() -> None:
    made = plan(step("a", "x z", "y"), inputs="x z", outputs="y z")
    run: EnsembleRun[int] = EnsembleRun(made, made.route(["y", "z"]))
    assert run.start({"x": 1}) == [0] and run.take(0) == {"x": 1}
    run.complete(0, [2])
    assert run.outputs() == {"y": 2}


def test_a_tensor_goes_with_the_last_that_takes_it() -> None:
    made = plan(step("a", "x", "t"), step("b", "t", "y"), step("c", "t", "z"), outputs="y z")
    run: EnsembleRun[str] = EnsembleRun(made, made.route(["y", "z"]))
    assert run.start({"x": "x"}) == [0] and run.held == 1
    run.take(0)
    assert run.held == 0
    assert run.complete(0, ["t"]) == [1, 2] and run.held == 1
    run.take(1)
    assert run.held == 1
    run.take(2)
    assert run.held == 0 and repr(run) == "<EnsembleRun 1 of 3 steps done, 0 tensors held>"


@st.composite
def graphs(draw: st.DrawFn) -> tuple[EnsemblePlan, list[str]]:
    """Any plan without cycles, its steps in any order, and some of its outputs."""
    inputs = [f"x{number}" for number in range(draw(st.integers(1, 3)))]
    tensors = list(inputs)
    steps = []
    for number in range(draw(st.integers(1, 8))):
        takes = draw(st.lists(st.sampled_from(tensors), min_size=1, max_size=4))
        gives = [f"t{number}.{index}" for index in range(draw(st.integers(1, 3)))]
        steps.append(step(f"m{number}", " ".join(takes), " ".join(gives)))
        tensors += gives
    taken = {tensor for each in steps for tensor in each.inputs.values()}
    outputs = [tensor for tensor in tensors if tensor not in taken or draw(st.booleans())]
    outputs = outputs or tensors[-1:]
    made = plan(*draw(st.permutations(steps)), inputs=" ".join(inputs), outputs=" ".join(outputs))
    return made, draw(st.lists(st.sampled_from(outputs), min_size=1, unique=True))


def needed(made: EnsemblePlan, wanted: list[str]) -> set[int]:
    """Steps that outputs depend on, found the slow way."""
    steps: set[int] = set()
    tensors = set(wanted)
    while True:
        more = {n for n, each in enumerate(made.steps) if tensors & set(each.outputs.values())}
        if more == steps:
            return steps
        steps = more
        tensors |= {tensor for n in steps for tensor in made.steps[n].inputs.values()}


@settings(max_examples=300, deadline=None)
@given(graph=graphs(), data=st.data())
def test_each_step_runs_once_after_its_inputs_in_any_order_of_completion(
    graph: tuple[EnsemblePlan, list[str]], data: st.DataObject
) -> None:
    made, wanted = graph
    route = made.route(wanted)
    run: EnsembleRun[str] = EnsembleRun(made, route)
    there = {tensor.name for tensor in made.inputs}
    ready = run.start({name: name for name in there})
    under_way: list[int] = []
    started: list[int] = []
    while ready or under_way:
        assert not run.finished
        if ready and (not under_way or data.draw(st.booleans())):
            number = ready.pop(data.draw(st.integers(0, len(ready) - 1)))
            taken = run.take(number)
            assert taken == {name: name for name in made.steps[number].inputs.values()}
            assert there >= taken.keys()
            started.append(number)
            under_way.append(number)
        else:
            number = under_way.pop(data.draw(st.integers(0, len(under_way) - 1)))
            gives = [produced.tensor for produced in route.produced[number]]
            there.update(gives)
            ready += run.complete(number, gives)
    assert run.finished
    assert sorted(started) == sorted(needed(made, wanted)), "a step ran twice, not at all, or in vain"
    assert run.held == len(set(wanted)), "a tensor is kept that nobody takes any more"
    assert run.outputs() == {name: name for name in wanted}
    assert run.held == 0
