"""Template protection: a keyed rotation of the embedding space, another one for each domain.

What is stored and what is searched are rotated embeddings; a plain one exists in memory only,
between the network and the rotation. An orthogonal map keeps every length and every cosine, so
recognition is exactly what it was (ISO/IEC 24745: performance), while the same face has unrelated
templates in two domains or under two keys (unlinkability), and a key can be changed when
templates have leaked (renewability).

The map is drawn uniformly (Haar measure) from all rotations and reflections: the Q of the QR
decomposition of a matrix of independent normal numbers, with the sign of R's diagonal multiplied
in (Mezzadri, "How to generate random matrices from the classical compact groups", Notices of the
AMS 54, 2007). The normal numbers are Box-Muller of the AES-256-CTR key stream. Q is then the one
solution of well-posed equations, so another NumPy, LAPACK or processor gives it to about 1e-12,
far below the 6e-8 of the float32 numbers stored.

What it is worth: to whoever has neither key nor plain embeddings, a rotated one is a uniformly
random direction, whatever the face. The cosines *within* a domain remain, so it hides faces, not
how many look alike. Whoever holds the key can turn it back; so can whoever knows about d pairs of
plain and rotated embeddings (d linear equations). Hence everything is encrypted besides.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CTR
from numpy.typing import NDArray

from agent.base.ports import FaceEmbedder
from agent.base.values import Face, Image, Vector
from agent.keys.ring import KEY_BYTES

Matrix = NDArray[np.float64]


class Protection:
    """The map of one template key. ``domain`` and ``version`` name it; ``repr`` shows no key."""

    def __init__(self, key: bytes, domain: str, version: int) -> None:
        """*key* is 32 random bytes, from ``KeyRing.template_key``."""
        self._key = key
        self.domain = domain
        self.version = version
        self._matrices: dict[int, Vector] = {}

    @classmethod
    def passing(cls) -> Protection:
        """Under a random key that ends with the process: for comparisons in memory alone."""
        return cls(secrets.token_bytes(KEY_BYTES), "memory", 0)

    def __repr__(self) -> str:
        return f"Protection({self.domain!r}, version {self.version})"

    @property
    def name(self) -> str:
        """What templates are sealed with, so that those of another map do not open."""
        return f"{self.domain} {self.version}"

    @property
    def check(self) -> str:
        """Tells another key from this one, and says nothing about either."""
        return hmac.digest(self._key, b"kaopass template key check", "sha256")[:8].hex()

    def matrix(self, values: int) -> Matrix:
        """The orthogonal matrix for embeddings of *values* numbers, float64 (values, values)."""
        return orthogonal(self._key, values)

    def apply(self, embeddings: Vector) -> Vector:
        """*embeddings*, float32 (n, d), rotated: float32 (n, d) of the same lengths.

        A row that is not finite stays so, and spoils no other.
        """
        if not embeddings.size:
            return embeddings
        values = embeddings.shape[1]
        transposed = self._matrices.get(values)
        if transposed is None:
            transposed = np.ascontiguousarray(self.matrix(values).T, np.float32)
            self._matrices[values] = transposed
        with np.errstate(invalid="ignore", over="ignore"):
            rotated: Vector = embeddings @ transposed
        return rotated


class ProtectedEmbedder:
    """An embedder whose embeddings leave it rotated, so that nothing behind it sees a plain one."""

    def __init__(self, embedder: FaceEmbedder, protection: Protection) -> None:
        self._embedder = embedder
        self._protection = protection

    @property
    def pack(self) -> str:
        return self._embedder.pack

    def embed(self, image: Image, faces: Sequence[Face]) -> Vector:
        """Rows of length 1, float32 (len(faces), d), rotated by the protection in use."""
        return self._protection.apply(self._embedder.embed(image, faces))

    def embed_reference(self, image: Image, faces: Sequence[Face]) -> Vector:
        """References for a template, float32 (len(faces), d), rotated by the protection in use."""
        return self._protection.apply(self._embedder.embed_reference(image, faces))

    def use(self, protection: Protection) -> None:
        """Rotate by *protection* from now on; call it from the thread that embeds."""
        self._protection = protection


@lru_cache(maxsize=4)
def orthogonal(key: bytes, values: int) -> Matrix:
    """The Haar-distributed orthogonal matrix of *key* (32 bytes), float64 (values, values).

    Takes some 30 ms for 512 values; the last few are kept, as a gallery is loaded again after
    every enrolment. Do not write into it.
    """
    pairs = (values * values + 1) // 2
    stream = Cipher(AES256(key), CTR(bytes(16))).encryptor().update(bytes(16 * pairs))
    # 53 bits each, as a double holds exactly; + 1 keeps the logarithm away from 0.
    uniform = ((np.frombuffer(stream, "<u8") >> 11) + 1) * 2.0**-53
    radius = np.sqrt(-2 * np.log(uniform[:pairs]))
    angle = 2 * np.pi * uniform[pairs:]
    normal = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])
    q, r = np.linalg.qr(normal[: values * values].reshape(values, values))
    rotation: Matrix = q * np.where(np.diagonal(r) < 0, -1.0, 1.0)
    return rotation


def change(old: Protection, new: Protection, values: int) -> Matrix:
    """The matrix that takes rows rotated by *old* to rows rotated by *new*, float64.

    The plain embeddings, to which the inverse of *old* (its transpose) would lead, never arise.
    """
    both: Matrix = old.matrix(values) @ new.matrix(values).T
    return both
