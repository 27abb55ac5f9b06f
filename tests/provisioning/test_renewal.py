"""Certificates are renewed in good time by the running agent, and never otherwise."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from agent.base.audit import AuditLog, entries
from agent.base.errors import ProvisioningError
from agent.keys.certificates import Identity, read_identity
from agent.link.provisioning.credentials import CERTIFICATE, IdentityFolder, Plan
from agent.link.provisioning.provisioning import Provisioned
from agent.link.provisioning.renewal import Renewal
from agent.settings.model import Settings, load
from agent.wiring.provisioning import renew
from tests.provisioning.town import Town, now_ms, provision, settings_file, town
from tests.waiting import until

__all__ = ["town"]  # a fixture

DAY_MS = 86_400_000


def given_to(town: Town, settings: Settings) -> Provisioned:
    """What *town* gives a device that comes with a claim of its own."""
    fingerprint, claim = town.authority.fingerprint, town.claim()
    return provision(
        settings, server=town.est.url, serial="S1", claim=claim, fingerprint=fingerprint
    )


def identity(fingerprint: str, not_before_ms: int = 0, days: int = 365) -> Identity:
    return Identity("bus-1", "1", not_before_ms, not_before_ms + days * DAY_MS, fingerprint)


def test_renewal_is_due_between_half_and_sixty_percent_spread_over_the_fleet() -> None:
    due = [identity(f"{n * 2**32 // 1000:08x}{'0' * 56}").renew_at_ms / DAY_MS for n in range(1000)]
    assert 182 <= min(due) < 184
    assert 217 < max(due) <= 219.1
    for week in range(5):
        assert sum(183 + 7 * week <= day < 190 + 7 * week for day in due) > 150


class Fleet:
    """An identity folder with one real certificate, and a service that counts."""

    def __init__(self, town: Town, tmp_path: Path) -> None:
        self.folder = IdentityFolder(tmp_path / "identity")
        tls = town.device("bus-1", tmp_path / "d")
        assert tls.certificate is not None
        plan = Plan("claim", "https://localhost:1", "bus-1", "S1", "x")
        with self.folder.locked():
            found = self.folder.begin(plan, b"key")
            found.write(CERTIFICATE, tls.certificate.read_bytes())
            self.folder.commit(found)
        self.identity = read_identity(tls.certificate.read_bytes())
        self.asked = 0
        self.error = ""

    def renew(self) -> Identity:
        self.asked += 1
        if self.error:
            raise ProvisioningError(self.error)
        return self.identity


@pytest.fixture
def fleet(town: Town, tmp_path: Path) -> Fleet:
    return Fleet(town, tmp_path)


def test_nothing_is_asked_before_its_time_nor_with_a_clock_never_set(fleet: Fleet) -> None:
    now = [fleet.identity.renew_at_ms - 1]
    duty = Renewal(fleet.folder, fleet.renew, wall_ms=lambda: now[0])
    assert not duty.turn()
    now[0] = 1000
    assert not duty.turn()
    assert fleet.asked == 0
    now[0] = fleet.identity.renew_at_ms
    assert duty.turn()
    assert fleet.asked == 1


def test_failures_are_tried_again_and_become_an_alarm_only_near_the_end(fleet: Fleet) -> None:
    now = [fleet.identity.renew_at_ms]
    fleet.error = "the city is away"
    duty = Renewal(fleet.folder, fleet.renew, wall_ms=lambda: now[0])
    for _ in range(3):
        assert not duty.turn()
    assert fleet.asked == 3
    assert duty.alarms() == []
    now[0] = fleet.identity.not_after_ms - 29 * DAY_MS
    assert not duty.turn()
    assert duty.alarms() == ["the device's certificate ends in 29 days: the city is away"]
    fleet.error = ""
    assert duty.turn()


def test_a_device_that_was_never_provisioned_is_left_alone(tmp_path: Path) -> None:
    def never() -> Identity:
        raise AssertionError

    duty = Renewal(IdentityFolder(tmp_path / "identity"), never)
    assert not duty.turn()
    assert duty.alarms() == []


def test_the_running_duty_does_not_ask_at_the_start(fleet: Fleet) -> None:
    """A whole town whose power comes back must not ask at once."""
    duty = Renewal(
        fleet.folder,
        fleet.renew,
        check_seconds=0.5,
        wall_ms=lambda: fleet.identity.renew_at_ms,
        draw=lambda: 0.0,
    )
    stop = threading.Event()
    thread = threading.Thread(target=duty.run, args=(stop,))
    thread.start()
    assert fleet.asked == 0
    until(lambda: fleet.asked)
    stop.set()
    thread.join()


def test_a_renewed_device_has_another_key_and_certificate_under_its_name(
    town: Town, tmp_path: Path
) -> None:
    settings = load(settings_file(tmp_path, town))
    first = given_to(town, settings).identity
    folder = IdentityFolder(settings.identity_directory)
    before = folder.current()
    assert before is not None
    old_key = before.key.read_bytes()
    audit = AuditLog(settings.audit_file, b"k" * 32)
    second = renew(settings, audit)
    after = folder.current()
    assert after is not None
    assert (second.device, second.serial != first.serial) == ("bus-1", True)
    assert after.key.read_bytes() != old_key
    assert not before.folder.exists()
    assert [e.action for e in entries(settings.audit_file)] == ["identity.renewed"]
    third = renew(settings, audit)  # with the renewed one, trusting what was received
    assert third.serial != second.serial
    assert len(list(settings.identity_directory.glob("g-*"))) == 1


@pytest.mark.slow
def test_a_revoked_device_is_not_renewed_and_keeps_what_it_has(town: Town, tmp_path: Path) -> None:
    settings = load(settings_file(tmp_path, town))
    given_to(town, settings)
    before = IdentityFolder(settings.identity_directory).current()
    town.revoke("bus-1")
    with pytest.raises(ProvisioningError, match="was revoked; it needs a new claim"):
        renew(settings, AuditLog(settings.audit_file, b"k" * 32))
    after = IdentityFolder(settings.identity_directory).current()
    assert before is not None
    assert after is not None
    assert after.folder == before.folder


@pytest.mark.slow
def test_an_expired_device_is_told_that_it_needs_a_new_claim(town: Town, tmp_path: Path) -> None:
    town.desk._days = 2.5 / 86_400
    settings = load(settings_file(tmp_path, town))
    ends_ms = given_to(town, settings).identity.not_after_ms
    until(lambda: now_ms() > ends_ms + 1000)
    with pytest.raises(ProvisioningError, match="new claim"):
        renew(settings, AuditLog(settings.audit_file, b"k" * 32))
