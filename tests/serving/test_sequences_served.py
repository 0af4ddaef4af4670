"""Sequences through the server and Triton's client."""

from __future__ import annotations

import itertools
import queue
import random
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tritonclient.grpc as triton
from gated_models import Sent, row, write_python
from onnx_models import write
from scraping import scrape, value
from sequence_models import CONTROLLED_SUM, IMPLICIT_SUM, controlled_sum, implicit_sum
from serving_models import SOON, eventually, serving_models

IDLE = "max_sequence_idle_microseconds: "
PATIENT = f"{IDLE} 60000000"  # a second, the default, may pass between two requests on a busy machine
STRATEGIES = {"direct": "direct {}", "oldest": "oldest { max_candidate_sequences: 20 }"}

CONTROLS = """
    control_input { name: "START" control { kind: CONTROL_SEQUENCE_START fp32_false_true: [ 2.5, -1.5 ] } }
    control_input { name: "END" control { kind: CONTROL_SEQUENCE_END bool_false_true: [ false, true ] } }
    control_input { name: "READY" control { kind: CONTROL_SEQUENCE_READY int32_false_true: [ 7, 5 ] } }
    control_input { name: "CORRID" control { kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_%s } }
"""

TOLD = """
import numpy as np

class Model:
    def execute(self, inputs):
        rows = len(inputs["x"])
        said = [inputs[name].astype(np.float32) for name in ("START", "END", "READY")]
        return {
            "told": np.concatenate(said, axis=1),
            "id": inputs["CORRID"],
            "rows": np.broadcast_to(inputs["READY"].T, (rows, rows)),
        }
"""
"""Gives back what it is told: `told` = START, END and READY of the row; `rows` = READY of all rows."""

TELLING = """
    backend: "python"
    max_batch_size: 4
    input {{ name: "x" data_type: TYPE_FP32 dims: [ 1 ] }}
    output {{ name: "told" data_type: TYPE_FP32 dims: [ 3 ] }}
    output {{ name: "id" data_type: TYPE_{0} dims: [ 1 ] }}
    output {{ name: "rows" data_type: TYPE_INT32 dims: [ -1 ] }}
    sequence_batching {{ {1} {2} max_sequence_idle_microseconds: 60000000 }}
"""

REMEMBERING = """
import os
import numpy as np

class Model:
    def initialize(self, config):
        self.sums = {}

    def execute(self, inputs):
        sums = []
        for x, start, end, ready, id_ in zip(*(inputs[name][:, 0].tolist() for name in NAMES)):
            if not ready:
                sums.append(0)
                continue
            self.sums[id_] = x + (0 if start else self.sums[id_])
            sums.append(self.sums.pop(id_) if end else self.sums[id_])
        pids = np.full((len(sums), 1), os.getpid())
        return {"sum": np.array(sums, np.float32)[:, None], "pid": pids}

NAMES = ("x", "START", "END", "READY", "CORRID")
"""
"""A sum of each sequence that only this process knows."""

IN_WORKERS = """
    backend: "python"
    max_batch_size: 2
    input { name: "x" data_type: TYPE_FP32 dims: [ 1 ] }
    output { name: "sum" data_type: TYPE_FP32 dims: [ 1 ] }
    output { name: "pid" data_type: TYPE_INT64 dims: [ 1 ] }
    instance_group { count: 2 }
    parameters { key: "worker_process" value { string_value: "true" } }
    sequence_batching {
        direct {}
        max_sequence_idle_microseconds: 60000000
        control_input { name: "START" control { kind: CONTROL_SEQUENCE_START int32_false_true: [ 0, 1 ] } }
        control_input { name: "END" control { kind: CONTROL_SEQUENCE_END int32_false_true: [ 0, 1 ] } }
        control_input { name: "READY" control { kind: CONTROL_SEQUENCE_READY int32_false_true: [ 0, 1 ] } }
        control_input { name: "CORRID" control { kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_STRING } }
    }
"""

NO_START = (
    "[request id: <id_unknown>] inference request for sequence {} to model '{}' must specify the START flag "
    "on the first request of the sequence"
)

