"""Small made-up packs, and stand-ins for the registries' clients."""

from __future__ import annotations

import hashlib
import io
import sys
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

from agent.packs.manifest import ArchiveSource, InputSpec, ModelFile, Pack, PackageSource
from agent.packs.sources import Clients

BODIES = {"detector": b"detector weights " * 5000, "embedder": b"embedder weights " * 9000}
PATHS = {role: f"made_up/model/{role}.onnx" for role in BODIES}
INPUT = InputSpec("RGB", 127.5, 128.0, "NCHW", 112, 112)


def model_file(role: str, body: bytes) -> ModelFile:
    return ModelFile(
        role=role,
        name=f"{role}.onnx",
        sha256=hashlib.sha256(body).hexdigest(),
        bytes=len(body),
        licence="MIT",
        input=INPUT,
        output="anything",
    )


def made_up_pack(*sources: PackageSource | ArchiveSource, licence: str = "MIT") -> Pack:
    """A pack of two small files, by default from a PyPI package that is nowhere installed."""
    return Pack(
        title="made up",
        licence=licence,  # type: ignore[arg-type]
        licence_note="as you like",
        runtime="insightface",
        embedding_size=512,
        impostor_fmr=((0.1, 0.1), (0.01, 0.2)),
        files=tuple(model_file(role, body) for role, body in BODIES.items()),
        sources=sources or (PackageSource("pypi", "made-up", "1.0", PATHS),),
        name="made-up",
    )


def members(bodies: Mapping[str, bytes] = BODIES) -> dict[str, bytes]:
    return {PATHS[role]: body for role, body in bodies.items()}


def write_zip(path: Path, content: Mapping[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, body in content.items():
            archive.writestr(name, body)
    return path


def write_tar(path: Path, content: Mapping[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, body in content.items():
            info = tarfile.TarInfo(name)
            info.size = len(body)
            archive.addfile(info, io.BytesIO(body))
    return path


def write_folder(path: Path, content: Mapping[str, bytes]) -> Path:
    for name, body in content.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(body)
    return path


def write_site(
    path: Path, version: str = "1.0", content: Mapping[str, bytes] | None = None
) -> Path:
    """A site-packages folder in which the made-up distribution is installed."""
    write_folder(path, members() if content is None else content)
    info = path / f"made_up-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: made-up\nVersion: {version}\n")
    return path


def registry_client(
    folder: Path, archive: Path | None, option: str, wanted: str
) -> tuple[str, ...]:
    """A program called as pip or npm would be: puts *archive* where *option* says.

    Fails like them, with words on standard error, without an archive or when asked for something
    else than *wanted*.
    """
    script = folder / "client.py"
    script.write_text(
        "import shutil, sys\n"
        f"arguments, archive = sys.argv[1:], {str(archive) if archive else None!r}\n"
        f"if archive is None or {wanted!r} not in arguments:\n"
        "    print('a first line', file=sys.stderr)\n"
        "    sys.exit('ERROR: no such package')\n"
        f"shutil.copy(archive, arguments[arguments.index({option!r}) + 1])\n"
    )
    return (sys.executable, str(script))


def no_clients(**given: object) -> Clients:
    """Clients that find nothing installed and no program, unless *given*."""
    values: dict[str, object] = {
        "pip": ("/nonexistent/pip",),
        "npm": ("/nonexistent/npm",),
        "site_path": (),
        **given,
    }
    return Clients(**values)  # type: ignore[arg-type]


def is_whole(directory: Path) -> bool:
    """Both files are there and right, and nothing else is."""
    found = {path.name: path.read_bytes() for path in (directory / "made-up").iterdir()}
    return found == {f"{role}.onnx": body for role, body in BODIES.items()}


def is_untouched(directory: Path) -> bool:
    return not list(directory.rglob("*.onnx")) and not list(directory.rglob(".*"))
