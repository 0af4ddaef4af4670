"""Sites: what is reserved where, all or nothing."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from gpu_sites import Gpus
from hypothesis import given, settings
from hypothesis import strategies as st
from many_threads import in_threads
from modelling import SOON

from yais.core.cpu_set import CpuSet
from yais.core.gpus import Gpu
from yais.core.topology import Topology
from yais.errors import DeadlineExceeded
from yais.inference import sites as sites_module
from yais.inference.plan import ModelPlan
from yais.inference.site import Site
from yais.inference.sites import Sites
from yais.inference.tokens import Tokens
from yais.lane import Lanes, Placement
from yais.memory.buffer import Buffer
from yais.memory.host import HostMemoryResource
from yais.memory.limited import LimitedResource


@pytest.fixture
def gpus() -> Iterator[Gpus]:
    gpus = Gpus({1: lambda upstream: LimitedResource(upstream, 100_000)})
    yield gpus
    gpus.close()


@pytest.fixture
def sites(gpus: Gpus) -> Iterator[Sites]:
    """Two tokens, three lanes each; GPU 1 has 100,000 bytes."""
    host = Site(Lanes("host", threads={"execute": 1}, count=1), Tokens(1))
    sites = Sites(host, gpus=gpus, executions=2, lanes=3, name="test")
    yield sites
    assert sites.close(SOON)


def sizes(site: Site) -> tuple[int, int, int]:
    return site.lanes.staging_size, site.lanes.device_size, site.tokens.scratch_size


def test_a_gpu_has_a_site_from_when_it_is_asked_for(sites: Sites, gpus: Gpus) -> None:
    assert not gpus.devices and dict(sites.gpus) == {}
    site = sites.of(1)
    assert site is sites.of(1) and site is not sites.of(0) and sites.of(None) is not site
    assert list(sites.gpus) == [0, 1] and (site.gpu, str(site), str(sites.of(None))) == (1, "GPU 1", "host")
    assert (site.tokens.size, site.lanes.size) == (2, 3)
    (threads,) = site.lanes.threads
    # Each batch on the GPU is waited for by a thread of its own.
    assert {stage: pool.statistics().threads for stage, pool in threads.items()} == {"execute": 2, "post": 3}
    name = threads["post"].submit(lambda: threading.current_thread().name).get(SOON)
    assert name.startswith("test-gpu1-post-")
    with site.lanes.pool.acquire(SOON) as lane:
        assert lane in site.lanes and lane not in sites.of(0).lanes
        assert lane.stream.gpu is gpus.devices[1].gpu and lane.placement.name == "gpu1"
    assert "test-gpu1 lanes: 3 of 3 free" in repr(sites)


def test_all_ask_for_the_same_site(sites: Sites) -> None:
    found: list[Site] = []
    in_threads(8, lambda index: found.append(sites.of(index % 2)))
    assert len({id(site) for site in found}) == 2 and len(found) == 8


def test_what_cannot_be_made_is_tried_again(gpus: Gpus) -> None:
    def make(gpu: int) -> Any:
        if not attempts:
            attempts.append(gpu)
            raise OSError("it is gone")
        return gpus(gpu)

    attempts: list[int] = []
    sites = Sites(Site(Lanes(threads={"execute": 1}), Tokens(1)), gpus=make)
    with pytest.raises(OSError, match="it is gone"):
        sites.of(0)
    assert not sites.gpus
    assert sites.of(0).tokens.size == 2 and sites.of(0).lanes.size == 4  # by default
    assert sites.close(SOON)
    with pytest.raises(RuntimeError, match="closed"):
        sites.of(1)


def test_threads_of_streams_that_cannot_be_made_end(gpus: Gpus) -> None:
    device = gpus(0)
    made = []

    def stream(placement: Placement) -> Any:
        if len(made) == 2:
            raise RuntimeError("no more streams")
        made.append(type(device).stream(device, placement))
        return made[-1]

    device.stream = stream  # type: ignore[method-assign]
    sites = Sites(Site(Lanes(threads={"execute": 1}), Tokens(1)), gpus=lambda _: device, name="broken")
    with pytest.raises(RuntimeError, match="no more streams"):
        sites.of(0)
    assert len(made) == 2 and all(not stream._thread.is_alive() for stream in made)
    assert sites.close(SOON)
    for thread in threading.enumerate():
        if thread.name.startswith("broken"):
            thread.join(SOON)
            assert not thread.is_alive()


def test_lanes_sit_next_to_their_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    here = Topology.read()
    cpus = CpuSet([max(here.usable)])
    near = (Gpu(0, "A", "0000:01:00.0", 0, here.usable), Gpu(1, "B", "0000:02:00.0", 0, cpus))
    read = dataclasses.replace(here, gpus=near)
    monkeypatch.setattr(sites_module.Topology, "read", lambda: read)
    place = sites_module.gpu_placement(1)
    assert (place.name, place.cpus, place.gpu) == ("gpu1", cpus, near[1])
    assert place.node is here.nearest_node(near[1])
    assert sites_module.gpu_placement(7) == Placement("gpu7")


@pytest.mark.parametrize(("executions", "lanes"), [(0, None), (1, 0), (-1, 2)])
def test_there_is_one_of_each_at_least(executions: int, lanes: int | None) -> None:
    host = Site(Lanes(threads={"execute": 1}), Tokens(1))
    with pytest.raises(ValueError, match="expected at least 1"):
        Sites(host, executions=executions, lanes=lanes)
    assert host.close(SOON)


def test_what_is_reserved_stays(sites: Sites, gpus: Gpus) -> None:
    site = sites.of(0)
    site.reserve(1000, SOON, device=2000, scratch=3000)
    assert sizes(site) == (1000, 2000, 3000) and gpus.held(0) == 3 * 2000 + 2 * 3000
    with site.lanes.pool.acquire(SOON) as lane:  # nothing to do, so nobody waits
        site.reserve(500, 0.0, device=100, scratch=10)
        assert lane.device is not None and lane.device.size == 2000 and lane.staging.size >= 1000
    assert sizes(site) == (1000, 2000, 3000)
    site.reserve(500, SOON, device=4000)
    assert sizes(site) == (1000, 4000, 3000) and gpus.held(0) == 3 * 4000 + 2 * 3000
    fitting = ModelPlan("M", 1, 1, staging=1000, device=4000, scratch=3000, open=())
    site.reserve(40_000, SOON)
    assert site.fits(fitting) and not site.fits(ModelPlan("M", 1, 1, 0, 3001, 0, ()))
    assert "2 execution tokens with 2.9 KiB" in site.reserved and "17.6 KiB on the device" in site.reserved


@pytest.mark.parametrize(
    ("device", "scratch"), [(40_000, 1000), (1000, 60_000), (33_000, 1000)], ids=["lanes", "tokens", "both"]
)
def test_with_too_little_memory_all_is_as_it_was(sites: Sites, gpus: Gpus, device: int, scratch: int) -> None:
    site = sites.of(1)
    site.reserve(1000, SOON, device=500, scratch=700)
    held = gpus.held(1)
    with site.lanes.pool.acquire(SOON) as lane:
        before = lane.device, lane.staging
    with pytest.raises(
        MemoryError, match=r"GPU 1 has too little memory for 2 execution tokens .*100000"
    ) as error:
        site.reserve(5000, SOON, device=device, scratch=scratch)
    assert "\n" not in str(error.value)
    assert sizes(site) == (1000, 500, 700) and gpus.held(1) == held
    with site.lanes.pool.acquire(SOON) as lane:
        assert (lane.device, lane.staging) == before and lane.device is not None and lane.device.size == 500
    assert site.lanes.pool.statistics().available == 3 and site.tokens.pool.statistics().available == 2
    site.reserve(5000, SOON, device=1000, scratch=1000)  # as if it had not been tried
    assert sizes(site) == (5000, 1000, 1000)


def test_staging_that_cannot_be_had_leaves_the_rest(gpus: Gpus) -> None:
    lanes = Lanes(threads={"execute": 1}, count=2, memory=LimitedResource(HostMemoryResource(), 100_000))
    site = Site(lanes, Tokens(1, memory=HostMemoryResource()))
    site.reserve(10_000, SOON)
    with pytest.raises(MemoryError, match="host has too little memory"):
        site.reserve(60_000, SOON, scratch=100)
    assert sizes(site) == (10_000, 0, 0)
    site.reserve(10_000, SOON, scratch=100)
    assert sizes(site) == (10_000, 0, 100)
    assert site.close(SOON)


SIZES = st.tuples(st.integers(0, 40_000), st.integers(0, 40_000), st.integers(0, 60_000))


@given(st.lists(SIZES, max_size=6))
@settings(max_examples=30, deadline=None)
def test_whatever_is_reserved_in_turn_is_all_or_nothing(wanted: list[tuple[int, int, int]]) -> None:
    gpus = Gpus({0: lambda upstream: LimitedResource(upstream, 200_000)})
    sites = Sites(Site(Lanes(threads={"execute": 1}, count=1), Tokens(1)), gpus=gpus, executions=2, lanes=2)
    site = sites.of(0)
    for staging, device, scratch in wanted:
        before = sizes(site)
        try:
            site.reserve(staging, SOON, device=device, scratch=scratch)
        except MemoryError:
            assert sizes(site) == before
        else:
            assert sizes(site) == tuple(map(max, before, (staging, device, scratch)))
        assert gpus.held(0) == 2 * site.lanes.device_size + 2 * site.tokens.scratch_size
        for pool in (site.lanes.pool, site.tokens.pool):
            assert pool.statistics().available == 2
    assert sites.close(SOON)
    gpus.close()


@pytest.mark.parametrize("held", ["lane", "token"])
def test_what_is_lent_is_waited_for(sites: Sites, gpus: Gpus, held: str) -> None:
    site = sites.of(0)
    pool: Any = site.lanes.pool if held == "lane" else site.tokens.pool
    lease = pool.acquire(SOON)
    with pytest.raises(DeadlineExceeded):
        site.reserve(1000, 0.02, device=1000, scratch=1000)
    assert sizes(site) == (0, 0, 0) and gpus.held(0) == 0
    done = threading.Event()

    def reserve() -> None:
        site.reserve(1000, SOON, device=1000, scratch=1000)
        done.set()

    thread = threading.Thread(target=reserve)
    thread.start()
    assert not done.wait(0.02)
    lease.release()
    assert done.wait(SOON)
    thread.join(SOON)
    assert sizes(site) == (1000, 1000, 1000)


def test_many_reserve_at_once_while_others_use_it(sites: Sites, gpus: Gpus) -> None:
    site = sites.of(0)

    def work(index: int) -> None:
        for number in range(20):
            if index < 3:
                site.reserve(100 * number, SOON, device=1000 * index + 50 * number, scratch=10 * number)
                continue
            with site.lanes.pool.acquire(SOON) as lane, site.tokens.pool.acquire(SOON) as token:
                for buffer in (lane.device, token.scratch):
                    if isinstance(buffer, Buffer):
                        buffer.view[:] = bytes(buffer.size)  # nothing is freed that is lent

    in_threads(6, work)
    assert sizes(site) == (1900, 2950, 190) and gpus.held(0) == 3 * 2950 + 2 * 190


def test_who_reserves_waits_for_another_who_does(sites: Sites) -> None:
    site = sites.of(0)
    lease = site.lanes.pool.acquire(SOON)
    first = threading.Thread(target=lambda: site.reserve(1000, SOON))
    first.start()
    while site.lanes.pool.statistics().available:  # it has taken the others
        pass
    with pytest.raises(DeadlineExceeded, match=r"others who reserve memory did not end within 0\.02 s"):
        site.reserve(2000, 0.02)
    lease.release()
    first.join(SOON)
    assert not first.is_alive() and sizes(site) == (1000, 0, 0)


def test_what_is_lent_is_not_freed(gpus: Gpus) -> None:
    sites = Sites(Site(Lanes(threads={"execute": 1}), Tokens(1)), gpus=gpus)
    site = sites.of(0)
    site.reserve(100, SOON, device=100, scratch=100)
    lease = site.lanes.pool.acquire(SOON)
    assert not sites.close(0.02)
    assert lease.item.device is not None and lease.item.device.size == 100 and gpus.held(0) == 600
    lease.release()
    assert sites.close(SOON) and gpus.held(0) == 0
    assert lease.item.stream._closed
