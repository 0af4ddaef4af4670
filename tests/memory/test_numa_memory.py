"""Memory on a node: placed by the kernel, or by who touches it first."""

from __future__ import annotations

import ctypes
import dataclasses
import errno
import mmap
import platform
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from yais.core.affinity import allowed_cpus
from yais.core.cpu_set import CpuSet
from yais.core.topology import NumaNode, Topology
from yais.memory.fallbacks import fallbacks
from yais.memory.host import HostMemoryResource
from yais.memory.kernel import mbind
from yais.memory.numa import place, placement

PAGE = mmap.PAGESIZE
NODES = Topology.read().nodes


def with_cpus(cpus: str, number: int = 0) -> NumaNode:
    return dataclasses.replace(NODES[0], id=number, cpus=CpuSet(cpus))


def fresh(pages: int) -> memoryview:
    return memoryview(mmap.mmap(-1, pages * PAGE, mmap.MAP_PRIVATE))


def resident(view: memoryview) -> int:
    """Return how many pages are there, by mincore(2)."""
    first = ctypes.addressof(ctypes.c_char.from_buffer(view))
    vector = (ctypes.c_ubyte * (view.nbytes // PAGE))()
    assert ctypes.CDLL(None).mincore(ctypes.c_void_p(first), ctypes.c_size_t(view.nbytes), vector) == 0
    return sum(byte & 1 for byte in vector)


@pytest.mark.parametrize("node", NODES, ids=lambda node: f"node{node.id}")
@pytest.mark.parametrize("huge_pages", [False, True])
def test_pages_are_on_the_node(node: NumaNode, huge_pages: bool) -> None:
    before = allowed_cpus()
    resource = HostMemoryResource(node=node, huge_pages=huge_pages)
    assert repr(resource).endswith(f", node {node.id}>")
    buffer = resource.allocate(3_000_000)
    assert allowed_cpus() == before
    assert resident(buffer.view[: 3_000_000 // PAGE * PAGE]) == 3_000_000 // PAGE
    assert not any(buffer.view[::PAGE])
    where = placement(buffer)
    if where is not None:
        # Neighbours may be counted too, but what is ours is there.
        assert where[node.id] * PAGE >= 3_000_000


def test_the_kernel_is_told() -> None:
    pages = fresh(4)
    address = ctypes.addressof(ctypes.c_char.from_buffer(pages))
    try:
        mbind(address, pages.nbytes, NODES[0].id)
        lines = Path("/proc/self/numa_maps").read_text(errors="replace").splitlines()
    except OSError as error:
        if error.errno == errno.EINVAL:
            raise
        pytest.skip(f"this machine does not do it: {error}")
    policies = {int(line.split()[0], 16): line.split()[1] for line in lines}
    assert policies[max(start for start in policies if start <= address)] == f"prefer:{NODES[0].id}"


def test_pages_without_a_node_are_not_touched() -> None:
    buffer = HostMemoryResource(alignment=1 << 20).allocate(100 * PAGE)
    assert resident(buffer.view) == 0


def test_a_node_without_cpus() -> None:
    pages = fresh(5)
    before = allowed_cpus()
    place(pages, with_cpus(""))
    assert allowed_cpus() == before and resident(pages) == 5


def test_a_node_whose_cpus_are_not_ours() -> None:
    before = allowed_cpus()
    with pytest.raises(ValueError, match=r"^got CPUs '8000'"):
        HostMemoryResource(node=with_cpus("8000")).allocate(PAGE)
    assert allowed_cpus() == before


@pytest.mark.parametrize("number", [63, 64, 1000])
def test_a_node_that_is_not_there(number: int) -> None:
    pages = fresh(1)
    address = ctypes.addressof(ctypes.c_char.from_buffer(pages))
    with pytest.raises(OSError, match=r"."):
        mbind(address, PAGE, number)


@pytest.mark.parametrize(("online", "refusals"), [("0", 0), ("0-1", 1), (None, 0)])
def test_a_refusal_counts_where_there_is_a_choice(tmp_path: Path, online: str | None, refusals: int) -> None:
    if online is not None:
        directory = tmp_path / "sys/devices/system/node"
        directory.mkdir(parents=True)
        (directory / "online").write_text(f"{online}\n")
    pages = fresh(3)
    before = fallbacks().get("mbind", 0)
    place(pages, with_cpus(str(allowed_cpus()), number=1000), root=tmp_path)
    assert fallbacks().get("mbind", 0) == before + refusals
    assert resident(pages) == 3


CONTAINER = """
import ctypes, logging, pathlib, struct, sys
from yais.core.topology import Topology
from yais.memory.fallbacks import fallbacks
from yais.memory.host import HostMemoryResource
from yais.memory.numa import place, placement

class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("code", ctypes.c_char_p)]

# linux/bpf_common.h: load the number of the call; if it is mbind, EPERM; else allow it.
code = b"".join(struct.pack("HBBI", *line) for line in (
    (0x20, 0, 0, 0), (0x15, 0, 1, int(sys.argv[1])), (0x06, 0, 0, 0x00050001), (0x06, 0, 0, 0x7FFF0000)))
prctl = ctypes.CDLL(None, use_errno=True).prctl
prctl.argtypes = [ctypes.c_int] + [ctypes.c_ulong] * 4
program = Program(len(code) // 8, code)
if prctl(38, 1, 0, 0, 0) or prctl(22, 2, ctypes.addressof(program), 0, 0):
    sys.exit("no seccomp")
logging.basicConfig(format="%(message)s", stream=sys.stdout)
node = Topology.read().nodes[0]
pages = memoryview(bytearray(8192))
place(pages, node, root=pathlib.Path(sys.argv[2]))
place(pages, node, root=pathlib.Path(sys.argv[2]))
buffer = HostMemoryResource(node=node).allocate(100_000)
where = placement(buffer)
print(fallbacks().get("mbind", 0) >= 2, where is None or where[node.id] >= 24)
"""


def test_a_container_that_refuses_mbind(tmp_path: Path) -> None:
    """As Docker's default seccomp profile does."""
    number = {"x86_64": 237, "aarch64": 235}.get(platform.machine())
    if number is None:
        pytest.skip("the number of mbind is not known")
    directory = tmp_path / "sys/devices/system/node"
    directory.mkdir(parents=True)
    (directory / "online").write_text("0-1\n")
    command = [sys.executable, "-W", "error", "-c", CONTAINER, str(number), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    if "no seccomp" in done.stderr:
        pytest.skip("this machine has no seccomp filters")
    assert done.returncode == 0, done.stderr
    node = NODES[0].id
    assert done.stdout.splitlines() == [
        f"mbind is refused: Operation not permitted; pages for node {node}: first touch places them",
        "True True",
    ]


NUMA_MAPS = """\
00010000 default anon=2 dirty=2 N0=2 kernelpagesize_kB=4
00020000 bind:1 anon=3 dirty=3 active=0 N0=1 N1=2 kernelpagesize_kB=4
00030000 default file=/usr/lib/N7=9 mapped=1 N3=1 kernelpagesize_kB=4
00400000 default huge anon=2 N1=2 kernelpagesize_kB=2048
00900000 default
"""


@pytest.mark.parametrize(
    ("address", "size", "pages"),
    [
        (0x20000, 1, {0: 1, 1: 2}),
        (0x21000, 4096, {0: 1, 1: 2}),
        (0x1F000, 0x1001, {0: 3, 1: 2}),
        (0x1F000, 0x1000, {0: 2}),
        (0x30000, 4096, {3: 1}),
        (0x400000, 4096, {1: 2 * 2097152 // PAGE}),
        (0x900000, 4096, {}),
        (0x1000, 4096, {}),
    ],
)
def test_placement(tmp_path: Path, address: int, size: int, pages: dict[int, int]) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/numa_maps").write_text(NUMA_MAPS)
    assert placement(SimpleNamespace(handle=address, size=size), root=tmp_path) == pages  # type: ignore[arg-type]


def test_placement_is_unknown_where_the_machine_does_not_tell(tmp_path: Path) -> None:
    assert placement(HostMemoryResource().allocate(1), root=tmp_path) is None
