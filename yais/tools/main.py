"""The `yais` command."""

from __future__ import annotations

import importlib

import click

import yais

__all__ = ["main"]

# Module, name and one line of help. Loaded when used, so that `yais --help` and the small tools need not
# import what the server needs.
_COMMANDS = {
    "bench": (
        "yais.tools.bench",
        "bench",
        "Run a model in this process, many requests at once, and measure.",
    ),
    "client-sync": (
        "yais.tools.client_sync",
        "client_sync",
        "Send requests to a model, one at a time, and measure.",
    ),
    "serve": ("yais.tools.serve", "serve", "Serve the models of a repository over KServe v2 gRPC."),
    "topology": ("yais.tools.topology", "topology", "Draw the machine, and where lanes sit on it."),
}


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in _COMMANDS:
            return None
        module, name, _ = _COMMANDS[cmd_name]
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

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


if __name__ == "__main__":
    main()
