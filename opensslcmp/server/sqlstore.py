"""The store in a file: SQLite in WAL mode, each commit on the disk before it is answered.

One connection serves each thread. What changes goes through one ``BEGIN IMMEDIATE`` .. ``COMMIT``, so several processes
may work on the same file.

Source: sqlite.org, "Write-Ahead Logging" and "PRAGMA synchronous".
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from sqlalchemy import Connection, create_engine
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

from opensslcmp.server.relational import RelationalStore
from opensslcmp.server.schema import migrate
from opensslcmp.server.statements import Prepared
from opensslcmp.server.store import Change, Conflict, Unavailable

__all__ = ["SQLStore"]

T = TypeVar("T")

_BUSY_SECONDS = 10.0
# The log is written back at every 16 MB instead of 4: pages that change often are written back less often.
_PRAGMAS = ("synchronous=FULL", "wal_autocheckpoint=4000", "cache_size=-16000")


class SQLStore(RelationalStore):
    """A store in an SQLite file. May be used by several threads, and by several processes on one machine, at once.

    Args:
        path: of the file; made when it is not there, readable by its owner only.
        clock: for the count of open transactions, which is read once a second.

    Raises:
        ValueError: the file was made by a newer version of this package.
    """

    def __init__(self, path: str | os.PathLike[str], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._engine = create_engine(
            f"sqlite:///{os.fspath(path)}",
            poolclass=NullPool,
            isolation_level="AUTOCOMMIT",
            connect_args={"check_same_thread": False, "timeout": _BUSY_SECONDS},
        )
        super().__init__(self._engine.dialect, clock)
        self._integrity_error = self._engine.dialect.loaded_dbapi.IntegrityError
        # A full disk, one that fails or may not be written, a lock that is not given up (sqlite.org/rescode.html).
        self._operational_error = self._engine.dialect.loaded_dbapi.OperationalError
        self._local = threading.local()
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._connections: list[Connection] = []
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        self._migrate()

    def _migrate(self) -> None:
        with self._engine.connect() as connection:
            _write_ahead(connection)
            connection.exec_driver_sql("PRAGMA synchronous=FULL")
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            try:
                migrate(connection)
            except BaseException:
                connection.exec_driver_sql("ROLLBACK")
                raise
            connection.exec_driver_sql("COMMIT")

    def _connection(self) -> Any:
        """The driver's connection of this thread."""
        driver = getattr(self._local, "driver", None)
        if driver is None:
            connection = self._engine.connect()
            for pragma in _PRAGMAS:
                connection.exec_driver_sql(f"PRAGMA {pragma}")
            driver = self._local.driver = connection.connection.dbapi_connection
            with self._lock:
                self._connections.append(connection)
        return driver

    def close(self) -> None:
        """As ``Store.close``."""
        with self._lock:
            for connection in self._connections:
                connection.close()
            self._connections.clear()
        self._local = threading.local()
        self._engine.dispose()

    def _rows(self, statement: Prepared, **values: Any) -> list[Any]:
        try:
            rows: list[Any] = self._connection().execute(statement.text, statement.parameters(values)).fetchall()
        except self._operational_error as error:
            raise Unavailable(str(error)) from error
        return rows

    def _row(self, statement: Prepared, **values: Any) -> Any:
        try:
            return self._connection().execute(statement.text, statement.parameters(values)).fetchone()
        except self._operational_error as error:
            raise Unavailable(str(error)) from error

    def _transact(self, work: Callable[[Any], T]) -> T:
        """Threads of this process queue here instead of asking the file again and again."""
        connection = self._connection()
        with self._writing:
            try:
                connection.execute("BEGIN IMMEDIATE")
                result = work(connection)
                connection.execute("COMMIT")
            except BaseException as error:
                if connection.in_transaction:  # a full disk ends it by itself
                    connection.execute("ROLLBACK")
                if isinstance(error, self._integrity_error):
                    raise Conflict from error
                if isinstance(error, self._operational_error):
                    raise Unavailable(str(error)) from error
                raise
        return result

    def _apply(self, connection: Any, changes: Sequence[Change]) -> None:
        for statement, rows in self._steps(changes):
            if len(rows) == 1:
                cursor = connection.execute(statement.text, statement.parameters(rows[0]))
            else:
                cursor = connection.executemany(statement.text, [statement.parameters(row) for row in rows])
            if cursor.rowcount != len(rows):
                raise Conflict
        self._check_bounds(connection, self._bounds(changes))


def _write_ahead(connection: Connection) -> None:
    """Put a file that is new into WAL mode; SQLite itself does not wait when others do the same at that moment."""
    deadline = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            connection.exec_driver_sql("PRAGMA journal_mode=WAL")
            return
        except OperationalError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(0.01)
