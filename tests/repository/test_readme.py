"""Every command and every setting has its line in the docs and its help; every link leads there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click

from agent.cli.main import COMMANDS, kaopass
from agent.settings.drivers import choices
from agent.settings.model import Settings

CHECKOUT = Path(__file__).parents[2]
COMMANDS_PAGE = (CHECKOUT / "docs/commands.md").read_text(encoding="utf-8")
SETTINGS_PAGE = (CHECKOUT / "docs/settings.md").read_text(encoding="utf-8")
LONGEST_README = 120  # lines: one page


def leaves() -> dict[str, click.Command]:
    """Every command that does something, by its full name."""
    found: dict[str, click.Command] = {}
    context = click.Context(kaopass)
    for name in COMMANDS:
        command = kaopass.get_command(context, name)
        assert command is not None
        found |= leaves_of(name, command)
    return found


def leaves_of(name: str, command: click.Command) -> dict[str, click.Command]:
    """*command* itself, or what does something below it."""
    if not isinstance(command, click.Group):
        return {name: command}
    found: dict[str, click.Command] = {}
    inner = click.Context(command)
    for sub in command.list_commands(inner):
        leaf = command.get_command(inner, sub)
        assert leaf is not None
        found |= leaves_of(f"{name} {sub}", leaf)
    return found


KEYS = [f"{section}.{key}" for section, field in Settings.model_fields.items()
        for key in field.annotation.model_fields]  # type: ignore[union-attr]  # fmt: skip


def lacks_of_command(name: str, command: click.Command) -> Iterator[str]:
    if not command.help:
        yield f"{name} has no help"
    for parameter in command.params:
        if isinstance(parameter, click.Option) and not parameter.help:
            yield f"{name} {parameter.opts[0]} has no help"
    if not re.search(rf"^\| `kaopass {name}[ `]", COMMANDS_PAGE, re.MULTILINE):
        yield f"no line for {name}"


def test_every_command_has_help_and_a_line_in_the_docs() -> None:
    found = leaves()
    assert len(found) > 50
    assert [
        lack for name, command in found.items() for lack in lacks_of_command(name, command)
    ] == []


def lacks_of_setting(key: str) -> Iterator[str]:
    section, _, name = key.partition(".")
    field = Settings.model_fields[section].annotation.model_fields[name]  # type: ignore[union-attr]
    if not field.description:
        yield f"{key} has no description"
        return
    line = re.search(rf"^\| `{re.escape(key)}` \| (.*) \|$", SETTINGS_PAGE, re.MULTILINE)
    if not line:
        yield f"no line for {key}: scripts/settings-table prints the table"
        return
    if not line[1].endswith(field.description):
        yield f"{key}: docs/settings.md and the settings disagree"
    told = set(re.findall(r"`([^`]+)`", line[1].removesuffix(field.description)))
    if choices(field) and told != {str(choice) for choice in choices(field)}:
        yield f"{key}: docs/settings.md names {sorted(told)}"


def test_every_setting_has_an_explanation_and_a_line_in_the_docs() -> None:
    assert len(KEYS) > 50
    assert [lack for key in KEYS for lack in lacks_of_setting(key)] == []


def test_the_docs_name_no_setting_that_is_gone() -> None:
    named = set(re.findall(r"^\| `([a-z]+\.[a-z_]+)` \|", SETTINGS_PAGE, re.M))
    assert named - set(KEYS) == set()


def test_every_link_of_every_page_leads_to_a_file() -> None:
    pages = [CHECKOUT / "README.md", CHECKOUT / "CONTRIBUTING.md", *CHECKOUT.glob("docs/*.md")]
    links = {
        page: re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
        for page in pages
    }
    assert sum(map(len, links.values())) > 30
    dead = [f"{page.name}: {to}" for page in links for to in links[page]
            if not (page.parent / to).exists()]  # fmt: skip
    assert dead == []


def test_readme_is_one_page() -> None:
    text = (CHECKOUT / "README.md").read_text(encoding="utf-8")
    assert text.count("\n") <= LONGEST_README
