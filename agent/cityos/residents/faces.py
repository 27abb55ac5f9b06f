"""Whether a face is enrolled already, under another id (requirements B3)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import numpy as np

from agent.base.values import Vector
from agent.cityos.residents.residents import Residents

# (model pack, templates enrolled, values in each) -> the cosine from which two faces are taken for
# one person's. Raises ModelError for a pack that is not known, or has templates of another size.
Threshold = Callable[[str, int, int], float]
_MOST_BLOCKS = 256  # many small products are slow


class EnrolledFaces:
    """Everybody's templates in memory, mapped by the city's own key; drop it when done.

    2 KB a template of 512 values: 155 MB for 25,324 people with three each. It holds as of the last
    ``refresh``: call that when nobody else can enrol (``TownKeys.enrolling``), then ask.
    """

    def __init__(self, residents: Residents, threshold: Threshold) -> None:
        self._residents = residents
        self._threshold = threshold
        self._packs: dict[tuple[str, int], tuple[list[Vector], list[bytes]]] = {}
        self._states: dict[bytes, tuple[int, bytes]] = {}

    def refresh(self) -> None:
        """Know who was enrolled, changed or erased since the last time. Raises CityError."""
        before, now = self._states, self._residents.states()
        news = {ref for ref, state in now.items() if before.get(ref) != state}
        old = {ref for ref, state in before.items() if now.get(ref) != state}
        for (pack, values), (blocks, owners) in self._packs.items():
            if not old.isdisjoint(owners):
                kept = [at for at, owner in enumerate(owners) if owner not in old]
                blocks[:] = [np.concatenate(blocks)[kept]]
                owners[:] = [owners[at] for at in kept]
            self._load(pack, values, blocks, owners, news)
        self._states = now

    def same_as(self, templates: Mapping[str, Vector], but: bytes = b"") -> bytes | None:
        """Who has this face already, other than *but*: their reference. None if nobody has.

        *templates* are float32 (n, d) by pack, mapped by ``Residents.own``. Raises ModelError.
        """
        for pack, rows in templates.items():
            values = rows.shape[1]
            blocks, owners = self._of(pack, values)
            least = self._threshold(pack, len(owners), values)
            probes = _units(rows).T
            start = 0
            for block in blocks:
                best = (block @ probes).max(axis=1)
                for index in np.flatnonzero(best >= least).tolist():
                    owner: bytes = owners[start + index]
                    if owner != but:
                        return owner
                start += len(block)
        return None

    def is_same(self, ref: bytes, templates: Mapping[str, Vector]) -> bool:
        """Whether *templates* are of the face that is enrolled as *ref*, as far as can be told.

        Of a pack of which nothing is enrolled nothing can be. Raises ModelError.
        """
        for pack, rows in templates.items():
            values = rows.shape[1]
            _, owners = self._of(pack, values)
            own = self._rows_of(pack, values, ref)
            least = self._threshold(pack, len(owners), values)
            if len(own) and float((own @ _units(rows).T).max()) < least:
                return False
        return True

    def _rows_of(self, pack: str, values: int, ref: bytes) -> Vector:
        blocks, owners = self._of(pack, values)
        here = [index for index, owner in enumerate(owners) if owner == ref]
        if not here:
            return np.zeros((0, values), np.float32)
        rows: Vector = np.concatenate(blocks)[here]
        return rows

    def _of(self, pack: str, values: int) -> tuple[list[Vector], list[bytes]]:
        found = self._packs.get((pack, values))
        if found is None:
            self._threshold(pack, 0, values)  # nobody's templates are opened for what is no such
            found = self._packs[pack, values] = [], []
            self._load(pack, values, *found)
        return found

    def _load(
        self,
        pack: str,
        values: int,
        blocks: list[Vector],
        owners: list[bytes],
        refs: Collection[bytes] | None = None,
    ) -> None:
        for ref, rows in self._residents.templates(pack, refs):
            if rows.shape[1] == values:
                blocks.append(_units(rows))
                owners += [ref] * len(rows)
        if refs is None or len(blocks) > _MOST_BLOCKS:
            blocks[:] = [np.concatenate(blocks)] if blocks else []


def _units(rows: Vector) -> Vector:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    units: Vector = (rows / np.maximum(lengths, 1e-6)).astype(np.float32)
    return units
