"""Builds what keeps a device's gallery the city's: lease, admission, and the downlink's thread."""

from __future__ import annotations

from collections.abc import Callable

from agent.base.errors import GalleryError
from agent.base.events import Moment
from agent.device.clock import boottime_ms
from agent.door.faces import Board, Faces
from agent.gallery.city.admission import Admission
from agent.gallery.city.lease import LEASE_FILE, Lease, LeaseFile, LeaseTiming
from agent.gallery.file.store import GalleryStore
from agent.gallery.gallery import Gallery
from agent.keys.ring import KeyRing
from agent.link.galleries.fetch import Timing
from agent.link.galleries.worker import Downlink, SigningIdentity, known_ms
from agent.recognition.rules import both_sides, pack_change
from agent.settings.model import Settings
from agent.wiring.parts import Networks
from agent.wiring.provisioning import signing


def open_faces(
    settings: Settings,
    ring: KeyRing,
    gallery: Gallery,
    networks: Networks,
    now: Callable[[], Moment],
    health: Board,
) -> tuple[Faces, Downlink | None]:
    """What a door searches, and what keeps it the city's; None where the gallery is its own.

    Raises GalleryError when *gallery* holds the city's, but the settings say it is the device's.
    """
    models, city = settings.models, gallery.city_version()
    downlink = downlink_for(settings, ring, now) if settings.gallery.source == "city" else None
    if downlink is None and city is not None:
        raise GalleryError(
            f"the gallery holds version {city.version} of the city's, which may not be used "
            'without the city\'s word; set gallery.source = "city", or move gallery.db away'
        )
    faces = Faces(
        gallery,
        networks.use,
        downlink.admission if downlink else own_admission(now),
        health,
        purpose=settings.place.kind,
        sides_for=lambda own, former: both_sides(
            settings.decision, networks.calibrations, own, former
        ),
        change_of_packs=lambda left: pack_change(models.pack, models.former, left),
        former=models.former,
        own_key=ring.pseudonym_key,
    )
    if downlink is not None:
        downlink.on_change(faces.changed)
    return faces, downlink


def own_admission(now: Callable[[], Moment]) -> Admission:
    """Who may be matched where the gallery is this device's own: nobody has to be asked."""
    return Admission(lambda: known_ms(now()), lambda: "")


def downlink_for(
    settings: Settings,
    ring: KeyRing,
    now: Callable[[], Moment],
) -> Downlink:
    """The city's gallery on this device, whose file is open and checked already."""
    directory, kind = settings.state_directory, settings.place.kind
    wanted = settings.gallery
    lease = Lease(
        LeaseTiming(round(wanted.lease_hours * 3_600_000), round(wanted.confirm_seconds * 1000)),
        LeaseFile(directory / LEASE_FILE, ring.lease_key()),
        now().boot,
        boottime_ms,
    )
    return Downlink(
        settings.device.name,
        kind,
        store=lambda: GalleryStore(directory / "gallery.db", ring, domain=kind, checked=True),
        identity=lambda: SigningIdentity(*signing(settings)),
        private_key=ring.receive_key(),
        lease=lease,
        now=now,
        timing=Timing(check_ms=round(wanted.check_seconds * 1000)),
    )
