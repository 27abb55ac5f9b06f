"""The EST server as others see it: standard tools, broken clients, attackers."""

from __future__ import annotations

import base64
import http.client
import socket
import ssl
import subprocess
from pathlib import Path

import pytest

from agent.keys.certificates import new_key, signing_request
from tests.provisioning.town import Est, Town, now_ms, town
from tests.waiting import LATE_SECONDS, until

__all__ = ["town"]  # a fixture

PATH = "/.well-known/est"


def command(*arguments: str, given: bytes = b"") -> bytes:
    return subprocess.run(arguments, input=given, capture_output=True, check=True).stdout


def https(town: Town, certificate: tuple[Path, Path] | None = None) -> http.client.HTTPSConnection:
    context = ssl.create_default_context(cafile=str(town.ca / "ca.pem"))
    if certificate:
        context.load_cert_chain(*certificate)
    return http.client.HTTPSConnection(
        "localhost", town.est.port, timeout=LATE_SECONDS, context=context
    )


def asked(
    connection: http.client.HTTPSConnection,
    method: str,
    path: str,
    body: bytes = b"",
    *,
    keep: bool = False,
    **headers: str,
) -> tuple[int, bytes]:
    """Status and body; the connection is closed unless it is to be kept."""
    try:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        if not keep:
            connection.close()


def closed(sock: ssl.SSLSocket) -> bool:
    """Whether the other side hangs up without a word."""
    try:
        return not sock.recv(100)
    except OSError:
        return True
    finally:
        sock.close()


def basic(code: str, name: str = "bus-1") -> str:
    return "Basic " + base64.b64encode(f"{name}:{code}".encode()).decode()


def test_curl_and_openssl_enrol_and_renew_without_any_of_our_code(
    town: Town, tmp_path: Path
) -> None:
    """The server speaks EST, not just to our own client."""
    key, csr, leaf = tmp_path / "k.pem", tmp_path / "r.der", tmp_path / "leaf.pem"
    command("openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", str(key))
    request = ("openssl", "req", "-new", "-key", str(key), "-subj", "/CN=bus-1/serialNumber=S1")
    command(*request, "-outform", "DER", "-out", str(csr))
    body = tmp_path / "r.b64"
    body.write_bytes(base64.encodebytes(csr.read_bytes()))
    curl = ("curl", "-sf", "--cacert", str(town.ca / "root.pem"))
    post = ("-H", "Content-Type: application/pkcs10", "--data-binary", f"@{body}")
    found = command(*curl, f"{town.est.url}{PATH}/cacerts")
    pkcs7 = ("openssl", "pkcs7", "-inform", "DER", "-print_certs")
    authorities = command(*pkcs7, given=base64.b64decode(found))
    assert authorities.count(b"BEGIN CERTIFICATE") == 2
    issued = command(
        *curl, *post, "-u", f"bus-1:{town.claim()}", f"{town.est.url}{PATH}/simpleenroll"
    )
    leaf.write_bytes(command(*pkcs7, given=base64.b64decode(issued)))
    chain = ("-untrusted", str(town.ca / "issuing.pem"), str(leaf))
    check = ("openssl", "verify", "-x509_strict", "-purpose", "sslclient")
    assert b"OK" in command(*check, "-CAfile", str(town.ca / "root.pem"), *chain)
    chained = tmp_path / "chain.pem"
    chained.write_bytes(leaf.read_bytes() + (town.ca / "issuing.pem").read_bytes())
    renewal = (*curl, *post, "--cert", str(chained), "--key", str(key))
    again = command(*renewal, f"{town.est.url}{PATH}/simplereenroll")
    assert command(*pkcs7, given=base64.b64decode(again)) != leaf.read_bytes()


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/", b"", 404),
        ("GET", f"{PATH}/serverkeygen", b"", 404),
        ("POST", f"{PATH}/cacerts", b"", 405),
        ("GET", f"{PATH}/simpleenroll", b"", 405),
        ("GET", f"{PATH}/csrattrs", b"", 204),
        ("POST", f"{PATH}/simpleenroll", b"x", 401),
        ("POST", f"{PATH}/simplereenroll", b"x", 403),
    ],
)
def test_what_is_not_est_is_answered_with_the_right_status(
    town: Town, method: str, path: str, body: bytes, status: int
) -> None:
    assert asked(https(town), method, path, body)[0] == status


