"""``kaopass city gallery``: publish, have signed elsewhere, re-key, see which device has what."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agent.base.errors import CityError, UsageError
from agent.cli.city.common import ca_option, now_ms, office
from agent.cli.city.town import GALLERIES, Town, keys_option, town
from agent.cli.city.upkeep import database_option, time_text
from agent.cli.common import json_option, print_json

if TYPE_CHECKING:
    from agent.cityos.galleries.receipts import Holding

_file = click.Path(path_type=Path, dir_okay=False)
_purpose = click.Choice(GALLERIES)


@click.group("gallery")
def gallery() -> None:
    """The signed galleries that devices recognise from, one a purpose."""


@gallery.command("publish")
@ca_option
@keys_option
@database_option
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
    ca_directory: Path,
    keys_directory: Path | None,
    database: str,
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
    with town(ca_directory, keys_directory, database) as opened:
        for row in _published(opened, purpose, unsigned, signed, force, valid_days):
            if as_json:
                print_json(row)
            else:
                click.echo(row["said"])


def _published(
    opened: Town,
    purpose: str | None,
    unsigned: Path | None,
    signed: Path | None,
    force: bool,
    valid_days: float,
) -> list[dict[str, Any]]:
    from agent.cityos.galleries.signing import encode_unsigned

    now = now_ms()
    if signed is not None:
        head = opened.publisher.finish(_read(signed).strip(), now)
        opened.note_published(head)
        return [_row(head, 0, "published")]
    if unsigned is not None:
        assert purpose is not None  # noqa: S101 - checked above
        made = opened.publisher.prepare(purpose, now, force=force, valid_days=valid_days)
        if made is None:
            return [{"gallery": purpose, "state": "unchanged", "said": f"{purpose}: unchanged"}]
        _write(unsigned, encode_unsigned(made.head))
        return [_row(made.head, made.changed, f"to be signed, in {unsigned}")]
    rows = []
    for name in [purpose] if purpose else GALLERIES:
        if opened.signer is None:
            raise CityError(
                "the gallery key is not on this machine; prepare a version for signing with:"
                f" kaopass city gallery publish {name} --unsigned FILE"
            )
        found = opened.publish([name], force=force, valid_days=valid_days)
        rows += [_row(each.head, each.changed, "published") for each in found]
        if not found:
            rows.append({"gallery": name, "state": "unchanged", "said": f"{name}: unchanged"})
    return rows


@gallery.command("sign")
@ca_option
@click.argument("unsigned", type=_file)
@click.option("--output", type=_file, help="Where to write it; default: UNSIGNED with .signed.")
def sign(ca_directory: Path, unsigned: Path, output: Path | None) -> None:
    """Sign the version in the file UNSIGNED; for a machine with the gallery key and no network.

    It needs gallery.pem, gallery.key and the authority's other files. What is older than the last
    version it signed is refused.
    """
    from agent.cityos.galleries.signing import HeadSigner, decode_unsigned

    head = decode_unsigned(_read(unsigned))
    with office(ca_directory) as opened:
        message = HeadSigner(opened.authority)(head)
        opened.audit.append(
            "gallery.signed",
            actor=opened.actor,
            gallery=head.gallery,
            epoch=head.epoch,
            version=head.version,
            root=head.root,
        )
    target = output or unsigned.with_name(f"{unsigned.name}.signed")
    _write(target, message + b"\n")
    click.echo(f"gallery {head.gallery} {head.epoch}.{head.version}, {head.count} residents, root "
               f"{head.root[:16]}..., until {time_text(head.expires_ms)}: {target}")  # fmt: skip


@gallery.command("rekey")
@ca_option
@keys_option
@database_option
@click.argument("purpose", type=_purpose)
def rekey(ca_directory: Path, keys_directory: Path | None, database: str, purpose: str) -> None:
    """Begin another template key for PURPOSE's gallery, after templates have leaked.

    Every template changes, so every device takes the whole gallery anew; nobody enrols again.
    """
    with town(ca_directory, keys_directory, database) as opened:
        opened.office.noting("gallery.rekeyed", gallery=purpose)()
        opened.keys.new_content(purpose, rekey=True)
        found = opened.publish([purpose])
    for each in found:
        click.echo(_row(each.head, each.changed, "published")["said"])


@gallery.command("status")
@ca_option
@keys_option
@database_option
@json_option
def status(ca_directory: Path, keys_directory: Path | None, database: str, as_json: bool) -> None:
    """Each gallery's version, and which version each device has."""
    from agent.cityos.galleries import receipts
    from agent.cityos.galleries.versions import drafted, latest

    with town(ca_directory, keys_directory, database) as opened:
        now = now_ms()
        for name in GALLERIES:
            serving = opened.office.registry.serving(name, now)
            with opened.residents.reading() as db:
                release, waits = latest(db, name), drafted(db, name)
                held = receipts.holdings(db, name)
            due = opened.publisher.is_due(name, now)
            _show_status(name, release, waits, due, serving, held, as_json)


def _show_status(
    name: str,
    release: Any,
    waits: Any,
    due: bool,
    serving: list[str],
    held: dict[str, Holding],
    as_json: bool,
) -> None:
    version = [release.epoch, release.version] if release is not None else None
    devices = [
        _device_row(device, device in serving, held.get(device), release)
        for device in sorted({*serving, *held})
    ]
    if as_json:
        print_json(
            {
                "gallery": name,
                "version": version,
                "residents": release.people if release is not None else 0,
                "root": release.root if release is not None else None,
                "expires_ms": release.expires_ms if release is not None else None,
                "waits_for_signature": waits is not None,
                "changes_wait": due,
                "devices": devices,
            }
        )
        return
    if release is None:
        click.echo(f"{name}: no version yet{', changes wait' if due else ''}")
    else:
        click.echo(
            f"{name} {release.epoch}.{release.version}: {release.people} residents, until"
            f" {time_text(release.expires_ms)}{', changes wait' if due else ''}"
            f"{', a version waits for its signature' if waits is not None else ''}"
        )
    for row in devices:
        said = "nothing yet"
        if row["version"]:
            said = f"{row['version'][0]}.{row['version'][1]}"
            said += "" if row["proven"] else " NOT PROVEN"
            said += f", {row['behind']} behind" if row["behind"] else ""
            said += f", heard {time_text(row['heard_ms'])}"
        click.echo(f"  {row['device']:<20} {said}{'' if row['serves'] else ' (no longer serves)'}")


def _device_row(device: str, serves: bool, held: Holding | None, release: Any) -> dict[str, Any]:
    row: dict[str, Any] = {
        **{"device": device, "serves": serves, "version": None, "proven": False},
        **{"behind": None, "heard_ms": None},
    }
    if held is not None:
        row |= {"version": list(held.position), "proven": held.proven, "heard_ms": held.heard_ms}
        if held.proven and release is not None and held.position[0] == release.epoch:
            row["behind"] = release.version - held.position[1]
    return row


def _row(head: Any, changed: int, state: str) -> dict[str, Any]:
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
