"""The city group's commands that live in their own files, imported only when called."""

from __future__ import annotations

from importlib import import_module

import click

# name -> (module, the command in it)
COMMANDS = {
    "ca": ("agent.cli.city.ca", "ca"),
    "est": ("agent.cli.city.ca", "est"),
    "broker-config": ("agent.cli.city.ca", "broker_config"),
    "claim": ("agent.cli.city.device", "claim"),
    "device": ("agent.cli.city.device", "device"),
    "command": ("agent.cli.city.command", "command"),
    "settings": ("agent.cli.city.settings", "settings"),
    "resident": ("agent.cli.city.residents.resident", "resident"),
    "consent": ("agent.cli.city.residents.consent", "consent"),
    "gallery": ("agent.cli.city.residents.gallery", "gallery"),
    "enrolments": ("agent.cli.city.residents.keys", "enrolments"),
    "keys": ("agent.cli.city.residents.keys", "keys"),
}


class CityGroup(click.Group):
    """Its own commands, and those above."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*super().list_commands(ctx), *COMMANDS]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return super().get_command(ctx, cmd_name)
        module, name = COMMANDS[cmd_name]
        command = getattr(import_module(module), name)
        assert isinstance(command, click.Command)  # noqa: S101 - a broken table is a defect
        return command
