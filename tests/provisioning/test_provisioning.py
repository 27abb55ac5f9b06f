"""From a claim to a certificate in use, on real TLS and a real broker, with all that can happen."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from agent.base.audit import AuditLog, entries
from agent.base.errors import AuditError, KaopassError, ProvisioningError, UsageError
from agent.base.values import LinkUp
from agent.cityos.service.estdesk import Request, Response
from agent.hw.net.mqtt import MqttLink
from agent.link.provisioning.credentials import IdentityFolder
from agent.link.provisioning.provisioning import STEPS, Provisioned
from agent.settings.model import Settings, load
from agent.wiring.provisioning import broker_tls
from tests.provisioning.town import Town, noting, now_ms, outcome, provision, settings_file, town
from tests.waiting import LATE_SECONDS

__all__ = ["town"]  # a fixture


class Device:
    """One machine: its settings, and the claim somebody gave to its technician."""

    def __init__(self, town: Town, folder: Path, name: str = "bus-1", serial: str = "S1") -> None:
        folder.mkdir(exist_ok=True)
        self.town = town
        self.file = settings_file(folder, town, name, serial)
        self.settings: Settings = load(self.file)
        self.serial = serial

    def provision(self, claim: str, **options: object) -> Provisioned:
        return provision(
            self.settings,
            server=self.town.est.url,
            serial=self.serial,
            claim=claim,
            fingerprint=self.town.authority.fingerprint,
            **options,  # type: ignore[arg-type]
        )

    @property
    def generations(self) -> list[Path]:
        return sorted(self.settings.identity_directory.glob("g-*"))

    def current(self) -> Path | None:
        found = IdentityFolder(self.settings.identity_directory).current()
        return found.folder if found else None

    def connects(self) -> bool:
        link = MqttLink(
            "localhost",
            self.town.broker.port,
            client_id=self.settings.device.name,
            tls=broker_tls(self.settings),
        )
        try:
            return isinstance(outcome(link), LinkUp)
        finally:
            link.close()


@pytest.fixture
def device(town: Town, tmp_path: Path) -> Device:
    return Device(town, tmp_path / "device")


def test_a_claim_becomes_a_certificate_the_broker_accepts(device: Device) -> None:
    found = device.provision(device.town.claim())
    assert found.identity.device == "bus-1"
    assert device.connects()
    assert len(device.generations) == 1
    for file in device.generations[0].iterdir():
        assert file.stat().st_mode & 0o077 == 0, file


def test_a_certificate_that_cannot_be_noted_is_not_used_and_waits(
    device: Device, tmp_path: Path
) -> None:
    claim = device.town.claim()
    log = tmp_path / "audit.jsonl"
    log.mkdir()
    with pytest.raises(AuditError, match="cannot be noted"):
        device.provision(claim, audit=AuditLog(log, bytes(32)))
    assert device.current() is None
    log.rmdir()
    found = device.provision(claim, audit=AuditLog(log, bytes(32)))
    assert found.resumed
    (entry,) = entries(log)
    assert entry.action == "identity.provisioned"
    assert entry.facts == {"device": "bus-1", "certificate": found.identity.serial}


@pytest.mark.slow
def test_typing_mistakes_of_letters_that_look_alike_do_not_matter(device: Device) -> None:
    claim = device.town.claim().replace("-", " ").lower().replace("0", "o").replace("1", "l")
    assert device.provision(claim).identity.device == "bus-1"


@pytest.mark.slow
def test_repeating_a_finished_provisioning_changes_nothing(device: Device) -> None:
    claim = device.town.claim()
    first = device.provision(claim)
    before = device.current()
    again = device.provision(claim)
    assert again.resumed
    assert again.identity == first.identity
    assert device.current() == before


@pytest.mark.slow
def test_a_claim_used_by_another_machine_is_refused_and_says_so(
    device: Device, tmp_path: Path
) -> None:
    claim = device.town.claim()
    device.provision(claim)
    thief = Device(device.town, tmp_path / "thief")
    with pytest.raises(ProvisioningError, match="used already, with another key"):
        thief.provision(claim)
    assert thief.current() is None


@pytest.mark.parametrize(
    ("name", "serial", "words"),
    [("bus-1", "S2", "for hardware S1, but this one is S2"), ("bus-2", "S1", "for device bus-1")],
)
def test_a_claim_for_another_machine_or_name_is_refused(
    town: Town, tmp_path: Path, name: str, serial: str, words: str
) -> None:
    other = Device(town, tmp_path / "other", name, serial)
    with pytest.raises(ProvisioningError, match=words):
        other.provision(town.claim())
    assert other.current() is None


def test_an_expired_claim_and_a_wrong_one_are_refused(device: Device) -> None:
    registry = device.town.registry
    late = registry.claim("bus-1", "S1", 1.0, now_ms() - 2 * 3_600_000, noting)
    with pytest.raises(ProvisioningError, match="expired"):
        device.provision(late)
    with pytest.raises(ProvisioningError, match="no such claim"):
        device.provision("00000-00000-00000-00000")
    assert device.current() is None


def test_another_authority_is_not_trusted_and_never_hears_the_claim(
    device: Device, tmp_path: Path
) -> None:
    impostor = Town(tmp_path / "impostor")
    heard: list[str] = []
    answer = impostor.desk.answer
    impostor.desk.answer = lambda request: heard.append(request.path) or answer(request)  # type: ignore[method-assign,func-returns-value]
    impostor.start()
    try:
        with pytest.raises(ProvisioningError, match="none of its authorities has the fingerprint"):
            provision(
                device.settings,
                server=impostor.est.url,
                serial="S1",
                claim=device.town.claim(),
                fingerprint=device.town.authority.fingerprint,
            )
        with pytest.raises(ProvisioningError, match="not trusted"):
            provision(
                device.settings,
                server=impostor.est.url,
                serial="S1",
                claim=device.town.claim(),
                authority=device.town.authority.root_file.read_bytes(),
            )
    finally:
        impostor.stop()
    assert heard == ["/.well-known/est/cacerts"]


@pytest.mark.slow
@pytest.mark.parametrize("step", ["key", "authorities", "answer", "certificate"])
def test_the_city_going_down_half_way_leaves_nothing_half_done(device: Device, step: str) -> None:
    """At every point between two requests; after "answer" only the broker is missed."""
    town, claim = device.town, device.town.claim()

    def down(done: str) -> None:
        if done == step:
            town.est.stop()
            town.broker.stop()

    with pytest.raises(ProvisioningError, match="run the same"):
        device.provision(claim, on_step=down)
    assert device.current() is None
    town.est.start()
    town.broker.start()
    assert device.provision(claim).resumed
    assert device.connects()


@pytest.mark.slow
def test_a_certificate_issued_but_never_received_is_sent_again(device: Device) -> None:
    """The answer is lost on the way: the city has issued, the device has nothing."""
    town, claim = device.town, device.town.claim()
    answer = town.desk.answer
    lost: list[int] = []

    def losing(request: Request) -> Response:
        found = answer(request)
        issued = found.status == 200 and b"pkcs10" not in found.body
        if not lost and issued and "enroll" in request.path:
            lost.append(1)
            raise OSError("the cable")
        return found

    town.desk.answer = losing  # type: ignore[method-assign]
    with pytest.raises(ProvisioningError, match="run the same"):
        device.provision(claim)
    assert lost
    device.provision(claim)
    assert town.registry.devices(now_ms())[0].certificates == 1
    assert device.connects()


@pytest.mark.slow
@pytest.mark.parametrize("step", STEPS)
def test_a_power_cut_at_any_step_is_mended_by_the_same_command(device: Device, step: str) -> None:
    """A device that has an identity gets another: killed, it has the old one or the new."""
    town = device.town
    device.provision(town.claim())
    old, claim = device.current(), town.claim()
    spec = {
        "settings": str(device.file),
        "server": town.est.url,
        "claim": claim,
        "fingerprint": town.authority.fingerprint,
        "step": step,
    }
    command = [sys.executable, "-m", "tests.provisioning.driver", json.dumps(spec)]
    ended = subprocess.run(
        command, cwd=Path(__file__).parents[2], check=False, timeout=LATE_SECONDS
    )
    assert ended.returncode == -signal.SIGKILL
    assert (device.current() == old) == (step not in ("committed", "cleaned"))
    assert device.connects()
    device.provision(claim)
    assert device.current() != old
    assert device.connects()
    assert len(device.generations) == 1
    assert town.registry.devices(now_ms())[0].certificates == 2


@pytest.mark.slow
def test_killed_before_every_single_change_of_a_file_it_is_whole_and_goes_on(
    town: Town, tmp_path: Path
) -> None:
    """From nothing, then from identity to identity; the names of the steps play no part here."""
    spec = {"identity": str(tmp_path / "identity"), "server": town.est.url, "ca": str(town.ca)}
    command = [sys.executable, "-m", "tests.provisioning.driver", json.dumps(spec)]
    root = Path(__file__).parents[2]
    found = subprocess.run(
        command, cwd=root, check=False, timeout=120, capture_output=True, text=True
    )
    assert found.returncode == 0, found.stderr
    assert int(found.stdout) > 20


@pytest.mark.slow
def test_what_the_broker_refuses_is_never_put_into_use(device: Device) -> None:
    town = device.town
    device.provision(town.claim())
    old, claim = device.current(), town.claim()

    def revoke(done: str) -> None:
        if done == "certificate":
            town.revoke("bus-1")

    with pytest.raises(ProvisioningError, match="what this device was before, it still is"):
        device.provision(claim, on_step=revoke)
    assert device.current() == old


@pytest.mark.slow
def test_a_request_waits_for_approval_and_says_which_key(device: Device) -> None:
    town = device.town
    claim = town.registry.claim("bus-1", "S1", 1.0, now_ms(), noting, by_hand=True)
    with pytest.raises(ProvisioningError, match="not approved") as refused:
        device.provision(claim)
    waiting = town.registry.devices(now_ms())[0]
    assert waiting.state == "waiting"
    assert waiting.key in str(refused.value)
    assert town.registry.approve("bus-1", noting)
    assert device.provision(claim).resumed
    assert device.connects()


@pytest.mark.slow
def test_it_goes_on_by_itself_once_approved(device: Device) -> None:
    town = device.town
    claim = town.registry.claim("bus-1", "S1", 1.0, now_ms(), noting, by_hand=True)
    steps: list[str] = []

    def approve(step: str) -> None:
        steps.append(step)
        if step == "waiting":
            assert town.registry.approve("bus-1", noting)

    from agent.hw.net.est import EstClient
    from agent.link.provisioning.provisioning import Provisioning
    from agent.wiring.provisioning import prove

    provisioning = Provisioning(
        IdentityFolder(device.settings.identity_directory),
        EstClient(town.est.url, trust=town.authority.root_file.read_bytes()),
        lambda generation: prove(device.settings, generation),
        wait_seconds=60,
        on_step=approve,
        sleep=lambda _: None,
    )
    provisioning.enrol(town.est.url, "bus-1", "S1", claim, None)
    assert steps == ["key", "authorities", "waiting", *STEPS[2:]]


def test_two_at_once_do_not_meet(device: Device) -> None:
    folder = IdentityFolder(device.settings.identity_directory)
    with folder.locked(), pytest.raises(ProvisioningError, match="another command"):
        device.provision(device.town.claim())


@pytest.mark.parametrize(
    ("server", "words"),
    [
        ("http://localhost:1", "give https"),
        ("https://", "give https"),
        ("https://localhost:99999", "not an address"),
        ("https://127.0.0.1:1", "cannot connect"),
    ],
)
def test_a_server_that_is_none_is_named(device: Device, server: str, words: str) -> None:
    with pytest.raises(KaopassError, match=words):
        provision(device.settings, server=server, serial="S1", claim="x", authority=b"")


def test_a_bad_fingerprint_is_refused_before_anything_is_sent(device: Device) -> None:
    with pytest.raises(UsageError, match="64 hexadecimal digits"):
        provision(
            device.settings, server="https://127.0.0.1:1", serial="S1", claim="x", fingerprint="ab"
        )


@pytest.mark.parametrize("server", ["http://localhost:1", "localhost:1", "https://", "https://a:b"])
def test_an_address_that_is_none_is_wrong_usage(device: Device, server: str) -> None:
    with pytest.raises(UsageError, match="--server"):
        provision(device.settings, server=server, serial="S1", claim="x")


@pytest.mark.slow
def test_a_certificate_revoked_before_its_first_use_is_told_as_that(device: Device) -> None:
    """And a new claim makes the same machine a device after all."""
    town, claim = device.town, device.town.claim()
    town.broker.stop()
    with pytest.raises(ProvisioningError, match="kept, but not in use"):
        device.provision(claim)
    town.broker.start()
    town.revoke("bus-1")
    with pytest.raises(ProvisioningError, match="revoked by the city; ask for a new claim"):
        device.provision(claim)
    device.provision(town.claim())
    assert device.connects()
