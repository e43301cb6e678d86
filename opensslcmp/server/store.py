"""What a server must remember, and the Protocol of whoever remembers it.

Everything that one message changes is a ``Change``, and a ``Change`` is committed as a whole or not at all: the
transaction, the response, the certificates, the revocations. So the response is durable before it leaves, and there is
no certificate without its record. Two workers that handle the same transaction at once are told apart by the commit:
the slower one gets ``Conflict`` and looks again.

Times are seconds since 1970.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Protocol

from opensslcmp.asn1 import initializer
from opensslcmp.enums import BodyType, RevocationReason

__all__ = [
    "Application",
    "ArchivedKey",
    "CertificateRecord",
    "CertificateSearch",
    "CertificateState",
    "Change",
    "Conflict",
    "Publication",
    "Revocation",
    "Store",
    "StoredSecret",
    "Transaction",
    "TransactionState",
    "Unavailable",
    "certificate_key",
    "independent",
]


class Conflict(Exception):
    """Another worker changed the same thing first."""


class Unavailable(Exception):
    """The store cannot be read or written just now: its disk is full, its database away. Later it may work.

    Of a change that was under way nobody knows, when the connection broke, whether it was made; looking tells.
    """


class TransactionState(IntEnum):
    """Where a transaction stands."""

    CHALLENGED = -1
    """A popdecc was sent, and nothing issued yet."""
    WAITING = 0
    CONFIRMING = 1
    CONFIRMED = 2
    CLOSED = 3

    @property
    def is_open(self) -> bool:
        """More messages are expected."""
        return self <= TransactionState.CONFIRMING


class CertificateState(IntEnum):
    """What a certificate is good for."""

    UNCONFIRMED = 0
    VALID = 1
    UPDATING = 2
    UPDATED = 3
    REVOKED = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Transaction:
    """One transactionID.

    Attributes:
        identity: of the credential that began it (``Verified.identity``).
        algorithm: dotted OID of the protection of its first message.
        body_type: of its first message.
        nonce: the senderNonce of our last answer.
        nonces: the peer's senderNonces, 16 bytes for each: itself, or the first of its SHA-256.
        certificates: certReqId and key of each certificate that it issued.
        deadline: when an open one ends by itself.
        expires: when it may be forgotten.
        request: the opening message, kept while waiting.
        pending: what the authority said then.
        version: of this state; each commit brings the next one.
        label: of the path that its first message came by, empty for none; None where labels mean nothing.
    """

    transaction_id: bytes
    identity: bytes
    algorithm: str
    body_type: BodyType
    state: TransactionState
    nonce: bytes
    nonces: bytes
    certificates: tuple[tuple[int, bytes], ...] = ()
    deadline: float
    expires: float
    request: bytes | None = field(default=None, repr=False)
    pending: bytes | None = None
    version: int = 1
    label: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class CertificateRecord:
    """One certificate.

    Attributes:
        key: ``certificate_key(issuer, serial_number)``.
        key_and_subject: SHA-256 of SubjectPublicKeyInfo and subject, to find what was certified already.
        identity: of the credential that it was issued to.
        updates: key of the certificate that this one takes the place of.
    """

    key: bytes
    serial_number: int
    certificate: bytes = field(repr=False)
    key_and_subject: bytes
    state: CertificateState
    identity: bytes
    transaction_id: bytes
    issued_at: float
    not_after: float
    updates: bytes | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ArchivedKey:
    """The private key of a certificate, sealed, so that the store alone gives it away to nobody (``escrow``).

    Attributes:
        key: of the certificate.
        identity: of the credential that it was issued to.
    """

    key: bytes
    identity: bytes
    sealed: bytes = field(repr=False)


# Made for every message, so it is worth the microsecond (asn1.initializer).
Transaction.__init__ = initializer(Transaction)  # type: ignore[method-assign]
CertificateRecord.__init__ = initializer(CertificateRecord)  # type: ignore[method-assign]


@dataclass(frozen=True, kw_only=True, slots=True)
class Revocation:
    """Why and when a certificate was revoked; ``not_after`` is the certificate's.

    Attributes:
        before: what the certificate was good for until then.
    """

    key: bytes
    serial_number: int
    reason: RevocationReason
    at: float
    not_after: float
    before: CertificateState = CertificateState.VALID


@dataclass(frozen=True, kw_only=True, slots=True)
class Application:
    """A request for a certificate that a person is to decide about.

    Attributes:
        id: by which it is named.
        kind: of the request.
        subject, names, requester, address: what is asked for, by whom, from where; for people.
        key_hash: SHA-256 of the SubjectPublicKeyInfo, in hexadecimal.
        approved: None as long as nobody decided.
        reason: why it was refused; the requester is told.
        label: of the path that it came by, or None.
        profile: the certProfile that it names, or None.
    """

    id: str
    transaction_id: bytes
    kind: BodyType
    subject: str
    names: str = ""
    key_hash: str
    requester: str
    address: str | None = None
    filed_at: float
    expires: float
    approved: bool | None = None
    reason: str = ""
    decided_at: float | None = None
    label: str | None = None
    profile: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Publication:
    """What all workers show the same of, such as the CRL.

    Attributes:
        name: ``crl``.
        number: one more than that of the publication before, starting with 1.
        revision: of the revocations in it.
        made_at, good_until: its time.
        content: DER.
    """

    name: str
    number: int
    revision: int
    made_at: float
    good_until: float
    content: bytes = field(repr=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredSecret:
    """A secret as it is kept: sealed, so that the store alone gives it away to nobody.

    Attributes:
        used_at: when a single-use one was used; None before.
        previous: the one before, sealed, which is accepted too before ``previous_until`` (seconds since 1970).
        subject: regular expression that subjects asked for with it must match, as RFC 4514 writes them; None: any.
        profiles: names of the issuing profiles that may be asked for with it, the first for who names none; empty: any.
    """

    reference: bytes
    sealed: bytes = field(repr=False)
    single_use: bool = False
    used_at: float | None = None
    created_at: float
    subject: str | None = None
    profiles: tuple[str, ...] = ()
    previous: bytes | None = field(default=None, repr=False)
    previous_until: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class CertificateSearch:
    """Which certificates are looked for: those for which all of this is so.

    Attributes:
        states: one of these.
        serial: hexadecimal digits that the serial number begins with.
        identity: issued to this credential; None: to any.
        issued_after, issued_before, expires_after, expires_before: seconds since 1970; the first of a pair is included.
    """

    states: frozenset[CertificateState] = frozenset(CertificateState)
    serial: str = ""
    identity: bytes | None = None
    issued_after: float = 0.0
    issued_before: float = 1e300
    expires_after: float = 0.0
    expires_before: float = 1e300


@dataclass(kw_only=True, slots=True)
class Change:
    """Everything that one message changes.

    Attributes:
        transaction: as it shall be.
        previous: as it was; None claims a new transactionID.
        request_hash, response: what answers a retransmission.
        certificates: new ones.
        states: key, expected and new state of certificates that are there.
        revocations: new ones.
        released: keys of certificates whose revocation is taken back, or takes another's place by ``revocations``.
        most_open: of this credential, this one included when it is new; more is a conflict.
        archived: private keys of new certificates.
        secret_used: reference of a single-use secret that is used up by this, not used before.
    """

    transaction: Transaction
    previous: Transaction | None = None
    request_hash: bytes = b""
    response: bytes | None = None
    certificates: list[CertificateRecord] = field(default_factory=list)
    states: list[tuple[bytes, CertificateState, CertificateState]] = field(default_factory=list)
    revocations: list[Revocation] = field(default_factory=list)
    released: list[bytes] = field(default_factory=list)
    archived: tuple[ArchivedKey, ...] = ()
    secret_used: bytes | None = None
    most_open: int | None = None
    now: float = 0.0

    def touched(self) -> Iterator[bytes]:
        """What it reads or writes: two changes that touch nothing in common may be made in any order."""
        yield self.transaction.transaction_id
        for record in self.certificates:
            yield b"c" + record.key
        for key, _, _ in self.states:
            yield b"c" + key
        for revocation in self.revocations:
            yield b"r" + revocation.key
        for key in self.released:
            yield b"r" + key
        if self.secret_used is not None:
            yield b"s" + self.secret_used


class Store(Protocol):
    """Remembers. May be called from several threads at once, and by several processes where it says so.

    Each method raises ``Unavailable`` when the store cannot be used just now; then requesters are told systemUnavail.
    """

    def claim(self, transaction_id: bytes) -> AbstractContextManager[object]:
        """Keep other threads of this process away from a transactionID for a while, so that work is not done twice."""

    def look(self, transaction_id: bytes, request_hash: bytes) -> tuple[Transaction | None, bytes | None]:
        """The transaction, and the response that this very request got."""

    def open_transactions(self, identity: bytes) -> tuple[int, int]:
        """How many are open, in all and of this credential. The first may lag by a second."""

    def commit(self, change: Change) -> None:
        """Make it durable, all of it.

        Raises:
            Conflict: something is not as ``change`` expects; nothing was changed.
        """

    def commit_many(self, changes: Sequence[Change]) -> list[Conflict | None]:
        """Make them durable together, one after the other, each of them whole or not at all.

        Returns:
            for each change, in its place, None when it is durable, and why when it was left out.

        Raises:
            Exception: the store failed, and none of them is durable.
        """

    def overdue(self, now: float, limit: int) -> list[Transaction]:
        """Open transactions whose deadline has passed, at most ``limit``."""

    def forget(self, now: float) -> int:
        """Drop closed transactions that have expired, and applications; how many transactions."""

    def certificate(self, key: bytes) -> CertificateRecord | None:
        """The certificate with this key."""

    def certified(self, key_and_subject: bytes, now: float) -> CertificateRecord | None:
        """A certificate in force for this public key and subject."""

    def successors(self, key: bytes) -> list[CertificateRecord]:
        """The certificates that were to take the place of this one, in the order of their issue."""

    def archived(self, identity: bytes) -> list[ArchivedKey]:
        """Private keys of certificates that were issued to this credential, in the order of their certificates' keys."""

    def every_certificate(self) -> Iterator[CertificateRecord]:
        """All of them, in the order of their issue; those that come meanwhile may be missing."""

    def search(
        self, wanted: CertificateSearch, limit: int, after: tuple[float, bytes] | None = None
    ) -> list[CertificateRecord]:
        """Certificates in the order of their issue, at most ``limit``.

        Args:
            after: ``issued_at`` and ``key`` of the last one that is known already; None: from the first one on.
        """

    def certificates(self) -> int:
        """How many certificates there are, in any state."""

    def revocations(self, now: float) -> tuple[int, list[Revocation]]:
        """Revision, and the revocations of certificates that have not ended, in the order of their serial numbers.

        The revision grows with every commit that revokes or takes a revocation back.
        """

    def revocation(self, key: bytes) -> Revocation | None:
        """Why and when the certificate with this key was revoked."""

    def revision(self) -> int:
        """The revision of the revocations."""

    def publication(self, name: str) -> Publication | None:
        """What was published last under this name."""

    def publish(self, publication: Publication) -> None:
        """Put it in the place of the one before.

        Raises:
            Conflict: its number is not the next one.
        """

    def file(self, application: Application) -> Application:
        """Keep an application; when there is one with its id, nothing is changed, and that one is returned."""

    def application(self, application_id: str) -> Application | None:
        """The application with this id."""

    def applications(self) -> list[Application]:
        """All applications, oldest first."""

    def decide(self, application_id: str, approved: bool, reason: str, now: float) -> bool:
        """Approve or refuse an application; False when there is none with this id that is not decided."""

    def secret(self, reference: bytes) -> StoredSecret | None:
        """The secret under this reference."""

    def add_secret(self, secret: StoredSecret) -> None:
        """Keep a secret.

        Raises:
            Conflict: there is one under this reference.
        """

    def remove_secret(self, reference: bytes) -> bool:
        """Forget a secret; False when there was none."""

    def replace_secret(self, secret: StoredSecret, expected: bytes) -> bool:
        """Put a secret in the place of the one under its reference; False when that is not sealed as ``expected``."""

    def overlap_until(self) -> float:
        """When the last ``previous`` of a secret ends that there is, in seconds since 1970; 0 when there is none."""

    def secrets(self) -> list[StoredSecret]:
        """All secrets, in the order of their references."""

    def close(self) -> None:
        """Give up connections. Nothing else may be called afterwards."""


def independent(changes: Sequence[Change]) -> bool:
    """No two of these changes touch the same thing."""
    seen: set[bytes] = set()
    for change in changes:
        touched = set(change.touched())
        if not seen.isdisjoint(touched):
            return False
        seen |= touched
    return True


def certificate_key(issuer: bytes, serial_number: int) -> bytes:
    """The key of a certificate by the DER of its issuer's Name and its number."""
    number = serial_number.to_bytes(serial_number.bit_length() // 8 + 1, "big", signed=True)
    return hashlib.sha256(issuer + number).digest()
