"""A device being provisioned that is killed: ``python -m tests.provisioning.driver SPEC``.

With "step" it is killed once that step is done; with "ca" instead, again and again, each time one
change of a file later, and after each death its identity is looked at and the same call repeated.
"""

from __future__ import annotations

import json
import os
import signal
import ssl
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agent.cityos.pki.claims import Registry
from agent.hw.net.est import EstClient
from agent.link.provisioning.credentials import Generation, IdentityFolder
from agent.link.provisioning.provisioning import Provisioning
from agent.settings.model import load
from tests.provisioning.town import noting, now_ms, provision

CHANGES = {
    *("os.rename", "os.mkdir", "os.symlink", "os.remove", "os.rmdir"),
    *("tempfile.mkstemp", "tempfile.mkdtemp", "os.truncate"),
}


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def at_step(spec: dict[str, Any]) -> None:
    def cut(step: str) -> None:
        if step == spec["step"]:
            die()

    provision(
        load(Path(spec["settings"])),
        server=spec["server"],
        serial="S1",
        claim=spec["claim"],
        fingerprint=spec["fingerprint"],
        on_step=cut,
    )


def at_every_change(spec: dict[str, Any]) -> None:
    """Prints how many different deaths there were."""
    directory = Path(spec["identity"])
    registry = Registry(Path(spec["ca"]))
    folder = IdentityFolder(directory)
    trust = (Path(spec["ca"]) / "root.pem").read_bytes()

    def enrol(claim: str) -> None:
        def connect(generation: Generation) -> None:
            usable(generation)

        service = EstClient(spec["server"], trust=trust)
        Provisioning(folder, service, connect).enrol(spec["server"], "bus-1", "S1", claim, trust)

    def in_child(work: Callable[[], None]) -> int:
        child = os.fork()
        if child == 0:
            work()
            os._exit(0)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    deaths = 0
    while True:
        before = folder.current()
        claim = registry.claim("bus-1", "S1", 1.0, now_ms(), noting)

        def dying(claim: str = claim, left: int = deaths) -> None:

            def watch(event: str, _: Any) -> None:
                nonlocal left
                if event in CHANGES:
                    if left == 0:
                        die()
                    left -= 1

            sys.addaudithook(watch)
            enrol(claim)

        status = in_child(dying)
        found = folder.current()
        if before is not None:
            assert found is not None, f"no identity after death {deaths}"
        if found is not None:
            usable(found)
        enrol(claim)
        after = folder.current()
        assert after is not None
        assert before is None or after.folder != before.folder
        usable(after)
        assert sum(1 for _ in directory.iterdir()) == 3, list(directory.iterdir())  # + link, lock
        if status == 0:
            break
        assert status == -signal.SIGKILL, status
        deaths += 1
    sys.stdout.write(f"{deaths}\n")


def usable(generation: Generation) -> None:
    """Key and certificate fit each other, and the authorities are there."""
    context = ssl.create_default_context(cafile=str(generation.authorities))
    context.load_cert_chain(str(generation.certificate), str(generation.key))


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    if "step" in given:
        at_step(given)
    else:
        at_every_change(given)
