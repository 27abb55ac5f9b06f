"""A town's authorities, one device's certificate and its signers, made once for these tests."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from agent.cityos.pki.ca import Authority
from agent.keys.certificates import new_key
from agent.protocol.commands import Replay, replay_arguments
from agent.protocol.control import Command, encode_unsigned
from agent.protocol.signed import Signer, Trust


@dataclass(frozen=True)
class Town:
    """Who may sign what in one town."""

    authority: Authority
    trust: Trust
    gallery: Signer
    command: Signer

    def device(self, name: str) -> Signer:
        """A device of this town."""
        key = new_key()
        public = load_pem_private_key(key, None).public_key()
        certificate = self.authority.sign_device(public, name, "serial")  # type: ignore[arg-type]
        return Signer(certificate.public_bytes(Encoding.PEM), key)


def unsigned(command_id: str, replay: Replay) -> bytes:
    """A replay as a city without a signing key publishes it."""
    told = Command("bus-1", command_id, 0, 0, 0, "replay", replay_arguments(replay))
    return encode_unsigned(told)


def make_town(directory: Path) -> Town:
    authority = Authority.create(directory, "test town")
    return Town(
        authority,
        Trust(authority.certificates_pem()),
        authority.signer("gallery"),
        authority.signer("command"),
    )
