"""`yais build`, with a stand-in for the builder."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path
from typing import Self

import pytest
from click.testing import CliRunner
from fake_builder import FakeBuilder
from networks import DIGITS

from yais.build.plan_record import PlanRecord
from yais.build.precision import Precision
from yais.errors import FailedPrecondition
from yais.repository.config import read_config
from yais.tools.build_options import with_build_options
from yais.tools.main import main


@pytest.fixture
def fake(monkeypatch):
    fake = FakeBuilder()
    monkeypatch.setattr("yais.build.plan.builder_package", lambda _name: fake.package())
    return fake


def run(*arguments):
    return CliRunner().invoke(main, ["build", *map(str, arguments)])


def options_of(*arguments):
    """Return the options that a command line gives."""
    import click

    seen = []

    @click.command()
    @with_build_options
    def command(options):
        seen.append(options)

    CliRunner().invoke(command, arguments, catch_exceptions=False)
    return seen[0] if seen else None


class TestOptions:
    def test_none(self):
        options = options_of()
        assert (options.builder, options.batches, options.shapes, options.targets) == (None, (), {}, ())
        assert (options.precision, options.tf32, options.compatibility) == (Precision.FP32, True, None)

    def test_all(self):
        options = options_of(
            *("--batch", "1:2:4", "--batch", "8", "--shape", "a=b=1x2:3x2", "--shape", "c:0=4"),
            *("--precision", "fp16", "--keep", "Exp", "--no-tf32", "--weight-streaming"),
            *("--target", "sm89", "--target", "sm120", "--builder", "tensorrt-rtx"),
            *("--optimization-level", "2", "--workspace", "1GiB", "--timing-cache", "cache"),
            *("--version-compatible", "--hardware-compatibility", "same"),
        )
        assert [str(each) for each in options.batches] == ["1:2:4", "1:8:8"]
        assert {name: [str(each) for each in ranges] for name, ranges in options.shapes.items()} == {
            "a=b": ["1x2:3x2:3x2"],
            "c:0": ["4:4:4"],
        }
        assert (options.precision, options.keep, options.tf32) == (Precision.FP16, ("Exp",), False)
        assert (options.weight_streaming, options.targets) == (True, ("sm89", "sm120"))
        assert (options.builder, options.level, options.workspace) == ("tensorrt-rtx", 2, 1 << 30)
        assert (options.timing_cache, options.version_compatible) == (Path("cache"), True)
        assert options.compatibility == "same"

    def test_a_target_counts_once_however_it_is_written(self):
        assert options_of("--target", "SM89", "--target", "sm120", "--target", "sm89").targets == (
            "sm89",
            "sm120",
        )

    @pytest.mark.parametrize(
        "arguments",
        [
            ("--batch", "x"),
            ("--batch", "0:1:2"),
            ("--batch", "4:2:1"),
            ("--batch", "1:2:3:4"),
            ("--batch", str(2**31)),
            ("--shape", "x=1x4294967296"),
            ("--model-version", str(2**63)),
            ("--shape", "1x2"),
            ("--shape", "=1x2"),
            ("--shape", "x=ab"),
            ("--precision", "fp64"),
            ("--workspace", "much"),
            ("--builder", "other"),
            ("--optimization-level", "-1"),
        ],
    )
    def test_what_is_wrong(self, arguments):
        result = run(DIGITS, "--output", "x", *arguments)
        assert result.exit_code == 2
        assert arguments[0] in result.output

    def test_an_output_is_needed(self):
        result = run(DIGITS)
        assert result.exit_code == 2
        assert "--output" in result.output

    def test_in_the_environment(self, fake, tmp_path, monkeypatch):
        monkeypatch.setenv("YAIS_BUILD_BATCH", "1:2:4 5:6:7")
        monkeypatch.setenv("YAIS_BUILD_OUTPUT", str(tmp_path))
        assert run(DIGITS).exit_code == 0
        assert len(fake.config.profiles) == 2


class TestBuilding:
    def test_a_model_that_is_ready_to_be_served(self, fake, tmp_path):
        result = run(DIGITS, "--output", tmp_path / "repository", "--batch", "4")
        assert result.exit_code == 0, result.output
        folder = tmp_path / "repository/digits"
        assert result.output == f"{folder}/1/model.plan: 9 B, built by tensorrt 10.16.1.11 in 0.0 s\n"
        config = read_config(folder / "config.pbtxt", "digits")
        assert (config.platform, config.max_batch_size) == ("tensorrt_plan", 4)
        assert PlanRecord.read(folder / "1/build.json").max_batch == 4

    def test_name_version_and_force(self, fake, tmp_path):
        first = ("--output", tmp_path, "--name", "other", "-x", "3")
        assert run(DIGITS, *first).exit_code == 0
        assert (tmp_path / "other/3/model.plan").exists()
        refused = run(DIGITS, *first)
        assert (refused.exit_code, refused.output.count("\n")) == (1, 1)
        assert "is there already" in refused.output
        fake.plan = b"new"
        assert run(DIGITS, *first, "--force").exit_code == 0
        assert (tmp_path / "other/3/model.plan").read_bytes() == b"new"

    def test_warnings(self, fake, tmp_path):
        fake.during = lambda _monitor: fake.log.log(fake.ILogger.WARNING, "it will be slow") is None
        result = run(DIGITS, "--output", tmp_path)
        assert result.stderr == "Warning: it will be slow\n"
        assert result.exit_code == 0

    def test_errors_are_one_line_and_leave_nothing(self, fake, tmp_path):
        fake.plan = None
        result = run(DIGITS, "--output", tmp_path / "repository")
        assert result.exit_code == 1
        assert result.output == (
            "Error: TensorRT 10.16.1.11 could not build the plan: no kernel for node relu\n"
        )
        assert not (tmp_path / "repository").exists()

    def test_what_is_in_the_way_is_said_before_anything_is_built(self, fake, tmp_path):
        (tmp_path / "digits/1").mkdir(parents=True)
        fake.during = lambda _monitor: pytest.fail("it was built")
        assert "is there already" in run(DIGITS, "--output", tmp_path).output

    def test_a_converted_model_that_cannot_be_written(self, fake, tmp_path, monkeypatch):
        def fails(*_arguments):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("yais.build.plan.in_precision", fails)
        result = run(DIGITS, "--output", tmp_path)
        assert result.output == f"Error: {tempfile.gettempdir()}: No space left on device\n"

    def test_files_that_cannot_be_written(self, fake, tmp_path, monkeypatch):
        def fails(_path, _contents):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(Path, "write_bytes", fails)
        result = run(DIGITS, "--output", tmp_path)
        assert (result.exit_code, result.output) == (1, f"Error: {tmp_path}: No space left on device\n")
        assert list(tmp_path.iterdir()) == []

    def test_without_a_builder_the_extra_is_named(self, tmp_path, monkeypatch):
        def none(_name):
            raise FailedPrecondition("building needs it: pip install 'yais[tensorrt-rtx]'")

        monkeypatch.setattr("yais.build.plan.builder_package", none)
        result = run(DIGITS, "--output", tmp_path)
        assert "pip install 'yais[tensorrt-rtx]'" in result.output

    def test_targets_are_of_tensorrt_rtx(self, tmp_path, monkeypatch):
        asked = []

        def asks(name):
            asked.append(name)
            return FakeBuilder().package()

        monkeypatch.setattr("yais.build.plan.builder_package", asks)
        run(DIGITS, "--output", tmp_path, "--target", "sm89")
        run(DIGITS, "--output", tmp_path, "--target", "sm89", "--builder", "tensorrt")
        run(DIGITS, "--output", tmp_path)
        assert asked == ["tensorrt-rtx", "tensorrt", None]


LONG = 60.0
"""Seconds after which a wait for a process counts as lost."""

WAITING = """
    import sys, threading
    sys.path.insert(0, {here!r})
    from fake_builder import FakeBuilder
    import yais.build.plan, yais.tools.main

    fake = FakeBuilder()
    pause = threading.Event()

    def during(monitor):
        monitor.phase_start("Looking for kernels", "Building engine", 1 << 40)
        step = 0
        while monitor.step_complete("Looking for kernels", step):
            step += 1
            pause.wait(0.01)
            {stuck}
        return False

    fake.during = during
    yais.build.plan.builder_package = lambda name: fake.package()
    yais.tools.main.run()
