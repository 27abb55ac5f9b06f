"""A certificate authority for one test, and files of certificates it signs for loopback."""

from __future__ import annotations

from pathlib import Path

from agent.sim.net.authority import ThrowawayAuthority


class Authority:
    """Signs certificates; ``file`` is what others have to trust."""

    def __init__(self, folder: Path, name: str = "test authority") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._signer = ThrowawayAuthority(name)
        self.file = folder / "ca.pem"
        self.file.write_bytes(self._signer.pem)

    def issue(self, name: str) -> tuple[Path, Path]:
        """(certificate, key) files for *name*, valid for 127.0.0.1 and localhost."""
        files = self._folder / f"{name}.pem", self._folder / f"{name}.key"
        for file, content in zip(files, self._signer.issue_pair(name), strict=True):
            file.write_bytes(content)
        return files
