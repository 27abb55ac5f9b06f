"""Options of ``kaopass city command`` from the table of commands, and arguments from options."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import click

from agent.base.errors import UsageError
from agent.protocol.commands import Argument, CommandSpec
from agent.protocol.fields import FieldError
from agent.protocol.specs import Optional, Spec

_Function = TypeVar("_Function", bound=Callable[..., Any])
_TYPES = {"integer": int, "string": str}


def argument_options(specs: Sequence[CommandSpec]) -> Callable[[_Function], _Function]:
    """An option for each argument of *specs*; those of one name share theirs."""

    def add(function: _Function) -> _Function:
        for name in dict.fromkeys(name for spec in specs for name in spec.arguments.fields):
            whose = [spec for spec in specs if name in spec.arguments.fields]
            argument = _argument(whose[0].arguments.fields[name], name)
            says = f"{', '.join(spec.name for spec in whose)}: {argument.says}."
            kind = argument.schema().get("type", "string")
            if kind == "boolean":
                option = click.option(_option(name), name, is_flag=True, default=None, help=says)
            else:
                option = click.option(
                    _option(name), name, type=_TYPES[kind], metavar=argument.metavar, help=says
                )
            function = option(function)
        return function

    return add


def arguments_of(
    spec: CommandSpec, others: Sequence[CommandSpec], given: Mapping[str, Any]
) -> dict[str, Any]:
    """What was *given* as options, as the arguments of *spec*. Raises UsageError.

    *others* have the options that *spec* does not.
    """
    arguments = {name: value for name, value in given.items() if value is not None}
    for name in arguments.keys() - spec.arguments.fields.keys():
        whose = ", ".join(other.name for other in others if name in other.arguments.fields)
        raise UsageError(f"{_option(name)} is for {whose}, not for {spec.name}")
    for name, argument in spec.arguments.fields.items():
        if name not in arguments and not isinstance(argument, Optional):
            raise UsageError(f"{spec.name} needs {_option(name)}: {_argument(argument, name).says}")
    try:
        spec.arguments.read(arguments)
    except FieldError as error:
        raise UsageError(f"{spec.name} needs {_option(error.field)}: {error.why}") from error
    return arguments


def _argument(spec: Spec[Any], name: str) -> Argument:
    inner = spec.item if isinstance(spec, Optional) else spec
    return inner if isinstance(inner, Argument) else Argument(inner, name)


def _option(argument: str) -> str:
    return "--" + argument.replace("_", "-")
