"""Installed packs: where the files are, and that they are the ones the manifest names.

Nothing here copies or downloads. Files are looked for in ``<directory>/<pack>/``, then in an
installed Python package that the manifest names as a source.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import Distribution, distributions
from pathlib import Path

from agent.base.errors import ModelError
from agent.packs.manifest import Manifest, ModelFile, Pack, PackageSource, load_manifest, with_local

CHUNK_BYTES = 1 << 20
LOCAL = "pack.json"  # beside the files of a variant made on this machine


@dataclass(frozen=True, slots=True)
class InstalledPack:
    """A verified pack: the path of each role's file, and where the files were found."""

    pack: Pack
    paths: Mapping[str, Path]
    origin: str


def known_packs(directory: Path) -> Manifest:
    """The packs of the manifest, and the variants made on this machine that *directory* holds.

    Raises ModelError when either is damaged.
    """
    return with_local(load_manifest(), sorted(directory.glob(f"*/{LOCAL}")))


def locate(
    name: str,
    directory: Path,
    licence: str,
    *,
    manifest: Manifest | None = None,
    site_path: Sequence[str] | None = None,
) -> InstalledPack:
    """The pack called *name*, ready to run; every file's sha256 is checked on each call.

    *directory* holds installed packs, *licence* is ``models.licence`` of the settings,
    *site_path* where Python packages are (default: ``sys.path``). Raises ModelError when the pack
    is unknown, is not licensed for this use, is not installed, or was altered.
    """
    pack = (manifest or known_packs(directory)).pack(name)
    check_licence(pack, licence)
    found = find(pack, directory, site_path=site_path)
    if found is None:
        raise not_installed(pack)
    return found


def locate_role(
    name: str, role: str, directory: Path, licence: str, *, manifest: Manifest | None = None
) -> Path:
    """The verified file of *role* in the pack called *name*, whatever runs the rest of the pack.

    Raises ModelError when the pack is unknown, has no such file, is not licensed for this use, is
    not installed, or was altered.
    """
    known = manifest or known_packs(directory)
    pack = known.pack(name)
    if role not in {file.role for file in pack.files}:
        have = [p.name for p in known.packs.values() if role in {file.role for file in p.files}]
        raise ModelError(
            f"model pack {name!r} has no {role} network; these have: {', '.join(have) or 'none'}"
        )
    check_licence(pack, licence)
    found = find(pack, directory)
    if found is None:
        raise not_installed(pack)
    return found.paths[role]


def not_installed(pack: Pack) -> ModelError:
    """The error to raise when the pack's files are nowhere."""
    return ModelError(
        f"model pack {pack.name!r}: not installed; run: kaopass models install {pack.name}"
    )


def check_licence(pack: Pack, licence: str) -> None:
    """Raise ModelError unless *licence* ("none" or "research") allows the use of *pack*."""
    if pack.research_only and licence != "research":
        raise ModelError(
            f"model pack {pack.name!r}: its licence is {pack.licence_note}. To accept that, set"
            ' models.licence = "research" in the settings; otherwise choose another pack'
            " (kaopass models list)"
        )


def find(
    pack: Pack, directory: Path, *, site_path: Sequence[str] | None = None
) -> InstalledPack | None:
    """The verified files of *pack*, or None if it is nowhere. Licence and runtime are not asked.

    A pack that is there in part, truncated or altered raises ModelError instead of being passed
    over: falling back in silence would hide that somebody changed a model.
    """
    folder = directory / pack.name
    if any((folder / file.name).exists() for file in pack.files):
        paths = {file.role: folder / file.name for file in pack.files}
        return _verified(pack, paths, str(folder))
    for source in pack.sources:
        if not isinstance(source, PackageSource) or source.kind != "pypi":
            continue
        distribution = installed_distribution(source, site_path)
        if distribution is not None:
            paths = {role: _path_in(distribution, path) for role, path in source.paths.items()}
            return _verified(pack, paths, f"installed {source}")
    return None


def installed_distribution(
    source: PackageSource, site_path: Sequence[str] | None = None
) -> Distribution | None:
    """The installed Python package *source* names, in exactly its version, or None."""
    where = list(sys.path if site_path is None else site_path)
    for distribution in distributions(name=source.package, path=where):
        if distribution.version == source.version:
            return distribution
    return None


def check_file(pack: Pack, file: ModelFile, path: Path) -> None:
    """Raise ModelError unless *path* is exactly the *file* of the manifest."""
    remedy = f"remove it and run: kaopass models install {pack.name}"
    what = f"model pack {pack.name!r}: {path}"
    try:
        size = path.stat().st_size
        if size < file.bytes:
            raise ModelError(f"{what}: truncated, {size} of {file.bytes} bytes; {remedy}")
        found = sha256_of(path)
    except FileNotFoundError as error:
        raise ModelError(f"{what}: missing; run: kaopass models install {pack.name}") from error
    except OSError as error:
        raise ModelError(f"{what}: cannot be read: {error.strerror}") from error
    if found != file.sha256:
        raise ModelError(
            f"{what}: altered, expected sha256 {file.sha256[:8]}..., found {found[:8]}...; {remedy}"
        )


def sha256_of(path: Path) -> str:
    """The file's sha256 as 64 hex digits. Raises OSError."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _verified(pack: Pack, paths: dict[str, Path], origin: str) -> InstalledPack:
    for file in pack.files:
        check_file(pack, file, paths[file.role])
    return InstalledPack(pack, paths, origin)


def _path_in(distribution: Distribution, path: str) -> Path:
    return Path(str(distribution.locate_file(path)))