def test_a_connection_serves_several_requests(town: Town) -> None:
    """Clients ask for the claim only after a 401, on the same connection."""
    connection = https(town)
    assert asked(connection, "POST", f"{PATH}/simpleenroll", b"x", keep=True)[0] == 401
    sock = connection.sock
    assert asked(connection, "GET", f"{PATH}/cacerts", keep=True)[0] == 200
    assert connection.sock is sock
    connection.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"not base64!", "no PKCS#10"),
        (base64.b64encode(b"\x30\x82" + b"x" * 100), "no PKCS#10"),
        (b"", "no PKCS#10"),
    ],
)
def test_a_request_that_is_none_is_refused_and_the_claim_stays_good(
    town: Town, body: bytes, words: str
) -> None:
    code = town.claim()
    status, text = asked(
        https(town), "POST", f"{PATH}/simpleenroll", body, Authorization=basic(code)
    )
    assert (status, words in text.decode()) == (400, True)
    good = base64.b64encode(signing_request(new_key(), "bus-1", "S1"))
    assert (
        asked(https(town), "POST", f"{PATH}/simpleenroll", good, Authorization=basic(code))[0]
        == 200
    )


def test_a_request_signed_by_another_key_is_refused(town: Town) -> None:
    """Proof of possession: nobody gets a certificate for a key that is not theirs."""
    der = bytearray(signing_request(new_key(), "bus-1", "S1"))
    der[-5] ^= 1
    body = base64.b64encode(bytes(der))
    status, _ = asked(
        https(town), "POST", f"{PATH}/simpleenroll", body, Authorization=basic(town.claim())
    )
    assert status == 400


def test_every_mutation_of_a_request_is_answered_and_changes_nothing(town: Town) -> None:
    """Fuzzing through the desk: no exception, no certificate without a claim."""
    import random

    from agent.cityos.service.estdesk import Request

    draw = random.Random(4)
    good = signing_request(new_key(), "bus-1", "S1")
    for _ in range(3000):
        der = bytearray(good)
        for _ in range(draw.randint(1, 8)):
            der[draw.randrange(len(der))] = draw.randrange(256)
        body = base64.b64encode(bytes(der[: draw.randint(1, len(der))]))
        wrong = basic("0" * 20) if draw.random() < 0.5 else "Basic " + "%" * draw.randint(0, 9)
        found = town.desk.answer(Request("POST", f"{PATH}/simpleenroll", wrong, body, None))
        assert found.status in (400, 401)
    assert town.registry.devices(now_ms()) == []


def test_renewal_needs_the_certificate_keeps_its_name_and_ends_with_revocation(
    town: Town, tmp_path: Path
) -> None:
    one = town.device("bus-1", tmp_path / "d")
    assert one.certificate is not None
    assert one.key is not None
    pair = (one.certificate, one.key)
    same = base64.b64encode(signing_request(new_key(), "bus-1", "serial-bus-1"))
    other = base64.b64encode(signing_request(new_key(), "bus-2", "serial-bus-1"))
    renew = ("POST", f"{PATH}/simplereenroll")
    assert asked(https(town), *renew, same)[0] == 403
    assert asked(https(town, pair), *renew, same)[0] == 200
    status, text = asked(https(town, pair), *renew, other)
    assert (status, b"keeps the name" in text) == (403, True)
    town.revoke("bus-1")
    status, text = asked(https(town, pair), *renew, same)
    assert (status, b"was revoked" in text) == (403, True)


def test_the_citys_own_certificates_do_not_renew_as_devices(town: Town) -> None:
    pair = (town.ca / "workers/city-1.pem", town.ca / "workers/city-1.key")
    body = base64.b64encode(signing_request(new_key(), "city-1", "S1"))
    assert asked(https(town, pair), "POST", f"{PATH}/simplereenroll", body)[0] in (400, 403)


@pytest.mark.slow
def test_too_large_too_slow_and_too_many_cost_others_nothing(town: Town) -> None:
    small = Est(town.ca, town.desk, most_connections=4, connection_seconds=1.0)
    small.start()
    try:
        context = ssl.create_default_context(cafile=str(town.ca / "ca.pem"))

        def guest() -> ssl.SSLSocket:
            plain = socket.create_connection(("localhost", small.port), 5)
            return context.wrap_socket(plain, server_hostname="localhost")

        big = guest()
        big.sendall(
            f"POST {PATH}/simpleenroll HTTP/1.1\r\nHost: x\r\n".encode()
            + b"Content-Length: 9999999\r\n\r\n"
            + b"x" * 40_000
        )
        assert b"413" in big.recv(100)
        big.close()
        garbage = guest()
        garbage.sendall(b"\x16\x03\x01 hello\r\n\r\n")
        assert b"400" in garbage.recv(100)
        garbage.close()
        slow = [guest() for _ in range(4)]
        for sock in slow:
            sock.sendall(b"GET / HTTP")
        fifth = guest()
        for sock in (fifth, *slow):
            assert closed(sock)

        def served() -> bool:
            connection = http.client.HTTPSConnection(
                "localhost", small.port, timeout=LATE_SECONDS, context=context
            )
            try:
                return asked(connection, "GET", f"{PATH}/cacerts")[0] == 200
            except OSError:
                return False

        until(served, what="served again")
    finally:
        small.stop()
