"""The store on SQL, by SQLAlchemy Core: SQLite in WAL mode, each commit on the disk before it is answered.

Statements are written as SQLAlchemy expressions, compiled once, and run on the driver's own connection: SQLAlchemy's
execution costs 40 µs a statement, three times what SQLite itself needs. One connection serves each thread. What changes
goes through one ``BEGIN IMMEDIATE`` .. ``COMMIT``, so several processes may work on the same file.

Source: sqlite.org, "Write-Ahead Logging" and "PRAGMA synchronous".
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import (
    Column,
    Connection,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    bindparam,
    create_engine,
    delete,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.pool import NullPool
from sqlalchemy.schema import CreateColumn

from opensslcmp.enums import BodyType, RevocationReason
from opensslcmp.server.memory import Claims
from opensslcmp.server.store import (
    Application,
    CertificateRecord,
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

__all__ = ["SCHEMA_VERSION", "SQLStore"]

SCHEMA_VERSION = 2

_metadata = MetaData()
_versions = Table("schema_version", _metadata, Column("version", Integer, primary_key=True))
_transactions = Table(
    "transactions",
    _metadata,
    Column("transaction_id", LargeBinary, primary_key=True),
    Column("identity", LargeBinary, nullable=False),
    Column("algorithm", String, nullable=False),
    Column("body_type", Integer, nullable=False),
    Column("state", Integer, nullable=False),
    Column("nonce", LargeBinary, nullable=False),
    Column("nonces", LargeBinary, nullable=False),
    Column("certificates", String, nullable=False),
    Column("deadline", Float, nullable=False),
    Column("expires", Float, nullable=False),
    Column("request", LargeBinary),
    Column("pending", LargeBinary),
    Column("version", Integer, nullable=False),
)
_is_open = _transactions.c.state <= int(TransactionState.CONFIRMING)
Index(
    "transactions_open",
    _transactions.c.identity,
    _transactions.c.deadline,
    sqlite_where=_is_open,
    postgresql_where=_is_open,
)
Index("transactions_deadline", _transactions.c.deadline, sqlite_where=_is_open, postgresql_where=_is_open)
Index("transactions_expires", _transactions.c.expires)
_answers = Table(
    "answers",
    _metadata,
    Column("transaction_id", LargeBinary, primary_key=True),
    Column("request_hash", LargeBinary, primary_key=True),
    Column("response", LargeBinary, nullable=False),
)
_certificates = Table(
    "certificates",
    _metadata,
    Column("key", LargeBinary, primary_key=True),
    Column("serial_number", String, nullable=False),
    Column("certificate", LargeBinary, nullable=False),
    Column("key_and_subject", LargeBinary, nullable=False, index=True),
    Column("state", Integer, nullable=False),
    Column("identity", LargeBinary, nullable=False),
    Column("transaction_id", LargeBinary, nullable=False),
    Column("issued_at", Float, nullable=False),
    Column("not_after", Float, nullable=False),
    Column("updates", LargeBinary),
)
_is_update = _certificates.c.updates.is_not(None)
Index("certificates_updates", _certificates.c.updates, sqlite_where=_is_update, postgresql_where=_is_update)
_revocations = Table(
    "revocations",
    _metadata,
    Column("key", LargeBinary, primary_key=True),
    Column("serial_number", String, nullable=False),
    Column("reason", Integer, nullable=False),
    Column("at", Float, nullable=False),
    Column("not_after", Float, nullable=False),
    Column("before", Integer, nullable=False, server_default=str(int(CertificateState.VALID))),
)
_secrets = Table(
    "secrets",
    _metadata,
    Column("reference", LargeBinary, primary_key=True),
    Column("sealed", LargeBinary, nullable=False),
    Column("single_use", Integer, nullable=False),
    Column("used_at", Float),
    Column("created_at", Float, nullable=False),
    Column("subject", String),
    Column("profiles", String, nullable=False, server_default="[]"),
)
_numbers = Table(
    "numbers", _metadata, Column("name", String, primary_key=True), Column("value", Integer, nullable=False)
)
_publications = Table(
    "publications",
    _metadata,
    Column("name", String, primary_key=True),
    Column("number", Integer, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("made_at", Float, nullable=False),
    Column("good_until", Float, nullable=False),
    Column("content", LargeBinary, nullable=False),
)
_applications = Table(
    "applications",
    _metadata,
    Column("id", String, primary_key=True),
    Column("transaction_id", LargeBinary, nullable=False),
    Column("kind", Integer, nullable=False),
    Column("subject", String, nullable=False),
    Column("names", String, nullable=False),
    Column("key_hash", String, nullable=False),
    Column("requester", String, nullable=False),
    Column("address", String),
    Column("filed_at", Float, nullable=False),
    Column("expires", Float, nullable=False, index=True),
    Column("approved", Integer),
    Column("reason", String, nullable=False),
    Column("decided_at", Float),
)

_REVISION = "revocations"


class _Prepared:
    """A statement, compiled once: its text and the order of its parameters."""

    __slots__ = ("constants", "order", "text")

    def __init__(self, statement: Any, dialect: Any) -> None:
        compiled = statement.compile(dialect=dialect)
        self.text: str = str(compiled)
        self.order: tuple[str, ...] = tuple(compiled.positiontup or ())
        self.constants = {name: value for name, value in compiled.params.items() if value is not None}

    def __call__(self, connection: Any, **values: Any) -> Any:
        """Run it; the driver's cursor."""
        if self.constants:
            values = {**self.constants, **values}
        return connection.execute(self.text, [values[name] for name in self.order])

    def many(self, connection: Any, rows: list[dict[str, Any]]) -> None:
        """Run it for each of these values.

        Raises:
            Conflict: one of them changed no row, or more than one.
        """
        if not rows:
            return
        constants, order = self.constants, self.order
        if constants:
            rows = [{**constants, **row} for row in rows]
        if len(rows) == 1:
            row = rows[0]
            cursor = connection.execute(self.text, [row[name] for name in order])
        else:
            cursor = connection.executemany(self.text, [[row[name] for name in order] for row in rows])
        if cursor.rowcount != len(rows):
            raise Conflict

    def value(self, connection: Any, **values: Any) -> Any:
        """The first column of the first row; None when there is no row."""
        row = self(connection, **values).fetchone()
        return None if row is None else row[0]


