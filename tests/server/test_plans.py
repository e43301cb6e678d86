"""What a message costs in the store does not grow with what is in it: no statement on its way scans a table."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from opensslcmp.context.keys import PrivateKey
from opensslcmp.server import CA
from opensslcmp.server.postgres import PostgresStore, _dialect
from opensslcmp.server.responder import Responder
from opensslcmp.server.sqlstore import SQLStore
from opensslcmp.server.statements import Statements
from tests.server.device import KEYS
from tests.server.world import Clock, Plain, World

VALUES: dict[str, Any] = {
    "id": b"i" * 16, "request_hash": b"h" * 32, "identity": b"mac:x", "expected": 1, "which": b"k" * 32, "new": 1,
    "now": 1.0, "most": 10, "in_force": 2, "at": 1.0, "after": b"", "state": 1, "nonce": b"", "nonces": b"",
    "certificates": "[]", "deadline": 1.0, "expires": 1.0, "request": None, "pending": None, "version": 1, "answer": b"",
}  # fmt: skip
HOT = (
    "look", "get_answer", "open_own", "change_transaction", "change_state", "use_secret", "get_certificate", "get_certified",
    "get_successors", "get_revocation", "remove_revocation", "get_secret", "any_closed", "find_closed", "find_overdue",
    "open_all", "forget_answers", "forget_transaction", "get_certificates",
)  # fmt: skip


@pytest.mark.parametrize("name", HOT)
def test_sqlite_finds_by_an_index(tmp_path: Path, name: str) -> None:
    store = SQLStore(tmp_path / "ca.db")
    statement = getattr(store._sql, name)
    plan = store._connection().execute(f"EXPLAIN QUERY PLAN {statement.text}", statement.parameters(VALUES)).fetchall()
    for step in (
        row[-1] for row in plan if not row[-1].startswith(("USE TEMP B-TREE", "SCALAR"))
    ):  # to sort what was found
        # A scan of an index of what is open only is as long as what is open, which is bounded.
        assert re.match(r"SEARCH .* USING |SCAN .*INDEX transactions_open", step), step
    store.close()


@pytest.fixture(scope="module")
def full(postgres: Any) -> Iterator[psycopg.Connection[Any]]:
    """A database whose planner has seen 20,000 certificates."""
    url = postgres.database()
    PostgresStore(url, pool_size=1).close()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO certificates SELECT sha256(n::text::bytea), n::text, '\\x00', sha256(('s'||n)::bytea), 1, 'x',"
            " sha256(('t'||n)::bytea), n, n + 1e6, CASE WHEN n % 10 = 0 THEN sha256(('u'||n)::bytea) END"
            " FROM generate_series(1, 20000) n"
        )
        connection.execute(
            "INSERT INTO transactions SELECT sha256(('t'||n)::bytea), 'x', '1', 0, CASE WHEN n % 100 = 0 THEN 1 ELSE 2 END,"
            " '\\x00', '\\x00', '[]', n, n, NULL, NULL, 1 FROM generate_series(1, 20000) n"
        )
        connection.execute(
            "INSERT INTO answers SELECT sha256(('t'||n)::bytea), sha256(('h'||n)::bytea), '\\x00'"
            " FROM generate_series(1, 20000) n"
        )
        for table in ("revocations", "secrets"):
            key, rest = (
                ("key", "serial_number, reason, at, not_after")
                if table == "revocations"
                else ("reference", "sealed, single_use, created_at")
            )
            values = "n::text, 0, 0, 1e9" if table == "revocations" else "'\\x00', 0, 0"
            connection.execute(  # names of tables are ours
                f"INSERT INTO {table} ({key}, {rest}) SELECT sha256(n::text::bytea), {values} FROM generate_series(1, 20000) n"
            )
        connection.execute("ANALYZE")
        yield connection


@pytest.mark.parametrize("name", HOT)
def test_postgresql_finds_by_an_index(full: psycopg.Connection[Any], name: str) -> None:
    statement = getattr(Statements(_dialect()), name)
    rows = full.execute(f"EXPLAIN {statement.text}", statement.parameters(VALUES)).fetchall()
    assert not re.search("Seq Scan", "\n".join(row[0] for row in rows)), rows


def test_an_enrollment_costs_so_many_statements(tmp_path: Path, root: tuple[bytes, PrivateKey]) -> None:
    clock = Clock()
    store = SQLStore(tmp_path / "ca.db", clock=lambda: 1.0)
    ca = CA(root[0], root[1], store, Plain(), clock=clock)
    responder = Responder(ca, store, ca.signer, secrets=ca.secrets.find, clock=clock, sweep_seconds=1e9)
    device = World(ca, store, clock, responder).device()
    device.enroll(KEYS[0], "CN=warm")
    said: list[str] = []
    store._connection().set_trace_callback(said.append)
    device.enroll(KEYS[0], "CN=counted")
    kinds = Counter(text.split()[0] for text in said)
    assert kinds == {"SELECT": 7, "BEGIN": 2, "COMMIT": 2, "INSERT": 2, "UPDATE": 2}, said
    store.close()


def test_an_enrollment_writes_so_many_pages(tmp_path: Path, root: tuple[bytes, PrivateKey]) -> None:
    clock = Clock()
    store = SQLStore(tmp_path / "ca.db")
    ca = CA(root[0], root[1], store, Plain(), clock=clock)
    responder = Responder(ca, store, ca.signer, secrets=ca.secrets.find, clock=clock, sweep_seconds=1e9)
    device = World(ca, store, clock, responder).device()
    device.enroll(KEYS[0], "CN=warm")
    log = tmp_path / "ca.db-wal"
    before = log.stat().st_size
    for number in range(20):
        device.enroll(KEYS[0], f"CN=counted {number}")
    pages = (log.stat().st_size - before) / (4096 + 24) / 20
    assert pages < 18
    store.close()
