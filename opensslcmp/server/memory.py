"""A store in memory: for tests, for benchmarks, and as the shortest description of what a store does."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace

from opensslcmp.server.store import (
    Application,
    ArchivedKey,
    CertificateRecord,
    CertificateSearch,
    CertificateState,
    Change,
    Conflict,
    Publication,
    Revocation,
    StoredSecret,
    Transaction,
)

__all__ = ["Claims", "MemoryStore"]

_IN_FORCE = (CertificateState.UNCONFIRMED, CertificateState.VALID, CertificateState.UPDATING)


class Claims:
    """Locks by transactionID: a fixed number of them, so that peers cannot make more."""

    __slots__ = ("_locks",)

    def __init__(self, number: int = 64) -> None:
        self._locks = tuple(threading.RLock() for _ in range(number))

    def __call__(self, transaction_id: bytes) -> AbstractContextManager[object]:
        """The lock of this transactionID; another one may share it."""
        return self._locks[hash(transaction_id) % len(self._locks)]


class MemoryStore:
    """A store that ends with the process. May be used by several threads at once."""

    def __init__(self) -> None:
        self.claim = Claims()
        self._lock = threading.Lock()
        self._transactions: dict[bytes, Transaction] = {}
        self._answers: dict[bytes, dict[bytes, bytes]] = {}
        self._open: dict[bytes, int] = {}
        self._open_total = 0
        self._certificates: dict[bytes, CertificateRecord] = {}
        self._by_key: dict[bytes, list[bytes]] = {}
        self._archived: dict[bytes, ArchivedKey] = {}
        self._revocations: dict[bytes, Revocation] = {}
        self._revision = 0
        self._applications: dict[str, Application] = {}
        self._publications: dict[str, Publication] = {}
        self._secrets: dict[bytes, StoredSecret] = {}

    def look(self, transaction_id: bytes, request_hash: bytes) -> tuple[Transaction | None, bytes | None]:
        """As ``Store.look``."""
        with self._lock:
            return self._transactions.get(transaction_id), self._answers.get(transaction_id, {}).get(request_hash)

    def open_transactions(self, identity: bytes) -> tuple[int, int]:
        """As ``Store.open_transactions``, exact."""
        with self._lock:
            return self._open_total, self._open.get(identity, 0)

    def commit(self, change: Change) -> None:
        """As ``Store.commit``."""
        (conflict,) = self.commit_many([change])
        if conflict is not None:
            raise conflict

    def commit_many(self, changes: Sequence[Change]) -> list[Conflict | None]:
        """As ``Store.commit_many``."""
        with self._lock:
            return [self._commit(change) for change in changes]

    def _commit(self, change: Change) -> Conflict | None:
        new, old = change.transaction, change.previous
        known = self._transactions.get(new.transaction_id)
        if (known is None) is not (old is None) or (known and old and known.version != old.version):
            return Conflict()
        for key, expected, _ in change.states:
            record = self._certificates.get(key)
            if record is None or record.state is not expected:
                return Conflict()
        if any(key not in self._revocations for key in change.released):
            return Conflict()
        if any(each.key in self._revocations and each.key not in change.released for each in change.revocations):
            return Conflict()
        if any(record.key in self._certificates for record in change.certificates):
            return Conflict()
        if old is None and change.most_open is not None and self._open.get(new.identity, 0) >= change.most_open:
            return Conflict()
        if change.secret_used is not None:
            secret = self._secrets.get(change.secret_used)
            if secret is None or secret.used_at is not None:
                return Conflict()
            self._secrets[change.secret_used] = replace(secret, used_at=change.now)
        self._transactions[new.transaction_id] = new
        self._count(old, -1)
        self._count(new, 1)
        if change.response is not None:
            self._answers.setdefault(new.transaction_id, {})[change.request_hash] = change.response
        for record in change.certificates:
            self._certificates[record.key] = record
            self._by_key.setdefault(record.key_and_subject, []).append(record.key)
        for each in change.archived:
            self._archived[each.key] = each
        for key, _, state in change.states:
            self._certificates[key] = replace(self._certificates[key], state=state)
        for key in change.released:
            del self._revocations[key]
        for revocation in change.revocations:
            self._revocations[revocation.key] = revocation
        self._revision += bool(change.revocations or change.released)
        return None

    def _count(self, transaction: Transaction | None, by: int) -> None:
        if transaction is not None and transaction.state.is_open:
            self._open_total += by
            left = self._open.get(transaction.identity, 0) + by
            if left:
                self._open[transaction.identity] = left
            else:
                del self._open[transaction.identity]

    def overdue(self, now: float, limit: int) -> list[Transaction]:
        """As ``Store.overdue``."""
        with self._lock:
            late = [each for each in self._transactions.values() if each.state.is_open and each.deadline <= now]
        return sorted(late, key=lambda each: each.deadline)[:limit]

    def forget(self, now: float) -> int:
        """As ``Store.forget``."""
        with self._lock:
            old = [key for key, each in self._transactions.items() if not each.state.is_open and each.expires <= now]
            for key in old:
                del self._transactions[key]
                self._answers.pop(key, None)
            for each in [each for each in self._applications.values() if each.expires <= now]:
                del self._applications[each.id]
        return len(old)

    def certificate(self, key: bytes) -> CertificateRecord | None:
        """As ``Store.certificate``."""
        with self._lock:
            return self._certificates.get(key)

    def certified(self, key_and_subject: bytes, now: float) -> CertificateRecord | None:
        """As ``Store.certified``."""
        with self._lock:
            for key in self._by_key.get(key_and_subject, ()):
                record = self._certificates[key]
                if record.state in _IN_FORCE and record.not_after > now:
                    return record
        return None

    def successors(self, key: bytes) -> list[CertificateRecord]:
        """As ``Store.successors``."""
        return [record for record in self.every_certificate() if record.updates == key]

    def archived(self, identity: bytes) -> list[ArchivedKey]:
        """As ``Store.archived``."""
        with self._lock:
            return [each for _, each in sorted(self._archived.items()) if each.identity == identity]

    def every_certificate(self) -> Iterator[CertificateRecord]:
        """As ``Store.every_certificate``."""
        with self._lock:
            return iter(sorted(self._certificates.values(), key=lambda each: (each.issued_at, each.key)))

    def search(
        self, wanted: CertificateSearch, limit: int, after: tuple[float, bytes] | None = None
    ) -> list[CertificateRecord]:
        """As ``Store.search``."""
        found = [each for each in self.every_certificate() if after is None or (each.issued_at, each.key) > after]
        return [
            each
            for each in found
            if each.state in wanted.states
            and f"{each.serial_number:x}".startswith(wanted.serial)
            and wanted.identity in {None, each.identity}
            and wanted.issued_after <= each.issued_at < wanted.issued_before
            and wanted.expires_after <= each.not_after < wanted.expires_before
        ][:limit]

    def certificates(self) -> int:
        """As ``Store.certificates``."""
        with self._lock:
            return len(self._certificates)

    def revocations(self, now: float) -> tuple[int, list[Revocation]]:
        """As ``Store.revocations``."""
        with self._lock:
            found = [each for each in self._revocations.values() if each.not_after > now]
            return self._revision, sorted(found, key=lambda each: each.serial_number)

    def revocation(self, key: bytes) -> Revocation | None:
        """As ``Store.revocation``."""
        with self._lock:
            return self._revocations.get(key)

    def revision(self) -> int:
        """As ``Store.revision``."""
        with self._lock:
            return self._revision

    def publication(self, name: str) -> Publication | None:
        """As ``Store.publication``."""
        with self._lock:
            return self._publications.get(name)

    def publish(self, publication: Publication) -> None:
        """As ``Store.publish``."""
        with self._lock:
            last = self._publications.get(publication.name)
            if publication.number != (last.number + 1 if last else 1):
                raise Conflict
            self._publications[publication.name] = publication

    def file(self, application: Application) -> Application:
        """As ``Store.file``."""
        with self._lock:
            return self._applications.setdefault(application.id, application)

    def application(self, application_id: str) -> Application | None:
        """As ``Store.application``."""
        with self._lock:
            return self._applications.get(application_id)

    def applications(self) -> list[Application]:
        """As ``Store.applications``."""
        with self._lock:
            return sorted(self._applications.values(), key=lambda each: (each.filed_at, each.id))

    def decide(self, application_id: str, approved: bool, reason: str, now: float) -> bool:
        """As ``Store.decide``."""
        with self._lock:
            known = self._applications.get(application_id)
            if known is None or known.approved is not None:
                return False
            self._applications[application_id] = replace(known, approved=approved, reason=reason, decided_at=now)
            return True

    def secret(self, reference: bytes) -> StoredSecret | None:
        """As ``Store.secret``."""
        with self._lock:
            return self._secrets.get(reference)

    def add_secret(self, secret: StoredSecret) -> None:
        """As ``Store.add_secret``."""
        with self._lock:
            if secret.reference in self._secrets:
                raise Conflict
            self._secrets[secret.reference] = secret

    def remove_secret(self, reference: bytes) -> bool:
        """As ``Store.remove_secret``."""
        with self._lock:
            return self._secrets.pop(reference, None) is not None

    def replace_secret(self, secret: StoredSecret, expected: bytes) -> bool:
        """As ``Store.replace_secret``."""
        with self._lock:
            there = self._secrets.get(secret.reference)
            if there is None or there.sealed != expected:
                return False
            self._secrets[secret.reference] = secret
            return True

    def overlap_until(self) -> float:
        """As ``Store.overlap_until``."""
        with self._lock:
            return max((each.previous_until for each in self._secrets.values()), default=0.0)

    def secrets(self) -> list[StoredSecret]:
        """As ``Store.secrets``."""
        with self._lock:
            return [self._secrets[reference] for reference in sorted(self._secrets)]

    def close(self) -> None:
        """As ``Store.close``."""
