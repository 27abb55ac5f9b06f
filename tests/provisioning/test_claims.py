"""Claims, certificates and revocations as the registry keeps them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509

from agent.base.errors import CityError, UsageError
from agent.base.values import Pending
from agent.cityos.pki.ca import Authority
from agent.cityos.pki.claims import Issued, Refused, Registry
from tests.provisioning.town import HOUR_MS, noting

NOW = 1_800_000_000_000


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    found = Registry(tmp_path)
    yield found
    found.close()


def issuing(number: str) -> Issued:
    return Issued(number, "pem", NOW + HOUR_MS)


def use(
    registry: Registry, code: str, key: str = "key", number: str = "a1", at: int = NOW
) -> object:
    return registry.use(code, "bus-1", "S1", key, at, lambda: issuing(number))


def test_a_claim_is_not_kept_in_the_clear(registry: Registry, tmp_path: Path) -> None:
    code = registry.claim("bus-1", "S1", 1, NOW, noting)
    assert len(code.replace("-", "")) == 20
    raw = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert code.encode() not in raw
    assert code.replace("-", "").encode() not in raw
    assert b"bus-1" in raw  # so the search can find something


def test_one_key_gets_the_same_certificate_again_and_another_none(registry: Registry) -> None:
    code = registry.claim("bus-1", "S1", 1, NOW, noting)
    assert use(registry, code) == issuing("a1")
    assert use(registry, code, number="b2") == issuing("a1")
    assert isinstance(use(registry, code, key="other"), Refused)


def test_a_claim_ends_with_its_hour_even_for_its_own_key(registry: Registry) -> None:
    code = registry.claim("bus-1", "S1", 1, NOW, noting)
    use(registry, code)
    assert isinstance(use(registry, code, at=NOW + HOUR_MS), Refused)


def test_a_newer_claim_voids_the_older(registry: Registry) -> None:
    old = registry.claim("bus-1", "S1", 1, NOW, noting)
    new = registry.claim("bus-1", "S1", 1, NOW, noting)
    assert isinstance(use(registry, old), Refused)
    assert isinstance(use(registry, new), Issued)


def test_approval_by_hand_binds_the_first_key_that_asks(registry: Registry) -> None:
    code = registry.claim("bus-1", "S1", 1, NOW, noting, by_hand=True)
    assert isinstance(use(registry, code, key="first"), Pending)
    assert isinstance(use(registry, code, key="second"), Refused)
    assert registry.devices(NOW)[0].key == "first"
    assert registry.approve("bus-1", noting)
    assert isinstance(use(registry, code, key="first"), Issued)
    assert not registry.approve("bus-1", noting)


def test_a_certificate_that_could_not_be_signed_leaves_the_claim_as_it_was(
    registry: Registry,
) -> None:
    code = registry.claim("bus-1", "S1", 1, NOW, noting)

    def fail() -> Issued:
        raise CityError("no key")

    with pytest.raises(CityError):
        registry.use(code, "bus-1", "S1", "key", NOW, fail)
    assert isinstance(use(registry, code, key="another"), Issued)


def test_a_change_that_cannot_be_noted_is_not_made(registry: Registry) -> None:
    def fail() -> None:
        raise CityError("audit log full")

    with pytest.raises(CityError):
        registry.claim("bus-1", "S1", 1, NOW, fail)
    assert registry.devices(NOW) == []
    use(registry, registry.claim("bus-1", "S1", 1, NOW, noting))
    with pytest.raises(CityError):
        registry.revoke("bus-1", NOW, fail)
    assert registry.devices(NOW)[0].state == "active"


def test_revoking_voids_certificates_and_claims_until_a_new_claim(registry: Registry) -> None:
    code = registry.claim("bus-1", "S1", 1, NOW, noting)
    use(registry, code)
    assert registry.revoke("bus-1", NOW, noting) == 2
    assert registry.revoke("bus-1", NOW, noting) == 0
    assert registry.revoked(NOW) == [("a1", NOW)]
    assert registry.banned() == ["bus-1"]
    assert isinstance(use(registry, code), Refused)
    renewed = registry.renew("a1", "bus-1", "S1", NOW, lambda: issuing("c3"))
    assert isinstance(renewed, Refused)
    use(registry, registry.claim("bus-1", "S1", 1, NOW, noting), number="d4")
    assert registry.banned() == []
    assert registry.revoked(NOW) == [("a1", NOW)]
    assert registry.revoked(NOW + HOUR_MS) == []  # it has ended by itself


def test_states_are_told_apart(registry: Registry) -> None:
    registry.claim("bus-1", "S1", 1, NOW, noting)
    use(registry, registry.claim("bus-2", "S2", 1, NOW, noting))
    states = {row.name: row.state for row in registry.devices(NOW)}
    assert states == {"bus-1": "claimed", "bus-2": "claimed"}
    late = {row.name: row.state for row in registry.devices(NOW + HOUR_MS)}
    assert late == {"bus-1": "expired", "bus-2": "expired"}


@pytest.mark.parametrize(
    ("device", "serial"),
    [
        ("city-1", "S"),
        ("CITY-9", "S"),
        ("a/b", "S"),
        ("+", "S"),
        ("", "S"),
        ("a", ""),
        ("a", "x y"),
    ],
)
def test_names_that_would_be_someone_else_at_the_broker_are_refused(
    registry: Registry, device: str, serial: str
) -> None:
    with pytest.raises(UsageError):
        registry.claim(device, serial, 1, NOW, noting)


def test_an_authority_is_never_written_over_and_its_key_must_be_its_own(tmp_path: Path) -> None:
    made = Authority.create(tmp_path / "ca", "town")
    with pytest.raises(CityError, match="not empty"):
        Authority.create(tmp_path / "ca", "town")
    assert Authority(tmp_path / "ca").fingerprint == made.fingerprint
    for file in (tmp_path / "ca").iterdir():
        assert file.stat().st_mode & 0o077 == 0, file
    (tmp_path / "ca/issuing.key").chmod(0o640)
    with pytest.raises(CityError, match="chmod 0600"):
        Authority(tmp_path / "ca")
    with pytest.raises(CityError, match="kaopass city ca init"):
        Authority(tmp_path / "nowhere")


def test_day_to_day_work_needs_no_root_key(tmp_path: Path) -> None:
    Authority.create(tmp_path / "ca", "town")
    (tmp_path / "ca/root.key").unlink()
    authority = Authority(tmp_path / "ca")
    assert authority.issue_server(["localhost"])
    listed = x509.load_pem_x509_crl(authority.revocations([("a1", NOW)]))
    assert listed.get_revoked_certificate_by_serial_number(0xA1) is not None


def test_a_worker_has_a_workers_name(tmp_path: Path) -> None:
    authority = Authority.create(tmp_path / "ca", "town")
    for name in ("bus-1", "city-", "city-a/b", "city-1\n"):
        with pytest.raises(CityError, match="must begin with"):
            authority.issue_worker(name)
