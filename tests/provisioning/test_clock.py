"""Devices whose clock was never set, or is set to nonsense, still join and connect."""

from __future__ import annotations

import datetime
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from tests.provisioning.town import Est, Town, settings_file, town
from tests.waiting import LATE_SECONDS

__all__ = ["town"]  # a fixture

TEN_YEARS = 10 * 365 * 86_400


@pytest.fixture(scope="module")
def wrong_clock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library that shifts the clock of the process it is loaded into, OpenSSL's included."""
    library = tmp_path_factory.mktemp("clock") / "clock.so"
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.fail("there is no C compiler: apt-get install gcc libc6-dev (scripts/test)")
    source = Path(__file__).with_name("clock.c")
    command = [compiler, "-O2", "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"]
    subprocess.run(command, check=True)
    return library


def run(library: Path, shift: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, "LD_PRELOAD": str(library), "CLOCK_SHIFT_SECONDS": str(shift)},
        capture_output=True,
        check=False,
        text=True,
        timeout=LATE_SECONDS,
        cwd=Path(__file__).parents[2],
    )


def provision(
    town: Town, folder: Path, library: Path, shift: int, **given: str
) -> subprocess.CompletedProcess[str]:
    return run(
        library,
        shift,
        *("-m", "agent", "provision", "--settings", str(settings_file(folder, town))),
        *("--server", given.get("server", town.est.url), "--claim", town.claim(), "--json"),
        *("--ca-fingerprint", given.get("fingerprint", town.authority.fingerprint)),
    )


def test_the_library_does_set_the_clock_wrong(wrong_clock: Path) -> None:
    """Else the tests here would prove nothing."""
    found = run(wrong_clock, -int(time.time()), "-c", "import time; print(time.time())")
    assert 0 <= float(found.stdout) < 120


@pytest.mark.slow
def test_a_device_in_1970_is_provisioned(town: Town, tmp_path: Path, wrong_clock: Path) -> None:
    found = provision(town, tmp_path, wrong_clock, -int(time.time()))
    assert found.returncode == 0, found.stderr
    assert json.loads(found.stdout)["device"] == "bus-1"


def test_in_1970_another_authority_is_still_not_trusted(
    town: Town, tmp_path: Path, wrong_clock: Path
) -> None:
    (tmp_path / "other").mkdir()
    other = Town(tmp_path / "other")
    other.registry.close()
    (tmp_path / "other.pem").write_bytes(other.authority.root_file.read_bytes())
    found = run(
        wrong_clock,
        -int(time.time()),
        *("-m", "agent", "provision", "--settings", str(settings_file(tmp_path, town))),
        *("--server", town.est.url, "--claim", town.claim(), "--ca", str(tmp_path / "other.pem")),
    )
    assert found.returncode == 1
    assert "not trusted" in found.stderr


def test_in_1970_a_server_that_ended_before_this_software_is_refused(
    town: Town, tmp_path: Path, wrong_clock: Path
) -> None:
    """Its key may have been anybody's since."""
    _end_in_2021(town)
    old = Est(town.ca, town.desk)
    old.start()
    try:
        found = provision(town, tmp_path, wrong_clock, -int(time.time()), server=old.url)
    finally:
        old.stop()
    assert found.returncode == 1
    assert "clock was never set" in found.stderr


def _end_in_2021(town: Town) -> None:
    """The EST server's certificate as it was years ago."""
    now = x509.load_pem_x509_certificate((town.ca / "est.pem").read_bytes())
    builder = (
        x509.CertificateBuilder()
        .subject_name(now.subject)
        .issuer_name(now.issuer)
        .public_key(now.public_key())
        .serial_number(1)
        .not_valid_before(datetime.datetime(2020, 1, 1))
        .not_valid_after(datetime.datetime(2021, 1, 1))
    )
    for extension in now.extensions:
        builder = builder.add_extension(extension.value, extension.critical)
    issuing = load_pem_private_key((town.ca / "issuing.key").read_bytes(), None)
    old = builder.sign(issuing, hashes.SHA256())  # type: ignore[arg-type]
    chain = old.public_bytes(Encoding.PEM) + (town.ca / "issuing.pem").read_bytes()
    (town.ca / "est.pem").write_bytes(chain)


def test_ten_years_ahead_says_that_the_clock_may_be_wrong(
    town: Town, tmp_path: Path, wrong_clock: Path
) -> None:
    found = provision(town, tmp_path, wrong_clock, TEN_YEARS)
    assert found.returncode == 1
    assert "this device's clock" in found.stderr
    assert "Traceback" not in found.stderr
    assert not (tmp_path / "state/identity/current").exists()
