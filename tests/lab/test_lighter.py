"""A lighter variant is made, compared, and can be chosen only with its measured loss beside it."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from agent.base.errors import ModelError, UsageError
from agent.cli.door.models import command as models_command
from agent.hw.models.networks.onnx import open_session
from agent.lab.golden import golden_values
from agent.lab.lighter import calls_of, compared, images_of, put, variant_of
from agent.lab.quantize import to_int8
from agent.packs.manifest import Pack, load_manifest
from agent.packs.store import LOCAL, InstalledPack, known_packs, locate
from agent.settings.model import Settings, load
from agent.sim.photographs import read_picture
from agent.wiring.parts import open_networks, pack_networks
from agent.wiring.selftest import self_tested
from tests.liveness_pack import PACK, models_directory


def settings(directory: Path, pack: str = PACK) -> Settings:
    given = {"models": {"pack": pack, "directory": directory, "threads": 1}}
    return load(None, {**given, "liveness": {"mode": "off"}})


@pytest.fixture(scope="module")
def light(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, InstalledPack]:
    """The second pack's variant, with ranges from one photograph; the folder it may move to."""
    directory = tmp_path_factory.mktemp("models")
    shutil.copytree(models_directory() / PACK, directory / PACK)
    whole = locate(PACK, directory, "none")
    calls = calls_of(settings(directory), whole, iter([read_picture("t1.jpg")]))
    folder = directory / ".made"
    folder.mkdir()
    made = {}
    for role in ("detector", "landmarks", "embedder"):
        source = whole.paths[role]
        made[role] = folder / f"{source.stem}-int8.onnx"
        to_int8(source, made[role], [feed for _, feed in calls[source]])
        row = compared(role, source, made[role], calls[source])
        assert row.megabytes_int8 < row.megabytes / 2
        assert 0.9 < row.least_cosine <= row.median_cosine <= 1.0
        assert row.ratio > 0
    return directory, variant_of(whole.pack, folder, made)


@pytest.mark.slow
def test_the_variant_recognises_chosen_by_its_name_once_its_loss_is_kept(
    light: tuple[Path, InstalledPack],
) -> None:
    directory, made = light
    networks = pack_networks(settings(directory), made, open_session)
    pack = replace(made.pack, loss="measured for a test", golden=golden_values(networks))
    folder = directory / ".copy"
    shutil.copytree(made.origin, folder)
    where = put(pack, folder, directory)
    assert where == directory / f"{PACK}-int8"
    chosen = open_networks(settings(directory, where.name))
    assert chosen.embedder.pack == where.name, "templates of another pack are never compared"
    assert self_tested(chosen).fault == ""
    image = read_picture("t1.jpg")
    faces = chosen.detector.detect(image)
    assert len(faces) == 6
    plain = open_networks(settings(directory)).embedder.embed(image, faces)
    assert (chosen.embedder.embed(image, faces) * plain).sum(axis=1).min() > 0.9
    shown = (
        CliRunner()
        .invoke(models_command, ["list"], env={"KAOPASS_MODELS__DIRECTORY": str(directory)})
        .output
    )
    assert "faceplugin-int8" in shown
    assert "measured for a test" in shown
    broken = json.loads((where / LOCAL).read_text())
    for key, value, said in (
        ("loss", "", "a variant needs its measured loss"),
        ("variant_of", "", "a pack needs one"),
        ("name", "other", "folder of its own name"),
        ("licence", "mine", "licence"),
    ):
        (where / LOCAL).write_text(json.dumps({**broken, key: value}))
        with pytest.raises(ModelError, match=said):
            known_packs(directory)
    (where / LOCAL).write_text(json.dumps(broken))
    (where / pack.files[0].name).write_bytes(b"something else" * 100_000)
    with pytest.raises(ModelError, match="altered"):
        locate(where.name, directory, "none")


@pytest.mark.slow
def test_a_variant_may_not_take_a_name_of_the_manifest(
    tmp_path: Path, light: tuple[Path, InstalledPack]
) -> None:
    pack: Pack = replace(light[1].pack, name="buffalo_s", loss="measured")
    folder = tmp_path / "made"
    folder.mkdir()
    put(pack, folder, tmp_path)
    with pytest.raises(ModelError, match="buffalo_s"):
        known_packs(tmp_path)
    assert set(known_packs(tmp_path / "nowhere").packs) == set(load_manifest().packs)


def test_pictures_of_a_folder_are_taken_and_other_files_passed_over(tmp_path: Path) -> None:
    (tmp_path / "inside").mkdir()
    cv2.imwrite(str(tmp_path / "inside" / "grey.png"), np.full((40, 60, 3), 90, np.uint8))
    (tmp_path / "notes.txt").write_text("no picture")
    (image,) = images_of(tmp_path)
    assert image.shape == (40, 60, 3)
    assert len(list(images_of(None))) == 4


def test_what_is_no_network_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(b"no network")
    with pytest.raises(ModelError, match=r"x\.onnx cannot be made lighter"):
        to_int8(tmp_path / "x.onnx", tmp_path / "y.onnx", [])


@pytest.mark.slow
def test_a_variant_of_a_variant_is_refused(light: tuple[Path, InstalledPack]) -> None:
    from agent.lab.lighter import lighten

    directory, made = light
    folder = directory / ".again"
    shutil.copytree(made.origin, folder)
    put(replace(made.pack, loss="measured for a test"), folder, directory)
    with pytest.raises(UsageError, match="is a variant already"):
        lighten(settings(directory, f"{PACK}-int8"), None, None, print)
