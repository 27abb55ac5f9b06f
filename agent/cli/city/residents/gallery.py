"""``kaopass city gallery``: publish, have signed elsewhere, re-key, see which device has what."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agent.base.errors import CityError, UsageError
from agent.base.values import PURPOSES
from agent.cli.city.common import city, city_options, now_ms, office, say_waiting, time_text
from agent.cli.common import json_option, print_json

if TYPE_CHECKING:
    from agent.cityos.galleries.receipts import HeldVersion
    from agent.cityos.usecases.city import OpenCity
    from agent.cityos.usecases.galleries import GalleryState
    from agent.cityos.usecases.office import CityPlaces
    from agent.protocol.galleries.messages import Head

_file = click.Path(path_type=Path, dir_okay=False)
_purpose = click.Choice(PURPOSES)


@click.group("gallery")
def gallery() -> None:
    """The signed galleries that devices recognise from, one a purpose."""


@gallery.command("publish")
@city_options(keys=True, database=True)
@click.argument("purpose", type=_purpose, required=False)
@click.option("--unsigned", type=_file, metavar="FILE", help="Write what is to be signed to FILE.")
@click.option("--signed", type=_file, metavar="FILE", help="Put the signed version in force.")
@click.option("--force", is_flag=True, help="A new version even if nothing changed.")
@click.option(
    "--valid-days",
    type=click.FloatRange(1, 366),
    default=30.0,
    show_default=True,
    help="How long devices go by it if they hear of no newer one.",
)
@json_option
def publish(
    places: CityPlaces,
    purpose: str | None,
    unsigned: Path | None,
    signed: Path | None,
    force: bool,
    valid_days: float,
    as_json: bool,
) -> None:
    """Publish the next version of PURPOSE's gallery, or of both, if anything changed.

    With the gallery key on another machine it takes three steps: `publish bus --unsigned FILE`
    here, `gallery sign FILE` there, `publish --signed FILE` here. A running city side tells devices
    within a second.
    """
    if (unsigned or signed) and force and signed:
        raise UsageError("--force goes with --unsigned: what is signed is as it is")
    if unsigned is not None and (signed is not None or purpose is None):
        raise UsageError("--unsigned FILE needs one gallery: bus or hall; and no --signed")
    with city(places) as opened:
        for row in _published(opened, purpose, unsigned, signed, force, valid_days):
            if as_json:
                print_json(row)
            else:
                click.echo(row["said"])


def _published(
    opened: OpenCity,
    purpose: str | None,
    unsigned: Path | None,
    signed: Path | None,
    force: bool,
    valid_days: float,
) -> list[dict[str, Any]]:
    from agent.cityos.galleries.signing import encode_unsigned
    from agent.cityos.usecases import galleries

    now = now_ms()
    if signed is not None:
        return [_row(galleries.finish(opened, _read(signed).strip(), now), 0, "published")]
    if unsigned is not None:
        assert purpose is not None  # noqa: S101 - checked above
        made = galleries.prepare(opened, purpose, now, force=force, valid_days=valid_days)
        if made is None:
            return [_unchanged(purpose)]
        _write(unsigned, encode_unsigned(made.head))
        return [_row(made.head, made.changed, f"to be signed, in {unsigned}")]
    rows = []
    for name in [purpose] if purpose else PURPOSES:
        if opened.signer is None:
            raise CityError(
                "the gallery key is not on this machine; prepare a version for signing with:"
                f" kaopass city gallery publish {name} --unsigned FILE"
            )
        found = galleries.publish(opened, [name], now_ms(), force=force, valid_days=valid_days)
        rows += [_row(each.head, each.changed, "published") for each in found.published]
        if not found.published:
            rows.append(_unchanged(name))
    return rows


@gallery.command("sign")
@city_options()
@click.argument("unsigned", type=_file)
@click.option("--output", type=_file, help="Where to write it; default: UNSIGNED with .signed.")
def sign(places: CityPlaces, unsigned: Path, output: Path | None) -> None:
    """Sign the version in the file UNSIGNED; for a machine with the gallery key and no network.

    It needs gallery.pem, gallery.key and the authority's other files. What is older than the last
    version it signed is refused.
    """
    from agent.cityos.galleries.signing import decode_unsigned
    from agent.cityos.usecases.authority import sign_head

    head = decode_unsigned(_read(unsigned))
    with office(places) as opened:
        message = sign_head(opened, head)
    target = output or unsigned.with_name(f"{unsigned.name}.signed")
    _write(target, message + b"\n")
    click.echo(f"gallery {head.gallery} {head.epoch}.{head.version}, {head.count} residents, root "
               f"{head.root[:16]}..., until {time_text(head.expires_ms)}: {target}")  # fmt: skip


@gallery.command("rekey")
@city_options(keys=True, database=True)
@click.argument("purpose", type=_purpose)
def rekey(places: CityPlaces, purpose: str) -> None:
    """Begin another template key for PURPOSE's gallery, after templates have leaked.

    Every template changes, so every device takes the whole gallery anew; nobody enrols again.
    """
    from agent.cityos.usecases import galleries

    with city(places) as opened:
        galleries.rekey(opened, purpose)
        found = galleries.publish(opened, [purpose], now_ms())
    say_waiting(found.waiting)
    for each in found.published:
        click.echo(_row(each.head, each.changed, "published")["said"])


@gallery.command("status")
@city_options(keys=True, database=True)
@json_option
def status(places: CityPlaces, as_json: bool) -> None:
    """Each gallery's version, and which version each device has."""
    from agent.cityos.usecases import galleries

    with city(places) as opened:
        found = galleries.states(opened, now_ms())
    for each in found:
        _show_status(each, as_json)


