"""Host memory with options: alignment, huge pages, locked pages."""

from __future__ import annotations

import logging
import mmap
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yais.memory.buffer import Buffer
from yais.memory.fallbacks import fall_back, fallbacks
from yais.memory.host import HostMemoryResource, huge_page_size

HUGE = huge_page_size()
needs_huge_pages = pytest.mark.skipif(HUGE is None, reason="this kernel has no transparent huge pages")


def mapping_at(address: int) -> dict[str, str]:
    """Return what proc_pid_smaps(5) tells of the mapping that an address is in."""
    fields: dict[str, str] = {}
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if extent := re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line):
            inside = int(extent[1], 16) <= address < int(extent[2], 16)
        elif inside:
            field, _, value = line.partition(":")
            fields[field] = value.strip()
    return fields


def kilobytes(buffer: Buffer, field: str) -> int:
    return int(mapping_at(buffer.handle)[field].split()[0])


@pytest.mark.parametrize("alignment", [1, 64, 4096, 8192, 1 << 16, 1 << 21])
@pytest.mark.parametrize("size", [1, 4096, 100_001])
def test_buffers_are_aligned(alignment: int, size: int) -> None:
    resource = HostMemoryResource(alignment=alignment)
    buffers = [resource.allocate(size) for _ in range(4)]
    assert all(buffer.handle % max(alignment, mmap.PAGESIZE) == 0 for buffer in buffers)
    for number, buffer in enumerate(buffers):
        assert buffer.size == size and not any(buffer.view) and buffer.memory_resource is resource
        buffer.view[:] = bytes([number]) * size
    assert all(set(buffer.view) == {number} for number, buffer in enumerate(buffers))


@pytest.mark.parametrize("alignment", [0, -4096, 3, 4097])
def test_an_alignment_is_a_power_of_two(alignment: int) -> None:
    with pytest.raises(ValueError, match=f"^got alignment={alignment}, expected a power of two$"):
        HostMemoryResource(alignment=alignment)


def test_memory_is_unmapped_with_the_last_view() -> None:
    size = 1 << 26

    def address_space() -> int:
        return int(Path("/proc/self/statm").read_text().split()[0]) * mmap.PAGESIZE

    before = address_space()
    buffer = HostMemoryResource(alignment=1 << 22).allocate(size)
    view = buffer.view[10:20]
    buffer.close()
    assert address_space() - before >= size
    del view
    assert address_space() - before < size // 2


@needs_huge_pages
@given(st.integers(0, 1 << 40))
def test_whole_huge_pages(size: int) -> None:
    assert HUGE is not None
    padded = HostMemoryResource(huge_pages=True).padded(size)
    assert padded % HUGE == 0 and size <= padded < size + HUGE


@needs_huge_pages
@pytest.mark.parametrize("extra", [-1, 0, 1])
def test_huge_pages(extra: int) -> None:
    assert HUGE is not None
    resource = HostMemoryResource(huge_pages=True)
    assert resource.page_size == HUGE and resource.alignment == HUGE
    size = 2 * HUGE + extra
    buffer = resource.allocate(size)
    assert buffer.size == size and buffer.handle % HUGE == 0
    # The kernel may have no huge page free just now: it owes us to have heard, not the pages.
    for address in (buffer.handle, buffer.handle + resource.padded(size) - 1):
        assert "hg" in mapping_at(address)["VmFlags"].split()
    ordinary = HostMemoryResource().allocate(size)
    assert "hg" not in mapping_at(ordinary.handle)["VmFlags"].split()


@pytest.mark.parametrize(
    ("enabled", "size"),
    [
        ("always [madvise] never", 2097152),
        ("[always] madvise never", 2097152),
        ("always madvise [never]", None),
    ],
)
def test_the_size_of_huge_pages(tmp_path: Path, enabled: str, size: int | None) -> None:
    directory = tmp_path / "sys/kernel/mm/transparent_hugepage"
    directory.mkdir(parents=True)
    (directory / "enabled").write_text(f"{enabled}\n")
    (directory / "hpage_pmd_size").write_text("2097152\n")
    assert huge_page_size(tmp_path) == size


def test_a_kernel_without_huge_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert huge_page_size(tmp_path) is None
    monkeypatch.setattr("yais.memory.host.huge_page_size", lambda: None)
    before = fallbacks().get("huge_pages", 0)
    resource = HostMemoryResource(huge_pages=True)
    assert fallbacks()["huge_pages"] == before + 1
    assert resource.page_size == mmap.PAGESIZE
    assert resource.allocate(100).size == 100


def test_fall_backs_are_counted_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "yais.memory"):
        fall_back("a test", "because of this")
        fall_back("a test", "because of that")
    assert caplog.messages == ["a test is refused: because of this"]
    assert fallbacks()["a test"] == 2


def test_locked_pages_are_there_and_stay() -> None:
    resource = HostMemoryResource(locked=True)
    assert repr(resource) == "<HostMemoryResource: pages of 4096 bytes, aligned to 4096, locked>"
    buffer = resource.allocate(20_000)
    assert kilobytes(buffer, "Locked") >= 20
    assert kilobytes(buffer, "Rss") >= 20


LIMITED = """
import os, resource
from yais.memory.host import HostMemoryResource
memory = HostMemoryResource(locked=True)
if os.getuid() == 0:
    os.setuid(65534)  # root may lock what it likes
resource.setrlimit(resource.RLIMIT_MEMLOCK, (65536, 65536))
first = memory.allocate(40_000)
try:
    memory.allocate(40_000)
except MemoryError as error:
    print(error)
first.close()
memory.allocate(40_000)
print("again")
"""


def test_more_locked_memory_than_the_process_may_have() -> None:
    command = [sys.executable, "-W", "error", "-c", LIMITED]
    output = subprocess.run(command, capture_output=True, text=True, timeout=50, check=True).stdout
    refused, again = output.splitlines()
    assert refused == (
        "got 40960 bytes to lock (Cannot allocate memory), expected at most 65536 bytes in all: "
        "RLIMIT_MEMLOCK of this process (ulimit -l)"
    )
    assert again == "again"
