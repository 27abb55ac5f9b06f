"""``kaopass city resident|consent|gallery|keys|enrolments``: what a person at the town sees."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import pytest

from agent.__main__ import main
from agent.base.audit import verify
from agent.base.values import LinkUp, Message
from agent.cityos.keys.townkeys import TownKeys
from agent.cityos.pki.ca import Authority
from agent.hw.keystores.file import FileKeySource
from agent.hw.net.mqtt import MqttLink
from agent.sim.photographs import passengers
from tests.galleries.conftest import City
from tests.hw.models.networks import networks
from tests.mosquitto import Mosquitto
from tests.waiting import LATE_SECONDS, until


class Office:
    """Runs commands on one town in a folder."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self.ca = folder / "ca"
        self.database = folder / "city.db"
        self._capsys = capsys
        self.settings = folder / "settings.toml"
        self.settings.write_text(
            '[models]\nlicence = "research"\n[enrolment]\nmin_images = 1\n'
            "[vision]\nmin_face_pixels = 60\nmin_sharpness = 0\nmax_yaw = 0.9\n"
        )
        self.run("ca", "init", "--host", "localhost", "--name", "Izumi", places=False)

    def run(self, *arguments: object, code: int = 0, places: bool = True, out: bool = False) -> str:
        """What the command printed, the error where it fails with *code*, unless *out*."""
        where = ["--ca-directory", str(self.ca)]
        if places:
            where += ["--database", str(self.database)]
        with pytest.raises(SystemExit) as ended:
            main(["city", *map(str, arguments), *where])
        told = self._capsys.readouterr()
        assert ended.value.code == code, told
        return told.out if code == 0 or out else told.err

    def rows(self, *arguments: object, **how: Any) -> list[Any]:
        return [
            json.loads(line)
            for line in self.run(*arguments, "--json", out=True, **how).splitlines()
        ]

    def add(self, person: str, picture: Path, *purposes: str, code: int = 0) -> str:
        asked = [word for purpose in purposes for word in ("--purpose", purpose)]
        return self.run(
            "resident", "add", person, picture, "--settings", self.settings, *asked, code=code
        )


