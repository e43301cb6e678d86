"""``Journal``: what is about to be sent is on the disk first, so that a client may be killed at any point.

What happens to an enrollment, and what is on the disk when the client dies there:

1. The key exists: encrypted in the journal, or in a file that the caller wrote before. Nothing was sent. Without an entry there
   was no enrollment; it begins anew.
2. The entry holds the request, its bytes as they will leave, and what is needed to check the answer. It may have been sent, and
   answered. Taken up again, the same bytes are sent: a server that has seen them gives the answer that it gave, one that has
   not issues the certificate now. Each pollReq is an entry of the same kind.
3. The entry holds the certConf and the answer that brought the certificate. Sent again, it is confirmed once.
4. The entry says "done", and still holds that answer. Asked for under the same label, the certificate is given out as it was.

So there is one transactionID and one certificate, however often the client dies. A server that forgets a transaction before it
is taken up again (ours remembers for a day: ``retention_seconds``) would take the request for a new one, and issue a second
certificate. So a request that is older than ``Context(max_resend_seconds=...)`` and has no answer is not sent again: ``TimedOut``
says so, and the entry stays until it is removed by ``forget``.

Private keys: of a key that comes from a path or a provider's URI, that name is written down. A key made by ``generate=`` is
written as PKCS#8 PEM, encrypted (PBES2, AES-256) under the journal's password; without one ``generate=`` is refused, since a
key that only this process has would be lost. Of a key given as an object nothing is written but what the request shows of it.
The requests themselves are in the journal, with a registration token if they have one: the file has mode 0600.

One SQLite file, ``synchronous=FULL``. One process at a time has it, by flock(2), which ends with the process. Entries that
are recorded at the same time by many threads or tasks share one fsync.

Source: RFC 9810, 5.1.1; https://www.sqlite.org/pragma.html#pragma_synchronous
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Any

from opensslcmp.context.keys import PrivateKey
from opensslcmp.context.library import Library
from opensslcmp.credentials import Password

__all__ = ["Entry", "Journal", "State"]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS entries (
    transaction_id BLOB PRIMARY KEY,
    label TEXT,
    state TEXT NOT NULL,
    pending BLOB NOT NULL,
    message BLOB,
    key BLOB,
    key_source TEXT,
    error TEXT,
    begun REAL NOT NULL,
    changed REAL NOT NULL
) WITHOUT ROWID;
CREATE UNIQUE INDEX IF NOT EXISTS labels ON entries (label) WHERE state <> 'failed';
CREATE INDEX IF NOT EXISTS unfinished ON entries (begun) WHERE state = 'open';
"""
_APPLICATION = 0x434D504A  # "CMPJ"
_VERSION = 1
_WRITE = """
INSERT INTO entries (transaction_id, label, state, pending, message, key, key_source, error, begun, changed)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (transaction_id) DO UPDATE SET
    state = excluded.state, pending = excluded.pending, message = excluded.message,
    error = excluded.error, changed = excluded.changed
"""
_COLUMNS = "transaction_id, label, state, pending, message, key, key_source, error, changed"


class State(StrEnum):
    """How far an entry is."""

    OPEN = "open"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """A transaction as the journal has it.

    Attributes:
        transaction_id: transactionID.
        label: the caller's name for it.
        state: OPEN while it can be taken up again.
        pending: a saved ``Pending``.
        message: the last message, perhaps sent, perhaps not.
        key: the private key in encrypted PEM.
        key_source: path or URI of the private key.
        error: why it failed.
        recorded: when it was last written, in seconds since 1970; set by the journal.
    """

    transaction_id: bytes
    label: str | None = None
    state: State = State.OPEN
    pending: bytes = field(repr=False)
    message: bytes | None = field(default=None, repr=False)
    key: bytes | None = field(default=None, repr=False)
    key_source: str | None = None
    error: str | None = None
    recorded: float = 0.0


class _Writing:
    """An entry on its way to the disk."""

    __slots__ = ("done", "entry", "error")

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self.done = False
        self.error: Exception | None = None