IDS = {"UINT64": -1, "INT64": 2**62, "UINT32": 2**32 - 1, "INT32": 11, "STRING": "word"}
"""An id for each type that models can be told it in; on the wire they are INT64, and UINT64 to the server."""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    repository = tmp_path_factory.mktemp("models")
    summing = IMPLICIT_SUM.replace("max_batch_size: 4", "max_batch_size: 16")
    for name, strategy in STRATEGIES.items():
        write(repository, name, implicit_sum(), summing.replace("STRATEGY {}", f"{strategy} {PATIENT}"))
        controlled = CONTROLLED_SUM.replace("STRATEGY {}", f"{strategy} {PATIENT}")
        write(repository, f"controlled_{name}", controlled_sum(), controlled)
        telling = TELLING.format("UINT64", strategy, CONTROLS % "UINT64")
        write_python(repository, f"telling_{name}", TOLD, telling)
    alone = IMPLICIT_SUM.replace("max_batch_size: 4", "max_batch_size: 1").replace("count: 2", "count: 1")
    write(repository, "alone", implicit_sum(), alone.replace("STRATEGY {}", PATIENT))
    write(repository, "fleeting", implicit_sum(), alone.replace("STRATEGY {}", f"{IDLE} 100000"))
    write(repository, "hasty", implicit_sum(), IMPLICIT_SUM.replace("STRATEGY {}", f"{IDLE} 100000"))
    for datatype in IDS:
        telling = TELLING.format(datatype, "direct {}", CONTROLS % datatype)
        write_python(repository, f"telling_{datatype.lower()}", TOLD, telling)
    write_python(repository, "in_workers", REMEMBERING, IN_WORKERS)
    with serving_models(repository, metrics_port=0) as running:
        yield running


@pytest.fixture(scope="module")
def client(server):
    with triton.InferenceServerClient(f"127.0.0.1:{server.port}") as connected:
        yield connected


def send(client, model, id_, number, flags="", **options):
    """Send a request of a sequence; `flags`: "^" starts it, "$" ends it."""
    options |= {"sequence_id": id_, "sequence_start": "^" in flags, "sequence_end": "$" in flags}
    return Sent(client, model, {"x": row(number)}, **options)


def total(client, model, id_, number, flags="", **options):
    return send(client, model, id_, number, flags, **options).array("sum").item()


def refusal(client, model, id_, flags="", **options):
    return send(client, model, id_, 1, flags, **options).error()


# --- Every answer is that of a single thread ----------------------------------------------------------


def script(chance):
    """Return the requests of a sequence, as numbers and flags, and what is to be answered."""
    length = chance.randint(1, 6)
    requests, answers = [], []
    for position in range(length):
        number = chance.randint(1, 1000)
        starts = position == 0 or chance.random() < 0.15
        answers.append(number if starts else answers[-1] + number)
        ends = position == length - 1 and chance.random() < 0.9
        requests.append((number, "^" * starts + "$" * ends))
    return requests, answers


def play(port, model, scripts):
    """Play sequences side by side, each one request after the other; return their answers."""
    answers = {id_: [] for id_ in scripts}
    ended = queue.Queue()
    left = {id_: iter(requests) for id_, requests in scripts.items()}
    under_way = {}
    with triton.InferenceServerClient(f"127.0.0.1:{port}") as client:

        def go_on(id_):
            for number, flags in itertools.islice(left[id_], 1):
                under_way[send(client, model, id_, number, flags, ended=ended)] = id_

        for id_ in scripts:
            go_on(id_)
        while under_way:
            sent = ended.get(timeout=SOON)
            id_ = under_way.pop(sent)
            answers[id_].append(sent.array("sum").item())
            go_on(id_)
    return answers


