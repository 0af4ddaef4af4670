"""The `yais` command."""

from __future__ import annotations

import errno
import importlib
import os
import sys
from typing import Any

import click

import yais
from yais.tools.client_process import as_client_process
from yais.tools.exit_status import INTERRUPTED

__all__ = ["main", "run"]

# Module, name and one line of help. Loaded when used, so that `yais --help` and the small tools need not
# import what the server needs.
_COMMANDS = {
    "bench": (
        "yais.tools.bench",
        "bench",
        "Run a model in this process, many requests at once, and measure.",
    ),
    "build": ("yais.tools.build", "build", "Build a plan of TensorRT from an ONNX model."),
    "client-async": (
        "yais.tools.client_async",
        "client_async",
        "Send requests to a model, many at once, and measure.",
    ),
    "client-sync": (
        "yais.tools.client_sync",
        "client_sync",
        "Send requests to a model, one at a time, and measure.",
    ),
    "image-client": ("yais.tools.image_client", "image_client", "Classify images with a model."),
    "infer": ("yais.tools.infer", "infer", "Send one request to a model and print what it answers."),
    "inspect": ("yais.tools.inspect", "inspect", "Say what is in a model: ONNX, plan or directory."),
    "lb": ("yais.tools.lb", "lb", "Write the configuration of a load balancer in front of servers."),
    "models": ("yais.tools.models", "models", "List, describe, load and unload the models of a server."),
    "perf": ("yais.tools.perf", "perf", "Measure throughput and latency of a model, as perf_analyzer does."),
    "serve": ("yais.tools.serve", "serve", "Serve the models of a repository over KServe v2 gRPC."),
    "siege": ("yais.tools.siege", "siege", "Send requests to a model at a rate, and measure."),
    "topology": ("yais.tools.topology", "topology", "Draw the machine, and where lanes sit on it."),
}

_LOADS = frozenset({"client-async", "client-sync", "perf", "siege"})


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in _COMMANDS:
            return None
        module, name, _ = _COMMANDS[cmd_name]
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise click.exceptions.Exit(INTERRUPTED) from None
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            raise click.ClickException(os.strerror(errno.ENOSPC)) from None  # of standard output, mostly

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        # As the base class does it, but without loading every command.
        with formatter.section("Commands"):
            formatter.write_dl([(name, _COMMANDS[name][2]) for name in sorted(_COMMANDS)])


@click.group(
    cls=_Commands, context_settings={"auto_envvar_prefix": "YAIS", "help_option_names": ["-h", "--help"]}
)
@click.version_option(yais.__version__, prog_name="yais")
def main() -> None:
    """Serve models over gRPC, and drive servers that do.

    Every option can also be given in the environment, as YAIS_COMMAND_OPTION: for example
    YAIS_SERVE_GRPC_PORT=9001.
    """


def run() -> None:
    """Run the command that the arguments of this process name: what `yais` calls."""
    if sys.argv[1:2] and sys.argv[1] in _LOADS:
        as_client_process()
    main()


if __name__ == "__main__":
    run()
