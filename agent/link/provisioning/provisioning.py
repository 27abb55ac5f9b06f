"""From a claim to a certificate in use, and from an old certificate to the next, cut-proof.

Every step leaves its result on disk before the next begins, and only the last one changes who the
device is. Whatever happens in between (no network, no approval, no power), the same call again
goes on where it stopped, with the same key: the city knows by the key that it is the same request.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass

from agent.base.errors import KaopassError, ProvisioningError
from agent.base.ports import CertificateService
from agent.base.values import BUILT_MS, Pending
from agent.keys.certificates import (
    Chained,
    Identity,
    chained,
    key_fingerprint,
    new_key,
    read_identity,
    signing_request,
)
from agent.link.provisioning.credentials import (
    AUTHORITIES,
    CERTIFICATE,
    KEY,
    TRUST,
    Generation,
    IdentityFolder,
    Plan,
)

STEPS = ("key", "authorities", "answer", "certificate", "connected", "committed", "cleaned")


@dataclass(frozen=True, slots=True)
class Provisioned:
    """The identity now in use. ``resumed``: an earlier attempt was gone on with."""

    identity: Identity
    resumed: bool


def no_step(name: str) -> None:
    """Nobody watches."""
    del name


def no_word(identity: Identity) -> None:
    """Nobody has to know before it is put into use."""
    del identity


class Provisioning:
    """Gets certificates from *service* and puts them into *folder*.

    *connect* proves that a generation is accepted by the broker, or raises KaopassError; nothing
    is committed before. *on_step* hears each of STEPS once it is on disk, and "waiting" while
    somebody has to approve, for at most *wait_seconds*.
    """

    def __init__(
        self,
        folder: IdentityFolder,
        service: CertificateService,
        connect: Callable[[Generation], None],
        *,
        wait_seconds: float = 0.0,
        on_step: Callable[[str], None] = no_step,
        sleep: Callable[[float], object] = time.sleep,
        wall_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._folder = folder
        self._service = service
        self._connect = connect
        self._wait_seconds = wait_seconds
        self._on_step = on_step
        self._sleep = sleep
        self._wall_ms = wall_ms

    def enrol(
        self,
        server: str,
        device: str,
        serial: str,
        claim: str,
        trust: bytes | None,
        before_use: Callable[[Identity], None] = no_word,
    ) -> Provisioned:
        """Use *claim* once. *trust* (PEM) is what the server was trusted by, None: the system.

        *before_use* hears of the new identity once it is proven. Raises KaopassError, and what
        *before_use* raises; what the device was before, it still is then.
        """
        code = canonical_claim(claim)
        proof = hashlib.sha256(code.encode()).hexdigest()
        plan = Plan("claim", server, device, serial, proof)
        with self._folder.locked():
            return self._run(
                plan, trust, lambda request: self._service.enroll(request, device, code), before_use
            )

    def renew(self, before_use: Callable[[Identity], None] = no_word) -> Provisioned:
        """The next certificate for what is current. Raises KaopassError as ``enrol`` does."""
        with self._folder.locked():
            current = self._folder.current()
            if current is None:
                raise ProvisioningError("this device has no certificate yet; run kaopass provision")
            ends_ms = read_identity(current.read(CERTIFICATE) or b"").not_after_ms
            if self._wall_ms() >= max(BUILT_MS, ends_ms):
                raise ProvisioningError(
                    "the device's certificate has ended, so nothing can be asked for with it; "
                    "check the clock, else get a new claim and run kaopass provision"
                )
            old = current.plan
            plan = Plan("renewal", old.server, old.device, old.serial, current.folder.name)
            return self._run(plan, current.read(TRUST), self._service.reenroll, before_use)

    def _run(
        self,
        plan: Plan,
        trust: bytes | None,
        ask: Callable[[bytes], bytes | Pending],
        before_use: Callable[[Identity], None],
    ) -> Provisioned:
        generation = self._folder.begun(plan)
        resumed = generation is not None
        if generation is None:
            generation = self._folder.begin(plan, new_key())
        if trust is not None and generation.read(TRUST) is None:
            generation.write(TRUST, trust)
        self._on_step("key")
        certificate = generation.read(CERTIFICATE)
        if certificate is None:
            certificate = self._fetch(generation, ask).certificate
        identity = read_identity(certificate)
        self._prove(generation)
        self._on_step("connected")
        before_use(identity)
        self._folder.commit(generation)
        self._on_step("committed")
        self._folder.clean()
        self._on_step("cleaned")
        return Provisioned(identity, resumed)

    def _fetch(self, generation: Generation, ask: Callable[[bytes], bytes | Pending]) -> Chained:
        authorities = self._service.authorities()
        self._on_step("authorities")
        key, plan = generation.read(KEY) or b"", generation.plan
        answer = self._answer(ask, signing_request(key, plan.device, plan.serial), key)
        self._on_step("answer")
        found = chained(answer, authorities, key, plan.device, self._wall_ms())
        generation.write(AUTHORITIES, found.authorities)
        # Last: where there is a certificate, its authorities are there too.
        generation.write(CERTIFICATE, found.certificate)
        self._on_step("certificate")
        return found

    def _answer(self, ask: Callable[[bytes], bytes | Pending], request: bytes, key: bytes) -> bytes:
        until = time.monotonic() + self._wait_seconds
        while isinstance(answer := ask(request), Pending):
            left = until - time.monotonic()
            if left <= 0:
                raise ProvisioningError(
                    "the city has not approved this device yet; its key's fingerprint is "
                    f"{key_fingerprint(key)}; after 'kaopass city device approve' run the same "
                    "command again"
                )
            self._on_step("waiting")
            self._sleep(min(left, max(0.1, answer.retry_seconds)))
        return answer

    def _prove(self, generation: Generation) -> None:
        try:
            self._connect(generation)
        except KaopassError as error:
            raise ProvisioningError(
                f"the new certificate is kept, but not in use: {error}; what this device was "
                "before, it still is; when that is mended, run the same command again"
            ) from error


def canonical_claim(text: str) -> str:
    """A claim as it was made, however it was typed: Crockford's base 32 forgives O, I and L."""
    plain = "".join(text.split()).replace("-", "").upper()
    return plain.translate(str.maketrans("OIL", "011"))
