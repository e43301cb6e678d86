"""Shared secrets by reference: sealed in the store, opened when a MAC is to be checked."""

from __future__ import annotations

import base64
import os
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from threading import Lock
from typing import Protocol

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
    """

    value: bytes = field(repr=False)
    single_use: bool = False
    used_at: float | None = None
    subject: str | None = None
    profiles: tuple[str, ...] = ()


class SecretBook:
    """Secrets of a store under a sealer. May be used by several threads at once.

    Opened secrets are remembered by their sealed form, a bounded number, since opening costs more than looking up.
    """

    def __init__(
        self, store: Store, sealer: Sealer, *, remembered: int = 4096, clock: Callable[[], float] = time.time
    ) -> None:
        self._store = store
        self._sealer = sealer
        self._clock = clock
        self._opened: OrderedDict[bytes, bytes] = OrderedDict()
        self._remembered = remembered
        self._lock = Lock()

    def find(self, reference: bytes) -> FoundSecret | None:
        """The secret under a reference, or None."""
        kept = self._store.secret(reference)
        if kept is None:
            return None
        with self._lock:
            value = self._opened.get(kept.sealed)
        if value is None:
            value = self._sealer.decrypt(reference, kept.sealed)
            with self._lock:
                self._opened[kept.sealed] = value
                while len(self._opened) > self._remembered:
                    self._opened.popitem(last=False)
        return FoundSecret(
            value=value,
            single_use=kept.single_use,
            used_at=kept.used_at,
            subject=kept.subject,
            profiles=kept.profiles,
        )

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
        name = reference.encode() if isinstance(reference, str) else bytes(reference)
        if secret is None:
            value = base64.b32encode(os.urandom(13))[:20].lower()
        else:
            value = secret.encode() if isinstance(secret, str) else bytes(secret)
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
        return self._store.remove_secret(reference.encode() if isinstance(reference, str) else bytes(reference))

    def list(self) -> list[StoredSecret]:
        """All of them, without their values."""
        return self._store.secrets()
