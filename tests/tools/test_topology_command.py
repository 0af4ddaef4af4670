"""`yais topology`, of machines that are not there and of this one."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import tempfile
from pathlib import Path

import pytest
from serving_models import SOON
from yais_command import YAIS, run_yais

from yais.core.affinity import usable_cpus
from yais.core.topology import Topology
from yais.lane import placements
from yais.testing import FakeMachine
from yais.tools.topology_drawing import draw

BIG = FakeMachine(
    sockets=2,
    nodes=2,
    cores=32,
    threads=2,
    affinity="0-100,128-255",
    cpuset="0-249",
    quota=12.5,
    offline="7,135",
)


def drawn(root, machine):
    done = run_yais("topology", "--root", machine.write(root))
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def test_a_small_machine(tmp_path):
    assert drawn(tmp_path, FakeMachine()) == [
        "2 CPUs online, 2 usable: 0-1",
        "limits: cpuset none, quota none; 2 threads can compute at once",
        "socket 0",
        "└─ node 0: 8.0 GiB",
        "   ├─ L3 32 MiB, 2 cores: CPUs 0-1",
        "   └─ lane node0: CPUs 0-1",
    ]


def test_a_big_machine():
    # In memory, since there are thousands of files.
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        lines = drawn(Path(directory), BIG)
    assert lines == [
        "254 CPUs online, 221 usable: 0-6,8-100,128-134,136-249",
        "limits: cpuset 0-249, quota 12.5 CPUs; 13 threads can compute at once",
        "not usable: 101-127,250-255",
        "offline: 7,135",
        "socket 0",
        "├─ node 0: 8.0 GiB; distance 12 to 1, 21 to 2, 21 to 3",
        "│  ├─ L3 32 MiB, 31 cores of 2 threads: CPUs 0-6,8-31 + 128-134,136-159",
        "│  └─ lane node0: CPUs 0-6,8-31,128-134,136-159",
        "└─ node 1: 8.0 GiB; distance 12 to 0, 21 to 2, 21 to 3",
        "   ├─ L3 32 MiB, 32 cores of 2 threads: CPUs 32-63 + 160-191",
        "   └─ lane node1: CPUs 32-63,160-191",
        "socket 1",
        "├─ node 2: 8.0 GiB; distance 21 to 0, 21 to 1, 12 to 3",
        "│  ├─ L3 32 MiB, 32 cores of 2 threads: CPUs 64-95 + 192-223",
        "│  └─ lane node2: CPUs 64-95,192-223",
        "└─ node 3: 8.0 GiB; distance 21 to 0, 21 to 1, 12 to 2",
        "   ├─ L3 32 MiB, 32 cores of 2 threads: CPUs 96-127 + 224-255 (not usable: 101-127,250-255)",
        "   └─ lane node3: CPUs 96-100,224-249",
    ]
    assert max(map(len, lines)) <= 120


def test_gpus_and_lanes_are_at_their_nodes(tmp_path):
    lines = drawn(tmp_path, FakeMachine(sockets=2, cores=1, gpus=[1, None]))
    assert lines[2:] == [
        "socket 0",
        "└─ node 0: 8.0 GiB; distance 21 to 1",
        "   └─ L3 32 MiB, 1 core: CPUs 0",
        "socket 1",
        "└─ node 1: 8.0 GiB; distance 21 to 0",
        "   ├─ L3 32 MiB, 1 core: CPUs 1",
        "   ├─ GPU 0: 0x2335, 0000:10:00.0",
        "   └─ lane gpu0: CPUs 1",
        "on no node",
        "├─ GPU 1: 0x2335, 0000:20:00.0",
        "└─ lane gpu1: CPUs 0-1",
    ]


def test_unusable_and_memory_only_nodes(tmp_path):
    machine = FakeMachine(nodes=2, threads=2, memory_only=1, affinity="0-1", offline="7")
    assert drawn(tmp_path, machine)[4:] == [
        "socket 0",
        "├─ node 0: 8.0 GiB; distance 12 to 1, 21 to 2",
        "│  ├─ L3 32 MiB, 2 cores of 2 threads: CPUs 0-1 + 4-5 (not usable: 4-5)",
        "│  └─ lane node0: CPUs 0-1",
        "└─ node 1: 8.0 GiB; distance 12 to 0, 21 to 2",
        "   └─ L3 32 MiB, 2 cores of up to 2 threads: CPUs 2-3 + 6 (not usable)",
        "memory only",
        "└─ node 2: 8.0 GiB; distance 21 to 0, 21 to 1",
    ]


def test_a_gpu_on_a_node_that_is_not_shown(tmp_path):
    assert drawn(tmp_path, FakeMachine(sockets=2, numa=False, gpus=[1]))[2:] == [
        "sockets 0-1",
        "└─ node 0: 16.0 GiB",
        "   ├─ L3 32 MiB, 2 cores: CPUs 0-1",
        "   ├─ L3 32 MiB, 2 cores: CPUs 2-3",
        "   └─ lane gpu0: CPUs 2-3",
        "on no node",
        "└─ GPU 0: 0x2335, 0000:10:00.0",
    ]


def test_terminals_without_boxes(tmp_path):
    topology = Topology.read(FakeMachine(nodes=2).write(tmp_path))
    lines = list(draw(topology, placements(topology), 2, encoding="iso-8859-1"))
    assert lines[3:6] == [
        "|- node 0: 8.0 GiB; distance 12 to 1",
        "|  |- L3 32 MiB, 2 cores: CPUs 0-1",
        "|  `- lane node0: CPUs 0-1",
    ]
    assert "".join(lines).isascii()


def test_what_cannot_be_used_is_dimmed_on_a_terminal(tmp_path):
    root = FakeMachine(nodes=2, affinity="0-1").write(tmp_path)
    ours, theirs = pty.openpty()
    with open(ours, "rb", buffering=0) as screen:
        command = [*YAIS, "topology", "--root", str(root)]
        with subprocess.Popen(command, stdout=theirs, env={**os.environ, "TERM": "xterm"}) as process:
            os.close(theirs)
            assert process.wait(SOON) == 0
        text = screen.read(10_000).decode()
    assert "\x1b[2mnot usable: 2-3\x1b[0m" in text
    assert "\x1b[2mL3 32 MiB, 2 cores: CPUs 2-3 (not usable)\x1b[0m" in text
    assert text.count("\x1b[2m") == 2


@pytest.mark.parametrize("gpus", [[], [3, None]])
def test_json(tmp_path, gpus):
    machine = FakeMachine(sockets=2, nodes=2, threads=2, quota=1.5, cpuset="0-14", offline="1", gpus=gpus)
    done = run_yais("topology", "--json", "--root", machine.write(tmp_path))
    (line,) = done.stdout.splitlines()
    found = json.loads(line)
    assert (found["usable"], found["online"], found["offline"]) == ("0,2-14", "0,2-15", "1")
    assert (found["cpuset"], found["quota"], found["concurrency"]) == ("0-14", 1.5, 2)
    assert found["sockets"][1] == {"id": 1, "cpus": "4-7,12-14", "online": "4-7,12-15"}
    assert found["nodes"][3] == {
        "id": 3,
        "memory_bytes": 8 << 30,
        "distances": {"0": 21, "1": 21, "2": 12, "3": 10},
        "cpus": "6-7,14",
        "online": "6-7,14-15",
    }
    assert found["cores"][-2] == {"id": 3, "socket": 1, "die": 0, "cpus": "7", "online": "7,15"}
    assert found["caches"][-1] == {
        "level": 3,
        "kind": "Unified",
        "size_bytes": 32 << 20,
        "cpus": "6-7,14",
        "online": "6-7,14-15",
    }
    if gpus:
        assert found["gpus"][0] == {
            "index": 0,
            "name": "0x2335",
            "pci": "0000:10:00.0",
            "node": 3,
            "cpus": "6-7,14",
        }
        assert found["lanes"] == [
            {"name": "gpu0", "node": 3, "cpus": "6-7,14", "gpu": 0},
            {"name": "gpu1", "node": None, "cpus": "0,2-14", "gpu": 1},
        ]
    else:
        assert [lane["name"] for lane in found["lanes"]] == ["node0", "node1", "node2", "node3"]
        assert found["lanes"][0] == {"name": "node0", "node": 0, "cpus": "0,8-9", "gpu": None}


def test_this_machine():
    done = run_yais("topology")
    assert done.returncode == 0
    assert done.stdout.splitlines()[0].endswith(f" usable: {usable_cpus()}")


def test_what_no_kernel_writes(tmp_path):
    root = FakeMachine().write(tmp_path)
    (root / "sys/devices/system/cpu/online").write_text("all\n")
    done = run_yais("topology", "--root", root)
    assert (done.returncode, done.stdout) == (1, "")
    assert "got CPU list 'all'" in done.stderr


def test_no_such_root(tmp_path):
    done = run_yais("topology", "--root", tmp_path / "none")
    assert done.returncode == 2
    assert "does not exist" in done.stderr
