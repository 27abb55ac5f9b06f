"""``kaopass bench``: how fast this board is, one benchmark a file."""

from __future__ import annotations

import click

from agent.cli.common import json_option
from agent.cli.lazy import LazyGroup

COMMANDS = {
    "vision": "agent.cli.bench.vision",
    "match": "agent.cli.bench.match",
    "start": "agent.cli.bench.start",
    "door": "agent.cli.bench.door",
}
FORMER = {"journal": "lab journal", "sync": "lab sync"}


@click.group("bench", cls=LazyGroup, lazy=COMMANDS, former=FORMER, invoke_without_command=True)
@json_option
@click.pass_context
def command(ctx: click.Context, as_json: bool) -> None:
    """Measure this board: vision, match, start and door when no benchmark is named.

    Stop the agent first: a benchmark shares the processor with whatever else runs. With --json
    each benchmark prints one object as soon as it is done.
    """
    if ctx.invoked_subcommand is not None:
        if as_json:
            raise click.UsageError(f"put --json after {ctx.invoked_subcommand!r}", ctx)
        return
    for name in COMMANDS:
        benchmark = ctx.command.get_command(ctx, name)  # type: ignore[attr-defined]  # a group
        with benchmark.make_context(name, ["--json"] if as_json else [], parent=ctx) as inner:
            benchmark.invoke(inner)
