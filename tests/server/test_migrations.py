"""A database of any version that was ever released becomes one of this version, in one step or not at all."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import Engine, create_engine, inspect

from opensslcmp.enums import RevocationReason
from opensslcmp.server import schema
from opensslcmp.server.postgres import PostgresStore
from opensslcmp.server.schema import SCHEMA_VERSION
from opensslcmp.server.sqlstore import SQLStore
from opensslcmp.server.store import CertificateState, Store, TransactionState

SCHEMAS = Path(__file__).parent / "schemas"
VERSIONS = range(1, SCHEMA_VERSION)


class Database:
    """A database of one kind, empty or of an old version."""

    def __init__(self, kind: str, place: str) -> None:
        self.kind, self.place = kind, place

    def load(self, version: int) -> None:
        """Make it one of an old version."""
        dump = (SCHEMAS / f"{self.kind}-{version}.sql").read_text()
        if self.kind == "sqlite":
            with sqlite3.connect(self.place) as connection:
                connection.executescript(dump)
            connection.close()
        else:
            with psycopg.connect(self.place, autocommit=True) as server:
                server.execute(dump.encode())

    def open(self) -> Store:
        """As a store."""
        return SQLStore(self.place) if self.kind == "sqlite" else PostgresStore(self.place, pool_size=1)

    def engine(self) -> Engine:
        """For a look inside."""
        if self.kind == "sqlite":
            return create_engine(f"sqlite:///{self.place}")
        return create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(self.place))

    def run(self, statement: str) -> list[Any]:
        """Run a statement; its rows."""
        engine = self.engine()
        with engine.begin() as connection:
            found = connection.exec_driver_sql(statement)
            rows = list(found) if found.returns_rows else []
        engine.dispose()
        return rows

    def shape(self) -> dict[str, Any]:
        """All tables, columns and indexes."""
        engine = self.engine()
        about = inspect(engine)
        found = {
            table: (
                [
                    (each["name"], str(each["type"]), each["nullable"], each["default"])
                    for each in about.get_columns(table)
                ],
                about.get_pk_constraint(table)["constrained_columns"],
                sorted((str(each["name"]), each["column_names"]) for each in about.get_indexes(table)),
            )
            for table in about.get_table_names()
        }
        engine.dispose()
        return found


@pytest.fixture(params=["sqlite", "postgres"])
def databases(request: pytest.FixtureRequest, tmp_path: Path) -> list[Database]:
    """Two of one kind."""
    if request.param == "sqlite":
        return [Database("sqlite", str(tmp_path / name)) for name in ("one.db", "two.db")]
    server = request.getfixturevalue("postgres")
    return [Database("postgres", server.database()) for _ in range(2)]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_database_of_an_old_version_is_taken_over_with_all_that_it_has(
    databases: list[Database], version: int
) -> None:
    old, new = databases
    old.load(version)
    for _ in range(2):
        store = old.open()
        transaction, answer = store.look(b"\1" * 16, b"h" * 32)
        assert transaction is not None
        assert (transaction.state, transaction.certificates) == (TransactionState.CONFIRMING, ((0, b"k" * 32),))
        assert answer == b"answer"
        (record,) = store.every_certificate()
        assert (record.serial_number, record.state) == (5, CertificateState.REVOKED)
        revision, (revoked,) = store.revocations(1_000_002.0)
        assert (revision, revoked.reason) == (1, RevocationReason.KEY_COMPROMISE)
        assert revoked.before is CertificateState.VALID
        (secret,) = store.secrets()
        assert (secret.sealed, secret.single_use, secret.subject, secret.profiles) == (b"sealed", True, None, ())
        crl = store.publication("crl")
        assert crl is not None
        assert crl.content == b"crl"
        assert [each.id for each in store.applications()] == ["a1"]
        assert store.open_transactions(b"mac:x") == (1, 1)
        store.close()
    new.open().close()
    assert old.shape() == new.shape()
    assert old.run("SELECT version FROM schema_version") == [(SCHEMA_VERSION,)]


def test_a_database_of_a_newer_version_is_refused_and_left_alone(databases: list[Database]) -> None:
    database = databases[0]
    database.open().close()
    database.run(f"UPDATE schema_version SET version = {SCHEMA_VERSION + 1}")
    before = database.shape()
    with pytest.raises(ValueError, match=f"schema version {SCHEMA_VERSION + 1}, .* knows {SCHEMA_VERSION} at most"):
        database.open()
    assert database.shape() == before


def test_a_migration_that_fails_changes_nothing(databases: list[Database], monkeypatch: pytest.MonkeyPatch) -> None:
    database = databases[0]
    database.load(SCHEMA_VERSION - 1)
    before = database.shape()
    broken = (*schema._MIGRATIONS[SCHEMA_VERSION], "CREATE INDEX broken ON no_such_table (x)")
    with monkeypatch.context() as patch:
        patch.setitem(schema._MIGRATIONS, SCHEMA_VERSION, broken)
        with pytest.raises(Exception, match="no_such_table"):
            database.open()
    assert database.shape() == before
    database.open().close()
    assert database.shape() != before


@pytest.mark.parametrize("version", [None, 1])
def test_of_many_that_open_a_database_at_once_one_makes_it(databases: list[Database], version: int | None) -> None:
    database = databases[0]
    if version is not None:
        database.load(version)
    failed: list[BaseException] = []

    def open_it() -> None:
        try:
            database.open().close()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=open_it) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert database.run("SELECT version FROM schema_version") == [(SCHEMA_VERSION,)]
