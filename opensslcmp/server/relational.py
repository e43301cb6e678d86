"""What the stores on SQL have in common: which statements make up each of a store's methods.

A kind of database says how a statement reads (``_rows``, ``_row``), and how work is done in one durable transaction
(``_transact``, ``_apply``). Rows are tuples in the order of ``schema``'s columns.
"""

from __future__ import annotations

import contextlib
import json
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from sqlalchemy import Dialect

from opensslcmp.enums import BodyType, RevocationReason
from opensslcmp.server.memory import Claims
from opensslcmp.server.schema import APPLICATIONS, REVISION
from opensslcmp.server.statements import Prepared, Statements
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
    TransactionState,
    independent,
)

__all__ = ["RelationalStore", "Step"]

T = TypeVar("T")

Step = tuple[Prepared, list[dict[str, Any]]]
"""A statement, and the values that it is run with, one time after the other; each time it must change one row."""

# An Enum looks its members up in Python.
_BODY_TYPES = {int(each): each for each in BodyType}
_TRANSACTION_STATES = {int(each): each for each in TransactionState}
_CERTIFICATE_STATES = {int(each): each for each in CertificateState}
_MOST_KEPT = 4
_LONGEST_KEPT = 2048
_FORGET_BATCH = 500
_FORGET_BATCHES = 20
_PAGE = 500


