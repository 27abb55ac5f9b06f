"""What is attacked at the city: its intake of events and births, and its EST server."""

from __future__ import annotations

import base64
import json
import random
import time
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from agent.base.events import StoredEvent
from agent.base.values import Message
from agent.cityos.events.intake import Intake
from agent.cityos.events.store import Store
from agent.cityos.keys.audit import audit_log
from agent.cityos.pki.claims import Registry
from agent.cityos.service.estdesk import PATH, Desk, Request
from agent.cityos.usecases.office import CityPlaces, Office
from agent.keys.certificates import new_key, signing_request
from agent.protocol.items import encode_event
from agent.protocol.messages import Birth, Bounds, encode_birth, pack
from tests.events import EPOCH, one_of_each, stored
from tests.fuzz.mutate import dumps, spoil_bytes, spoil_value
from tests.fuzz.target import REFUSED, TAKEN, Target
from tests.protocol.town import Town

NOW_MS = time.time_ns() // 1_000_000


class City(Target):
    """What a device may publish, against the city's intake and its database."""

    share = 2

    def __init__(self, folder: Path) -> None:
        self.name = "city: events and births"
        self._store = Store(str(folder / "city.db"))
        self._intake = Intake(self._store)
        events = [encode_event(stored(seq)) for seq in range(1, 13)]
        kinds = [
            encode_event(StoredEvent(EPOCH, seq, event))
            for seq, event in enumerate(one_of_each(), start=13)
        ]
        self._batches = [
            *(b"[" + b",".join(several) + b"]" for several in (events[:2], kinds[:9], kinds[9:])),
            pack(events),
        ]
        birth = Birth(1, EPOCH, (Bounds(EPOCH, 1, 12),), "0.1.0")
        self._birth = encode_birth(birth)

    def spoilt(self, chance: random.Random) -> bytes:
        topic = chance.choice([b"kp1/bus-1/u/ev", b"kp1/bus-1/u/st", b"kp1/bus-1/u/res"])
        seed = self._birth if topic.endswith(b"st") else chance.choice(self._batches)
        if chance.random() < 0.5 and seed[:1] in b"[{":
            body = dumps(spoil_value(json.loads(seed), chance))
        else:
            body = spoil_bytes(seed, chance)
        if chance.random() < 0.05:
            topic = spoil_bytes(topic, chance)
        return topic + b"\0" + body

    def feed(self, message: bytes) -> str:
        topic, _, body = message.partition(b"\0")
        before = self._intake.status
        self._intake.take([Message(topic.decode("utf-8", "replace"), body)])
        after = self._intake.status
        refused = after.refused_messages + after.rejected_events
        return REFUSED if refused > before.refused_messages + before.rejected_events else TAKEN

    def close(self) -> None:
        self._store.close()


class Est(Target):
    """Requests for certificates, against the desk behind the EST server."""

    share = 2

    def __init__(self, folder: Path, town: Town) -> None:
        self.name = "city: EST"
        self._registry = Registry(town.authority.directory)
        places = CityPlaces(town.authority.directory)
        self._desk = Desk(Office(places, town.authority, self._registry, audit_log(folder)))
        self._code = self._registry.claim("bus-9", "S9", 1.0, NOW_MS, lambda: None)
        key = new_key()
        self._csr = base64.encodebytes(signing_request(key, "bus-9", "S8"))  # never granted
        certificate = x509.load_der_x509_csr(signing_request(key, "bus-9", "S8"))
        issued = town.authority.sign_device(certificate.public_key(), "bus-9", "S8")
        self._peer = issued.public_bytes(Encoding.DER)

    def spoilt(self, chance: random.Random) -> bytes:
        login = base64.b64encode(f"bus-9:{self._code}".encode())
        pieces = [
            chance.choice([b"simpleenroll", b"simplereenroll", b"cacerts", b"csrattrs"]),
            b"Basic " + login,
            self._csr,
            self._peer,
        ]
        for place in range(len(pieces)):
            if chance.random() < 0.5:
                pieces[place] = spoil_bytes(pieces[place], chance)
        return b"\0\1\2".join(pieces)

    def feed(self, message: bytes) -> str:
        path, login, body, peer = (*message.split(b"\0\1\2"), b"", b"", b"")[:4]
        answer = self._desk.answer(
            Request(
                method="POST" if b"roll" in path else "GET",
                path=PATH + path.decode("latin-1"),
                authorization=login.decode("latin-1"),
                body=body,
                peer=self._peer if peer == self._peer else None,
            )
        )
        assert answer.status < 500, f"the server answered {answer.status}"
        return TAKEN if answer.status == 200 and b"enroll" in path else REFUSED

    def state(self) -> object:
        return self._registry.devices(NOW_MS)

    def close(self) -> None:
        self._registry.close()