def _show_status(state: GalleryState, as_json: bool) -> None:
    name, head = state.gallery, state.head
    devices = [
        _device_row(device, device in state.serving, state.held.get(device), head)
        for device in sorted({*state.serving, *state.held})
    ]
    if as_json:
        print_json(
            {
                "gallery": name,
                "version": list(head.position) if head is not None else None,
                "residents": head.count if head is not None else 0,
                "root": head.root if head is not None else None,
                "expires_ms": head.expires_ms if head is not None else None,
                "waits_for_signature": state.waits_for_signature,
                "changes_wait": state.changes_wait,
                "devices": devices,
            }
        )
        return
    changes = ", changes wait" if state.changes_wait else ""
    if head is None:
        click.echo(f"{name}: no version yet{changes}")
    else:
        click.echo(
            f"{name} {head.epoch}.{head.version}: {head.count} residents, until"
            f" {time_text(head.expires_ms)}{changes}"
            f"{', a version waits for its signature' if state.waits_for_signature else ''}"
        )
    for row in devices:
        said = "nothing yet"
        if row["version"]:
            said = f"{row['version'][0]}.{row['version'][1]}"
            said += "" if row["proven"] else " NOT PROVEN"
            said += f", {row['behind']} behind" if row["behind"] else ""
            said += f", heard {time_text(row['heard_ms'])}"
        click.echo(f"  {row['device']:<20} {said}{'' if row['serves'] else ' (no longer serves)'}")


def _device_row(
    device: str, serves: bool, held: HeldVersion | None, head: Head | None
) -> dict[str, Any]:
    row: dict[str, Any] = {
        **{"device": device, "serves": serves, "version": None, "proven": False},
        **{"behind": None, "heard_ms": None},
    }
    if held is not None:
        row |= {"version": list(held.position), "proven": held.proven, "heard_ms": held.heard_ms}
        if held.proven and head is not None and held.position[0] == head.epoch:
            row["behind"] = head.version - held.position[1]
    return row


def _unchanged(gallery: str) -> dict[str, Any]:
    return {"gallery": gallery, "state": "unchanged", "said": f"{gallery}: unchanged"}


def _row(head: Head, changed: int, state: str) -> dict[str, Any]:
    said = f"{head.gallery} {head.epoch}.{head.version}: {head.count} residents, {state}"
    return {
        "gallery": head.gallery,
        "version": [head.epoch, head.version],
        "residents": head.count,
        "changed": changed,
        "root": head.root,
        "state": state,
        "said": said,
    }


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from error


def _write(path: Path, content: bytes) -> None:
    try:
        path.write_bytes(content)
    except OSError as error:
        raise UsageError(f"{path}: cannot be written: {error.strerror}") from error
