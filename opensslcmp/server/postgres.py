"""The store in a PostgreSQL database, for several servers on several machines.

What holds there:

- A transactionID is claimed by its primary key, and every change of something that is there names the state that it
  expects; PostgreSQL lets whoever comes second wait for the first and then fail. So its default isolation (READ COMMITTED)
  is enough, and no message is answered twice in two ways, whichever servers it reaches.
- A commit is two round trips, however many changes are in it: BEGIN and all statements in a pipeline, then COMMIT.
- A connection that is lost before COMMIT was sent is made anew, and the work is done again. Lost after that, nobody knows
  whether it was committed: that is a ``Conflict``, and who made the change looks again, as if another server had been
  faster. (It cannot be too early: what was not there yet is refused by its key once it comes.)

psycopg without its ``binary`` extra, which has a libcrypto of its own: the process shall have one, that of the system,
which libpq uses too.

Source: PostgreSQL's manual, 13.2.1 (Read Committed), 34.5 (Pipeline Mode), 20.11 (timeouts).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from typing import Any, LiteralString, TypeVar

import psycopg
from psycopg import errors
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg_pool import ConnectionPool
from sqlalchemy import Dialect, create_engine, text
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.pool import NullPool

from opensslcmp.server.relational import RelationalStore
from opensslcmp.server.schema import migrate
from opensslcmp.server.statements import Prepared
from opensslcmp.server.store import Change, Conflict, Unavailable

__all__ = ["PostgresStore"]

T = TypeVar("T")

logger = logging.getLogger("opensslcmp.server")

_MIGRATION_LOCK = 0x434D5053  # a number of ours among the advisory locks of the database
_COUNT_LOCK = "SELECT pg_advisory_xact_lock(%s::BIGINT)"
_ROLLED_BACK = (errors.DeadlockDetected, errors.SerializationFailure)
_ATTEMPTS = 5


class _Uncertain(Exception):
    """The connection was lost while COMMIT was under way."""


class PostgresStore(RelationalStore):
    """A store in a PostgreSQL database. May be used by several threads, processes and machines at once.

    Args:
        url: ``postgresql://...`` or any other connection string of libpq; what it does not say comes from libpq's
            environment variables, service file and password file.
        pool_size: connections of this process at most, and messages that it reads or writes for at once.
        timeout_seconds: to wait for a connection to be free or made, a server that restarts included; then the message
            at hand is answered with systemUnavail.
        statement_timeout_seconds: after which PostgreSQL gives up a statement, or a lock it waits for.
        clock: for the count of open transactions, which is read once a second.

    Raises:
        ValueError: the database was made by a newer version of this package; ``url`` is none.
        psycopg.OperationalError: PostgreSQL cannot be reached, or refuses. Its text does not have the password.
    """

    _integrity_error = psycopg.IntegrityError

    def __init__(
        self,
        url: str = "",
        *,
        pool_size: int = 8,
        timeout_seconds: float = 10.0,
        statement_timeout_seconds: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(_dialect(), clock)
        self._timeout_seconds = timeout_seconds
        self._statement_timeout = f"{int(statement_timeout_seconds * 1000)}ms"
        conninfo = _conninfo(url, timeout_seconds)
        self._migrate(conninfo)
        self._pool: ConnectionPool[psycopg.Connection[Any]] = ConnectionPool(
            conninfo,
            kwargs={"autocommit": True, "prepare_threshold": 0},
            min_size=1,
            max_size=pool_size,
            timeout=timeout_seconds,
            reconnect_timeout=timeout_seconds,
            configure=self._configure,
            open=True,
            name="opensslcmp",
        )

    def _migrate(self, conninfo: str) -> None:
        engine = create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(conninfo), poolclass=NullPool)
        try:
            with engine.begin() as connection:
                connection.execute(text(f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})"))
                migrate(connection)
                shown = connection.execute(
                    text("SELECT current_setting('synchronous_commit'), current_setting('fsync')")
                ).one()
        except psycopg.Error:
            raise
        except Exception as error:
            # SQLAlchemy's own errors tell statement and parameters; the driver's says what is wrong.
            if isinstance(error.__cause__, psycopg.Error):
                raise error.__cause__ from None
            raise
        finally:
            engine.dispose()
        if "off" in shown:
            logger.warning(
                "PostgreSQL does not wait for the disk (synchronous_commit, fsync): a crash loses answers given"
            )

    def _configure(self, connection: psycopg.Connection[Any]) -> None:
        for name in ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"):
            connection.execute("SELECT set_config(%s, %s, false)", (name, self._statement_timeout))

    def close(self) -> None:
        """As ``Store.close``."""
        self._pool.close()

    @contextmanager
    def _reached(self) -> Iterator[None]:
        """What PostgreSQL or the way to it refuses, as stores say it."""
        try:
            yield
        except psycopg.OperationalError as error:
            raise Unavailable(f"PostgreSQL: {error}") from error

    @contextmanager
    def _connection(self, deadline: float) -> Iterator[psycopg.Connection[Any]]:
        connection = self._pool.getconn(timeout=max(0.1, deadline - time.monotonic()))
        try:
            yield connection
        finally:
            self._pool.putconn(connection)  # which makes a new one in the place of one that is broken

    def _ask(self, statement: Prepared, values: dict[str, Any], fetch: Callable[[psycopg.Cursor[Any]], T]) -> T:
        deadline = time.monotonic() + self._timeout_seconds
        parameters = statement.parameters(values)
        while True:
            with self._connection(deadline) as connection:
                try:
                    return fetch(connection.execute(_sql(statement.text), parameters, binary=True))
                except psycopg.OperationalError:
                    if not connection.broken or time.monotonic() >= deadline:
                        raise
            self._pool.check()  # the others were lost with it

    def _rows(self, statement: Prepared, **values: Any) -> list[Any]:
        with self._reached():
            return self._ask(statement, values, lambda cursor: cursor.fetchall())

    def _row(self, statement: Prepared, **values: Any) -> Any:
        with self._reached():
            return self._ask(statement, values, lambda cursor: cursor.fetchone())

    def _transact(self, work: Callable[[Any], T]) -> T:
        with self._reached():
            return self._work(work)

    def _work(self, work: Callable[[Any], T]) -> T:
        deadline = time.monotonic() + self._timeout_seconds
        attempts = 0
        while True:
            attempts += 1
            with self._connection(deadline) as connection:
                try:
                    with connection.pipeline():
                        connection.execute("BEGIN", prepare=False)
                        result = work(_Binary(connection))
                except BaseException as error:
                    if not connection.broken:
                        connection.execute("ROLLBACK", prepare=False)
                    if isinstance(error, psycopg.IntegrityError):
                        raise Conflict from error
                    if isinstance(error, _ROLLED_BACK) and attempts < _ATTEMPTS:
                        continue
                    if not isinstance(error, psycopg.OperationalError) or not connection.broken:
                        raise
                    if time.monotonic() >= deadline:
                        raise
                else:
                    try:
                        connection.execute("COMMIT", prepare=False)
                    except psycopg.OperationalError as error:
                        if connection.broken:
                            raise _Uncertain from error
                        raise
                    return result
            self._pool.check()  # the others were lost with it

    def commit_many(self, changes: Sequence[Change]) -> list[Conflict | None]:
        """As ``Store.commit_many``."""
        try:
            return super().commit_many(changes)
        except _Uncertain:
            logger.warning("the connection to PostgreSQL was lost during a commit; looking again")
            return [Conflict() for _ in changes]

    def _run(self, connection: Any, statement: Prepared, **values: Any) -> int:
        with connection.pipeline():  # its end waits for the result
            cursor = connection.execute(statement.text, statement.parameters(values))
        changed: int = cursor.rowcount
        return changed

    def _apply(self, connection: Any, changes: Sequence[Change]) -> None:
        bounds = self._bounds(changes)
        with connection.pipeline():
            # Who opens transactions of one credential counts them one after the other, whichever server it is.
            for identity in sorted(bounds):
                connection.execute(_COUNT_LOCK, [int.from_bytes(sha256(identity).digest()[:8], "big", signed=True)])
            cursors = [
                connection.execute(statement.text, statement.parameters(row))
                for statement, rows in self._steps(changes)
                for row in rows
            ]
        if any(cursor.rowcount != 1 for cursor in cursors):
            raise Conflict
        self._check_bounds(connection, bounds)


class _Binary:
    """A connection whose values travel as they are, not as text."""

    __slots__ = ("_connection", "pipeline")

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection
        self.pipeline = connection.pipeline

    def execute(self, statement: str, parameters: Sequence[Any] | None = None) -> psycopg.Cursor[Any]:
        # Not prepared: what a pipeline that fails did not get to prepare, psycopg takes for prepared.
        return self._connection.execute(_sql(statement), parameters, prepare=False, binary=parameters is not None)


def _dialect() -> Dialect:
    make: Callable[..., Dialect] = PGDialect_psycopg
    return make(paramstyle="format")


def _sql(statement: str) -> LiteralString:
    """All statements are ours; peers' values are parameters."""
    return statement


def _conninfo(url: str, timeout_seconds: float) -> str:
    """libpq's connection string, with limits where it has none."""
    try:
        given = conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        # The driver's text would show what stands there, the password too.
        raise ValueError("the URL of the store is not one that PostgreSQL's client library understands") from None
    limits: dict[str, str | int] = {
        "connect_timeout": max(2, int(timeout_seconds)),
        "keepalives_idle": 30,
        "keepalives_interval": 10,
        "keepalives_count": 3,
        "tcp_user_timeout": int(timeout_seconds * 1000),
        "application_name": "opensslcmp",
    }
    return make_conninfo(url, **{name: value for name, value in limits.items() if name not in given})
