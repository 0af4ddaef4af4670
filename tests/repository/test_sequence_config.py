"""What a configuration says of sequences, and what it must not say."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from yais.core.tensor import DataType
from yais.errors import InvalidArgument
from yais.inference.scheduling.sequence import SequencePolicy, Strategy
from yais.inference.sequence_tensors import Control, ControlKind, SequenceTensors
from yais.repository.config import parse_config
from yais.repository.sequence_config import sequence_policy, sequence_tensors


def options(
    sequences: str, directory: Path = Path("/"), *, max_batch: int = 4, instances: int = 1, more: str = ""
) -> tuple[SequencePolicy, SequenceTensors]:
    text = f"""
        name: "M"
        max_batch_size: {max_batch}
        input {{ name: "x" data_type: TYPE_FP32 dims: [ 1 ] }}
        output {{ name: "y" data_type: TYPE_FP32 dims: [ 1 ] }}
        sequence_batching {{ {sequences} }}
        {more}
    """
    config = parse_config(text, "M")
    return sequence_policy(config, instances), sequence_tensors(config, directory)


def test_defaults_are_tritons() -> None:
    policy, tensors = options("")
    assert policy == SequencePolicy(4, 1, Strategy.DIRECT, max_idle=1_000_000_000)
    assert tensors == SequenceTensors()


def test_everything_is_read() -> None:
    policy, _ = options(
        "max_sequence_idle_microseconds: 5 "
        "direct { max_queue_delay_microseconds: 7 minimum_slot_utilization: 0.5 }",
        instances=3,
    )
    assert policy == SequencePolicy(4, 3, max_idle=5000, max_delay=7000, min_utilization=0.5)
    policy, _ = options(
        "oldest { max_candidate_sequences: 9 preferred_batch_size: [ 2, 4 ] "
        "max_queue_delay_microseconds: 3 preserve_ordering: true }"
    )
    assert policy == SequencePolicy(
        4, 1, Strategy.OLDEST, max_delay=3000, candidates=9, preferred=(2, 4), preserve_ordering=True
    )


def control(name: str, kind: str, rest: str) -> str:
    return f'control_input {{ name: "{name}" control {{ kind: CONTROL_SEQUENCE_{kind} {rest} }} }} '


def test_controls_of_every_kind_and_type() -> None:
    _, tensors = options(
        control("s", "START", "int32_false_true: [ 0, 3 ]")
        + control("r", "READY", "fp32_false_true: [ -1, 1 ]")
        + control("e", "END", "bool_false_true: [ true, false ]")
        + control("c", "CORRID", "data_type: TYPE_STRING")
    )
    assert tensors.controls == (
        Control("s", ControlKind.START, DataType.INT32, 0, 3),
        Control("r", ControlKind.READY, DataType.FP32, -1.0, 1.0),
        Control("e", ControlKind.END, DataType.BOOL, True, False),
        Control("c", ControlKind.CORRID, DataType.BYTES),
    )


INT = "int32_false_true: [ 0, 1 ]"
BAD = [
    ("oldest { max_candidate_sequences: 100001 }", "got 100001 sequences at once for 'M', by max_candidate"),
    ("oldest { max_candidate_sequences: 2147483647 }", "got 2147483647 sequences at once .* at most 100000"),
    ("iterative_sequence: true", "'sequence_batching.iterative_sequence', which yais does not support"),
    ("oldest { preferred_batch_size: 0 }", "sequence batching preferred batch size must be positive for M"),
    ("oldest { preferred_batch_size: 5 }", "preferred batch size must be <= max batch size for M"),
    ("oldest { max_candidate_sequences: -1 }", "got max_candidate_sequences -1 for 'M'"),
    ("direct { minimum_slot_utilization: 1.5 }", r"minimum slot utilization must be in range \(0.0, 1.0\]"),
    (control("", "START", INT), "sequence batching control tensor must have a name for M"),
    ('control_input { name: "c" }', "sequence batching control tensor 'c' must have a control for M"),
    (
        control("c", "START", INT) + control("c", "END", INT),
        "sequence batching control tensor 'c' is specified for multiple control kinds for M",
    ),
    (
        control("c", "START", INT + "} control { kind: CONTROL_SEQUENCE_END " + INT),
        "sequence batching control tensor 'c' is specified for multiple control kinds for M",
    ),
    (
        control("c", "START", INT) + control("d", "START", INT),
        "sequence batching specifies multiple CONTROL_SEQUENCE_START tensors for M",
    ),
    (
        control("c", "READY", INT + " fp32_false_true: [ 0, 1 ]"),
        "specifies both 'int32_false_true' and 'fp32_false_true' for CONTROL_SEQUENCE_READY for M",
    ),
    (
        control("c", "READY", ""),
        "must specify either 'int32_false_true', 'fp32_false_true' or 'bool_false_true' for CONTROL_SEQ",
    ),
    (
        control("c", "END", "bool_false_true: [ true ]"),
        "control 'bool_false_true' must have exactly 2 entries for CONTROL_SEQUENCE_END for M",
    ),
    (control("c", "CORRID", ""), "unexpected data type for control CONTROL_SEQUENCE_CORRID for M"),
    (control("c", "CORRID", "data_type: TYPE_FP32"), "Allowed data types are TYPE_UINT64, TYPE_INT64"),
    (
        control("c", "CORRID", "data_type: TYPE_INT64 " + INT),
        "must not specify either 'int32_false_true', 'fp32_false_true' or 'bool_false_true' for CONTROL_SEQ",
    ),
    (control("x", "START", INT), "input 'x' of model 'M' is configured more than once"),
]


@pytest.mark.parametrize(("sequences", "text"), BAD)
def test_impossible_sequences_are_refused(sequences: str, text: str) -> None:
    with pytest.raises(InvalidArgument, match=text):
        options(sequences)


def test_all_instances_together_have_a_bound() -> None:
    candidates = "oldest { max_candidate_sequences: 10000 }"
    assert options(candidates, more="instance_group [ { count: 9 }, { } ]")[0].slots == 10_000
    with pytest.raises(InvalidArgument, match="got 110000 sequences at once"):
        options(candidates, more="instance_group [ { count: 9 }, { gpus: [ 0, 1 ] } ]")
    with pytest.raises(InvalidArgument, match="got 2147483647 sequences at once"):
        options("", max_batch=2**31 - 1)


def test_decoupled_models_answer_one_request_at_a_time() -> None:
    more = "model_transaction_policy { decoupled: true }"
    assert options("", max_batch=1, more=more)[0].rows == 1
    with pytest.raises(InvalidArgument, match="got max_batch_size 4 for 'M', expected 0 or 1: a decoupled"):
        options("", more=more)


# --- States -------------------------------------------------------------------------------------------


def state(rest: str = "dims: [ 2 ]", *, type_: str = "FP32", output: str = "out") -> str:
    return f'state {{ input_name: "in" output_name: "{output}" data_type: TYPE_{type_} {rest} }} '


def initial(rest: str, *, type_: str = "FP32", name: str = "first") -> str:
    return f'initial_state {{ name: "{name}" data_type: TYPE_{type_} {rest} }}'


def test_states_begin_with_zeros() -> None:
    (first,) = options(state())[1].states
    assert (first.input_name, first.output_name, first.datatype, first.dims) == (
        "in",
        "out",
        DataType.FP32,
        (2,),
    )
    assert first.initial.tolist() == [0, 0] and first.initial.dtype == np.float32 and first.output is None
    (first,) = options(state("dims: [ -1, 3 ]", type_="STRING"), max_batch=1)[1].states
    assert first.initial.tolist() == [[b"", b"", b""]] and first.dims == (-1, 3)
    (first,) = options(state("dims: [ -1 ] " + initial("dims: [ 3 ] zero_data: true")), max_batch=0)[1].states
    assert first.initial.tolist() == [0, 0, 0]


def test_states_begin_with_a_file(tmp_path: Path) -> None:
    files = tmp_path / "initial_state"
    files.mkdir()
    (files / "numbers").write_bytes(np.array([1, 2, 3], np.float32).tobytes())
    (files / "texts").write_bytes(b"\x02\0\0\0ab\0\0\0\0")
    (files / "circle").symlink_to("circle")
    os.mkfifo(files / "pipe")
    rest = 'dims: [ 2 ] data_file: "%s"'
    (first,) = options(state("dims: [ 2 ] " + initial(rest % "numbers")), tmp_path)[1].states
    assert first.initial.tolist() == [1, 2]  # what is too much is ignored, as in Triton
    texts = state("dims: [ 2 ] " + initial(rest % "texts", type_="STRING"), type_="STRING")
    assert options(texts, tmp_path)[1].states[0].initial.tolist() == [b"ab", b""]
    for dims, file, text in (
        (4, "numbers", "initial_state setting expects 16 bytes, but the data provided from numbers only has"),
        (2, "none", "initial_state file 'none': cannot read 'none'"),
        (2, "../config.pbtxt", r"initial_state file '../config.pbtxt': got the file .*, expected one in "),
        (2, ".", "initial_state file '.': got '.', expected a file"),
        (2, "circle", "initial_state file 'circle': cannot read 'circle': "),
        (2, "pipe", "initial_state file 'pipe': got 'pipe', expected a file"),
    ):
        with pytest.raises(InvalidArgument, match=text):
            options(state(f"dims: [ {dims} ] " + initial(f'dims: [ {dims} ] data_file: "{file}"')), tmp_path)
    with pytest.raises(InvalidArgument, match="initial_state file 'texts': got 2 elements"):
        options(
            state("dims: [ 3 ] " + initial('dims: [ 3 ] data_file: "texts"', type_="STRING"), type_="STRING"),
            tmp_path,
        )


def test_a_state_that_requests_may_ask_for() -> None:
    _, tensors = options(state("dims: [ 1 ]", output="y"))
    assert tensors.states[0].output == 0 and not tensors.outputs
    with pytest.raises(InvalidArgument, match="data type of output 'y' of model 'M' does not match"):
        options(state("dims: [ 1 ]", type_="INT32", output="y"))


BAD_STATES = [
    (state("dims: [ 4294967296, 4294967296 ]"), "a sequence of model 'M' has 73786976294838206464 bytes of"),
    (
        state("dims: [ -1 ] " + initial("dims: [ 268435457 ] zero_data: true")).replace("-1", "268435457"),
        "a sequence of model 'M' has 1073741828 bytes of states, expected at most 1073741824",
    ),
    (
        state("dims: [ 134217728 ]", type_="STRING") + state("dims: [ 1 ]", output="other"),
        "a sequence of model 'M' has 1073741828 bytes of states",
    ),
    (state("dims: [ 2 ] use_same_buffer_for_input_output: true"), "state.use_same_buffer_for_input_output"),
    (state("dims: [ 2 ] use_growable_memory: true"), "'sequence_batching.state.use_growable_memory', which"),
    ('state { input_name: "in" data_type: TYPE_FP32 }', "state must have 'output_name' for M"),
    ('state { output_name: "out" data_type: TYPE_FP32 }', "state must have 'input_name' for M"),
    ('state { input_name: "in" output_name: "out" }', "state 'in' must have 'data_type' for M"),
    (state("dims: [ 0 ]"), "state 'in' dimension must be integer >= 1, or -1"),
    (state("dims: [ -1 ]"), r"got dims \[-1\] of state 'in' and max_batch_size 4 for 'M', expected no"),
    (state() + state(output="other"), "input 'in' of model 'M' is configured more than once"),
    (
        state() + state().replace('"in"', '"other"'),
        "output 'out' of model 'M' is configured more than once",
    ),
    (state("dims: [ 1 ]", output="y") * 2, "input 'in' of model 'M' is configured more than once"),
    (
        state("dims: [ 1 ]", output="y") + state("dims: [ 1 ]", output="y").replace('"in"', '"other"'),
        "state output 'y' of model 'M' is configured more than once",
    ),
]


@pytest.mark.parametrize(("states", "text"), BAD_STATES)
def test_impossible_states_are_refused(states: str, text: str) -> None:
    with pytest.raises(InvalidArgument, match=text):
        options(states)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (
            initial("dims: [ 2 ]", type_="INT32"),
            "data type used for 'initial_state' field of state 'in' does",
        ),
        (
            initial("dims: [ 2 ]", name=""),
            "Field 'name' must be set when using initial_state for state input",
        ),
        (
            initial("dims: [ 2, 1 ]"),
            "doesn't match the size of 'state' dimensions for state input 'in'. 2 != 1",
        ),
        (initial("dims: [ -1 ]"), "'initial_state' field for state input name 'in' contains variable dim"),
        (initial("dims: [ 3 ]"), "'initial_state' dim for input name 'in' doesn't match .* 3 != 2"),
        (initial("dims: [ 2 ]"), "initial_state setting expects state'in' to have state_data set"),
        (initial("dims: [ 2 ] zero_data: true") * 2, "exactly one or zero element. Found '2' elements."),
    ],
)
def test_impossible_initial_states_are_refused(given: str, text: str) -> None:
    with pytest.raises(InvalidArgument, match=text):
        options(state("dims: [ 2 ] " + given))
