"""Limits of containers, from made-up `proc` and `sys` trees."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from yais.core.affinity import usable_cpus
from yais.core.cgroup import concurrency, cpu_quota, cpuset
from yais.core.cpu_set import CpuSet
from yais.testing import FakeMachine

if TYPE_CHECKING:
    from pathlib import Path


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


V1 = "12:memory:/a\n4:cpuset:/a\n3:cpu,cpuacct:/a/b\n0::/a\n"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        pytest.param({}, None, id="nothing to read"),
        pytest.param({"proc/self/cgroup": "0::/\n"}, None, id="v2: root of the machine has no file"),
        pytest.param(
            {
                "proc/self/cgroup": "0::/\n",
                "sys/fs/cgroup/cpu.max": "150000 100000\n",
                "sys/fs/cpu.max": "1000 100000\n",
            },
            1.5,
            id="v2: container",
        ),
        pytest.param(
            {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}, None, id="v2: unlimited"
        ),
        pytest.param(
            {
                "proc/self/cgroup": "0::/a/b/c\n",
                "sys/fs/cgroup/a/cpu.max": "200000 100000\n",
                "sys/fs/cgroup/a/b/cpu.max": "max 100000\n",
                "sys/fs/cgroup/a/b/c/cpu.max": "40000 10000\n",
                "sys/fs/cgroup/other/cpu.max": "1000 100000\n",
            },
            2.0,
            id="v2: a parent is the tightest",
        ),
        pytest.param(
            {"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/cpu.max": "50000 100000\n"},
            0.5,
            id="v2: less than one CPU",
        ),
        pytest.param(
            {"proc/self/cgroup": "0::/../x\n", "sys/fs/cgroup/cpu.max": "300000 100000\n"},
            3.0,
            id="v2: above the namespace",
        ),
        pytest.param(
            {
                "proc/self/cgroup": V1,
                "sys/fs/cgroup/cpu/a/b/cpu.cfs_quota_us": "250000\n",
                "sys/fs/cgroup/cpu/a/b/cpu.cfs_period_us": "100000\n",
                "sys/fs/cgroup/cpu/a/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/a/cpu.cfs_period_us": "100000\n",
            },
            2.5,
            id="v1: own",
        ),
        pytest.param(
            {
                "proc/self/cgroup": V1,
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "100000\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "50000\n",
            },
            2.0,
            id="v1: container that sees its path on the host",
        ),
        pytest.param(
            {
                "proc/self/cgroup": V1,
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            None,
            id="v1: unlimited",
        ),
    ],
)
def test_cpu_quota(tmp_path: Path, files: dict[str, str], expected: float | None) -> None:
    assert cpu_quota(tree(tmp_path, files)) == expected


@pytest.mark.parametrize(("quota", "expected"), [(0.2, 1), (1.0, 1), (1.00001, 2), (90.0, 3), (None, 3)])
@pytest.mark.parametrize("version", [1, 2])
def test_concurrency_is_cut_to_the_quota(
    tmp_path: Path, quota: float | None, expected: int, version: int
) -> None:
    machine = FakeMachine(cores=8, affinity="0,1,5", quota=quota, version=version, cgroup="/a/b")
    assert concurrency(machine.write(tmp_path)) == expected
    assert cpu_quota(tmp_path) == quota


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("cgroup", ["/", "/a", "/a/b"])
def test_cpuset(tmp_path: Path, version: int, cgroup: str) -> None:
    machine = FakeMachine(cores=8, cpuset="2-4", version=version, cgroup=cgroup)
    assert cpuset(machine.write(tmp_path)) == CpuSet("2-4")
    assert concurrency(tmp_path) == 3
    (tmp_path / "proc/self/status").unlink()  # Now from what is online and the cpuset.
    assert usable_cpus(tmp_path) == CpuSet("0-7")
    assert concurrency(tmp_path) == 3


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        pytest.param({}, None, id="nothing to read"),
        pytest.param({"proc/self/cgroup": "0::/a\n"}, None, id="no such controller"),
        pytest.param(
            {
                "proc/self/cgroup": "0::/a/b\n",
                "sys/fs/cgroup/cpuset.cpus.effective": "0-7\n",
                "sys/fs/cgroup/a/cpuset.cpus.effective": "0-3\n",
                "sys/fs/cgroup/a/b/cpuset.cpus.effective": "1-2\n",
            },
            "1-2",
            id="v2: nested",
        ),
        pytest.param(
            {
                "proc/self/cgroup": "0::/a/b\n",
                "sys/fs/cgroup/cpuset.cpus.effective": "0-7\n",
                "sys/fs/cgroup/a/cpuset.cpus.effective": "0-3\n",
                "sys/fs/cgroup/a/b/cpu.max": "max 100000\n",
            },
            "0-3",
            id="v2: inherited",
        ),
        pytest.param(
            {
                "proc/self/cgroup": "0::/docker/1/a\n",
                "sys/fs/cgroup/cpuset.cpus.effective": "4-5\n",
                "sys/fs/cgroup/docker/cpuset.cpus.effective": "4\n",
            },
            "4-5",
            id="v2: container that sees its path on the host, with containers of its own",
        ),
        pytest.param(
            {
                "proc/self/cgroup": V1,
                "sys/fs/cgroup/cpuset/cpuset.cpus": "0-7\n",
                "sys/fs/cgroup/cpuset/a/cpuset.cpus": "0-3,9\n",
                "sys/fs/cgroup/cpuset/a/cpuset.effective_cpus": "0-3\n",
            },
            "0-3",
            id="v1: effective before configured",
        ),
        pytest.param(
            {
                "proc/self/cgroup": V1,
                "sys/fs/cgroup/cpuset/cpuset.cpus": "0-7\n",
                "sys/fs/cgroup/cpuset/a/cpuset.cpus": "\n",
            },
            "0-7",
            id="v1: not set",
        ),
    ],
)
def test_nested_cpusets(tmp_path: Path, files: dict[str, str], expected: str | None) -> None:
    assert cpuset(tree(tmp_path, files)) == (None if expected is None else CpuSet(expected))


def test_this_machine_has_an_answer() -> None:
    assert 1 <= concurrency() <= len(usable_cpus())
    within = cpuset()
    assert within is None or usable_cpus() - within == CpuSet()
