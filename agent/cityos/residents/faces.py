"""Whether a face is enrolled already, under another id (requirements B3)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from agent.base.values import Vector
from agent.cityos.residents.residents import Residents

# (model pack, templates enrolled, values in each) -> the cosine from which two faces are taken for
# one person's. Raises ModelError for a pack that is not known, or has templates of another size.
Threshold = Callable[[str, int, int], float]


class Faces:
    """Everybody's templates in memory, mapped by the city's own key; drop it when done.

    2 KB a template of 512 values: 155 MB for 25,324 people with three each.
    """

    def __init__(self, residents: Residents, threshold: Threshold) -> None:
        self._residents = residents
        self._threshold = threshold
        self._packs: dict[tuple[str, int], tuple[list[Vector], list[bytes]]] = {}

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

    def add(self, ref: bytes, templates: Mapping[str, Vector]) -> None:
        """Somebody was enrolled meanwhile."""
        for pack, rows in templates.items():
            found = self._packs.get((pack, rows.shape[1]))
            if found is not None:
                blocks, owners = found
                blocks.append(_units(rows))
                owners += [ref] * len(rows)
                if len(blocks) > 256:  # many small products are slow
                    blocks[:] = [np.concatenate(blocks)]

    def _of(self, pack: str, values: int) -> tuple[list[Vector], list[bytes]]:
        found = self._packs.get((pack, values))
        if found is None:
            self._threshold(pack, 0, values)  # nobody's templates are opened for what is no such
            blocks: list[Vector] = []
            owners: list[bytes] = []
            for ref, rows in self._residents.templates(pack):
                if rows.shape[1] == values:
                    blocks.append(_units(rows))
                    owners += [ref] * len(rows)
            found = self._packs[pack, values] = ([np.concatenate(blocks)] if blocks else [], owners)
        return found


def _units(rows: Vector) -> Vector:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    units: Vector = (rows / np.maximum(lengths, 1e-6)).astype(np.float32)
    return units