class Journal:
    """A write-ahead journal of certificate requests and revocations. May be used by several threads at once.

    Args:
        path: of the SQLite file; made with mode 0600.
        password: encrypts the keys that ``generate=`` makes; never shown.

    Raises:
        ValueError: the file is none of ours, or another process has it.
        OSError: it cannot be opened.
    """

    def __init__(self, path: str | os.PathLike[str], *, password: bytes | str | None = None) -> None:
        self.path = Path(path)
        self._password = password
        self._lock = threading.Lock()
        self._queue: deque[_Writing] = deque()
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if os.fstat(descriptor).st_mode & 0o077:
                raise ValueError(f"the journal {self.path} is open to others: it must have mode 0600")
            try:
                # SQLite's own locks end when this process closes any descriptor of the file; this one does not.
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise ValueError(f"the journal {self.path} is in use by another process or Journal") from None
            self._database: sqlite3.Connection | None = self._connect()
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor

    def _connect(self) -> sqlite3.Connection:
        database = sqlite3.connect(self.path, timeout=0, isolation_level=None, check_same_thread=False)
        try:
            self._begin(database)
        except sqlite3.Error as error:
            database.close()
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            if code in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
                raise ValueError(f"{self.path} is not a journal: {error}") from None
            raise OSError(f"the journal {self.path} cannot be opened: {error}") from error
        except BaseException:
            database.close()
            raise
        return database

    def _begin(self, database: sqlite3.Connection) -> None:
        # Without it WAL needs a file of shared memory, and a lock for each commit.
        database.execute("PRAGMA locking_mode = EXCLUSIVE")
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        database.execute("BEGIN EXCLUSIVE")
        (application,) = database.execute("PRAGMA application_id").fetchone()
        (version,) = database.execute("PRAGMA user_version").fetchone()
        (tables,) = database.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if (application, version) != (_APPLICATION, _VERSION) and (application or tables):
            database.execute("ROLLBACK")
            raise ValueError(f"{self.path} is not a journal of version {_VERSION}")
        for statement in _SCHEMA.split(";"):
            database.execute(statement)
        database.execute(f"PRAGMA application_id = {_APPLICATION}")
        database.execute(f"PRAGMA user_version = {_VERSION}")
        database.execute("COMMIT")

    # -- keys ----------------------------------------------------------------------------------------------------

    def keep(self, key: PrivateKey, source: Any, *, generated: bool) -> tuple[bytes | None, str | None]:
        """What is written down of a private key: encrypted PEM, or the name of where it is, or neither.

        Args:
            source: what the caller named it by.
            generated: it was made for him, and nobody else has it.

        Raises:
            ValueError: it would be lost.
        """
        if generated:
            if not self._password:
                raise ValueError(
                    "a journal without a password keeps no keys: give Journal(path, password=...), or a key of your own"
                )
            return key.to_pem(self._password), None
        if isinstance(source, (str, os.PathLike)):
            name = os.fspath(source)
            if isinstance(name, str) and "-----BEGIN" not in name:
                return None, name
        return None, None

    def key_of(self, entry: Entry, password: Password = None, library: Library | None = None) -> PrivateKey | None:
        """The private key of an entry; None when nothing of it is here.

        Args:
            password: opens an encrypted key file.
            library: reads and holds the key.

        Raises:
            OpenSSLError: it does not load, as with another password.
        """
        if entry.key is not None:
            return PrivateKey.load(entry.key, self._password, library=library)
        return None if entry.key_source is None else PrivateKey.load(entry.key_source, password, library=library)

    # -- entries -------------------------------------------------------------------------------------------------

    def record(self, entry: Entry) -> None:
        """Write an entry; on return it is on the disk.

        Raises:
            ValueError: its label belongs to another transaction.
            OSError: the disk does not take it.
        """
        self.write(self.enqueue(entry))

    def enqueue(self, entry: Entry) -> _Writing:
        """Put an entry where the next ``write``, of whomever, finds it."""
        writing = _Writing(entry)
        self._queue.append(writing)
        return writing

    def write(self, writing: _Writing) -> None:
        """Write all entries that are queued, unless somebody has written this one meanwhile; as ``record``."""
        with self._lock:
            if not writing.done:
                self._write_all()
        if writing.error is not None:
            raise writing.error

    def _write_all(self) -> None:
        batch: list[_Writing] = []
        while self._queue:
            batch.append(self._queue.popleft())
        try:
            database = self._open()
            database.execute("BEGIN IMMEDIATE")
            try:
                for each in batch:
                    try:
                        database.execute(_WRITE, _row(each.entry))
                    except sqlite3.IntegrityError:
                        each.error = ValueError(f"another transaction is recorded under the label {each.entry.label!r}")
                database.execute("COMMIT")
            except BaseException:
                if database.in_transaction:
                    database.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            for each in batch:
                each.error = OSError(f"the journal {self.path} cannot be written: {error}")
        except BaseException as error:
            for each in batch:
                each.error = error if isinstance(error, ValueError) else OSError("writing the journal was interrupted")
            if not isinstance(error, ValueError):
                raise
        finally:
            for each in batch:
                each.done = True

    def find(self, label: str) -> Entry | None:
        """The entry of a label that is open or done; None when there is none, or it failed."""
        rows = self._read(f"SELECT {_COLUMNS} FROM entries WHERE label = ? AND state <> 'failed'", label)
        return next(rows, None)

    def get(self, transaction_id: bytes) -> Entry | None:
        """The entry of a transaction, whatever its state."""
        return next(self._read(f"SELECT {_COLUMNS} FROM entries WHERE transaction_id = ?", transaction_id), None)

    def unfinished(self) -> list[Entry]:
        """What can be taken up again, oldest first."""
        return list(self._read(f"SELECT {_COLUMNS} FROM entries WHERE state = 'open' ORDER BY begun"))

    def failed(self) -> list[Entry]:
        """What did not go well, oldest first: refused, or given up."""
        return list(self._read(f"SELECT {_COLUMNS} FROM entries WHERE state = 'failed' ORDER BY begun"))

    def counts(self) -> dict[State, int]:
        """How many entries there are of each state."""
        rows = self._rows("SELECT state, count(*) FROM entries GROUP BY state")
        return dict.fromkeys(State, 0) | {State(state): count for state, count in rows}

    def forget(self, *transaction_ids: bytes) -> None:
        """Remove entries, with the keys in them: their results are stored elsewhere, or nobody wants them.

        Raises:
            OSError: the disk does not take it.
        """
        with self._lock:
            try:
                database = self._open()
                database.execute("PRAGMA secure_delete = ON")
                database.execute("BEGIN IMMEDIATE")
                database.executemany(
                    "DELETE FROM entries WHERE transaction_id = ?", [(each,) for each in transaction_ids]
                )
                database.execute("COMMIT")
            except sqlite3.Error as error:
                raise OSError(f"the journal {self.path} cannot be written: {error}") from error

    def _read(self, query: str, *values: Any) -> Iterator[Entry]:
        rows = self._rows(query, *values)
        for transaction_id, label, state, pending, message, key, source, error, changed in rows:
            yield Entry(
                transaction_id=transaction_id,
                label=label,
                state=State(state),
                pending=pending,
                message=message,
                key=key,
                key_source=source,
                error=error,
                recorded=changed,
            )

    def _rows(self, query: str, *values: Any) -> list[Any]:
        with self._lock:
            try:
                return self._open().execute(query, values).fetchall()
            except (sqlite3.Error, UnicodeDecodeError) as error:
                raise OSError(f"the journal {self.path} cannot be read: {error}") from None

    def _open(self) -> sqlite3.Connection:
        if self._database is None:
            raise ValueError("the journal is closed")
        return self._database

    def close(self) -> None:
        """Let go of the file. May be called twice."""
        with self._lock:
            database, self._database = self._database, None
        if database is not None:
            database.close()
            os.close(self._descriptor)

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Journal({str(self.path)!r})"


def _row(entry: Entry) -> tuple[Any, ...]:
    now = time.time()
    return (
        entry.transaction_id,
        entry.label,
        str(entry.state),
        entry.pending,
        entry.message,
        entry.key,
        entry.key_source,
        entry.error,
        now,
        now,
    )
