"""What a running city side does by itself about galleries: publish, forget, keep receipts short."""

from __future__ import annotations

import logging
from collections.abc import Callable

from sqlalchemy import Engine

from agent.base.audit import AuditLog
from agent.base.values import PURPOSES
from agent.cityos.db.database import errors_named
from agent.cityos.galleries import receipts
from agent.cityos.galleries.publishing import Publisher
from agent.cityos.pki.claims import Registry
from agent.cityos.residents.erasing import Eraser
from agent.cityos.residents.profiles import DAY_MS
from agent.protocol.galleries.messages import Head

log = logging.getLogger(__name__)

LOOK_MS = 5_000  # how often it is looked whether a version is due: 0.07 s for 25,324 residents
TIDY_MS = 30_000
KEPT_DAYS = 400  # what silent devices said they have, and versions long replaced
FORGET_MS = 3_600_000  # late events are searched for among all of them


class AutoPublish:
    """Publishes a version when a resident came, changed or left, or a consent lapsed."""

    def __init__(
        self,
        publisher: Publisher,
        sign: Callable[[Head], bytes] | None,
        audit: AuditLog | None = None,
    ) -> None:
        """Without *sign* (the gallery key is elsewhere) it only says what waits."""
        self._publisher = publisher
        self._sign = sign
        self._audit = audit
        self._next_ms = 0
        self._told: set[str] = set()

    def __call__(self, now_ms: int) -> None:
        if now_ms < self._next_ms:
            return
        self._next_ms = now_ms + LOOK_MS
        for gallery in PURPOSES:
            if not self._publisher.is_due(gallery, now_ms):
                self._told.discard(gallery)
            elif self._sign is not None:
                self._publish(gallery, self._sign, now_ms)
            elif gallery not in self._told:
                self._told.add(gallery)
                log.warning(
                    "gallery %s has changes that wait for a signature, as the gallery key is not"
                    " on this machine: kaopass city gallery publish %s --unsigned FILE",
                    *(gallery, gallery),
                )

    def _publish(self, gallery: str, sign: Callable[[Head], bytes], now_ms: int) -> None:
        made = self._publisher.publish(gallery, sign, now_ms)
        if made is not None and self._audit is not None:
            head = made.head
            self._audit.append(
                "gallery.published",
                gallery=gallery,
                epoch=head.epoch,
                version=head.version,
                residents=head.count,
            )


class Tidy:
    """Forgets what everybody has applied, and whose late events still come."""

    def __init__(
        self, engine: Engine, eraser: Eraser, publisher: Publisher, registry: Registry
    ) -> None:
        self._engine = engine
        self._eraser = eraser
        self._publisher = publisher
        self._registry = registry
        self._next_ms = self._forget_ms = 0

    def __call__(self, now_ms: int) -> None:
        if now_ms < self._next_ms:
            return
        self._next_ms = now_ms + TIDY_MS
        for gallery in PURPOSES:
            devices = self._registry.serving(gallery, now_ms)
            with (
                errors_named(self._engine, "receipts cannot be read"),
                self._engine.connect() as db,
            ):
                version = receipts.everybody_has(db, gallery, devices)
            self._publisher.all_have(gallery, version)
        if now_ms >= self._forget_ms:
            self._forget_ms = now_ms + FORGET_MS
            self._eraser.forget_events(now_ms)
            self._eraser.forget_keys(now_ms)
            self._publisher.prune(now_ms - KEPT_DAYS * DAY_MS)