class SQLStore:
    """A store in an SQLite file. May be used by several threads, and by several processes on one machine, at once.

    Args:
        path: of the file; made when it is not there, readable by its owner only.
        clock: for the count of open transactions, which is read once a second.

    Raises:
        ValueError: the file was made by a newer version of this package.
    """

    def __init__(self, path: str | os.PathLike[str], *, clock: Callable[[], float] = time.monotonic) -> None:
        self.claim = Claims()
        self._clock = clock
        self._engine = create_engine(
            f"sqlite:///{os.fspath(path)}",
            poolclass=NullPool,
            isolation_level="AUTOCOMMIT",
            connect_args={"check_same_thread": False, "timeout": 10.0},
        )
        self._integrity_error = self._engine.dialect.loaded_dbapi.IntegrityError
        self._local = threading.local()
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._connections: list[Connection] = []
        self._open_total = (0.0, 0)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        self._prepare()
        self._migrate()

    def _prepare(self) -> None:
        dialect = self._engine.dialect

        def prepared(statement: Any) -> _Prepared:
            return _Prepared(statement, dialect)

        t, a, c, r, s, n = _transactions, _answers, _certificates, _revocations, _secrets, _numbers
        of_transaction = (a.c.transaction_id == t.c.transaction_id) & (a.c.request_hash == bindparam("request_hash"))
        self._look = prepared(
            select(t, a.c.response)
            .select_from(t.outerjoin(a, of_transaction))
            .where(t.c.transaction_id == bindparam("id"))
        )
        self._open_all = prepared(select(func.count()).select_from(t).where(_is_open_text(t)))
        self._open_own = prepared(
            select(func.count()).select_from(t).where(_is_open_text(t), t.c.identity == bindparam("identity"))
        )
        self._begin_transaction = prepared(insert(t))
        changed = ("state", "nonce", "nonces", "certificates", "deadline", "expires", "request", "pending", "version")
        self._change_transaction = prepared(
            update(t)
            .where(t.c.transaction_id == bindparam("id"), t.c.version == bindparam("expected"))
            .values({name: bindparam(name) for name in changed})
        )
        self._add_answer = prepared(insert(a))
        self._add_certificate = prepared(insert(c))
        self._change_state = prepared(
            update(c)
            .where(c.c.key == bindparam("which"), c.c.state == bindparam("expected"))
            .values(state=bindparam("new"))
        )
        self._add_revocation = prepared(insert(r))
        self._use_secret = prepared(
            update(s).where(s.c.reference == bindparam("which"), s.c.used_at.is_(None)).values(used_at=bindparam("now"))
        )
        self._find_overdue = prepared(
            select(t)
            .where(_is_open_text(t), t.c.deadline <= bindparam("now"))
            .order_by(t.c.deadline)
            .limit(bindparam("most"))
        )
        old = (t.c.expires <= bindparam("now")) & (t.c.state > bindparam("open"))
        self._forget_answers = prepared(delete(a).where(a.c.transaction_id.in_(select(t.c.transaction_id).where(old))))
        self._forget_transactions = prepared(delete(t).where(old))
        self._any_old = prepared(select(func.min(t.c.expires)))
        self._get_certificate = prepared(select(c).where(c.c.key == bindparam("which")))
        self._get_certified = prepared(
            select(c)
            .where(
                c.c.key_and_subject == bindparam("which"),
                c.c.state <= bindparam("in_force"),
                c.c.not_after > bindparam("now"),
            )
            .limit(1)
        )
        self._get_successors = prepared(
            select(c).where(c.c.updates == bindparam("which")).order_by(c.c.issued_at, c.c.key)
        )
        self._get_certificates = prepared(select(c).order_by(c.c.issued_at, c.c.key))
        self._get_revocation = prepared(select(r).where(r.c.key == bindparam("which")))
        self._remove_revocation = prepared(delete(r).where(r.c.key == bindparam("which")))
        self._count_certificates = prepared(select(func.count()).select_from(c))
        self._get_revocations = prepared(select(r).where(r.c.not_after > bindparam("now")))
        self._get_number = prepared(select(n.c.value).where(n.c.name == bindparam("which")))
        self._count_up = prepared(
            update(n).where(n.c.name == bindparam("which")).values(value=n.c.value + bindparam("by"))
        )
        o = _applications
        self._get_application = prepared(select(o).where(o.c.id == bindparam("which")))
        self._get_applications = prepared(select(o).order_by(o.c.filed_at, o.c.id))
        self._add_application = prepared(insert(o))
        self._decide = prepared(
            update(o)
            .where(o.c.id == bindparam("which"), o.c.approved.is_(None))
            .values({name: bindparam(name) for name in ("approved", "reason", "decided_at")})
        )
        self._any_old_application = prepared(select(func.min(o.c.expires)))
        self._forget_applications = prepared(delete(o).where(o.c.expires <= bindparam("now")))
        p = _publications
        self._get_publication = prepared(select(p).where(p.c.name == bindparam("which")))
        self._add_publication = prepared(insert(p))
        self._change_publication = prepared(
            update(p)
            .where(p.c.name == bindparam("which"), p.c.number == bindparam("expected"))
            .values({name: bindparam(name) for name in ("number", "revision", "made_at", "good_until", "content")})
        )
        self._get_secret = prepared(select(s).where(s.c.reference == bindparam("which")))
        self._add_secret = prepared(insert(s))
        self._remove_secret = prepared(delete(s).where(s.c.reference == bindparam("which")))
        self._get_secrets = prepared(select(s).order_by(s.c.reference))

    def _migrate(self) -> None:
        with self._engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA journal_mode=WAL")
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            _metadata.create_all(connection)
            found = connection.execute(select(func.max(_versions.c.version))).scalar()
            if found is None:
                connection.execute(insert(_versions).values(version=SCHEMA_VERSION))
                connection.execute(insert(_numbers).values(name=_REVISION, value=0))
            elif found == 1:
                for column in (_revocations.c.before, _secrets.c.subject, _secrets.c.profiles):
                    definition = CreateColumn(column).compile(self._engine)
                    connection.exec_driver_sql(f"ALTER TABLE {column.table.name} ADD COLUMN {definition}")
                connection.execute(update(_versions).values(version=SCHEMA_VERSION))
            connection.exec_driver_sql("COMMIT")
        if found is not None and found > SCHEMA_VERSION:
            raise ValueError(f"the store has schema version {found}, this package knows {SCHEMA_VERSION}")

    # -- connections ---------------------------------------------------------------------------------------------

    def _connection(self) -> Any:
        """The driver's connection of this thread."""
        driver = getattr(self._local, "driver", None)
        if driver is None:
            connection = self._engine.connect()
            for pragma in ("synchronous=FULL", "busy_timeout=10000"):
                connection.exec_driver_sql(f"PRAGMA {pragma}")
            driver = self._local.driver = connection.connection.dbapi_connection
            with self._lock:
                self._connections.append(connection)
        return driver

    @contextmanager
    def _write(self) -> Iterator[Any]:
        """One transaction; threads of this process queue here instead of asking the file again and again."""
        connection = self._connection()
        with self._writing:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
            except self._integrity_error as error:
                connection.execute("ROLLBACK")
                raise Conflict from error
            except BaseException:
                connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")

    def close(self) -> None:
        """As ``Store.close``."""
        with self._lock:
            for connection in self._connections:
                connection.close()
            self._connections.clear()
        self._local = threading.local()
        self._engine.dispose()

    # -- transactions --------------------------------------------------------------------------------------------

    def look(self, transaction_id: bytes, request_hash: bytes) -> tuple[Transaction | None, bytes | None]:
        """As ``Store.look``."""
        row = self._look(self._connection(), id=transaction_id, request_hash=request_hash).fetchone()
        return (None, None) if row is None else (_transaction(row), row[-1])

    def open_transactions(self, identity: bytes) -> tuple[int, int]:
        """As ``Store.open_transactions``."""
        connection = self._connection()
        now = self._clock()
        counted, total = self._open_total
        if not counted or not 0 <= now - counted < 1:
            total = self._open_all.value(connection)
            self._open_total = (now, total)
        return total, self._open_own.value(connection, identity=identity)

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
                with self._write() as connection:
                    self._apply(connection, changes)
                return [None] * len(changes)
            except Conflict as conflict:
                if len(changes) == 1:
                    return [conflict]
        # One after the other, to tell which of them are in conflict; peers that get along never bring us here.
        outcomes: list[Conflict | None] = []
        with self._write() as connection:
            for change in changes:
                connection.execute("SAVEPOINT one_change")
                try:
                    self._apply(connection, [change])
                    outcomes.append(None)
                except (Conflict, self._integrity_error):
                    connection.execute("ROLLBACK TO one_change")
                    outcomes.append(Conflict())
                connection.execute("RELEASE one_change")
        return outcomes

    def _apply(self, connection: Any, changes: Sequence[Change]) -> None:
        """Make changes that touch nothing in common, all of one kind at once.

        Raises:
            Conflict, IntegrityError: one of them does not fit.
        """
        begun = [change.transaction for change in changes if change.previous is None]
        self._begin_transaction.many(connection, [_opening_values(each) | _changing_values(each) for each in begun])
        self._change_transaction.many(
            connection,
            [
                {"id": change.transaction.transaction_id, "expected": change.previous.version}
                | _changing_values(change.transaction)
                for change in changes
                if change.previous is not None
            ],
        )
        self._add_answer.many(
            connection,
            [
                {
                    "transaction_id": change.transaction.transaction_id,
                    "request_hash": change.request_hash,
                    "response": change.response,
                }
                for change in changes
                if change.response is not None
            ],
        )
        self._add_certificate.many(
            connection, [_record_values(record) for change in changes for record in change.certificates]
        )
        self._change_state.many(
            connection,
            [
                {"which": key, "expected": int(expected), "new": int(state)}
                for change in changes
                for key, expected, state in change.states
            ],
        )
        self._remove_revocation.many(connection, [{"which": key} for change in changes for key in change.released])
        self._add_revocation.many(
            connection, [_revocation_values(each) for change in changes for each in change.revocations]
        )
        if any(change.revocations or change.released for change in changes):
            revised = sum(bool(change.revocations or change.released) for change in changes)
            self._count_up(connection, which=_REVISION, by=revised)
        self._use_secret.many(
            connection,
            [{"which": change.secret_used, "now": change.now} for change in changes if change.secret_used is not None],
        )

    def overdue(self, now: float, limit: int) -> list[Transaction]:
        """As ``Store.overdue``."""
        return [_transaction(row) for row in self._find_overdue(self._connection(), now=now, most=limit)]

    def forget(self, now: float) -> int:
        """As ``Store.forget``."""
        first = self._any_old_application.value(self._connection())
        if first is not None and first <= now:
            with self._write() as connection:
                self._forget_applications(connection, now=now)
        first = self._any_old.value(self._connection())
        if first is None or first > now:
            return 0
        still_open = int(TransactionState.CONFIRMING)
        with self._write() as connection:
            self._forget_answers(connection, now=now, open=still_open)
            forgotten: int = self._forget_transactions(connection, now=now, open=still_open).rowcount
        return forgotten

    # -- certificates --------------------------------------------------------------------------------------------

    def certificate(self, key: bytes) -> CertificateRecord | None:
        """As ``Store.certificate``."""
        row = self._get_certificate(self._connection(), which=key).fetchone()
        return None if row is None else _record(row)

    def certified(self, key_and_subject: bytes, now: float) -> CertificateRecord | None:
        """As ``Store.certified``."""
        in_force = int(CertificateState.UPDATING)
        row = self._get_certified(self._connection(), which=key_and_subject, in_force=in_force, now=now).fetchone()
        return None if row is None else _record(row)

    def successors(self, key: bytes) -> list[CertificateRecord]:
        """As ``Store.successors``."""
        return [_record(row) for row in self._get_successors(self._connection(), which=key)]

    def every_certificate(self) -> Iterator[CertificateRecord]:
        """As ``Store.every_certificate``."""
        return map(_record, self._get_certificates(self._connection()))

    def certificates(self) -> int:
        """As ``Store.certificates``."""
        count: int = self._count_certificates.value(self._connection())
        return count

    def revocations(self, now: float) -> tuple[int, list[Revocation]]:
        """As ``Store.revocations``."""
        revision = self.revision()  # read first: a later one only makes the next reader look again
        found = [_revocation(row) for row in self._get_revocations(self._connection(), now=now)]
        return revision, sorted(found, key=lambda each: each.serial_number)

    def revocation(self, key: bytes) -> Revocation | None:
        """As ``Store.revocation``."""
        row = self._get_revocation(self._connection(), which=key).fetchone()
        return None if row is None else _revocation(row)

    def revision(self) -> int:
        """As ``Store.revision``."""
        value: int = self._get_number.value(self._connection(), which=_REVISION)
        return value

    def publication(self, name: str) -> Publication | None:
        """As ``Store.publication``."""
        row = self._get_publication(self._connection(), which=name).fetchone()
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
        with self._write() as connection:
            if publication.number == 1:
                self._add_publication(connection, name=publication.name, **values)
            elif not self._change_publication(
                connection, which=publication.name, expected=publication.number - 1, **values
            ).rowcount:
                raise Conflict

    # -- applications --------------------------------------------------------------------------------------------

    def file(self, application: Application) -> Application:
        """As ``Store.file``."""
        values = {name: getattr(application, name) for name in _applications.columns.keys()}  # noqa: SIM118
        with contextlib.suppress(Conflict), self._write() as connection:
            self._add_application(connection, **values | {"kind": int(application.kind)})
        return self.application(application.id) or application

    def application(self, application_id: str) -> Application | None:
        """As ``Store.application``."""
        row = self._get_application(self._connection(), which=application_id).fetchone()
        return None if row is None else _application(row)

    def applications(self) -> list[Application]:
        """As ``Store.applications``."""
        return [_application(row) for row in self._get_applications(self._connection())]

    def decide(self, application_id: str, approved: bool, reason: str, now: float) -> bool:
        """As ``Store.decide``."""
        values = {"approved": int(approved), "reason": reason, "decided_at": now}
        with self._write() as connection:
            return bool(self._decide(connection, which=application_id, **values).rowcount)

    # -- secrets -------------------------------------------------------------------------------------------------

    def secret(self, reference: bytes) -> StoredSecret | None:
        """As ``Store.secret``."""
        row = self._get_secret(self._connection(), which=reference).fetchone()
        return None if row is None else _secret(row)

    def add_secret(self, secret: StoredSecret) -> None:
        """As ``Store.add_secret``."""
        with self._write() as connection:
            self._add_secret(
                connection,
                reference=secret.reference,
                sealed=secret.sealed,
                single_use=int(secret.single_use),
                used_at=secret.used_at,
                created_at=secret.created_at,
                subject=secret.subject,
                profiles=json.dumps(secret.profiles),
            )

    def remove_secret(self, reference: bytes) -> bool:
        """As ``Store.remove_secret``."""
        with self._write() as connection:
            return bool(self._remove_secret(connection, which=reference).rowcount)

    def secrets(self) -> list[StoredSecret]:
        """As ``Store.secrets``."""
        return [_secret(row) for row in self._get_secrets(self._connection())]


