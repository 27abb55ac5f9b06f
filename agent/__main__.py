"""Entry point: runs the command line and turns our own errors into one line and an exit code."""

from __future__ import annotations

import sys

import click

from agent.base.errors import KaopassError
from agent.cli.main import kaopass


def main(arguments: list[str] | None = None) -> None:
    """Run ``kaopass``. Exits 0 when done, 1 when it failed, 2 on wrong usage."""
    try:
        status = kaopass.main(args=arguments, prog_name="kaopass", standalone_mode=False)
    except KaopassError as error:
        click.echo(f"kaopass: {error}", err=True)
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.Abort:
        click.echo("kaopass: stopped", err=True)
        sys.exit(1)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)
    sys.exit(status if isinstance(status, int) else 0)


if __name__ == "__main__":
    main()
