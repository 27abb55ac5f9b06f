"""The ``kaopass`` command: finds each subcommand in its own file, imported only when called."""

from __future__ import annotations

from importlib import import_module

import click

# name -> module that holds a click command called ``command``
COMMANDS = {
    "run": "agent.cli.run",
    "demo": "agent.cli.demo",
    "identify": "agent.cli.identify",
    "gallery": "agent.cli.gallery",
    "journal": "agent.cli.journal",
    "models": "agent.cli.models",
    "settings": "agent.cli.settings",
    "status": "agent.cli.status",
    "city": "agent.cli.city",
    "version": "agent.cli.version",
}


class LazyGroup(click.Group):
    """Subcommands cost an import only when they are used: a Pi feels every one."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in COMMANDS:
            return None
        command = import_module(COMMANDS[cmd_name]).command
        assert isinstance(command, click.Command)  # noqa: S101 - a broken table is a defect
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Name the nearest command when there is none of that name."""
        from difflib import get_close_matches

        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            close = get_close_matches(args[0], COMMANDS, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise click.UsageError(f"There is no command {args[0]!r}.{hint}", ctx)
        return super().resolve_command(ctx, args)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
def kaopass() -> None:
    """顔パス: the agent at a bus door or in a community hall.

    Sees an opted-in resident, recognises them on this device, journals the boarding or check-in,
    and syncs it to the city's platform.
    """
