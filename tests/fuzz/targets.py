"""What is attacked: every way in from the network, settings files, gallery files."""

from __future__ import annotations

import base64
import json
import random
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from agent.base.errors import GalleryError, MessageError, SettingsError
from agent.base.values import Ack, Nack, Vector
from agent.gallery.gallery import Gallery
from agent.keys.ring import KeyRing
from agent.link.uplink.uplink import Totals, Uplink, UplinkLimits
from agent.protocol import consent, control
from agent.protocol import hpke as sealing
from agent.protocol.galleries import bodies, records
from agent.protocol.galleries import messages as gallery
from agent.protocol.messages import encode_ack
from agent.protocol.signed import Signer
from agent.settings.model import Settings, load
from tests.events import EPOCH
from tests.fuzz.city import City, Est
from tests.fuzz.downlink import DeviceGallery
from tests.fuzz.mutate import dumps, spoil_bytes, spoil_value
from tests.fuzz.target import REFUSED, TAKEN, Target
from tests.link.uplink.outbox import MemoryOutbox
from tests.protocol.town import make_town

NOW_MS = time.time_ns() // 1_000_000


class Signed(Target):
    """A signed message: its bytes spoilt, its content spoilt and signed again, a wrong signer."""

    def __init__(
        self,
        name: str,
        kind: str,
        message: bytes,
        signer: Signer,
        wrong: Signer,
        read: Callable[[bytes], object],
    ) -> None:
        self.name = name
        self._kind = kind
        self._message = message
        self._signer, self._wrong = signer, wrong
        self._read = read
        payload = message.split(b".")[1]
        self._payload = json.loads(base64.urlsafe_b64decode(payload + b"=" * (-len(payload) % 4)))

    def spoilt(self, chance: random.Random) -> bytes:
        way = chance.randrange(4)
        if way == 0:
            return spoil_bytes(self._message, chance)
        if way == 1:  # only the signature's own bytes
            head, payload, signature = self._message.split(b".")
            return b".".join([head, payload, spoil_bytes(signature, chance)])
        if way == 2:
            return self._wrong.sign(self._kind, self._payload)
        spoilt = spoil_value(self._payload, chance)
        try:
            return self._signer.sign(self._kind, spoilt)
        except ValueError:  # a lone surrogate, a number of 400 digits: no signer could
            return spoil_bytes(dumps(spoilt), chance)

    def seeds(self) -> list[bytes]:
        return [dumps(self._payload)]

    def guided(self, content: bytes) -> None:
        # Behind the signature, where guessing alone never comes.
        try:
            payload = json.loads(content)
            message = self._signer.sign(self._kind, payload)
        except (ValueError, RecursionError):
            return
        self.feed(message)

    def feed(self, message: bytes) -> str:
        try:
            self._read(message)
        except MessageError:
            return REFUSED
        return TAKEN


class Plain(Target):
    """Bytes or JSON that are read by one function."""

    def __init__(self, name: str, seeds: list[bytes], read: Callable[[bytes], object]) -> None:
        self.name = name
        self._seeds = seeds
        self._read = read

    def seeds(self) -> list[bytes]:
        return self._seeds

    def spoilt(self, chance: random.Random) -> bytes:
        seed = chance.choice(self._seeds)
        if chance.random() < 0.5:
            try:
                return dumps(spoil_value(json.loads(seed), chance))
            except ValueError:
                pass  # not JSON as a whole
        return spoil_bytes(seed, chance)

    def feed(self, message: bytes) -> str:
        try:
            self._read(message)
        except MessageError:
            return REFUSED
        return TAKEN


class Sealed(Plain):
    """Bytes under a key of this run: what opens once opens never again, so nothing is kept."""

    def seeds(self) -> list[bytes]:
        return []


class Acks(Plain):
    """Acks against an uplink with events in flight."""

    def __init__(self) -> None:
        seeds = [
            encode_ack(Ack(EPOCH, 3, ((5, 9),), (Nack(4, "bad_kind"),), NOW_MS)),
            encode_ack(Ack(EPOCH, 0, (), (), NOW_MS)),
        ]
        super().__init__("device: acks", seeds, lambda _: None)
        self._begin()

    def _begin(self) -> None:
        self._outbox = MemoryOutbox()
        self._outbox.fill(20)
        self._totals = Totals()
        self._uplink = Uplink(
            self._outbox, lambda _: None, UplinkLimits(batch_events=5), self._totals
        )
        self._uplink.connected()
        self._uplink.turn(0)

    def feed(self, message: bytes) -> str:
        before = self._totals.rejected_messages
        if self._uplink.receive_ack(message, 0):
            self._begin()
            return TAKEN
        assert self._totals.rejected_messages == before + 1, "refused, but not counted"
        return REFUSED

    def state(self) -> object:
        return dict(self._outbox.states)


class SettingsFile(Target):
    """A settings file with mistakes in it: all are named, and nothing else happens."""

    share = 1
    name = "device: settings file"

    def __init__(self, folder: Path) -> None:
        self._path = folder / "settings.toml"
        defaults = Settings().model_dump(mode="json")
        lines = []
        for section, values in defaults.items():
            lines.append(f"[{section}]")
            lines += [f"{key} = {json.dumps(v)}" for key, v in values.items() if v is not None]
        self._seed = "\n".join(lines).encode()

    def spoilt(self, chance: random.Random) -> bytes:
        return spoil_bytes(self._seed, chance)

    def feed(self, message: bytes) -> str:
        self._path.write_bytes(message)
        try:
            load(self._path)
        except SettingsError as error:
            problems = error.problems
        else:
            return TAKEN
        assert problems, "refused without a reason"
        return REFUSED


