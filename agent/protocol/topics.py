"""Every topic: what is said there, by whom, and whether the broker keeps it.

The device comes first, so that the broker's rule is two lines: a device writes below its ``u`` and
reads below its ``d``, the city the other way round. Everything is QoS 1.
"""

from __future__ import annotations

from dataclasses import dataclass

from agent.base.errors import MessageError
from agent.base.values import Message
from agent.protocol.specs import DEVICE

VERSION, UP, DOWN = "kp1", "u", "d"
QOS = 1
ANY, ALL_BELOW = "+", "#"  # MQTT's wildcards


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic of every device; ``path`` is what comes behind ``kp1/{device}/``.

    ``messages`` names what is said there, as ``lab.description`` does; ``retained``: the broker
    keeps the last.
    """

    path: str
    says: str
    messages: tuple[str, ...]
    retained: bool = False

    @property
    def publisher(self) -> str:
        return "device" if self.path.startswith(f"{UP}/") else "city"

    @property
    def subscriber(self) -> str:
        return "city" if self.publisher == "device" else "device"

    def of(self, device: str) -> str:
        """In full for *device*, or with ``ANY`` for all of them."""
        return f"{VERSION}/{device}/{self.path}"

    def message(self, device: str, payload: bytes) -> Message:
        """*payload* for or from *device*, to be published here."""
        return Message(self.of(device), payload, retain=self.retained)


EVENTS = Topic("u/ev", "events, in batches", ("batch",))
STATE = Topic("u/st", "birth, or the last will", ("birth", "will"), retained=True)
RESULTS = Topic("u/res", "what became of commands", ("command-result",))
REPORT = Topic("u/rep", "which settings are in force", ("settings-report",), retained=True)
ASKS = Topic("u/gal", "asks for galleries, signed", ("hello", "want"))
ACKS = Topic("d/ack", "what the city has committed", ("ack",))
COMMANDS = Topic("d/cmd", "commands, signed", ("command", "unsigned-command"))
CONFIG = Topic("d/cfg", "settings, signed", ("settings",), retained=True)
HEAD = Topic("d/gal/head", "a gallery's newest version, signed", ("head",), retained=True)
NOW = Topic("d/gal/now", "that a version is the newest, signed", ("now",))
KEY = Topic("d/gal/key", "a gallery's keys, signed and sealed", ("wrapped-keys",))
BODY = Topic("d/gal/body", "parts of a gallery's bodies, encrypted", ("part",))

GALLERY = (HEAD, NOW, KEY, BODY)
TOPICS = (EVENTS, STATE, RESULTS, REPORT, ASKS, ACKS, COMMANDS, CONFIG, *GALLERY)
BY_PATH = {topic.path: topic for topic in TOPICS}


def below(direction: str, device: str) -> str:
    """Everything *device* (``ANY``: every device) says (``UP``) or is told (``DOWN``)."""
    return f"{VERSION}/{device}/{direction}/{ALL_BELOW}"


def down_topics(device: str) -> list[str]:
    """Everything a device listens to without further duties."""
    return [ACKS.of(device), COMMANDS.of(device)]


def parse_topic(topic: str) -> tuple[str, str]:
    """(device, the rest) of ``kp1/{device}/...``, for example ("bus-7", "u/ev")."""
    parts = topic.split("/", 2)
    if len(parts) != 3 or parts[0] != VERSION or not DEVICE.pattern.fullmatch(parts[1]):
        raise MessageError(f"topic {topic[:80]!r} is not {VERSION}/<device>/...")
    return parts[1], parts[2]