class RelationalStore(ABC):
    """A ``Store`` on SQL."""

    _integrity_error: type[Exception]

    def __init__(self, dialect: Dialect, clock: Callable[[], float] = time.monotonic) -> None:
        self.claim = Claims()
        self._sql = Statements(dialect)
        self._clock = clock
        self._open_total = (0.0, 0)

    @abstractmethod
    def _rows(self, statement: Prepared, **values: Any) -> list[Any]:
        """All rows that a statement finds."""

    @abstractmethod
    def _row(self, statement: Prepared, **values: Any) -> Any:
        """The first row that a statement finds, or None."""

    @abstractmethod
    def _transact(self, work: Callable[[Any], T]) -> T:
        """Do ``work`` with the driver's connection in one transaction, durable on return; it may be done again.

        Raises:
            Conflict: ``work`` raised it, or broke a constraint; nothing was changed.
        """

    @abstractmethod
    def _apply(self, connection: Any, changes: Sequence[Change]) -> None:
        """Run the ``_steps`` of these changes.

        Raises:
            Conflict: one of the steps did not change its row.
            Exception: one of them broke a constraint (``_integrity_error``).
        """

    @abstractmethod
    def close(self) -> None:
        """As ``Store.close``."""

    def _run(self, connection: Any, statement: Prepared, **values: Any) -> int:
        """Run a statement in a transaction; how many rows it changed."""
        changed: int = connection.execute(statement.text, statement.parameters(values)).rowcount
        return changed

    def _value(self, statement: Prepared, **values: Any) -> Any:
        row = self._row(statement, **values)
        return None if row is None else row[0]

    # -- transactions --------------------------------------------------------------------------------------------

    def look(self, transaction_id: bytes, request_hash: bytes) -> tuple[Transaction | None, bytes | None]:
        """As ``Store.look``."""
        row = self._row(self._sql.look, id=transaction_id)
        if row is None:
            return None, None
        transaction = _transaction(row)
        answers = _kept(row[14])
        response = answers.get(request_hash)
        if response is None and len(answers) < transaction.version:
            response = self._value(self._sql.get_answer, id=transaction_id, request_hash=request_hash)
        return transaction, response

    def open_transactions(self, identity: bytes) -> tuple[int, int]:
        """As ``Store.open_transactions``."""
        now = self._clock()
        counted, total = self._open_total
        if not counted or not 0 <= now - counted < 1:
            total = self._value(self._sql.open_all)
            self._open_total = (now, total)
        return total, self._value(self._sql.open_own, identity=identity)

    def commit(self, change: Change) -> None:
        """As ``Store.commit``."""
        (conflict,) = self.commit_many([change])
        if conflict is not None:
            raise conflict

    def commit_many(self, changes: Sequence[Change]) -> list[Conflict | None]:
        """As ``Store.commit_many``."""
        if not changes:
            return []
        if len(changes) == 1 or independent(changes):
            try:
                self._transact(lambda connection: self._apply(connection, changes))
                return [None] * len(changes)
            except Conflict as conflict:
                if len(changes) == 1:
                    return [conflict]
        # One after the other, to tell which of them are in conflict; peers that get along never bring us here.
        return self._transact(lambda connection: [self._try(connection, change) for change in changes])

    def _try(self, connection: Any, change: Change) -> Conflict | None:
        connection.execute("SAVEPOINT one_change")
        outcome = None
        try:
            self._apply(connection, [change])
        except (Conflict, self._integrity_error):
            connection.execute("ROLLBACK TO SAVEPOINT one_change")
            outcome = Conflict()
        connection.execute("RELEASE SAVEPOINT one_change")
        return outcome

    def _steps(self, changes: Sequence[Change]) -> list[Step]:
        """How to make changes that touch nothing in common: one statement of each kind for all of them."""
        sql = self._sql
        revised = sum(1 for change in changes if change.revocations or change.released)
        steps: list[Step] = [
            (sql.begin_transaction, [_opening_values(each) for each in changes if each.previous is None]),
            (
                sql.change_transaction,
                [_changing_values(each, each.previous) for each in changes if each.previous is not None],
            ),
            (sql.add_answer, [_answer_values(each) for each in changes if not _is_kept(each)]),
            (sql.add_certificate, [_record_values(record) for each in changes for record in each.certificates]),
            (
                sql.add_archived,
                [
                    {"key": kept.key, "identity": kept.identity, "sealed": kept.sealed}
                    for each in changes
                    for kept in each.archived
                ],
            ),
            (
                sql.change_state,
                [
                    {"which": key, "expected": int(expected), "new": int(state)}
                    for each in changes
                    for key, expected, state in each.states
                ],
            ),
            (sql.remove_revocation, [{"which": key} for each in changes for key in each.released]),
            (sql.add_revocation, [_revocation_values(revoked) for each in changes for revoked in each.revocations]),
            (
                sql.use_secret,
                [{"which": each.secret_used, "now": each.now} for each in changes if each.secret_used is not None],
            ),
            # The one row that commits of several servers meet at, so it comes last and is held for the shortest time.
            (sql.count_up, [{"which": REVISION, "by": revised}] if revised else []),
        ]
        return [step for step in steps if step[1]]

    @staticmethod
    def _bounds(changes: Sequence[Change]) -> dict[bytes, int]:
        """How many transactions of a credential may be open after these changes."""
        return {
            change.transaction.identity: change.most_open
            for change in changes
            if change.previous is None and change.most_open is not None and change.transaction.state.is_open
        }

    def _check_bounds(self, connection: Any, bounds: dict[bytes, int]) -> None:
        """Return when no credential has more open transactions than it may have.

        Raises:
            Conflict: one has.
        """
        own = self._sql.open_own
        for identity, most in bounds.items():
            (count,) = connection.execute(own.text, own.parameters({"identity": identity})).fetchone()
            if count > most:
                raise Conflict

    def overdue(self, now: float, limit: int) -> list[Transaction]:
        """As ``Store.overdue``."""
        return [_transaction(row) for row in self._rows(self._sql.find_overdue, now=now, most=limit)]

    def forget(self, now: float) -> int:
        """As ``Store.forget``; in small batches, so that nobody waits long, and not more than 10,000 at once."""
        first = self._value(self._sql.any_old_application)
        if first is not None and first <= now:
            self._transact(lambda connection: self._run(connection, self._sql.forget_applications, now=now))
        forgotten = 0
        if self._row(self._sql.any_closed, now=now) is not None:
            for _ in range(_FORGET_BATCHES):
                batch = self._transact(lambda connection: self._forget_batch(connection, now))
                forgotten += batch
                if batch < _FORGET_BATCH:
                    break
        return forgotten

    def _forget_batch(self, connection: Any, now: float) -> int:
        find = self._sql.find_closed
        found = connection.execute(find.text, find.parameters({"now": now, "most": _FORGET_BATCH})).fetchall()
        for (transaction_id,) in found:
            self._run(connection, self._sql.forget_answers, id=transaction_id)
            self._run(connection, self._sql.forget_transaction, id=transaction_id)
        return len(found)

    # -- certificates --------------------------------------------------------------------------------------------

    def certificate(self, key: bytes) -> CertificateRecord | None:
        """As ``Store.certificate``."""
        row = self._row(self._sql.get_certificate, which=key)
        return None if row is None else _record(row)

    def certified(self, key_and_subject: bytes, now: float) -> CertificateRecord | None:
        """As ``Store.certified``."""
        in_force = int(CertificateState.UPDATING)
        row = self._row(self._sql.get_certified, which=key_and_subject, in_force=in_force, now=now)
        return None if row is None else _record(row)

    def successors(self, key: bytes) -> list[CertificateRecord]:
        """As ``Store.successors``."""
        return [_record(row) for row in self._rows(self._sql.get_successors, which=key)]

    def archived(self, identity: bytes) -> list[ArchivedKey]:
        """As ``Store.archived``."""
        rows = self._rows(self._sql.get_archived, which=identity)
        return [ArchivedKey(key=row[0], identity=row[1], sealed=row[2]) for row in rows]

    def every_certificate(self) -> Iterator[CertificateRecord]:
        """As ``Store.every_certificate``; a page at a time, so neither memory nor a transaction grows with it."""
        at, after = float("-inf"), b""
        while True:
            page = self._rows(self._sql.get_certificates, at=at, after=after, most=_PAGE)
            yield from map(_record, page)
            if len(page) < _PAGE:
                return
            last = _record(page[-1])
            at, after = last.issued_at, last.key

    def search(
        self, wanted: CertificateSearch, limit: int, after: tuple[float, bytes] | None = None
    ) -> list[CertificateRecord]:
        """As ``Store.search``."""
        at, key = after or (float("-inf"), b"")
        # What is not wanted matches nothing: there is no state -1.
        states = {f"state_{each.name}": int(each) if each in wanted.states else -1 for each in CertificateState}
        rows = self._rows(
            self._sql.search_certificates,
            at=at,
            after=key,
            serial=wanted.serial,
            serial_end=wanted.serial + "g",
            identity=b"" if wanted.identity is None else wanted.identity,
            identity_end=b"\xff" if wanted.identity is None else wanted.identity,
            issued_after=wanted.issued_after,
            issued_before=wanted.issued_before,
            expires_after=wanted.expires_after,
            expires_before=wanted.expires_before,
            most=limit,
            **states,
        )
        return [_record(row) for row in rows]

    def certificates(self) -> int:
        """As ``Store.certificates``."""
        count: int = self._value(self._sql.count_certificates)
        return count

    def revocations(self, now: float) -> tuple[int, list[Revocation]]:
        """As ``Store.revocations``."""
        revision = self.revision()  # read first: a later one only makes the next reader look again
        found = [_revocation(row) for row in self._rows(self._sql.get_revocations, now=now)]
        return revision, sorted(found, key=lambda each: each.serial_number)

    def revocation(self, key: bytes) -> Revocation | None:
        """As ``Store.revocation``."""
        row = self._row(self._sql.get_revocation, which=key)
        return None if row is None else _revocation(row)

    def revision(self) -> int:
        """As ``Store.revision``."""
        value: int = self._value(self._sql.get_number, which=REVISION)
        return value

    def publication(self, name: str) -> Publication | None:
        """As ``Store.publication``."""
        row = self._row(self._sql.get_publication, which=name)
        if row is None:
            return None
        name, number, revision, made_at, good_until, content = row
        return Publication(
            name=name, number=number, revision=revision, made_at=made_at, good_until=good_until, content=content
        )

    def publish(self, publication: Publication) -> None:
        """As ``Store.publish``."""
        values = {
            "number": publication.number,
            "revision": publication.revision,
            "made_at": publication.made_at,
            "good_until": publication.good_until,
            "content": publication.content,
        }

        def work(connection: Any) -> None:
            if publication.number == 1:
                self._run(connection, self._sql.add_publication, name=publication.name, **values)
                return
            expected = publication.number - 1
            if not self._run(
                connection, self._sql.change_publication, which=publication.name, expected=expected, **values
            ):
                raise Conflict

        self._transact(work)

    # -- applications --------------------------------------------------------------------------------------------

    def file(self, application: Application) -> Application:
        """As ``Store.file``."""
        values = {name: getattr(application, name) for name in APPLICATIONS.columns.keys()}  # noqa: SIM118
        # What a peer calls itself may have a NUL, which text in SQL has not.
        values = {name: _without_nul(value) for name, value in values.items()} | {"kind": int(application.kind)}
        with contextlib.suppress(Conflict):
            self._transact(lambda connection: self._run(connection, self._sql.add_application, **values))
        return self.application(application.id) or application

    def application(self, application_id: str) -> Application | None:
        """As ``Store.application``."""
        row = self._row(self._sql.get_application, which=application_id)
        return None if row is None else _application(row)

    def applications(self) -> list[Application]:
        """As ``Store.applications``."""
        return [_application(row) for row in self._rows(self._sql.get_applications)]

    def decide(self, application_id: str, approved: bool, reason: str, now: float) -> bool:
        """As ``Store.decide``."""
        values = {"approved": int(approved), "reason": _without_nul(reason), "decided_at": now}
        return bool(
            self._transact(
                lambda connection: self._run(connection, self._sql.decide, which=application_id, **values),
            )
        )

    # -- secrets -------------------------------------------------------------------------------------------------

    def secret(self, reference: bytes) -> StoredSecret | None:
        """As ``Store.secret``."""
        # As much work for a reference that there is not: the row of another one is read, and let go.
        found = _secret(self._row(self._sql.get_secret, which=reference) or _NO_SECRET)
        return found if found.reference == reference else None

    def add_secret(self, secret: StoredSecret) -> None:
        """As ``Store.add_secret``."""
        values = {"reference": secret.reference} | _secret_values(secret)
        self._transact(lambda connection: self._run(connection, self._sql.add_secret, **values))

    def replace_secret(self, secret: StoredSecret, expected: bytes) -> bool:
        """As ``Store.replace_secret``."""
        values = {"which": secret.reference, "expected": expected} | _secret_values(secret)
        return bool(self._transact(lambda connection: self._run(connection, self._sql.replace_secret, **values)))

    def overlap_until(self) -> float:
        """As ``Store.overlap_until``."""
        found: float | None = self._value(self._sql.overlap_until)
        return found or 0.0

    def remove_secret(self, reference: bytes) -> bool:
        """As ``Store.remove_secret``."""
        return bool(self._transact(lambda connection: self._run(connection, self._sql.remove_secret, which=reference)))

    def secrets(self) -> list[StoredSecret]:
        """As ``Store.secrets``."""
        return [_secret(row) for row in self._rows(self._sql.get_secrets)]