class GalleryFile(Target):
    """A gallery file with damage in it: opened and salvaged, or refused with what to do."""

    share = 0  # slow; see ``most``
    name = "device: gallery file"

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "damaged"
        self._folder.mkdir()
        self._path = self._folder / "gallery.db"
        self._ring = KeyRing(bytes(range(32)))
        with Gallery(self._path, self._ring, "p") as gallery_file:
            for number in range(20):
                gallery_file.enroll(f"r-{number}", unit(number), now_ms=NOW_MS)
        self._seed = self._path.read_bytes()

    def spoilt(self, chance: random.Random) -> bytes:
        return spoil_bytes(self._seed, chance)

    def feed(self, message: bytes) -> str:
        for old in self._folder.iterdir():
            old.unlink()
        self._path.write_bytes(message)
        self._path.chmod(0o600)
        try:
            with Gallery(self._path, self._ring, "p") as found:
                found.load()
                return REFUSED if found.salvaged else TAKEN
        except GalleryError:
            return REFUSED


def unit(seed: int, count: int = 1, values: int = 512) -> Vector:
    """Made-up templates: rows of length 1 that are nobody's."""
    rows = np.random.default_rng(seed).normal(size=(count, values)).astype(np.float32)
    found: Vector = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return found


def all_targets(folder: Path) -> list[Target]:
    """Every target, its files in *folder*."""
    town = make_town(folder / "ca")
    device, other = town.device("bus-1"), town.device("bus-2")
    chance = random.Random(20261128)
    trust, root, key = town.trust, "ab" * 32, bytes(8)
    head = gallery.Head("bus", 7, 3, root, root, 1, 1, NOW_MS, key, NOW_MS)
    hello = gallery.Hello("bus-1", "bus", (7, 3), root, key, bytes(16), bytes(32))
    want = gallery.Want("bus-1", "bus", 7, 3, "bucket", 0, (1, 2))
    now = gallery.Now("bus-1", "bus", (7, 3), root, bytes(16), NOW_MS)
    wrapped = gallery.WrappedKeys("bus-1", "bus", key, chance.randbytes(400))
    command = control.Command("bus-1", "c-1", 4, NOW_MS, 60, "replay", {"epoch": "e", "from": 1})
    config = control.Config("bus-1", 3, 2, {"decision": {"fpir": 0.01}})
    record = records.Record(
        "r-1", ("bus",), "はな", templates={"p": unit(1, 3, 8), "q": unit(2, 1, 8)}
    )
    encoded = records.encode_record(record)
    label = bodies.Label("bus", 7, 3, "bucket", 9, key)
    content_key = chance.randbytes(32)
    body = bodies.encode_changes(
        [bodies.present("r-1", encoded), bodies.Change(bytes(32), None), bodies.present("b", b"x")]
    )
    private = chance.randbytes(32)
    enrolment = consent.seal_enrolment(
        consent.EnrolmentRecord(record, 1, ()), "bus-1", sealing.public_key_of(private)
    )

    def signed(
        name: str,
        kind: str,
        message: bytes,
        read: Callable[..., object],
        right: Signer,
        wrong: Signer,
    ) -> Signed:
        def check(given: bytes) -> object:
            if read is gallery.read_head:
                return gallery.read_head(given, trust, wall_ms=NOW_MS)
            return read(given, trust, "bus-1", wall_ms=NOW_MS)

        return Signed(name, kind, message, right, wrong, check)

    return [
        Acks(),
        signed("device: heads", gallery.HEAD, gallery.sign_head(head, town.gallery),
               gallery.read_head, town.gallery, town.command),
        signed("device: freshness", gallery.NOW, gallery.sign_now(now, town.command),
               gallery.read_now, town.command, town.gallery),
        signed("device: keys", gallery.KEY, gallery.sign_keys(wrapped, town.command),
               gallery.read_keys, town.command, device),
        signed("device: commands", control.COMMAND, control.sign_command(command, town.command),
               control.read_command, town.command, device),
        signed("device: settings", control.CONFIG, control.sign_config(config, town.command),
               control.read_config, town.command, device),
        signed("city: hellos", gallery.ASK, gallery.sign_hello(hello, device),
               gallery.read_ask, device, other),
        signed("city: wants", gallery.ASK, gallery.sign_want(want, device),
               gallery.read_ask, device, town.command),
        Plain("device: parts", bodies.cut(label, bodies.seal(label, body, content_key), 2_000),
              bodies.read_part),
        Sealed("device: sealed bodies", [bodies.seal(label, body, content_key)],
              lambda given: bodies.unseal(label, given, content_key)),
        Plain("device: opened bodies", [body], bodies.decode_changes),
        Plain("device: records", [encoded], records.decode_record),
        Sealed("city: enrolments", [enrolment],
              lambda given: consent.open_enrolment(given, "bus-1", private)),
        Plain("city: results", [control.encode_result(control.CommandResult("c-1", "failed", "r"))],
              control.decode_result),
        Plain("city: reports", [control.encode_report(control.SettingsReport(1, 2, ("p",)))],
              control.decode_report),
        DeviceGallery(folder, town),
        City(folder),
        Est(folder, town),
        SettingsFile(folder),
        GalleryFile(folder),
    ]  # fmt: skip