@pytest.fixture
def town(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Office:
    return Office(tmp_path, capsys)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Photographs of four people, each alone."""
    folder = tmp_path_factory.mktemp("pictures")
    found = []
    for person in passengers(networks().detector)[:4]:
        x1, y1, x2, y2 = (int(value) for value in person.face)
        edge = (x2 - x1) // 2
        cut = person.photograph[max(0, y1 - edge) : y2 + edge, max(0, x1 - edge) : x2 + edge]
        found.append(folder / f"{person.key}.png")
        cv2.imwrite(str(found[-1]), cv2.resize(cut, None, fx=2, fy=2))
    return found


@pytest.mark.slow
def test_a_resident_from_enrolment_to_receipt(town: Office, pictures: list[Path]) -> None:
    said = town.add("anna", pictures[0], "bus", "hall")
    assert said == "anna: enrolled; published: bus 1.1, hall 1.1\n"
    assert "published: bus 1.2" in town.add("ben", pictures[1], "bus")
    refused = town.add("not-anna", pictures[0], "bus", code=2)
    assert "enrolled already under another id" in refused
    refused = town.add("anna", pictures[2], "bus", code=2)
    assert "another face is enrolled under this id" in refused
    listed = {row["id"]: row["consents"] for row in town.rows("resident", "list")}
    assert listed == {"anna": ["bus", "hall"], "ben": ["bus"]}
    (status, hall) = town.rows("gallery", "status")
    assert (status["version"], status["residents"], status["changes_wait"]) == ([1, 2], 2, False)
    assert (hall["version"], hall["residents"]) == ([1, 2], 1) or hall["version"] == [1, 1]
    (shown,) = town.rows("resident", "show", "anna")
    assert shown["templates"] == {"buffalo_s": 1}
    assert shown["devices"] == {"bus": [], "hall": []}

    assert "published: bus 1.3" in town.run("consent", "withdraw", "anna", "--purpose", "bus")
    assert "no consent to bus that could be renewed" in town.run(
        "consent", "renew", "anna", "--purpose", "bus", code=2
    )
    assert "consents to bus until" in town.run("consent", "give", "anna", "--purpose", "bus")
    town.run("consent", "renew", "anna", "--purpose", "hall", "--language", "en")
    records = town.rows("consent", "show", "anna")
    assert [(r["purpose"], r["stands"]) for r in records] == [
        ("bus", False), ("hall", True), ("bus", True), ("hall", True)]  # fmt: skip
    assert records[0]["controller"] == "Izumi"
    assert records[3]["language"] == "en"

    copy = town.folder / "keys.copy"
    assert "up to date; 0 destroyed" in town.run("keys", "backup", copy, places=False)
    export = town.folder / "anna.json"
    town.run("resident", "anna", "--export", export)
    held = json.loads(export.read_text())
    assert export.stat().st_mode & 0o777 == 0o600
    assert held["id"] == "anna"
    assert held["events"] == []
    assert set(held["pseudonyms"]) == {"bus", "hall", "linked"}
    erased = town.rows("resident", "anna", "--erase")[0]
    assert erased["copies_left"] == []  # the copy of the keys was brought up to date
    (receipt,) = town.rows("resident", "receipts", erased["receipt"])
    assert set(receipt["versions"]) == {"bus", "hall"}
    assert receipt["copies_left"] == []
    assert [row["id"] for row in town.rows("resident", "list")] == ["ben"]
    assert "nobody is enrolled" in town.run("resident", "show", "anna", code=1)
    assert town.rows("keys", "status", places=False)[0]["residents"] >= 1
    # The audit log tells all of it, and nobody's name.
    assert verify(town.ca / "audit.jsonl").entries > 10
    log = (town.ca / "audit.jsonl").read_text()
    assert "resident.erased" in log
    assert "anna" not in log


@pytest.mark.slow
def test_a_copy_of_the_keys_that_cannot_be_reached_is_named(
    town: Office, pictures: list[Path]
) -> None:
    town.add("anna", pictures[0], "bus")
    copy = town.folder / "keys.copy"
    town.run("keys", "backup", copy, places=False)
    copy.unlink()
    assert str(copy) in town.run("resident", "anna", "--erase")
    town.run("keys", "forget", copy, places=False)
    assert town.rows("keys", "status", places=False)[0]["copies"] == {}


@pytest.mark.slow
def test_the_gallery_key_may_be_on_another_machine(town: Office, pictures: list[Path]) -> None:
    town.add("anna", pictures[0], "bus")
    offline = town.folder / "offline"
    offline.mkdir()
    for name in ("root.pem", "issuing.pem", "issuing.key", "gallery.pem", "gallery.key",
                 "gallery-signed.json"):  # fmt: skip
        (offline / name).write_bytes((town.ca / name).read_bytes())
        (offline / name).chmod(0o600)
    (town.ca / "gallery.key").unlink()
    said = town.add("ben", pictures[1], "bus")
    assert said == "ben: enrolled; published: nothing yet\n"
    assert "is not on this machine" in town.run("gallery", "publish", code=1)
    unsigned, signed = town.folder / "bus.json", town.folder / "bus.json.signed"
    said = town.run("gallery", "publish", "bus", "--unsigned", unsigned)
    assert said.startswith("bus 1.2: 2 residents, to be signed")
    assert town.rows("gallery", "status")[0]["waits_for_signature"]
    with pytest.raises(SystemExit) as ended:
        main(["city", "gallery", "sign", str(unsigned), "--ca-directory", str(offline)])
    assert ended.value.code == 0
    assert "published" in town.run("gallery", "publish", "--signed", signed)
    status = town.rows("gallery", "status")[0]
    assert (status["version"], status["waits_for_signature"]) == ([1, 2], False)
    # What is older than the last version is never signed again.
    old = json.loads(unsigned.read_text()) | {"version": 1, "floor": 1}
    unsigned.write_text(json.dumps(old))
    with pytest.raises(SystemExit) as ended:
        main(["city", "gallery", "sign", str(unsigned), "--ca-directory", str(offline)])
    assert ended.value.code == 1
    unsigned.write_text("{}")
    with pytest.raises(SystemExit) as ended:
        main(["city", "gallery", "sign", str(unsigned), "--ca-directory", str(offline)])
    assert ended.value.code == 2


@pytest.mark.slow
def test_a_town_is_imported_from_a_folder_a_person(town: Office, pictures: list[Path]) -> None:
    people = town.folder / "people"
    for number, picture in enumerate(pictures):
        (people / f"r{number}").mkdir(parents=True)
        (people / f"r{number}" / picture.name).write_bytes(picture.read_bytes())
    (people / "empty").mkdir()
    (people / "twin").mkdir()
    (people / "twin" / "a.png").write_bytes(pictures[0].read_bytes())
    asked = ("resident", "import", people, "--settings", town.settings, "--purpose", "hall")
    (report,) = town.rows(*asked, code=1)
    assert report["enrolled"] == 4
    assert set(report["refused"]) == {"empty", "twin"}
    (again,) = town.rows(*asked, code=1)
    assert (again["enrolled"], again["enrolled_before"]) == (0, 4)
    assert town.rows("gallery", "status")[1]["residents"] == 4


def test_a_notice_is_shown_in_both_languages_with_the_towns_name(town: Office) -> None:
    for language in ("ja", "en"):
        for purpose in ("bus", "hall", "linking", "statistics", "third_party"):
            text = town.run("consent", "notice", purpose, "--language", language, places=False)
            assert "Izumi" in text
            assert "{" not in text


def test_a_child_needs_a_guardian(town: Office, pictures: list[Path]) -> None:
    said = town.run("resident", "add", "kid", pictures[0], "--purpose", "bus", "--age", 12,
                    "--settings", town.settings, code=2)  # fmt: skip
    assert "a guardian consents" in said


def test_a_devices_purpose_is_said_and_changed(town: Office) -> None:
    town.run("claim", "hall-1", "--serial", "S1", "--purpose", "hall", places=False)
    assert town.rows("device", "list", places=False)[0]["purpose"] == "hall"
    town.run("device", "serve", "hall-1", "--purpose", "bus", places=False)
    assert " bus " in town.run("device", "list", places=False)
    assert "no device" in town.run("device", "serve", "x", "--purpose", "bus", places=False, code=1)


@pytest.mark.slow
def test_a_revoked_device_changes_the_content_key(town: Office, pictures: list[Path]) -> None:
    town.add("anna", pictures[0], "bus")
    town.run("claim", "bus-1", "--serial", "S1", places=False)
    said = town.run("device", "revoke", "bus-1")
    assert "gallery bus 1.2: under a new key" in said


@pytest.mark.slow
def test_a_revocation_that_failed_half_way_is_done_by_the_same_command(town: Office) -> None:
    city = City(town.ca, str(town.database), Authority(town.ca))
    city.enrol(["anna"])
    city.publish("bus")
    city.device("bus-1")
    before = city.keys.content("bus")[0]
    rules = town.folder / "broker"
    city.registry.add_broker(rules, None)  # which is not there now
    assert "cannot be written" in town.run("device", "revoke", "bus-1", code=1)
    assert city.keys.content("bus")[0] != before
    rules.mkdir()
    for _ in range(2):  # as often as somebody likes
        assert "under a new key" in town.run("device", "revoke", "bus-1")
        assert "user bus-1\ntopic deny #" in (rules / "kaopass.acl").read_text()
    assert "no device" in town.run("device", "revoke", "bus-9", code=1)
    city.close()
    city.registry.close()


def test_a_running_city_serves_devices_and_publishes_by_itself(
    town: Office, pictures: list[Path], mosquitto: Mosquitto
) -> None:
    town.add("anna", pictures[0], "bus")
    city = City(town.ca, str(town.database), Authority(town.ca))
    device = city.device("bus-1")
    link = MqttLink(
        "127.0.0.1", mosquitto.port, client_id="bus-1", subscriptions=("kp1/bus-1/d/#",)
    )
    server = subprocess.Popen(
        [
            *(sys.executable, "-m", "agent", "city", "serve"),
            *("--broker", f"mqtt://127.0.0.1:{mosquitto.port}"),
            *("--database", str(town.database), "--ca-directory", str(town.ca)),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stdout is not None
        assert "city side ready" in server.stdout.readline()
        link.open()

        def has(*ids: str) -> bool:
            for event in link.turn(0.05):
                if isinstance(event, LinkUp):
                    device.hello()
                elif isinstance(event, Message):
                    device.receive(event)
            for message in device.out:
                link.publish(message.topic, message.payload)
            device.out = []
            return device.ids == set(ids)

        until(lambda: has("anna"))
        city.enrol(["ben"], "bus")  # and nobody calls publish
        until(lambda: has("anna", "ben"))
    finally:
        link.close()
        server.terminate()
        _, said = server.communicate(timeout=LATE_SECONDS)
        city.close()
        city.registry.close()
    assert server.returncode == 0, said
    assert "Traceback" not in said
    assert "anna" not in said


@pytest.mark.slow
def test_enrolments_are_listed(town: Office, pictures: list[Path]) -> None:
    town.add("anna", pictures[0], "bus")
    with pytest.raises(SystemExit) as ended:
        main(["city", "enrolments", "list", "--database", str(town.database), "--json"])
    assert ended.value.code == 0


def test_lost_keys_stop_every_command_instead_of_emptying_the_town(
    town: Office, pictures: list[Path], tmp_path: Path
) -> None:
    town.add("anna", pictures[0], "bus")
    keys, copy = town.ca / "keys/keys.db", tmp_path / "keys.copy"
    town.run("keys", "backup", copy, places=False)
    keys.unlink()
    for command in (("resident", "list"), ("gallery", "publish"), ("consent", "show", "anna")):
        said = town.run(*command, code=1)
        assert "keys.db is missing" in said
        assert "kaopass city keys restore" in said
        assert not keys.exists(), "another one was made in its place"
    assert "missing" in town.run("keys", "status", code=1, places=False)
    # A new file, as from another town or a careless hand, is no better.
    master = (town.ca / "keys/town-key").read_bytes()
    (town.ca / "keys/town-key").unlink()
    TownKeys(town.ca / "keys", FileKeySource(town.ca / "keys")).close()
    assert "the database holds 1 residents" in town.run("gallery", "publish", code=1)
    keys.unlink()
    (town.ca / "keys/town-key").write_bytes(master)
    town.run("keys", "restore", copy, places=False)
    assert [row["id"] for row in town.rows("resident", "list")] == ["anna"]
    assert "1 residents" in town.run("gallery", "publish")


@pytest.mark.slow
def test_what_was_never_given_cannot_be_withdrawn(town: Office, pictures: list[Path]) -> None:
    town.add("anna", pictures[0], "bus")
    said = town.run("consent", "withdraw", "anna", "--purpose", "bus", "--purpose", "hall", code=1)
    assert "never consented to hall" in said
    standing = town.rows("consent", "show", "anna")
    assert not [row for row in standing if row.get("withdrawn_ms")]
    town.run("consent", "withdraw", "anna", "--purpose", "bus")
    town.run("consent", "withdraw", "anna", "--purpose", "bus")  # once more does no harm


def test_an_empty_town_says_that_it_is_empty(
    town: Office, capsys: pytest.CaptureFixture[str]
) -> None:
    assert town.run("resident", "list") == "nobody is enrolled\n"
    assert town.rows("resident", "list") == []
    for command, said in (
        (["enrolments", "list"], "no enrolments\n"),
        (["events"], "no events yet\n"),
        (["devices"], "no device has spoken yet\n"),
    ):
        with pytest.raises(SystemExit):
            main(["city", *command, "--database", str(town.database)])
        assert capsys.readouterr().out == said
