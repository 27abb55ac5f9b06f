"""The templates a probe is compared with, laid out for search: one matrix, sorted by person."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agent.base.values import Vector


@dataclass(frozen=True, slots=True, eq=False)
class TemplateSet:
    """Templates of many people, all of one model pack.

    ``matrix`` is float32 (n, d), C-contiguous; a row's length, about 1, weighs its scores.
    ``owners`` is int32 (n,), never decreasing: row i belongs to ``ids[owners[i]]``, so each
    person's rows are one slice.
    ``damaged`` counts people of whom something could not be read; what could is included.
    """

    matrix: Vector
    owners: NDArray[np.int32]
    ids: tuple[str, ...]
    damaged: int = 0

    def __post_init__(self) -> None:
        """Raises ValueError where the layout that search relies on is not kept."""
        if self.matrix.ndim != 2 or self.matrix.dtype != np.float32:
            raise ValueError(
                f"matrix is {self.matrix.dtype} {self.matrix.shape}, not float32 (n, d)"
            )
        if not self.matrix.flags.c_contiguous:
            raise ValueError("matrix is not C-contiguous")
        if self.owners.shape != self.matrix.shape[:1]:
            raise ValueError(f"{self.owners.shape} owners for a matrix of {self.matrix.shape}")
        present = np.unique(self.owners)
        if not np.array_equal(present, np.arange(len(self.ids))):
            raise ValueError(f"{len(self.ids)} ids, but rows for {len(present)} people")
        if np.any(np.diff(self.owners) < 0):
            raise ValueError("owners are not sorted")
        self.matrix.setflags(write=False)
        self.owners.setflags(write=False)

    @classmethod
    def build(cls, people: Iterable[tuple[str, Vector]]) -> TemplateSet:
        """Lay out embeddings by person: (n, d) or (d,) each; a repeated id adds to that person.

        Raises ValueError for a row of length 0 or not finite, and for rows of different sizes.
        """
        by_id: dict[str, list[Vector]] = {}
        for person, rows in people:
            by_id.setdefault(person, []).append(np.atleast_2d(np.asarray(rows, np.float32)))
        if not by_id:
            return cls(np.zeros((0, 0), np.float32), np.zeros(0, np.int32), ())
        blocks = [np.concatenate(found) for found in by_id.values()]
        matrix = np.concatenate(blocks)
        lengths = np.linalg.norm(matrix, axis=1, keepdims=True)
        if not np.all(np.isfinite(lengths) & (lengths > 0)):
            raise ValueError("an embedding has length 0 or is not finite")
        owners = np.repeat(np.arange(len(blocks), dtype=np.int32), [len(rows) for rows in blocks])
        return cls(np.ascontiguousarray(matrix), owners, tuple(by_id))