def _is_open_text(table: Table) -> Any:
    """As in the partial indexes, with the number in the text: SQLite does not match a parameter with an index."""
    from sqlalchemy import literal_column

    return table.c.state <= literal_column(str(int(TransactionState.CONFIRMING)))


def _opening_values(new: Transaction) -> dict[str, Any]:
    """What of a transaction never changes."""
    return {
        "transaction_id": new.transaction_id,
        "identity": new.identity,
        "algorithm": new.algorithm,
        "body_type": int(new.body_type),
    }


def _changing_values(new: Transaction) -> dict[str, Any]:
    """What of a transaction changes with each commit."""
    return {
        "state": int(new.state),
        "nonce": new.nonce,
        "nonces": new.nonces,
        "certificates": json.dumps([(number, key.hex()) for number, key in new.certificates]),
        "deadline": new.deadline,
        "expires": new.expires,
        "request": new.request,
        "pending": new.pending,
        "version": new.version,
    }


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


def _transaction(row: Any) -> Transaction:
    return Transaction(
        transaction_id=row[0],
        identity=row[1],
        algorithm=row[2],
        body_type=BodyType(row[3]),
        state=TransactionState(row[4]),
        nonce=row[5],
        nonces=row[6],
        certificates=tuple([(number, bytes.fromhex(key)) for number, key in json.loads(row[7])]),
        deadline=row[8],
        expires=row[9],
        request=row[10],
        pending=row[11],
        version=row[12],
    )


def _record(row: Any) -> CertificateRecord:
    return CertificateRecord(
        key=row[0],
        serial_number=int(row[1], 16),
        certificate=row[2],
        key_and_subject=row[3],
        state=CertificateState(row[4]),
        identity=row[5],
        transaction_id=row[6],
        issued_at=row[7],
        not_after=row[8],
        updates=row[9],
    )


def _application(row: Any) -> Application:
    values = dict(zip(_applications.columns.keys(), row, strict=True))
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


def _secret(row: Any) -> StoredSecret:
    return StoredSecret(
        reference=row[0],
        sealed=row[1],
        single_use=bool(row[2]),
        used_at=row[3],
        created_at=row[4],
        subject=row[5],
        profiles=tuple(json.loads(row[6])),
    )
