"""The `yais` command as a whole."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys

import click
import pytest
from serving_models import SOON
from yais_command import YAIS, run_yais, run_yais_process

import yais
from yais.tools.main import main

COMMANDS = main.list_commands(click.Context(main))


def command(name):
    found = main.get_command(click.Context(main), name)
    assert found is not None
    return found


@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help(option):
    done = run_yais_process(option)
    assert (done.returncode, done.stderr) == (0, "")
    for name in COMMANDS:
        assert f"\n  {name}" in done.stdout
    assert "YAIS_SERVE_GRPC_PORT=9001" in done.stdout


def test_version():
    done = run_yais_process("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"yais, version {yais.__version__}\n", "")


def test_unknown_command():
    done = run_yais("server")
    assert (done.returncode, done.stdout) == (2, "")
    assert "No such command 'server'" in done.stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_commands(name):
    done = run_yais(name, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    for option in command(name).params:
        for text in option.opts if isinstance(option, click.Option) and not option.hidden else ():
            assert text in done.stdout
    assert not re.search(r"^  \[?[A-Z]+\]?$", done.stdout, re.MULTILINE), "arguments are no options"


def with_options(name):
    """Return a command, or those of a group, by the beginning of their variables."""
    found, start = command(name), f"YAIS_{name}"
    return {start: found, **{f"{start}_{sub}": each for sub, each in getattr(found, "commands", {}).items()}}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_can_be_given_in_the_environment(name):
    for start, found in with_options(name).items():
        for option in found.params:
            if isinstance(option, click.Option):
                longest = max(option.opts, key=len).lstrip("-")
                expected = f"{start}_{longest}".upper().replace("-", "_")
                automatic = f"{start}_{option.name}".upper().replace("-", "_")
                assert len(longest) == 1 or (option.envvar or automatic) in {expected, "YAIS_MODELS_JSON"}
                assert option.help


def test_help_loads_no_command():
    """Asking for help should not take as long as starting a server."""
    program = "import sys; from yais.tools.main import main; main(['--help'], standalone_mode=False); "
    program += "print(*sys.modules, file=sys.stderr)"
    command_line = [sys.executable, "-W", "error", "-c", program]
    done = subprocess.run(command_line, capture_output=True, text=True, timeout=SOON, check=True)
    loaded = done.stderr.split()
    assert "yais.tools.main" in loaded
    commands = {f"yais.tools.{name.replace('-', '_')}" for name in COMMANDS}
    assert not {*commands, "yais.client", "yais.load", "yais.serving", "onnxruntime"} & set(loaded)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_in_a_file_of_its_name(name):
    module = importlib.import_module(f"yais.tools.{name.replace('-', '_')}")
    assert getattr(module, name.replace("-", "_")) is command(name)


def test_a_full_disk_behind_standard_output():
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = subprocess.run(
            [*YAIS, "topology"], stdout=full, stderr=subprocess.PIPE, text=True, timeout=SOON, check=False
        )
    assert (done.returncode, done.stderr) == (1, "Error: No space left on device\n")
