"""A pack runs only with exactly the files the manifest names, and only if its licence allows."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.base.errors import ModelError
from agent.packs.manifest import Manifest, Pack, load_manifest
from agent.packs.store import InstalledPack, find, locate
from tests.packs.packs import BODIES, made_up_pack, members, write_folder, write_site


def located(pack: Pack, directory: Path, *site: Path, licence: str = "none") -> InstalledPack:
    return locate(
        pack.name,
        directory,
        licence,
        manifest=Manifest(1, {pack.name: pack}),
        site_path=[str(path) for path in site],
    )


def put(directory: Path, bodies: dict[str, bytes] = BODIES) -> None:
    write_folder(directory / "made-up", {f"{role}.onnx": body for role, body in bodies.items()})


def test_files_in_the_models_directory_are_found_by_role(tmp_path: Path) -> None:
    put(tmp_path)
    found = located(made_up_pack(), tmp_path)
    assert found.paths == {role: tmp_path / "made-up" / f"{role}.onnx" for role in BODIES}
    assert found.origin == str(tmp_path / "made-up")


def test_an_installed_python_package_is_used_in_place(tmp_path: Path) -> None:
    site = write_site(tmp_path / "site")
    found = located(made_up_pack(), tmp_path / "models", site)
    assert found.paths["detector"] == site / "made_up/model/detector.onnx"
    assert not (tmp_path / "models").exists()


def test_another_version_of_the_package_does_not_count(tmp_path: Path) -> None:
    site = write_site(tmp_path / "site", version="1.1")
    assert find(made_up_pack(), tmp_path, site_path=[str(site)]) is None


def test_the_models_directory_comes_before_the_python_package(tmp_path: Path) -> None:
    site = write_site(tmp_path / "site")
    put(tmp_path)
    assert located(made_up_pack(), tmp_path, site).origin == str(tmp_path / "made-up")


def test_nothing_installed_says_how_to_install(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="not installed; run: kaopass models install made-up"):
        located(made_up_pack(), tmp_path)


def test_an_altered_file_is_refused_even_beside_a_good_package(tmp_path: Path) -> None:
    pack = made_up_pack()
    site = write_site(tmp_path / "site")
    put(tmp_path, {**BODIES, "embedder": BODIES["embedder"][:-1] + b"X"})
    with pytest.raises(ModelError) as caught:
        located(pack, tmp_path, site)
    said = str(caught.value)
    assert "embedder.onnx: altered" in said
    assert pack.files[1].sha256[:8] in said
    assert pack.files[1].sha256[:9] not in said
    assert "kaopass models install made-up" in said


def test_a_file_altered_after_a_good_check_is_noticed_by_the_next(tmp_path: Path) -> None:
    put(tmp_path)
    located(made_up_pack(), tmp_path)
    put(tmp_path, {**BODIES, "detector": BODIES["detector"].swapcase()})
    with pytest.raises(ModelError, match=r"detector\.onnx: altered"):
        located(made_up_pack(), tmp_path)


def test_a_longer_file_is_altered(tmp_path: Path) -> None:
    put(tmp_path, {**BODIES, "detector": BODIES["detector"] + b"more"})
    with pytest.raises(ModelError, match="altered"):
        located(made_up_pack(), tmp_path)


def test_a_truncated_file_is_called_so(tmp_path: Path) -> None:
    put(tmp_path, {**BODIES, "detector": BODIES["detector"][:1000]})
    with pytest.raises(ModelError, match="truncated, 1000 of 85000 bytes"):
        located(made_up_pack(), tmp_path)


def test_a_file_missing_from_an_installed_pack_is_named(tmp_path: Path) -> None:
    put(tmp_path, {"detector": BODIES["detector"]})
    with pytest.raises(ModelError, match=r"embedder\.onnx: missing; run"):
        located(made_up_pack(), tmp_path)


def test_an_altered_python_package_is_refused(tmp_path: Path) -> None:
    content = members({**BODIES, "detector": b"x" * len(BODIES["detector"])})
    site = write_site(tmp_path / "site", content=content)
    with pytest.raises(ModelError, match="altered"):
        located(made_up_pack(), tmp_path, site)


def test_a_research_pack_needs_the_setting(tmp_path: Path) -> None:
    put(tmp_path)
    pack = made_up_pack(licence="research")
    with pytest.raises(ModelError, match=r'models\.licence = "research" in the settings'):
        located(pack, tmp_path)
    assert located(pack, tmp_path, licence="research").pack is pack


def test_an_unknown_pack_brings_a_suggestion(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="did you mean 'faceplugin'"):
        locate("faceplugins", tmp_path, "none")


def test_the_real_default_pack_is_what_the_manifest_says(tmp_path: Path) -> None:
    """The PyPI package that the demo installs holds exactly the files of the manifest."""
    pack = load_manifest().pack("buffalo_s")
    found = locate("buffalo_s", tmp_path, "research")
    assert set(found.paths) == {"detector", "embedder"}
    assert sum(path.stat().st_size for path in found.paths.values()) == pack.bytes
