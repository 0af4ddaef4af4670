"""The rate limiter: who gets resources, in which order, by example, at random and with threads."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from yais.errors import InvalidArgument
from yais.inference.rate_limiter import Permits, RateLimiter, RateNeeds

SOON = 20.0


def needs(priority: int = 0, **resources: int) -> RateNeeds:
    return RateNeeds(resources, priority)


class Instances:
    """Instances of one limiter, and who was granted something, in that order."""

    def __init__(self, available: Mapping[Any, int] | None = None) -> None:
        self.limiter = RateLimiter(available)
        self.granted: list[str] = []

    def add(self, name: str, needs: RateNeeds) -> Permits:
        return self.limiter.register(name, needs, partial(self.granted.append, name))


# --- By example ---------------------------------------------------------------------------------------


def test_what_fits_is_taken_at_once() -> None:
    instances = Instances({"R": 4})
    a, b, c = instances.add("a", needs(R=2)), instances.add("b", needs(R=2)), instances.add("c", needs(R=1))
    assert a.try_acquire() and b.try_acquire() and not c.try_acquire()
    a.release()
    assert instances.granted == ["c"]
    assert c.try_acquire() and not a.try_acquire()
    assert repr(instances.limiter) == "<RateLimiter of 3 instances: 3 of 4 R in use, 1 waiting>"
    assert repr(a) == "<Permits of a (2 R): waiting, 1 executions>"
    c.release()
    assert instances.granted == ["c", "a"]


def test_a_grant_is_kept_until_it_is_taken_or_given_back() -> None:
    instances = Instances({"R": 1})
    a, b, c = (instances.add(name, needs(R=1)) for name in "abc")
    assert a.try_acquire() and not b.try_acquire() and not c.try_acquire()
    a.release()
    assert instances.granted == ["b"] and not a.try_acquire()
    b.release(ran=False)  # its work is gone
    assert instances.granted == ["b", "c"]
    assert c.try_acquire()
    assert repr(b) == "<Permits of b (1 R): idle, 0 executions>"


def test_one_wait_is_one_grant() -> None:
    instances = Instances()
    a, b = instances.add("a", needs(R=1)), instances.add("b", needs(R=1))
    assert a.try_acquire()
    assert not b.try_acquire() and not b.try_acquire()
    a.release()
    assert instances.granted == ["b"] and b.try_acquire()
    b.release()
    assert instances.granted == ["b"] and a.try_acquire()


def test_nobody_waits_after_a_release() -> None:
    instances = Instances()
    a, b = instances.add("a", needs(R=1)), instances.add("b", needs(R=1))
    assert a.try_acquire() and not b.try_acquire()
    b.release(ran=False)
    a.release()
    a.release()
    assert instances.granted == []
    assert repr(a) == "<Permits of a (1 R): idle, 1 executions>", "a release of nothing is none"


def test_who_has_run_less_comes_first() -> None:
    instances = Instances()
    a, b, c = (instances.add(name, needs(R=1)) for name in "abc")
    for _ in range(2):
        assert b.try_acquire()
        b.release()
    assert a.try_acquire()
    assert not b.try_acquire() and not c.try_acquire()
    a.release()
    assert instances.granted == ["c"], "though b has waited longer"


def test_equals_take_turns() -> None:
    instances = Instances()
    permits = {name: instances.add(name, needs(R=1)) for name in "abcd"}
    assert permits["a"].try_acquire()
    for name in "cbd":
        assert not permits[name].try_acquire()
    for name in "acb":
        permits[name].release()
        if instances.granted:
            assert permits[instances.granted[-1]].try_acquire()
    assert instances.granted == ["c", "b", "d"]


@pytest.mark.parametrize(("priority", "share"), [(0, 1), (1, 1), (2, 2), (3, 3)])
def test_the_priority_says_how_often(priority: int, share: int) -> None:
    instances = Instances()
    permits = {"a": instances.add("a", needs(R=1)), "b": instances.add("b", needs(priority, R=1))}
    assert permits["a"].try_acquire() and not permits["b"].try_acquire()
    name, other, ran = "a", "b", Counter[str]()
    for _ in range(12 * (share + 1)):
        ran[name] += 1
        if not permits[name].release(again=True):
            name, other = other, name
            assert instances.granted.pop() == name
        assert permits[name].try_acquire() and not instances.granted
    assert ran["a"] / ran["b"] == pytest.approx(share, rel=0.1)


def test_who_releases_and_has_more_work_takes_its_turn() -> None:
    instances = Instances()
    a, b = instances.add("a", needs(R=1)), instances.add("b", needs(5, R=1))
    assert b.try_acquire()
    b.release()
    for _ in range(4):
        assert a.try_acquire() and not b.try_acquire()
        assert a.release(again=True)
    assert a.try_acquire() and instances.granted == []
    assert not a.release(again=True), "b has run once, which counts five times, and has waited longer"
    assert instances.granted == ["b"] and b.try_acquire()
    assert not b.release()
    assert instances.granted == ["b", "a"]


def test_only_batches_that_ran_count() -> None:
    instances = Instances()
    a, b, c = (instances.add(name, needs(R=1)) for name in "abc")
    for _ in range(3):
        assert a.try_acquire()
        a.release(ran=False)
    assert c.try_acquire() and not b.try_acquire()
    b.release()  # it waited, and did not run
    assert not a.try_acquire() and not b.try_acquire()
    c.release()
    assert instances.granted == ["a"]


def test_others_go_ahead_with_what_the_first_does_not_need() -> None:
    instances = Instances({"R": 4, "S": 1})
    a, b, c, d = (
        instances.add(name, need)
        for name, need in zip("abcd", [needs(R=3), needs(R=2), needs(R=1), needs(S=1)], strict=True)
    )
    assert a.try_acquire()
    assert not b.try_acquire()
    assert not c.try_acquire(), "one R is free, and set aside for b"
    assert d.try_acquire(), "b needs no S"
    a.release()
    assert instances.granted == ["b", "c"]


def test_the_first_is_not_starved_by_smaller_ones() -> None:
    instances = Instances({"R": 4})
    small = [instances.add(f"small{number}", needs(R=2)) for number in range(3)]
    large = instances.add("large", needs(R=4))
    assert small[0].try_acquire() and small[1].try_acquire()
    assert not large.try_acquire()
    small[0].release(again=True)
    assert instances.granted == [] and not small[2].try_acquire()
    small[1].release(again=True)
    assert instances.granted == ["large"]


def test_what_is_better_placed_takes_what_is_free() -> None:
    instances = Instances({"R": 3})
    a, b, c = instances.add("a", needs(R=2)), instances.add("b", needs(R=2)), instances.add("c", needs(R=1))
    assert b.try_acquire()
    b.release()
    assert a.try_acquire() and not b.try_acquire()
    assert c.try_acquire(), "b waits longer, but has run before"


def test_an_instance_that_needs_nothing_never_waits() -> None:
    instances = Instances({"R": 0})
    for need in (needs(), needs(R=0)):
        permits = instances.add("a", need)
        assert permits.try_acquire()
        permits.release()
    assert instances.granted == []
    assert repr(instances.limiter) == "<RateLimiter of 2 instances: no resources in use, 0 waiting>"


def test_an_instance_runs_one_batch_at_a_time() -> None:
    permits = Instances().add("a", needs(R=1))
    assert permits.try_acquire()
    with pytest.raises(
        ValueError, match=r"^got an acquisition by a member that executes, expected a release"
    ):
        permits.try_acquire()
    permits.release()
    assert permits.try_acquire()


# --- How much there is --------------------------------------------------------------------------------


def test_without_limits_there_is_what_the_neediest_needs() -> None:
    # The example of Triton's documentation.
    instances = Instances()
    instances.add("A", needs(R1=4, R2=4))
    b = instances.add("B", needs(R2=5, R3=10, R4=5))
    instances.add("C", needs(R1=1, R3=7, R4=2))
    assert "0 of 4 R1, 0 of 5 R2, 0 of 10 R3, 0 of 5 R4 in use" in repr(instances.limiter)
    instances.limiter.unregister(b)
    assert "0 of 4 R1, 0 of 4 R2, 0 of 7 R3, 0 of 2 R4 in use" in repr(instances.limiter)


def test_a_needier_instance_lets_others_go() -> None:
    instances = Instances()
    a, b = instances.add("a", needs(R=1)), instances.add("b", needs(R=1))
    assert a.try_acquire() and not b.try_acquire()
    c = instances.add("c", needs(R=2))
    assert instances.granted == ["b"]
    instances.limiter.unregister(c)
    assert b.try_acquire() and not c.try_acquire()
    assert "2 of 1 R in use" in repr(instances.limiter), "what runs is left alone"
    a.release(again=True)
    assert instances.granted == ["b"]
    b.release()
    assert instances.granted == ["b", "a"]


def test_more_than_there_is_cannot_be_needed() -> None:
    instances = Instances({"R": 3})
    instances.add("a", needs(R=3, S=7))
    text = (
        '^Resource count for "R" is limited to 3 which will prevent scheduling of one or more model '
        "instances, the minimum required count is 4$"
    )
    with pytest.raises(InvalidArgument, match=text):
        instances.add("b", needs(R=4, S=9))
    assert repr(instances.limiter) == (
        "<RateLimiter of 1 instances: 0 of 3 R, 0 of 7 S in use, 0 waiting>"
    ), "as it was"


def test_resources_are_those_of_a_device() -> None:
    instances = Instances({"R": 1, ("R", "1"): 2})
    on = lambda device: RateNeeds({"R": 1}, device=device)  # noqa: E731
    zero, zero_too = instances.add("0a", on("0")), instances.add("0b", on("0"))
    one, one_too, one_three = (instances.add(name, on("1")) for name in ("1a", "1b", "1c"))
    assert zero.try_acquire() and not zero_too.try_acquire()
    assert one.try_acquire() and one_too.try_acquire() and not one_three.try_acquire()
    assert "1 of 1 R on 0, 2 of 2 R on 1 in use, 2 waiting" in repr(instances.limiter)
    one.release()
    assert instances.granted == ["1c"]


def test_shared_resources_are_those_of_all_devices() -> None:
    instances = Instances({"R": 1, ("R", "1"): 2})  # the most that was said of it, as in Triton
    permits = [
        instances.add(str(device), RateNeeds({"R": 1}, shared=frozenset("R"), device=str(device)))
        for device in range(3)
    ]
    assert [each.try_acquire() for each in permits] == [True, True, False]
    text = '^Resource "R" is present as both global and device-specific resource in the model configuration.$'
    with pytest.raises(InvalidArgument, match=text):
        instances.add("a", needs(R=1))
    permits[0].release()
    assert instances.granted == ["2"]


def test_a_limit_of_another_device_is_none() -> None:
    instances = Instances({("R", "0"): 1})
    instances.add("a", RateNeeds({"R": 4}, device="1"))
    with pytest.raises(InvalidArgument, match="limited to 1 which"):
        instances.add("b", RateNeeds({"R": 4}, device="0"))


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (({"R": -1},), 'got -1 of resource "R", expected 0 or more'),
        (({"R": 1}, -2), "got a priority of -2, expected 0 or more"),
        (({"R": 1}, 0, frozenset("SR")), r"got shared resources \['S'\], expected some of \['R'\]"),
    ],
)
def test_needs_are_checked(arguments: Any, text: str) -> None:
    with pytest.raises(ValueError, match=f"^{text}$"):
        RateNeeds(*arguments)


# --- Instances that go --------------------------------------------------------------------------------


def test_what_an_unregistered_instance_held_goes_to_others() -> None:
    instances = Instances({"R": 1})
    a, b, c = (instances.add(name, needs(R=1)) for name in "abc")
    assert a.try_acquire() and not b.try_acquire() and not c.try_acquire()
    instances.limiter.unregister(a)  # it runs
    assert instances.granted == ["b"]
    instances.limiter.unregister(b)  # it was granted
    assert instances.granted == ["b", "c"] and c.try_acquire()
    a.release()
    b.release(again=True)
    assert not a.try_acquire() and not b.try_acquire()
    instances.limiter.unregister(b)
    c.release()
    assert instances.granted == ["b", "c"]
    assert repr(instances.limiter) == "<RateLimiter of 1 instances: 0 of 1 R in use, 0 waiting>"


def test_what_was_set_aside_for_an_unregistered_instance_goes_to_others() -> None:
    instances = Instances({"R": 4})
    a, b, c = instances.add("a", needs(R=2)), instances.add("b", needs(R=3)), instances.add("c", needs(R=2))
    assert a.try_acquire() and not b.try_acquire() and not c.try_acquire()
    instances.limiter.unregister(b)
    assert instances.granted == ["c"] and c.try_acquire()


def test_a_callback_that_fails_is_logged_and_keeps_nobody_from_theirs(
    caplog: pytest.LogCaptureFixture,
) -> None:
    limiter = RateLimiter({"R": 2})
    granted: list[str] = []

    def fail() -> None:
        raise RuntimeError("no")

    a = limiter.register("a", needs(R=2), fail)
    b, c = (
        limiter.register(*arguments)
        for arguments in [
            ("b", needs(R=1), fail),
            ("c", needs(R=1), partial(granted.append, "c")),
        ]
    )
    assert a.try_acquire() and not b.try_acquire() and not c.try_acquire()
    with caplog.at_level(logging.ERROR, "yais.rate_limiter"):
        a.release()
    assert granted == ["c"]
    assert [record.getMessage() for record in caplog.records] == [
        "<Permits of b (1 R): granted, 0 executions>: what it calls when it is granted failed"
    ]


# --- At random ----------------------------------------------------------------------------------------

NAMES = "RST"
counts = st.dictionaries(st.sampled_from(NAMES), st.integers(0, 4))


class Model:
    """What one instance should be, by the rules."""

    def __init__(self, needs: RateNeeds) -> None:
        self.needs = {name: count for name, count in needs.resources.items() if count}
        self.weight = max(1, needs.priority)
        self.ran = 0
        self.arrival = 0
        self.holds = self.waits = self.runs = False

    @property
    def rank(self) -> tuple[int, int]:
        return self.weight * self.ran, self.arrival


class LimiterMachine(RuleBasedStateMachine):
    """Any calls in any order; after each, who holds what is compared with the rules."""

    instances = Bundle("instances")

    @initialize(limits=st.dictionaries(st.sampled_from(NAMES), st.integers(0, 5)))
    def begin(self, limits: dict[str, int]) -> None:
        self.limits = limits
        self.limiter = RateLimiter(limits)
        self.models: dict[Permits, Model] = {}
        self.calls: list[Model] = []
        self.arrivals = 0
        self.most = Counter[str]()  # in use, at most, since less was available

    def available(self) -> dict[str, int]:
        return {
            name: self.limits.get(
                name, max([model.needs.get(name, 0) for model in self.models.values()] + [0])
            )
            for name in NAMES
        }

    def used(self) -> Counter[str]:
        used = Counter[str]()
        for model in self.models.values():
            if model.holds:
                used.update(model.needs)
        return used

    def due(self) -> list[Model]:
        """Grant by the rules, in the simplest way: one after the other from the best placed on."""
        available, used = self.available(), self.used()
        free = {name: available[name] - used[name] for name in NAMES}
        granted = []
        for model in sorted(
            (model for model in self.models.values() if model.waits), key=lambda each: each.rank
        ):
            if all(count <= free[name] for name, count in model.needs.items()):
                granted.append(model)
            for name, count in model.needs.items():
                free[name] -= count
        for model in granted:
            model.waits, model.holds = False, True
        return granted

    def check_calls(self, caller: Model | None = None) -> None:
        due = [model for model in self.due() if model is not caller]
        assert self.calls == due, "once each, in the order of their ranks"
        self.calls.clear()

    def join(self, model: Model) -> None:
        self.arrivals += 1
        model.arrival, model.waits = self.arrivals, True

    @rule(target=instances, resources=counts, priority=st.integers(0, 3))
    def register(self, resources: dict[str, int], priority: int) -> Any:
        need = RateNeeds(resources, priority)
        model = Model(need)
        try:
            permits = self.limiter.register("i", need, partial(self.calls.append, model))
        except InvalidArgument:
            assert any(count > self.limits.get(name, count) for name, count in resources.items())
            assert self.calls == []
            return multiple()
        assert all(count <= self.limits.get(name, count) for name, count in resources.items())
        self.models[permits] = model
        self.check_calls()
        return permits

    @rule(permits=instances)
    def acquire(self, permits: Permits) -> None:
        model = self.models[permits]
        if model.runs:
            with pytest.raises(ValueError, match="executes"):
                permits.try_acquire()
            return
        waited, held = model.waits, model.holds
        if not waited and not held:
            self.join(model)
            assert self.due() in ([], [model]), "nobody else is granted anything"
        assert permits.try_acquire() == model.holds
        assert self.calls == []
        model.runs = model.holds

    @rule(permits=instances, ran=st.booleans(), again=st.booleans())
    def release(self, permits: Permits, ran: bool, again: bool) -> None:
        model = self.models[permits]
        model.ran += ran and model.runs
        model.holds = model.waits = model.runs = False
        if again:
            self.join(model)
        kept = permits.release(ran=ran, again=again)
        self.check_calls(model)
        assert kept == model.holds

    @rule(permits=consumes(instances))
    def unregister(self, permits: Permits) -> None:
        self.limiter.unregister(permits)
        del self.models[permits]
        self.check_calls()
        assert not permits.release(again=True) and not permits.try_acquire()
        assert self.calls == []

    @invariant()
    def never_more_than_there_is(self) -> None:
        if not hasattr(self, "models"):
            return
        available, used = self.available(), self.used()
        for name in NAMES:
            # What is held while less becomes available is left alone, and nothing is added.
            assert used[name] <= max(available[name], self.most[name])
            self.most[name] = used[name]
        waiting = sum(model.waits for model in self.models.values())
        assert f" {len(self.models)} instances" in repr(self.limiter)
        assert f" {waiting} waiting" in repr(self.limiter)

    @invariant()
    def nobody_waits_in_vain(self) -> None:
        if not hasattr(self, "models"):
            return
        available, used = self.available(), self.used()
        waiting = [model for model in self.models.values() if model.waits]
        for model in waiting:
            others = Counter[str]()
            for other in waiting:
                if other.rank < model.rank:
                    others.update(other.needs)
            assert any(
                used[name] + others[name] + count > available[name] for name, count in model.needs.items()
            )
        if waiting:
            assert any(model.holds for model in self.models.values())

    def teardown(self) -> None:
        if not hasattr(self, "models"):
            return
        # If all that hold something give it back, all who wait come to their turn.
        for _ in range(2 * len(self.models) + 1):
            for permits, model in self.models.items():
                if model.holds:
                    self.release(permits, True, False)
        assert not any(model.waits or model.holds for model in self.models.values())
        assert not +self.limiter._queue.used


TestLimiter = LimiterMachine.TestCase
TestLimiter.settings = settings(max_examples=80, stateful_step_count=30, deadline=None)


# --- Threads ------------------------------------------------------------------------------------------


class Worker(threading.Thread):
    """Runs batches on one instance as a scheduler does: tries, and else waits to be called."""

    def __init__(
        self, limiter: RateLimiter, need: RateNeeds, use: Callable[[Mapping[str, int], int], None]
    ) -> None:
        super().__init__(daemon=True)
        self.need, self.use = need, use
        self.granted = threading.Event()
        self.grants = 0
        self.permits = limiter.register("worker", need, self.on_grant)
        self.problems: list[object] = []

    def on_grant(self) -> None:
        self.grants += 1
        self.granted.set()

    def run(self) -> None:
        waits, waiting = 0, False
        chance = random.Random(id(self))
        try:
            for batch in range(100):
                if waiting or not self.permits.try_acquire():
                    waits += not waiting
                    assert self.granted.wait(SOON), f"never granted: {self.permits!r}"
                    self.granted.clear()
                    assert self.permits.try_acquire(), "a grant is kept"
                self.use(self.need.resources, 1)
                time.sleep(0)  # lets others run
                self.use(self.need.resources, -1)
                waiting = batch < 99 and chance.random() < 0.5
                if self.permits.release(ran=chance.random() < 0.9, again=waiting):
                    waiting = False
                waits += waiting
            assert self.grants == waits
        except Exception as error:
            self.problems.append(error)


def test_many_threads() -> None:
    available = {"R": 4, "S": 2}
    limiter = RateLimiter(available)
    lock = threading.Lock()
    used = Counter[str]()
    most = Counter[str]()
    problems: list[object] = []

    def use(resources: Mapping[str, int], sign: int) -> None:
        with lock:
            for name, count in resources.items():
                used[name] += sign * count
                most[name] = max(most[name], used[name])
                if used[name] > available[name]:
                    problems.append(dict(used))

    workers = [
        Worker(limiter, need, use)
        for need in [needs(R=1), needs(R=1, S=1), needs(R=2), needs(3, R=4), needs(S=2), needs(2, R=3, S=1)]
    ]
    stop = threading.Event()

    def come_and_go() -> None:
        while not stop.is_set():
            guest = limiter.register("guest", needs(R=2, S=1), lambda: None)
            guest.try_acquire()
            limiter.unregister(guest)

    guests = threading.Thread(target=come_and_go, daemon=True)
    for thread in (*workers, guests):
        thread.start()
    for worker in workers:
        worker.join(SOON)
    stop.set()
    guests.join(SOON)
    assert not any(thread.is_alive() for thread in (*workers, guests))
    assert [problem for worker in workers for problem in worker.problems] == [] == problems
    assert most["R"] == 4 and not +used
    assert repr(limiter) == "<RateLimiter of 6 instances: 0 of 4 R, 0 of 2 S in use, 0 waiting>"