def _without_nul(value: Any) -> Any:
    return value.replace("\0", "\ufffd") if isinstance(value, str) else value


def _opening_values(change: Change) -> dict[str, Any]:
    new = change.transaction
    return {
        "transaction_id": new.transaction_id,
        "identity": new.identity,
        "algorithm": new.algorithm,
        "body_type": int(new.body_type),
        "state": int(new.state),
        "nonce": new.nonce,
        "nonces": new.nonces,
        "certificates": _pairs_text(new.certificates),
        "deadline": new.deadline,
        "expires": new.expires,
        "request": new.request,
        "pending": new.pending,
        "version": new.version,
        "label": new.label,
        "answers": _keep(change),
    }


def _changing_values(change: Change, old: Transaction) -> dict[str, Any]:
    """What of a transaction changes with each commit, and what is expected of it."""
    new = change.transaction
    return {
        "id": new.transaction_id,
        "expected": old.version,
        "state": int(new.state),
        "nonce": new.nonce,
        "nonces": new.nonces,
        "certificates": _pairs_text(new.certificates),
        "deadline": new.deadline,
        "expires": new.expires,
        "request": new.request,
        "pending": new.pending,
        "version": new.version,
        "answer": _keep(change),
    }


def _answer_values(change: Change) -> dict[str, Any]:
    return {
        "transaction_id": change.transaction.transaction_id,
        "request_hash": change.request_hash,
        "response": change.response,
    }


