"""Groups of commands that import a command only when it is called."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType
from typing import Any

import click


class LazyGroup(click.Group):
    """Subcommands cost an import only when they are used: a Pi feels every one.

    *lazy* is name -> ``module``, whose command is called ``command``, or ``module:command``. The
    group's own commands come first. *former* is an old name -> the command's new one from the top:
    it still works, and says so.
    """

    def __init__(
        self,
        *args: Any,
        lazy: Mapping[str, str],
        former: Mapping[str, str] = MappingProxyType({}),
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self._lazy = lazy
        self._former = former

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*super().list_commands(ctx), *self._lazy]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self._lazy:
            return super().get_command(ctx, cmd_name)
        module, _, attribute = self._lazy[cmd_name].partition(":")
        command = getattr(import_module(module), attribute or "command")
        assert isinstance(command, click.Command)  # noqa: S101 - a broken table is a defect
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Name the nearest command when there is none of that name."""
        from difflib import get_close_matches

        if args and args[0] in self._former:
            return args[0], _moved(ctx, args[0], self._former[args[0]]), args[1:]
        known = self.list_commands(ctx)
        if args and args[0] not in known and not args[0].startswith("-"):
            close = get_close_matches(args[0], known, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise click.UsageError(f"There is no command {args[0]!r}.{hint}", ctx)
        return super().resolve_command(ctx, args)


def _moved(ctx: click.Context, old: str, new: str) -> click.Command:
    """The command that is called *new* now; says so on standard error."""
    found: click.Command | None = ctx.find_root().command
    for name in new.split():
        assert isinstance(found, click.Group)  # noqa: S101 - a broken table is a defect
        found = found.get_command(ctx, name)
    assert found is not None  # noqa: S101 - the same
    click.echo(f"{ctx.command_path} {old} is called kaopass {new} now; use that", err=True)
    return found
