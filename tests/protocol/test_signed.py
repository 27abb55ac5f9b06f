"""Signed messages: only the right key, in its role, for its kind, in its time."""

from __future__ import annotations

import base64
import json
import time
from itertools import product
from pathlib import Path

import pytest

from agent.base.errors import MessageError
from agent.protocol.signed import MAX_SIGNED_BYTES, Role, Signer, Trust
from tests.protocol.town import Town, make_town

NOW_MS = time.time_ns() // 1_000_000
YEAR_MS = 366 * 86_400_000


def test_what_was_signed_comes_back_with_who_signed_it(town: Town) -> None:
    message = town.command.sign("kp1-cmd", {"a": 1, "名": "さくら"})
    signed = town.trust.check(message, "kp1-cmd", Role.COMMAND, wall_ms=NOW_MS)
    assert (signed.payload, signed.signer) == ({"a": 1, "名": "さくら"}, "city-command")


def test_each_key_signs_in_its_own_role_alone(town: Town) -> None:
    signers = {
        Role.GALLERY: town.gallery,
        Role.COMMAND: town.command,
        Role.DEVICE: town.device("bus-1"),
    }
    for role, signer in signers.items():
        message = signer.sign("kp1-x", {})
        for asked in Role:
            if asked is role:
                town.trust.check(message, "kp1-x", asked, wall_ms=NOW_MS)
            else:
                with pytest.raises(MessageError):
                    town.trust.check(message, "kp1-x", asked, wall_ms=NOW_MS)


def test_a_message_of_one_kind_is_none_of_another(town: Town) -> None:
    message = town.command.sign("kp1-cmd", {})
    with pytest.raises(MessageError, match="something else"):
        town.trust.check(message, "kp1-cfg", Role.COMMAND, wall_ms=NOW_MS)


def test_another_towns_message_is_refused(town: Town, tmp_path: Path) -> None:
    other = make_town(tmp_path / "ca")
    message = other.command.sign("kp1-cmd", {})
    other.trust.check(message, "kp1-cmd", Role.COMMAND, wall_ms=NOW_MS)
    with pytest.raises(MessageError, match="authority"):
        town.trust.check(message, "kp1-cmd", Role.COMMAND, wall_ms=NOW_MS)


def test_the_issuing_key_cannot_make_a_signer_of_galleries(town: Town, tmp_path: Path) -> None:
    from agent.cityos.pki import ca

    folder = tmp_path / "forged"
    folder.mkdir()
    authority = town.authority
    issuing = authority.certificates()[1]
    ca._write_signer(folder, "gallery", Role.GALLERY, issuing.subject, authority._key, issuing)
    forger = Signer((folder / "gallery.pem").read_bytes(), (folder / "gallery.key").read_bytes())
    with pytest.raises(MessageError, match="authority"):
        town.trust.check(forger.sign("kp1-head", {}), "kp1-head", Role.GALLERY, wall_ms=NOW_MS)


def test_every_flipped_byte_is_noticed(town: Town) -> None:
    message = town.command.sign("kp1-cmd", {"id": "a", "n": 5})
    accepted = []
    for place, bit in product(range(len(message)), (1, 2, 4)):
        changed = bytearray(message)
        changed[place] ^= bit
        try:
            signed = town.trust.check(bytes(changed), "kp1-cmd", Role.COMMAND, wall_ms=NOW_MS)
        except MessageError:
            continue
        accepted.append((place, signed))
    # The last digits of base64 may hold bits that mean nothing; what is said is the same then.
    assert all(signed.payload == {"id": "a", "n": 5} for _, signed in accepted)
    assert len(accepted) <= 6


def test_a_certificate_counts_in_its_time_but_an_unset_clock_does_not_stop_the_device(
    town: Town,
) -> None:
    message = town.device("bus-1").sign("kp1-ask", {})
    with pytest.raises(MessageError, match="clock"):
        town.trust.check(message, "kp1-ask", Role.DEVICE, wall_ms=NOW_MS + YEAR_MS)
    assert town.trust.check(message, "kp1-ask", Role.DEVICE, wall_ms=0).signer == "bus-1"


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"..",
        b"a.b.c",
        b"\xff" * 100,
        b"[]",
        b"e30.e30.e30",
        b"A" * (MAX_SIGNED_BYTES + 1),
        base64.urlsafe_b64encode(b"[" * 40_000).rstrip(b"=") + b".e30.AA",
    ],
)
def test_nonsense_is_refused_in_one_way(town: Town, message: bytes) -> None:
    with pytest.raises(MessageError):
        town.trust.check(message, "kp1-cmd", Role.COMMAND, wall_ms=NOW_MS)


@pytest.mark.parametrize("alg", ["none", "HS256", "ES256", "RS256"])
def test_the_header_does_not_choose_how_it_is_checked(town: Town, alg: str) -> None:
    head, payload, signature = town.command.sign("kp1-cmd", {}).split(b".")
    header = json.loads(base64.urlsafe_b64decode(head + b"=="))
    header["alg"] = alg
    forged = base64.urlsafe_b64encode(json.dumps(header).encode()).rstrip(b"=")
    with pytest.raises(MessageError):
        town.trust.check(
            b".".join([forged, payload, signature]), "kp1-cmd", Role.COMMAND, wall_ms=NOW_MS
        )


def test_a_signer_shows_no_key(town: Town) -> None:
    assert repr(town.command) == "Signer('city-command')"


def test_key_and_certificate_must_belong_together(town: Town) -> None:
    folder = town.authority.directory
    with pytest.raises(MessageError, match="belong together"):
        Signer((folder / "gallery.pem").read_bytes(), (folder / "command.key").read_bytes())


def test_authorities_without_a_root_are_refused(town: Town) -> None:
    with pytest.raises(MessageError, match="root"):
        Trust((town.authority.directory / "issuing.pem").read_bytes())