def _is_kept(change: Change) -> bool:
    """There is no answer, or it stands with its transaction: a short one among the first. Who polls gets many."""
    return change.response is None or (
        change.transaction.version <= _MOST_KEPT and len(change.response) <= _LONGEST_KEPT
    )


def _keep(change: Change) -> bytes:
    """An answer for the column ``answers``: length and hash of the request, length and answer; empty: none."""
    if change.response is None or not _is_kept(change):
        return b""
    asked, response = change.request_hash, change.response
    return b"%c%b%b%b" % (len(asked), asked, len(response).to_bytes(2, "big"), response)


def _kept(answers: bytes) -> dict[bytes, bytes]:
    """The answers in that column by the hashes of their requests."""
    found = {}
    at = 0
    while at < len(answers):
        hash_end = at + 1 + answers[at]
        end = hash_end + 2 + int.from_bytes(answers[hash_end : hash_end + 2], "big")
        found[answers[at + 1 : hash_end]] = answers[hash_end + 2 : end]
        at = end
    return found


def _pairs_text(pairs: tuple[tuple[int, bytes], ...]) -> str:
    """Numbers and keys as JSON has them. A tenth of what json.dumps takes, several times for each enrollment."""
    return "[" + ", ".join([f'[{number}, "{key.hex()}"]' for number, key in pairs]) + "]"


