"""Lives of one device, each ended by a SIGKILL or a power cut."""

from __future__ import annotations

import time
import uuid
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tests.faults.device import CLOCKS
from tests.faults.disks.disk import HOW, Disk
from tests.faults.drivers.driver import KILLED, Driver
from tests.faults.ledger import Ledger
from tests.faults.processes import Life, Processes

PAGE_BYTES = 4096
FOREVER_DAYS = 36_500.0


class DeviceDriver(Driver):
    """Lives of one device on one disk, each ended by a SIGKILL or a power cut."""

    def __init__(
        self,
        name: str,
        seed: int,
        kinds: frozenset[str],
        *,
        folder: Path,
        processes: Processes,
        port: int,
        weak: bool,
        keep_days: float,
    ) -> None:
        super().__init__(name, seed, kinds)
        self._folder = folder
        self._root = folder / "disk"
        self._root.mkdir(parents=True)
        self._boot = folder / "boot"
        self._new_boot()
        self._disk = Disk()
        self._processes = processes
        self._port = port
        self._weak = weak
        self._keep_days = keep_days
        self._lives = 0
        self._torn = False
        self.ledger = Ledger()
        self.damaged = False

    def turn(self) -> None:
        ends = self.among("sigkill", "power_cut")
        end = self.chance.choice(ends) if ends else ""
        # Half of the lives end at an exact change of the disk, half at a moment in time.
        by_count = end and self.chance.random() < 0.5
        clock = self.chance.choice(["right", *self._clocks()])
        full = "disk_full" in self.kinds and self.chance.random() < 0.1
        life = self._start(
            die_after=round(self.spread(1, 3000)) if by_count else -1,
            clock=clock,
            full_at=self.chance.uniform(0.02, 0.3) if full else None,
        )
        most = 2.0 if by_count or full else self.spread(0.03, 1.2)
        if not end:
            self.stopping.wait()
        elif life.wait(most) is None:
            life.kill()
        if self._finish(life, end or "sigkill") and end:
            self.done[end] += 1
            if "damaged_page" in self.kinds and self.chance.random() < 0.05:
                self._damage()

    def so_far(self) -> Counter[str]:
        """And how many events are in the journal ("events")."""
        return self.done + Counter(events=len(self.ledger.returned))

    def _clocks(self) -> list[str]:
        return [how for how in CLOCKS if f"clock_{how}" in self.kinds]

    def _start(self, **spec: object) -> Life:
        self._lives += 1
        return self._processes.start(
            "device",
            self._folder / "log",
            name=self.name,
            root=str(self._root),
            trace=str(self._folder / "trace"),
            ledger=str(self._folder / f"ledger-{self._lives}"),
            boot=str(self._boot),
            port=self._port,
            seed=self.chance.getrandbits(64),
            weak=self._weak,
            keep_days=self._keep_days,
            **spec,
        )

    def _finish(self, life: Life, end: str) -> bool:
        """Take over what the life left, and cut the power if that is its end; False if amiss."""
        if life.status is None:
            life.kill()
        status = life.wait(20.0)
        trace = self._folder / "trace"
        self._disk.replay(trace)
        trace.unlink(missing_ok=True)
        written = self._folder / f"ledger-{self._lives}"
        self.ledger.read(written)
        written.unlink(missing_ok=True)
        if end == "power_cut":
            self._disk.cut(self._root, self.chance, self.chance.choice(HOW))
            self._new_boot()
        else:
            self._disk.reconcile(self._root)
        if status not in (0, KILLED):
            log = (self._folder / "log").read_text(errors="replace").strip().splitlines()
            self.problems.append(f"{self.name} ended with {status}: {' | '.join(log[-4:])}")
            self.stopping.set()
        return status in (0, KILLED)

    def _damage(self) -> None:
        path = self._root / "journal.db"
        pages = path.stat().st_size // PAGE_BYTES if path.exists() else 0
        if not pages:
            return
        self.damaged = True
        junk = self.chance.choice([bytes(PAGE_BYTES), self.chance.randbytes(PAGE_BYTES)])
        offset = self.chance.randrange(pages) * PAGE_BYTES
        self._disk.damage(self._root, "journal.db", offset, junk)

    def _new_boot(self) -> None:
        self._boot.write_text(str(uuid.UUID(int=self.chance.getrandbits(128))))

    def drain(self, seconds: float, whole: Callable[[DeviceDriver], bool] | None) -> None:
        """A last calm life that sends what is left, and what the city asks for until *whole*."""
        enough = self._folder / "enough"
        until_file = str(enough) if whole else ""
        life = self._start(drain_seconds=seconds, until_file=until_file)
        until = time.monotonic() + seconds
        while whole and life.status is None and time.monotonic() < until and not whole(self):
            time.sleep(0.2)
        enough.touch()
        if life.wait(seconds + 15.0) is None:
            self.problems.append(f"{self.name} does not come to its end")
        self._finish(life, "sigkill")