@pytest.mark.parametrize("model", STRATEGIES)
def test_two_hundred_sequences(server, client, model):
    """With restarts, ends that do not come, numbers and text as ids, and more of them than slots."""
    chance = random.Random(5)
    ids = [number if number % 2 else str(number - 1) for number in range(1, 201)]  # 1, "1", 3, "3", ...
    scripts = {id_: script(chance) for id_ in ids}
    flags = ["".join(each for _, each in requests) for requests, _ in scripts.values()]
    dropped = [each for each in flags if "$" not in each]
    assert len(dropped) > 10
    assert sum(each.count("^") for each in flags) > 230
    with ThreadPoolExecutor(4) as threads:
        parts = [ids[number::4] for number in range(4)]
        played = threads.map(
            lambda part: play(server.port, model, {id_: scripts[id_][0] for id_ in part}), parts
        )
        answers = {id_: answer for each in played for id_, answer in each.items()}
    assert answers == {id_: expected for id_, (_, expected) in scripts.items()}
    metrics = scrape(server)
    slots = {"direct": 32, "oldest": 40}[model]
    assert value(metrics, "yais_sequence_slots", model) == slots
    assert value(metrics, "yais_sequence_slots_used", model) == len(dropped)
    batches = client.get_inference_statistics(model, client_timeout=SOON).model_stats[0]
    assert batches.inference_count == sum(len(each) for each in answers.values())
    assert batches.execution_count < batches.inference_count  # they ran together


def test_state_in_workers(client):
    """Each sequence stays with its process."""
    ids = [f"sequence {number}" for number in range(4)]
    pids = {id_: set() for id_ in ids}
    for position, flags in enumerate(["^", "", "^", "", "$"]):
        sent = [send(client, "in_workers", id_, 10 * number, flags) for number, id_ in enumerate(ids)]
        times = position % 2 + 1 if position < 4 else 3
        assert [each.array("sum").item() for each in sent] == [
            10 * number * times for number in range(len(ids))
        ]
        for id_, each in zip(ids, sent, strict=True):
            pids[id_].add(each.array("pid").item())
    assert all(len(each) == 1 for each in pids.values())
    assert len(set().union(*pids.values())) == 2


# --- What models are told -----------------------------------------------------------------------------

START, GOES_ON, READY, EMPTY = -1.5, 2.5, 5, 7


def told(client, model, id_, flags=""):
    sent = send(client, model, id_, 1, flags)
    return sent.array("told")[0].tolist(), sent.array("id").item(), sent.array("rows")[0].tolist()


@pytest.mark.parametrize("datatype", IDS)
def test_controls(client, datatype):
    model, id_ = f"telling_{datatype.lower()}", IDS[datatype]
    given = id_.encode() if isinstance(id_, str) else id_ % 2**64
    assert told(client, model, id_, "^") == ([START, 0, READY], given, [READY])
    assert told(client, model, id_) == ([GOES_ON, 0, READY], given, [READY])
    assert told(client, model, id_, "^") == ([START, 0, READY], given, [READY])
    assert told(client, model, id_, "$") == ([GOES_ON, 1, READY], given, [READY])
    assert told(client, model, id_, "^$") == ([START, 1, READY], given, [READY])


@pytest.mark.parametrize(("strategy", "rows"), [("direct", [EMPTY, EMPTY, READY]), ("oldest", [READY])])
def test_rows_without_a_request(client, strategy, rows):
    model = f"telling_{strategy}"
    for id_ in (1, 2, 3):
        told(client, model, id_, "^")
    assert told(client, model, 3) == ([GOES_ON, 0, READY], 3, rows)
    for id_ in (1, 2, 3):
        told(client, model, id_, "$")


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_controls_and_a_state(client, strategy):
    model = f"controlled_{strategy}"
    answers = []
    for number, flags in ((1, "^"), (2, ""), (3, "$"), (4, "^"), (5, "^"), (6, "$")):
        x = np.array([[number]], np.int32)
        options = {"sequence_start": "^" in flags, "sequence_end": "$" in flags}
        sent = Sent(client, model, {"x": x}, sequence_id=77, **options)
        answers.append(tuple(sent.array(name).item() for name in ("sum", "last", "id")))
    assert answers == [(1, 0, 77), (3, 0, 77), (6, 1, 77), (4, 0, 77), (5, 0, 77), (11, 1, 77)]