def _pairs(written: str) -> tuple[tuple[int, bytes], ...]:
    if written == "[]":
        return ()
    pairs = [each.split(", ") for each in written[2:-2].split("], [")]
    return tuple([(int(number), bytes.fromhex(key[1:-1])) for number, key in pairs])


def _record_values(record: CertificateRecord) -> dict[str, Any]:
    return {
        "key": record.key,
        "serial_number": f"{record.serial_number:x}",
        "certificate": record.certificate,
        "key_and_subject": record.key_and_subject,
        "state": int(record.state),
        "identity": record.identity,
        "transaction_id": record.transaction_id,
        "issued_at": record.issued_at,
        "not_after": record.not_after,
        "updates": record.updates,
    }


def _revocation_values(revocation: Revocation) -> dict[str, Any]:
    return {
        "key": revocation.key,
        "serial_number": f"{revocation.serial_number:x}",
        "reason": int(revocation.reason),
        "at": revocation.at,
        "not_after": revocation.not_after,
        "before": int(revocation.before),
    }


def _secret_values(secret: StoredSecret) -> dict[str, Any]:
    return {
        "sealed": secret.sealed,
        "single_use": int(secret.single_use),
        "used_at": secret.used_at,
        "created_at": secret.created_at,
        "subject": secret.subject,
        "profiles": json.dumps(secret.profiles),
        "previous": secret.previous,
        "previous_until": secret.previous_until,
    }


def _transaction(row: Any) -> Transaction:
    return Transaction(
        transaction_id=row[0],
        identity=row[1],
        algorithm=row[2],
        body_type=_BODY_TYPES[row[3]],
        state=_TRANSACTION_STATES[row[4]],
        nonce=row[5],
        nonces=row[6],
        certificates=_pairs(row[7]),
        deadline=row[8],
        expires=row[9],
        request=row[10],
        pending=row[11],
        version=row[12],
        label=row[13],
    )


def _record(row: Any) -> CertificateRecord:
    return CertificateRecord(
        key=row[0],
        serial_number=int(row[1], 16),
        certificate=row[2],
        key_and_subject=row[3],
        state=_CERTIFICATE_STATES[row[4]],
        identity=row[5],
        transaction_id=row[6],
        issued_at=row[7],
        not_after=row[8],
        updates=row[9],
    )


def _application(row: Any) -> Application:
    values = dict(zip(APPLICATIONS.columns.keys(), row, strict=True))
    approved = values["approved"]
    return Application(
        **values | {"kind": BodyType(values["kind"]), "approved": None if approved is None else bool(approved)}
    )


def _revocation(row: Any) -> Revocation:
    key, number, reason, at, not_after, before = row
    return Revocation(
        key=key,
        serial_number=int(number, 16),
        reason=RevocationReason(reason),
        at=at,
        not_after=not_after,
        before=CertificateState(before),
    )


_NO_SECRET = (b"", b"?", 0, None, 0.0, None, "[]", None, 0.0)


def _secret(row: Any) -> StoredSecret:
    return StoredSecret(
        reference=row[0],
        sealed=row[1],
        single_use=bool(row[2]),
        used_at=row[3],
        created_at=row[4],
        subject=row[5],
        profiles=tuple(json.loads(row[6])),
        previous=row[7],
        previous_until=row[8],
    )
