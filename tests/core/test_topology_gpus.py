"""GPUs from made-up PCI devices, and from a stand-in for NVML."""

from __future__ import annotations

import ctypes
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from yais.core.cpu_set import CpuSet
from yais.core.gpus import Gpu, nvml_gpus, pci_gpus, read_gpus
from yais.testing import FakeMachine


class Error(Exception):
    """As NVML raises them."""


class Nvml:
    """The functions of `pynvml` that are used, with masks of what length is asked for."""

    NVMLError = Error

    def __init__(self, cpus: list[CpuSet | None], *, lost: int | None = None) -> None:
        self.cpus = cpus
        self.lost = lost
        self.sizes: list[int] = []

    def nvmlDeviceGetCount(self) -> int:
        return len(self.cpus)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        if index == self.lost:
            raise Error
        return index

    def nvmlDeviceGetUUID(self, device: int) -> bytes | str:
        return f"GPU-{'abcd'[device % 4]}{device}"

    def nvmlDeviceGetName(self, device: int) -> bytes | str:
        return b"NVIDIA H200" if device else "NVIDIA H200"

    def nvmlDeviceGetPciInfo(self, device: int) -> Any:
        return SimpleNamespace(busId=f"00000000:{16 * (device + 1):02X}:00.0".encode())

    def nvmlDeviceGetCpuAffinity(self, device: int, size: int) -> Any:
        cpus = self.cpus[device]
        if cpus is None:
            raise Error
        self.sizes.append(size)
        mask = (ctypes.c_ulonglong * size)()
        for cpu in cpus:
            if cpu < 64 * size:
                mask[cpu // 64] |= 1 << cpu % 64
        return mask


def test_pci_devices(tmp_path: Path) -> None:
    root = FakeMachine(sockets=2, cores=36, gpus=[1, None]).write(tmp_path)
    expected = (
        Gpu(0, "0x2335", "0000:10:00.0", 1, CpuSet("36-71")),
        Gpu(1, "0x2335", "0000:20:00.0", None, CpuSet("0-71")),
    )
    assert pci_gpus(root) == expected
    assert read_gpus(root, cpu_count=72) == expected


def test_vga_controllers_count_and_sound_does_not(tmp_path: Path) -> None:
    root = FakeMachine(gpus=[0, 0]).write(tmp_path)
    (root / "sys/bus/pci/devices/0000:10:00.0/class").write_text("0x030000\n")
    (root / "sys/bus/pci/devices/0000:20:00.0/class").write_text("0x040300\n")
    assert [gpu.pci for gpu in pci_gpus(root)] == ["0000:10:00.0"]


def test_no_gpus(tmp_path: Path) -> None:
    assert read_gpus(tmp_path, cpu_count=1) == ()
    assert read_gpus(FakeMachine().write(tmp_path), cpu_count=2) == ()


@pytest.mark.parametrize(("cpu_count", "longs"), [(1, 1), (64, 1), (65, 2), (72, 2), (256, 4)])
def test_masks_are_long_enough(tmp_path: Path, cpu_count: int, longs: int) -> None:
    near = CpuSet([0, cpu_count - 1])
    nvml = Nvml([near])
    (gpu,) = nvml_gpus(nvml, FakeMachine(gpus=[0]).write(tmp_path), cpu_count=cpu_count)
    assert gpu == Gpu(0, "NVIDIA H200", "0000:10:00.0", 0, near)
    assert nvml.sizes == [longs]


def test_without_cpu_affinity_sysfs_is_asked(tmp_path: Path) -> None:
    root = FakeMachine(sockets=2, gpus=[1]).write(tmp_path)
    (gpu,) = nvml_gpus(Nvml([None]), root, cpu_count=4)
    assert (gpu.node, str(gpu.cpus)) == (1, "2-3")


def test_addresses_are_those_of_sysfs(tmp_path: Path) -> None:
    root = FakeMachine(sockets=2, gpus=[0] * 9 + [1]).write(tmp_path)
    gpu = nvml_gpus(Nvml([CpuSet("0")] * 10), root, cpu_count=4)[9]
    assert (gpu.name, gpu.pci, gpu.node) == ("NVIDIA H200", "0000:a0:00.0", 1)


def test_a_lost_gpu_is_left_out(tmp_path: Path) -> None:
    root = FakeMachine(gpus=[0, 0, 0]).write(tmp_path)
    nvml = Nvml([CpuSet("0"), CpuSet("0"), CpuSet("0-1")], lost=1)
    assert [(gpu.index, gpu.pci, str(gpu.cpus)) for gpu in nvml_gpus(nvml, root, cpu_count=2)] == [
        (0, "0000:10:00.0", "0"),
        (2, "0000:30:00.0", "0-1"),
    ]


@pytest.mark.parametrize(
    ("visible", "numbers"),
    [
        (None, [0, 1, 2]),
        ("", []),
        ("-1", []),
        ("NoDevFiles", []),
        ("2, 0", [2, 0]),
        ("2,3,0", [2]),
        ("GPU-c2,1", [2, 1]),
        ("GPU-b", [1]),
        ("GPU-", []),
        ("MIG-b1", []),
        ("1,,0", [1]),
    ],
)
def test_the_order_is_that_of_cuda(tmp_path: Path, visible: str | None, numbers: list[int]) -> None:
    root = FakeMachine(gpus=[0, 0, 0]).write(tmp_path)
    expected = [(index, f"0000:{number + 1}0:00.0") for index, number in enumerate(numbers)]
    gpus = nvml_gpus(Nvml([CpuSet("0")] * 3), root, cpu_count=2, visible=visible)
    assert [(gpu.index, gpu.pci) for gpu in gpus] == expected
    if visible is None or "GPU" not in visible:
        assert [(gpu.index, gpu.pci) for gpu in pci_gpus(root, visible=visible)] == expected


def test_no_name_is_no_gpu(tmp_path: Path) -> None:
    root = FakeMachine(gpus=[0]).write(tmp_path)
    assert nvml_gpus(Nvml([CpuSet("0")]), root, cpu_count=2, visible="") == ()


def test_a_lost_gpu_has_its_number(tmp_path: Path) -> None:
    root = FakeMachine(gpus=[0, 0]).write(tmp_path)
    gpus = nvml_gpus(Nvml([CpuSet("0")] * 2, lost=1), root, cpu_count=2, visible="1,0")
    assert [(gpu.index, gpu.pci) for gpu in gpus] == [(1, "0000:10:00.0")]


def test_this_machine_can_be_asked() -> None:
    gpus = read_gpus(cpu_count=64)
    assert len({gpu.pci for gpu in gpus}) == len(gpus)
