"""Whole machines, most of them made up."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yais.core.affinity import usable_cpus
from yais.core.cpu_set import CpuSet
from yais.core.gpus import Gpu
from yais.core.topology import NumaNode, Topology
from yais.testing import FakeMachine


def read(root: Path, machine: FakeMachine) -> Topology:
    return Topology.read(machine.write(root))


def cpu_sets(top: int = 16) -> st.SearchStrategy[str]:
    return st.sets(st.integers(0, top - 1)).map(lambda cpus: str(CpuSet(cpus)))


@st.composite
def machines(draw: st.DrawFn) -> FakeMachine:
    sockets, nodes = draw(st.integers(1, 2)), draw(st.integers(1, 2))
    memory_only = draw(st.integers(0, 1))
    return FakeMachine(
        sockets=sockets,
        nodes=nodes,
        cores=draw(st.integers(1, 2)),
        threads=draw(st.integers(1, 2)),
        offline=draw(cpu_sets(8)),
        numa=draw(st.booleans()),
        memory_only=memory_only,
        affinity=draw(st.none() | cpu_sets()),
        cgroup=draw(st.sampled_from(["/", "/a/b"])),
        version=draw(st.sampled_from([1, 2])),
        cpuset=draw(st.none() | cpu_sets().filter(bool)),
        quota=draw(st.none() | st.sampled_from([0.5, 3.0])),
        gpus=draw(st.lists(st.none() | st.integers(0, sockets * nodes + memory_only - 1), max_size=3)),
    )


def assert_partition(parts: list[CpuSet], whole: CpuSet) -> None:
    assert sorted(cpu for part in parts for cpu in part) == list(whole)


@settings(max_examples=40, deadline=None)
@given(machines())
def test_every_cpu_is_in_one_place(machine: FakeMachine) -> None:
    # In memory, since there are thousands of files.
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        topology = read(Path(directory), machine)
    # One whose CPUs are all off does not say so: then the list is what the process is allowed.
    if machine.online:
        assert topology.online == machine.online
        assert topology.usable == machine.usable
    assert topology.offline == machine.present - topology.online
    assert topology.quota == machine.quota
    for parts in (topology.nodes, topology.sockets, topology.cores):
        assert_partition([part.online for part in parts], topology.online)
        assert_partition([part.cpus for part in parts], topology.usable)
    for level in {(cache.level, cache.kind) for cache in topology.caches}:
        caches = [cache for cache in topology.caches if (cache.level, cache.kind) == level]
        assert_partition([cache.online for cache in caches], topology.online)
        assert_partition([cache.cpus for cache in caches], topology.usable)
    for cpu in topology.online:
        assert cpu in topology.node_of(cpu).online
        assert cpu in topology.siblings(cpu)
    for gpu in topology.gpus:
        assert gpu.cpus - topology.usable == CpuSet()
        assert bool(gpu.cpus) == bool(topology.usable)
    assert len(topology.gpus) == len(machine.gpus)
    ones = topology.one_per_core(topology.usable)
    assert len(ones) == sum(1 for core in topology.cores if core.cpus)
    assert ones - topology.usable == CpuSet()


def test_two_sockets_with_smt(tmp_path: Path) -> None:
    topology = read(tmp_path, FakeMachine(sockets=2, cores=4, threads=2, memory_bytes=3 << 30))
    assert [str(node.online) for node in topology.nodes] == ["0-3,8-11", "4-7,12-15"]
    assert [dict(node.distances) for node in topology.nodes] == [{0: 10, 1: 21}, {0: 21, 1: 10}]
    assert [node.memory_bytes for node in topology.nodes] == [3 << 30, 3 << 30]
    assert [(socket.id, str(socket.cpus)) for socket in topology.sockets] == [
        (0, "0-3,8-11"),
        (1, "4-7,12-15"),
    ]
    assert str(topology.cpus_of_socket(1)) == "4-7,12-15"
    assert [(core.socket, core.die, core.id, str(core.online)) for core in topology.cores[3:5]] == [
        (0, 0, 3, "3,11"),
        (1, 0, 0, "4,12"),
    ]
    assert str(topology.siblings(13)) == "5,13"
    assert str(topology.one_per_core(CpuSet("0-1,8,13-14"))) == "0-1,13-14"
    assert topology.node_of(12) is topology.nodes[1]
    assert [(c.level, c.kind, c.size, str(c.online)) for c in topology.caches[-3:]] == [
        (2, "Unified", 1 << 20, "7,15"),
        (3, "Unified", 32 << 20, "0-3,8-11"),
        (3, "Unified", 32 << 20, "4-7,12-15"),
    ]
    assert len([cache for cache in topology.caches if cache.level == 1]) == 16


def test_four_nodes_of_two_sockets(tmp_path: Path) -> None:
    topology = read(tmp_path, FakeMachine(sockets=2, nodes=2, cores=1))
    assert [list(node.distances.values()) for node in topology.nodes] == [
        [10, 12, 21, 21],
        [12, 10, 21, 21],
        [21, 21, 10, 12],
        [21, 21, 12, 10],
    ]
    assert [str(socket.online) for socket in topology.sockets] == ["0-1", "2-3"]


def test_more_than_64_cpus(tmp_path: Path) -> None:
    topology = read(tmp_path, FakeMachine(sockets=2, nodes=2, cores=10, threads=2, affinity="8-12,62-79"))
    assert str(topology.online) == "0-79"
    assert str(topology.usable) == "8-12,62-79"
    assert [str(node.cpus) for node in topology.nodes] == ["8-9", "10-12", "62-69", "70-79"]
    assert topology.node_of(79).id == 3
    assert str(topology.siblings(79)) == "39,79"


def test_offline_cpus_are_not_offered(tmp_path: Path) -> None:
    topology = read(tmp_path, FakeMachine(cores=4, threads=2, offline="1,6"))
    assert str(topology.offline) == "1,6"
    assert str(topology.usable) == str(topology.nodes[0].cpus) == "0,2-5,7"
    assert str(topology.siblings(5)) == "5"
    with pytest.raises(ValueError, match=r"got CPU 6, expected one that is online: '0,2-5,7'"):
        topology.node_of(6)
    with pytest.raises(ValueError, match=r"got CPU 6, expected one that is online: '0,2-5,7'"):
        topology.siblings(6)


def test_no_numa_is_one_node(tmp_path: Path) -> None:
    topology = read(tmp_path, FakeMachine(sockets=2, numa=False, affinity="1-9", memory_bytes=1 << 30))
    (node,) = topology.nodes
    assert node == NumaNode(0, CpuSet("1-3"), CpuSet("0-3"), {0: 10}, 2 << 30)
    assert len(topology.sockets) == 2


def test_nodes_of_memory_only_offer_no_cpus(tmp_path: Path) -> None:
    topology = read(tmp_path, FakeMachine(nodes=2, memory_only=1, gpus=[2]))
    assert [str(node.cpus) for node in topology.nodes] == ["0-1", "2-3", ""]
    assert topology.nodes[2].memory_bytes == 8 << 30
    (gpu,) = topology.gpus
    assert gpu.node == 2
    nearest = topology.nearest_node(gpu)
    assert nearest is topology.nodes[0]
    assert gpu.cpus == nearest.cpus


def test_numbers_with_gaps(tmp_path: Path) -> None:
    root = FakeMachine(sockets=2, cores=1).write(tmp_path)
    (root / "sys/devices/system/node/node1").rename(root / "sys/devices/system/node/node8")
    topology = Topology.read(root)
    assert [node.id for node in topology.nodes] == [0, 8]
    assert [dict(node.distances) for node in topology.nodes] == [{0: 10, 8: 21}, {0: 21, 8: 10}]


def test_nodes_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    root = FakeMachine(nodes=3, cores=1).write(tmp_path)
    (root / "sys/devices/system/node/node1").rename(root / "sys/devices/system/node/node10")
    assert [node.id for node in Topology.read(root).nodes] == [0, 2, 10]


def test_a_container_that_is_shown_fewer_cpus(tmp_path: Path) -> None:
    root = FakeMachine(sockets=2, cores=2).write(tmp_path)
    (root / "sys/devices/system/cpu/online").write_text("0-2\n")
    topology = Topology.read(root)
    assert str(topology.usable) == "0-2"
    assert [str(node.online) for node in topology.nodes] == ["0-1", "2"]
    assert [str(cache.online) for cache in topology.caches if cache.level == 3] == ["0-1", "2"]


def test_a_cpu_of_no_node_is_found(tmp_path: Path) -> None:
    root = FakeMachine(sockets=2, cores=2).write(tmp_path)
    (root / "sys/devices/system/node/node1/cpulist").write_text("3\n")
    topology = Topology.read(root)
    assert [str(node.cpus) for node in topology.nodes] == ["0-2", "3"]


def test_container_limits(tmp_path: Path) -> None:
    topology = read(tmp_path, FakeMachine(cores=8, affinity="0-5", cpuset="4-7", quota=1.5, cgroup="/pod"))
    assert str(topology.cpuset) == "4-7"
    assert str(topology.usable) == "4-5"
    assert topology.quota == 1.5
    (tmp_path / "proc/self/status").unlink()
    assert str(Topology.read(tmp_path).usable) == "4-7"


def test_almost_nothing_to_read(tmp_path: Path) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/status").write_text("Cpus_allowed_list:\t0-2\n")
    topology = Topology.read(tmp_path)
    assert topology.nodes == (NumaNode(0, CpuSet("0-2"), CpuSet("0-2"), {0: 10}, 0),)
    assert [(core.id, core.socket, str(core.cpus)) for core in topology.cores] == [
        (0, 0, "0"),
        (1, 0, "1"),
        (2, 0, "2"),
    ]
    assert (topology.caches, topology.gpus) == ((), ())


def test_names_of_old_kernels(tmp_path: Path) -> None:
    root = FakeMachine(cores=1, threads=2).write(tmp_path)
    for cpu in range(2):
        topology = root / f"sys/devices/system/cpu/cpu{cpu}/topology"
        (topology / "core_cpus_list").rename(topology / "thread_siblings_list")
        (topology / "die_id").unlink()
        (topology / "physical_package_id").write_text("-1\n")  # as some virtual machines have it
    (core,) = Topology.read(root).cores
    assert (core.id, core.die, core.socket, str(core.online)) == (0, 0, 0, "0-1")


def test_an_unknown_socket(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="got socket 2, expected one of '0-1'"):
        read(tmp_path, FakeMachine(sockets=2)).cpus_of_socket(2)


@pytest.mark.parametrize(
    ("node", "affinity", "near", "cpus"),
    [
        (1, None, 1, "2-3"),
        (1, "0-2,4-7", 1, "2"),
        (1, "0-1,4-7", 0, "0-1"),  # 12 away, the others 21
        (3, "0-5", 2, "4-5"),
        (None, None, None, "0-7"),
        (None, "2-3", 1, "2-3"),  # one node is left
    ],
)
def test_nearest_node_of_a_gpu(
    tmp_path: Path, node: int | None, affinity: str | None, near: int | None, cpus: str
) -> None:
    topology = read(tmp_path, FakeMachine(sockets=2, nodes=2, affinity=affinity, gpus=[node]))
    (gpu,) = topology.gpus
    assert gpu == Gpu(0, "0x2335", "0000:10:00.0", node, CpuSet(cpus))
    nearest = topology.nearest_node(gpu)
    assert (None if nearest is None else nearest.id) == near


def test_this_machine() -> None:
    topology = Topology.read()
    assert topology.usable and topology.usable == usable_cpus()
    assert_partition([node.cpus for node in topology.nodes], topology.usable)
    assert sum(node.memory_bytes for node in topology.nodes) > 0
