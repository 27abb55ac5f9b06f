"""Overwriting what nobody points at any more: templates without a key, and files set aside."""

from __future__ import annotations

from collections.abc import Callable

from agent.gallery.file.opening import has_set_aside, remove_set_aside
from agent.gallery.file.rows import seals_by_slot
from agent.gallery.file.store import GalleryStore

SWEPT_ROWS = 2_000  # in one transaction, so that nobody waits long for it


class Sweeper:
    """Knows whether *store* may hold templates of nobody."""

    def __init__(self, store: GalleryStore) -> None:
        self._store = store
        self._littered = True  # a process before this one may have left some

    def litter(self) -> None:
        """Something was left behind: the next ``sweep`` looks for it."""
        self._littered = True

    def sweep(self, whole: Callable[[], bool]) -> None:
        """Overwrite every template that nobody points at any more, and old pages.

        Files set aside after damage go too, once everybody of the version in force is here
        *whole*: nothing is to be rescued from them then, and whoever is gone since is still in
        them. Raises GalleryError when the disk fails or others still read old pages: call again
        later.
        """
        aside = has_set_aside(self._store.path)
        # What lay ready in a damaged file is nobody's in this one.
        if self._littered or aside:
            self._littered = True
            self._delete(self._orphans())
            self._littered = False
        with self._store.errors_named():
            self._store.overwrite_old_pages()
            if aside and whole():
                remove_set_aside(self._store.path)

    def _orphans(self) -> list[tuple[int, bytes]]:
        with self._store.reading():
            live = set(seals_by_slot(self._store.db, self._store.sealer))
            live |= {row[0] for row in self._store.db.execute("SELECT slot FROM staged")}
            rows = self._store.db.execute("SELECT id, ref FROM template")
            return [row for row in rows if row[1] not in live]

    def _delete(self, orphans: list[tuple[int, bytes]]) -> None:
        for start in range(0, len(orphans), SWEPT_ROWS):
            with self._store.writing(told=False):
                self._store.db.conn.executemany(
                    "DELETE FROM template WHERE id = ? AND ref = ?",
                    orphans[start : start + SWEPT_ROWS],
                )
            with self._store.errors_named():
                self._store.overwrite_old_pages()
