"""Model packs on this device: which there are, installing one, checking their files.

Nothing here is in the audit log: a pack is no person's, its files are those the manifest names to
the byte, and it is installed before a device has a key.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from agent.base.errors import ModelError, UsageError
from agent.packs.install import Installed, install
from agent.packs.manifest import Manifest, Pack, load_manifest
from agent.packs.sources import Progress
from agent.packs.store import find, known_packs


@dataclass(frozen=True, slots=True)
class PackState:
    """A pack and whether it is here. ``state`` is a word or two, ``damage`` what is wrong."""

    pack: Pack
    installed: bool
    state: str
    damage: str


def pack_states(directory: Path, name: str | None = None) -> list[PackState]:
    """Every pack this version knows, or the one called *name*; each installed file is checked.

    Raises UsageError if there is none of that name.
    """
    known = known_packs(directory)
    packs = known.packs.values() if name is None else [_named(known, name)]
    return [_state(pack, directory) for pack in packs]


def install_pack(
    name: str,
    directory: Path,
    *,
    research: bool,
    given: Path | None = None,
    progress: Progress | None = None,
) -> tuple[Pack, Installed]:
    """Install the pack called *name* unless it is there and right; from *given* if not None.

    *research*: its licence for non-commercial research is accepted. Raises UsageError if there is
    no such pack, ModelError when that licence is not accepted or a file cannot be had.
    """
    pack = _named(load_manifest(), name)
    if pack.research_only and not research:
        raise ModelError(
            f"model pack {name!r}: its licence is {pack.licence_note}. To accept that, add"
            ' --accept-licence research, or set models.licence = "research" in the settings'
        )
    return pack, install(pack, directory, given=given, progress=progress)


def _named(manifest: Manifest, name: str) -> Pack:
    try:
        return manifest.pack(name)
    except ModelError as error:
        raise UsageError(str(error)) from error


def _state(pack: Pack, directory: Path) -> PackState:
    try:
        found = find(pack, directory)
    except ModelError as error:
        return PackState(pack, False, "damaged", str(error))
    if found is None:
        return PackState(pack, False, "not installed", "")
    return PackState(pack, True, f"ok, in {found.origin}", "")
