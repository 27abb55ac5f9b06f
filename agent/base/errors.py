"""One tree of errors: each message says what, which value, why, and what to do.

The command line turns any ``KaopassError`` into one line on standard error and its ``exit_code``;
anything else is a defect and shows its traceback.
"""

from __future__ import annotations


class KaopassError(Exception):
    """The root of everything this project raises on purpose."""

    exit_code = 1


class UsageError(KaopassError):
    """The call itself is wrong: a value, a path or a combination the user gave."""

    exit_code = 2


class SettingsError(UsageError):
    """One or more settings are wrong; ``problems`` lists every one of them."""

    def __init__(self, source: str, problems: list[str]) -> None:
        self.source = source
        self.problems = problems
        count = "1 mistake" if len(problems) == 1 else f"{len(problems)} mistakes"
        super().__init__("\n  ".join([f"{source}: {count}", *problems]))


class ModelError(KaopassError):
    """A model is missing, altered, truncated or not licensed for this use."""


class CameraError(KaopassError):
    """A camera or file cannot be opened or read."""


class CameraStuckError(CameraError):
    """A camera hangs in its driver: it comes back only in another process."""


class ImageError(KaopassError):
    """A picture cannot be used: unreadable, no face, several faces, too poor."""


class KeySourceError(KaopassError):
    """A key is missing, unreadable, of the wrong size, or open to others."""


class GalleryError(KaopassError):
    """The gallery cannot be read, was written under another key, or is damaged."""


class PersonError(KaopassError):
    """A person is not enrolled who should be, or is already who should not be."""


class JournalError(KaopassError):
    """The journal cannot be opened or written."""


class LinkError(KaopassError):
    """The broker cannot be reached or refuses this device."""


class MessageError(KaopassError):
    """A message from the network does not parse or is not what it claims to be."""


class FeedbackError(KaopassError):
    """A lamp, buzzer or screen cannot be driven."""


class CityError(KaopassError):
    """The city side cannot open its database or do what was asked."""


class StatusError(KaopassError):
    """No agent answers on the status socket, or another one already does."""


class ProvisioningError(KaopassError):
    """This device cannot get, prove or renew its certificate."""


class AuditError(KaopassError):
    """The audit log cannot be written, or is not what was written."""
