"""Exact search: who in the gallery is nearest to a probe, and how near is anybody else.

Templates are held in float32: 52 MB for 25,324 people, 2 GB for 1,000,000. Half of it was tried,
each time exactly (fewer bits to bound the scores, then the few that may be best in full), and does
not pay. float16 takes 3 to 7 times the product, because NumPy converts it value by value. Two bytes
a value, the coarse one searched in blocks of 256 rows, takes 0.4 to 3 times the product for one
probe, by how fast the memory is; but its hundred small products wait for the threads of BLAS, and
with eight probes beside other load that made 1 s of 25 ms.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from agent.base.values import Candidate, Vector
from agent.recognition.templates import TemplateSet

NOBODY_ELSE = -1.0  # the lowest cosine there is
NO_ROWS: NDArray[np.intp] = np.zeros(0, np.intp)
FEW_PROBES = 6
BLOCK_ROWS = 2_048  # 4 MB of templates


class Matcher:
    """Compares probes with every template; costs one matrix product and a look over its result.

    Holds no state that changes: any number of threads may search.
    """

    def __init__(self, templates: TemplateSet) -> None:
        self._matrix = templates.matrix
        self._owners = templates.owners
        self._ids = templates.ids
        # Row i .. j of person k are starts[k] .. starts[k + 1].
        self._starts = np.searchsorted(templates.owners, np.arange(len(templates.ids) + 1))

    @property
    def people(self) -> int:
        return len(self._ids)

    @property
    def rows(self) -> int:
        return len(self._matrix)

    def rows_of(self, people: Collection[str]) -> NDArray[np.intp]:
        """The numbers of the rows of *people*; of those who are not here there are none."""
        numbers = [k for k, person in enumerate(self._ids) if person in people]
        return np.flatnonzero(np.isin(self._owners, numbers))

    def search(self, probes: Vector, without: NDArray[np.intp] = NO_ROWS) -> list[Candidate]:
        """The best person for each probe, in order, and the best of anybody else.

        *probes* is float32 (m, d) with rows of length 1. A person's similarity is the highest of
        their templates'. ``runner_up`` is -1 when there is nobody else; in an empty gallery
        ``person`` is None and ``similarity`` 0. Raises ValueError if d is not the templates' or a
        probe is not finite: a broken model must not look like an answer. The rows *without* are
        those of nobody.
        """
        if probes.ndim != 2 or not np.all(np.isfinite(probes)):
            raise ValueError(f"probes must be finite and of shape (m, d), got {probes.shape}")
        if not self._ids:
            return [Candidate(None, 0.0, NOBODY_ELSE) for _ in probes]
        if probes.shape[1] != self._matrix.shape[1]:
            raise ValueError(
                f"probes have {probes.shape[1]} values, the templates {self._matrix.shape[1]}:"
                " they come from different models"
            )
        similarities = self._product(probes)
        similarities[:, without] = NOBODY_ELSE
        return [self._best(row) for row in similarities]

    def _product(self, probes: Vector) -> Vector:
        """Every probe with every row, float32 (m, rows).

        At a door the templates come from memory, not from a cache, and a matrix product of few
        columns copies them on the way: 4.0 ms for two probes and 25,324 people where these
        products, a block that stays in the cache after the other, take 2.0. From eight on the
        product of all is as quick, the templates first: half the time of the probes first.
        """
        if len(probes) > FEW_PROBES:
            return np.ascontiguousarray((self._matrix @ probes.T).T)
        found = np.empty((len(probes), len(self._matrix)), np.float32)
        few = probes.astype(np.float32, copy=False)
        step = BLOCK_ROWS if len(few) > 1 else len(self._matrix)
        for start in range(0, len(self._matrix), step):
            block = self._matrix[start : start + step]
            for probe, row in zip(few, found, strict=True):
                np.dot(block, probe, out=row[start : start + step])
        return found

    def _best(self, similarities: Vector) -> Candidate:
        """Overwrites *similarities* in the rows of the best person."""
        row = int(similarities.argmax())
        best = float(similarities[row])
        if best <= NOBODY_ELSE:
            return Candidate(None, 0.0, NOBODY_ELSE)
        owner = int(self._owners[row])
        similarities[self._starts[owner] : self._starts[owner + 1]] = NOBODY_ELSE
        # Rounding may carry a cosine a little past its ends.
        return Candidate(
            person=self._ids[owner],
            similarity=min(best, 1.0),
            runner_up=min(max(float(similarities.max()), NOBODY_ELSE), 1.0),
        )


class PatchedMatcher:
    """A search of *base* without some people, and of some others beside it.

    A change of few people in a large gallery is in force at once and takes no second copy of it.
    """

    def __init__(self, base: Matcher, gone: Collection[str], new: TemplateSet) -> None:
        """Nobody who is both in *base* and in *new* may be missing in *gone*."""
        self._base = base
        self._dead = base.rows_of(gone)
        self._new = Matcher(new)

    def search(self, probes: Vector) -> list[Candidate]:
        """As ``Matcher.search``."""
        new = self._new.search(probes)
        return [
            _better(old, other)
            for old, other in zip(self._base.search(probes, self._dead), new, strict=True)
        ]


def _better(one: Candidate, other: Candidate) -> Candidate:
    """The best of two searches of different people."""
    if one.person is None or (other.person is not None and other.similarity > one.similarity):
        one, other = other, one
    if one.person is None or other.person is None:
        return one
    runner_up = max(one.runner_up, other.similarity)
    return Candidate(one.person, one.similarity, runner_up)
