"""Shared secrets by reference: sealed in the store, opened when a MAC is to be checked."""

from __future__ import annotations

import base64
import os
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Protocol

from opensslcmp.asn1 import initializer
from opensslcmp.server.store import Conflict, Store, StoredSecret

__all__ = ["FoundSecret", "Sealer", "SecretBook"]


class Sealer(Protocol):
    """Encrypts what the store keeps, each secret for its reference; ``Vault`` does."""

    def encrypt(self, reference: bytes, secret: bytes) -> bytes:
        """Sealed."""

    def decrypt(self, reference: bytes, sealed: bytes) -> bytes:
        """Opened."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FoundSecret:
    """A secret, and what it may be used for.

    Attributes:
        single_use, used_at: whether it may still open a transaction.
        subject, profiles: what may be asked for with it, as ``StoredSecret`` says.
        previous: the one before, while it is accepted too.
    """

    value: bytes = field(repr=False)
    previous: bytes | None = field(default=None, repr=False)
    single_use: bool = False
    used_at: float | None = None
    subject: str | None = None
    profiles: tuple[str, ...] = ()


FoundSecret.__init__ = initializer(FoundSecret)  # type: ignore[method-assign]


class SecretBook:
    """Secrets of a store under a sealer. May be used by several threads at once.

    A secret is opened (3 µs) each time it is asked for, and where there is none, a decoy is: nothing is remembered that would
    make the time tell which references there are, or which of them were used lately.
    """

    def __init__(self, store: Store, sealer: Sealer, *, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._sealer = sealer
        self._clock = clock
        self._decoy = StoredSecret(reference=b"?", sealed=sealer.encrypt(b"?", os.urandom(20)), created_at=clock())
        self._rotates = False

    def find(self, reference: bytes) -> FoundSecret | None:
        """The secret under a reference, or None."""
        there = self._store.secret(reference)
        # What follows costs the same for a reference that there is not.
        kept = self._decoy if there is None else there
        value = self._sealer.decrypt(kept.reference, kept.sealed)
        rotated = kept if kept.previous is not None else self._decoy
        previous: bytes | None = None
        if self._rotates or kept.previous is not None:
            previous = self._sealer.decrypt(rotated.reference, rotated.previous or rotated.sealed)
        found = FoundSecret(
            value=value,
            previous=previous if kept.previous is not None and self._clock() < kept.previous_until else None,
            single_use=kept.single_use,
            used_at=kept.used_at,
            subject=kept.subject,
            profiles=kept.profiles,
        )
        return None if there is None else found

    @staticmethod
    def generate() -> bytes:
        """A new secret of 20 letters and digits."""
        return base64.b32encode(os.urandom(13))[:20].lower()

    def rotating(self) -> bool:
        """Whether there is a reference now under which two secrets are accepted."""
        self._rotates = self._clock() < self._store.overlap_until()
        return self._rotates

    def rotate(
        self, reference: str | bytes, secret: str | bytes | None = None, *, overlap_seconds: float = 0.0
    ) -> bytes:
        """Put another secret in the place of the one under a reference, and return it.

        What the old one may be used for, the new one may. A single-use secret may be used once, the old or the new one; when
        the old one was used, the new one may be used once more.

        Args:
            secret: None generates one of 20 letters and digits.
            overlap_seconds: how long the old one is accepted too.

        Raises:
            ValueError: there is no secret under this reference, the new one is empty or the same, or the time is negative.
            Conflict: somebody else changed it at the same time.
        """
        name, value = _named(reference), _chosen(secret)
        if overlap_seconds < 0:
            raise ValueError("the time of the overlap is negative")
        old = self._store.secret(name)
        if old is None:
            raise ValueError("there is no secret under this reference")
        if not value or value == self._sealer.decrypt(name, old.sealed):
            raise ValueError("the new secret is empty" if not value else "the new secret is the old one")
        now = self._clock()
        overlaps = overlap_seconds > 0 and old.used_at is None
        new = replace(
            old,
            sealed=self._sealer.encrypt(name, value),
            used_at=None,
            created_at=now,
            previous=old.sealed if overlaps else None,
            previous_until=now + overlap_seconds if overlaps else 0.0,
        )
        if not self._store.replace_secret(new, old.sealed):
            raise Conflict
        return value

    def add(
        self,
        reference: str | bytes,
        secret: str | bytes | None = None,
        *,
        single_use: bool = False,
        subject: str | None = None,
        profiles: Iterable[str] = (),
    ) -> bytes:
        """Keep a secret, and return it.

        Args:
            secret: None generates one of 20 letters and digits.
            single_use: it opens one transaction that issues a certificate.
            subject: regular expression for what may be asked for with it. It must match the whole subject, written as
                RFC 4514 does (``CN=device-7,O=Example``), and each subjectAltName, written ``DNS:device-7.example``,
                ``IP:192.0.2.7``, ``email:...``, ``URI:...``. None: any.
            profiles: names of the issuing profiles that may be asked for with it; the first is for who names none.
                Empty: any.

        Raises:
            ValueError: an empty reference or secret, there is a secret under this reference, or ``subject`` is no
                regular expression.
        """
        try:
            re.compile(subject or "")
        except re.error as error:
            raise ValueError(f"the pattern of the subject is no regular expression: {error}") from None
        name, value = _named(reference), _chosen(secret)
        if not name or not value:
            raise ValueError("reference and secret must not be empty")
        sealed = self._sealer.encrypt(name, value)
        try:
            self._store.add_secret(
                StoredSecret(
                    reference=name,
                    sealed=sealed,
                    single_use=single_use,
                    created_at=self._clock(),
                    subject=subject,
                    profiles=tuple(profiles),
                )
            )
        except Conflict:
            raise ValueError("there is a secret under this reference") from None
        return value

    def remove(self, reference: str | bytes) -> bool:
        """Forget a secret; False when there was none."""
        return self._store.remove_secret(_named(reference))

    def list(self) -> list[StoredSecret]:
        """All of them, without their values."""
        return self._store.secrets()


def _named(reference: str | bytes) -> bytes:
    return reference.encode() if isinstance(reference, str) else bytes(reference)


def _chosen(secret: str | bytes | None) -> bytes:
    if secret is None:
        return SecretBook.generate()
    return secret.encode() if isinstance(secret, str) else bytes(secret)