def test_controls_and_states_are_not_what_requests_have(client):
    metadata = client.get_model_metadata("controlled_direct", client_timeout=SOON)
    assert [tensor.name for tensor in metadata.inputs] == ["x"]
    assert [tensor.name for tensor in metadata.outputs] == ["sum", "last", "id"]
    sent = Sent(client, "alone", {"x": row(1), "sum_in": row(1)}, sequence_id=5, sequence_start=True)
    assert sent.error()[0] == "INVALID_ARGUMENT"


# --- Slots --------------------------------------------------------------------------------------------


def test_the_backlog(server, client):
    model = "alone"
    assert total(client, model, 1, 5, "^") == 5
    waiting = [send(client, model, 2, 1, "^"), send(client, model, "2", 10, "^$")]

    def slots():
        metrics = scrape(server)
        return [value(metrics, f"yais_sequence_{name}", model) for name in ("slots", "slots_used", "backlog")]

    eventually(lambda: slots() == [1, 1, 2])
    late = refusal(client, model, 3, "^", timeout=1000)
    assert late == ("UNAVAILABLE", "timeout of the corresponding sequence has been expired")
    assert total(client, model, 1, 6, "$") == 11
    assert not waiting[1].done
    assert total(client, model, 2, 2, "$") == 3
    assert [each.array("sum").item() for each in waiting] == [1, 10]
    eventually(lambda: slots() == [1, 0, 0])


def test_a_sequence_that_is_given_up(client):
    """Its slot goes to the one that waits, and it has to begin anew."""
    model = "fleeting"
    assert total(client, model, 1, 5, "^") == 5
    assert total(client, model, 2, 7, "^$") == 7
    assert refusal(client, model, 1) == ("INVALID_ARGUMENT", NO_START.format(1, model))
    assert total(client, model, 1, 6, "^$") == 6


def test_a_slot_is_free_again_though_nobody_asks(server, client):
    """And with it what its states took."""
    assert total(client, "fleeting", 1, 5, "^") == 5
    eventually(lambda: value(scrape(server), "yais_sequence_slots_used", "fleeting") == 0)


def test_slots_of_sequences_that_do_not_end(client):
    """Those in the backlog wait for as many idle times as it takes."""
    sent = [send(client, "hasty", number + 1, number, "^") for number in range(5 * 8)]
    assert [each.array("sum").item() for each in sent] == list(range(5 * 8))
    assert "must specify the START flag" in refusal(client, "hasty", 1)[1]


# --- What is refused ----------------------------------------------------------------------------------


def test_no_start(client):
    for id_ in (42, "forty-two"):
        refused = ("INVALID_ARGUMENT", NO_START.format(id_, "alone"))
        assert refusal(client, "alone", id_) == refused
        assert total(client, "alone", id_, 1, "^$") == 1
        assert refusal(client, "alone", id_, "$") == refused  # it has ended


@pytest.mark.parametrize("id_", [0, ""])
@pytest.mark.parametrize("model", STRATEGIES)
def test_no_id(client, model, id_):
    assert refusal(client, model, id_, "^", request_id="mine") == (
        "INVALID_ARGUMENT",
        (
            f"[request id: mine] inference request to model '{model}' must specify a non-zero or non-empty "
            "correlation ID"
        ),
    )


@pytest.mark.parametrize("model", STRATEGIES)
def test_several_items(client, model):
    sent = Sent(client, model, {"x": np.ones((2, 1), np.float32)}, sequence_id=9, sequence_start=True)
    assert sent.error() == (
        "INVALID_ARGUMENT",
        (
            f"[request id: <id_unknown>] inference request to model '{model}' must specify batch-size 1 due "
            "to requirements of sequence batcher"
        ),
    )


@pytest.mark.parametrize(
    ("model", "id_", "says"),
    [
        ("telling_uint64", "text", ["'text'", "a number", "'CORRID' is UINT64"]),
        ("telling_string", 5, ["got the correlation ID 5", "text", "'CORRID' is BYTES"]),
        ("telling_int32", 2**31, ["2147483648", "at most 2147483647", "INT32"]),
    ],
)
def test_ids_that_the_model_cannot_be_told(client, model, id_, says):
    status, text = refusal(client, model, id_, "^")
    assert status == "INVALID_ARGUMENT"
    assert all(each in text for each in says), text
