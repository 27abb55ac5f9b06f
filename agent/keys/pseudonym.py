"""Pseudonyms: what stands for a resident in everything that leaves the device.

A keyed hash with another key per purpose, so that a bus record and a hall record of one person
cannot be related by anyone without both keys: unless that person agreed to be known in both by one.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable

LINKED = "linked"  # in place of a purpose, for those who agreed to one pseudonym for all


def nobody(_person: str) -> bool:
    """No resident is linked."""
    return False


class Pseudonyms:
    """HMAC-SHA256 over the resident id, keyed per purpose (requirements D, tier T2)."""

    def __init__(
        self, key_for: Callable[[str], bytes], linked: Callable[[str], bool] = nobody
    ) -> None:
        """*key_for* gives the 32-byte key of a purpose such as "bus" or "hall", or of LINKED;
        *linked* says whose pseudonym is made with the latter."""
        self._key_for = key_for
        self._linked = linked

    def of(self, person: str, purpose: str) -> str:
        """The pseudonym of *person* for *purpose*: 64 lower-case hex digits."""
        key = self._key_for(LINKED if self._linked(person) else purpose)
        return hmac.new(key, person.encode("utf-8"), hashlib.sha256).hexdigest()