"""


class Watched:
    """The command on a terminal, while a build that does not end by itself runs."""

    def __init__(self, output: Path, stuck: str = "pass") -> None:
        program = textwrap.dedent(WAITING).format(here=str(Path(__file__).parent), stuck=stuck)
        self.terminal, end = pty.openpty()
        command = [sys.executable, "-c", program, "build", str(DIGITS), "--output", str(output)]
        self.process = subprocess.Popen(command, stdin=end, stdout=end, stderr=end, start_new_session=True)
        os.close(end)
        self.said = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.process.kill()
        self.process.wait(LONG)
        os.close(self.terminal)

    def until(self, text: bytes) -> None:
        deadline = time.monotonic() + LONG
        while text not in self.said:
            assert time.monotonic() < deadline, self.said
            self.said += os.read(self.terminal, 4096)


class TestInterrupted:
    def test_ctrl_c_ends_the_build_and_nothing_is_written(self, tmp_path):
        with Watched(tmp_path / "repository") as watched:
            watched.until(b"Looking for kernels")
            watched.process.send_signal(signal.SIGINT)
            assert watched.process.wait(LONG) == 130
        assert list(tmp_path.iterdir()) == []

    def test_a_second_one_does_not_wait_for_the_builder(self, tmp_path):
        stuck = "pause.wait(60) if step > 3 else None"
        with Watched(tmp_path / "repository", stuck) as watched:
            watched.until(b"Looking for kernels")
            deadline = time.monotonic() + LONG
            while watched.process.poll() is None and time.monotonic() < deadline:
                watched.process.send_signal(signal.SIGINT)
                time.sleep(0.05)
            assert watched.process.wait(LONG) == -signal.SIGINT
        assert list(tmp_path.iterdir()) == []

    def test_on_a_terminal_the_progress_is_drawn(self, tmp_path):
        with Watched(tmp_path / "repository") as watched:
            watched.until(b"50%")
