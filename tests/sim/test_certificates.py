"""A device is provisioned and renewed at the EST server in memory as at a city's."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.base.errors import ProvisioningError
from agent.link.provisioning.credentials import IdentityFolder
from agent.link.provisioning.provisioning import Provisioned, Provisioning
from agent.sim.net.certificates import MemoryCertificates

CLAIM = "7K3MQ"


def device(folder: Path, server: MemoryCertificates) -> Provisioning:
    return Provisioning(IdentityFolder(folder), server, lambda _generation: None)


def enrolled(folder: Path, server: MemoryCertificates, claim: str = CLAIM) -> Provisioned:
    return device(folder, server).enrol("https://city", "bus-1", "S1", claim, None)


def test_a_claim_becomes_a_certificate_and_that_the_next_one(tmp_path: Path) -> None:
    server = MemoryCertificates({"bus-1": CLAIM})
    first = enrolled(tmp_path, server).identity
    again = device(tmp_path, server).renew().identity
    assert (first.device, again.device) == ("bus-1", "bus-1")
    assert first.fingerprint != again.fingerprint


def test_a_claim_is_good_for_one_key(tmp_path: Path) -> None:
    server = MemoryCertificates({"bus-1": CLAIM})
    enrolled(tmp_path / "device", server)
    with pytest.raises(ProvisioningError, match="used already, with another key"):
        enrolled(tmp_path / "thief", server)
    with pytest.raises(ProvisioningError, match="no such claim"):
        enrolled(tmp_path / "guess", server, "00000")


def test_a_request_waits_for_its_approval_and_goes_on_with_the_same_key(tmp_path: Path) -> None:
    server = MemoryCertificates({"bus-1": CLAIM}, approves=True)
    with pytest.raises(ProvisioningError, match="not approved this device yet"):
        enrolled(tmp_path, server)
    server.approve()
    assert enrolled(tmp_path, server).resumed


def test_nothing_is_renewed_that_was_never_certified(tmp_path: Path) -> None:
    enrolled(tmp_path, MemoryCertificates({"bus-1": CLAIM}))
    with pytest.raises(ProvisioningError, match="never certified"):
        device(tmp_path, MemoryCertificates({})).renew()
