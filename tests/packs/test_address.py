"""Installing from an address: bounded, checked, and never over a line others can change."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from agent.base.errors import ModelError
from agent.packs.install import install
from agent.packs.manifest import ArchiveSource
from tests.packs.packs import PATHS, is_untouched, is_whole, made_up_pack, members, write_zip


class _Server(BaseHTTPRequestHandler):
    """Serves ``answers`` of its server: path to (status, headers, body)."""

    def do_GET(self) -> None:
        status, headers, body = self.server.answers[self.path]  # type: ignore[attr-defined]
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class _Quiet(ThreadingHTTPServer):
    """Says nothing when a client hangs up, as one does that has had too much."""

    def handle_error(self, *_: object) -> None:
        pass


@contextmanager
def serving(answers: dict[str, tuple[int, dict[str, str], bytes]]) -> Iterator[str]:
    server = _Quiet(("127.0.0.1", 0), _Server)
    server.answers = answers  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def at(address: str, max_bytes: int = 10_000_000) -> ArchiveSource:
    return ArchiveSource("https", address, max_bytes, PATHS)


@pytest.fixture
def archive(tmp_path: Path) -> bytes:
    return write_zip(tmp_path / "served.zip", members()).read_bytes()


def test_an_archive_at_an_address_is_fetched_and_its_progress_told(
    tmp_path: Path, archive: bytes
) -> None:
    told: list[tuple[str, int, int]] = []
    with serving({"/p.zip": (200, {"Content-Length": str(len(archive))}, archive)}) as base:
        install(
            made_up_pack(at(f"{base}/p.zip")),
            tmp_path / "m",
            progress=lambda *what: told.append(what),
        )
        assert (f"{base}/p.zip", len(archive), len(archive)) in told
    assert told[-1] == ("made-up", 238_000, 238_000)
    assert is_whole(tmp_path / "m")


def test_a_redirect_on_this_machine_is_followed(tmp_path: Path, archive: bytes) -> None:
    answers = {"/p.zip": (302, {"Location": "/q.zip"}, b""), "/q.zip": (200, {}, archive)}
    with serving(answers) as base:
        install(made_up_pack(at(f"{base}/p.zip")), tmp_path / "m")
    assert is_whole(tmp_path / "m")


@pytest.mark.parametrize("target", ["http://example.invalid/p.zip", "ftp://127.0.0.1/p.zip"])
def test_a_redirect_away_from_https_is_refused(tmp_path: Path, target: str) -> None:
    with (
        serving({"/p.zip": (302, {"Location": target}, b"")}) as base,
        pytest.raises(ModelError, match="only https is accepted"),
    ):
        install(made_up_pack(at(f"{base}/p.zip")), tmp_path / "m")


def test_plain_http_to_another_machine_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="only https is accepted"):
        install(made_up_pack(at("http://example.invalid/p.zip")), tmp_path / "m")


def test_a_download_over_its_bound_is_stopped(tmp_path: Path, archive: bytes) -> None:
    with (
        serving({"/p.zip": (200, {}, archive + b"x" * 5_000_000)}) as base,
        pytest.raises(ModelError, match="more than the 1000000 bytes expected"),
    ):
        install(made_up_pack(at(f"{base}/p.zip", 1_000_000)), tmp_path / "m")


def test_a_download_that_breaks_off_is_said_to_have(tmp_path: Path, archive: bytes) -> None:
    answers = {"/p.zip": (200, {"Content-Length": str(len(archive))}, archive[:500])}
    with serving(answers) as base, pytest.raises(ModelError, match="the download broke off"):
        install(made_up_pack(at(f"{base}/p.zip")), tmp_path / "m")
    assert is_untouched(tmp_path / "m")


def test_an_error_of_the_server_is_passed_on(tmp_path: Path) -> None:
    with serving({"/p.zip": (404, {}, b"no")}) as base:
        with pytest.raises(ModelError, match="the server answered 404"):
            install(made_up_pack(at(f"{base}/p.zip")), tmp_path / "m")
        address = base
    with pytest.raises(ModelError, match="cannot be reached"):
        install(made_up_pack(at(f"{address}/p.zip")), tmp_path / "m")
