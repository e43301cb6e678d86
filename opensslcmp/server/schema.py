"""The tables, and how a database of an older version becomes one of this version.

One set of tables for SQLite and PostgreSQL. Each index is a page more that is written with a row, so there are no more than
are needed: an enrollment with explicit confirmation writes 16 pages of SQLite, where it was 22. Whoever opens a store brings
its database to ``SCHEMA_VERSION``, in one transaction that only one process is in; a database of a newer version is left
alone. To change the tables: change them here, count ``SCHEMA_VERSION`` up, and add the statements that lead there to
``_MIGRATIONS``; a test opens a database of every version that was ever released and compares it with a new one.
"""

from __future__ import annotations

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    func,
    insert,
    inspect,
    literal_column,
    select,
    text,
    update,
)

from opensslcmp.server.store import CertificateState, TransactionState

__all__ = [
    "ANSWERS",
    "APPLICATIONS",
    "ARCHIVED_KEYS",
    "CERTIFICATES",
    "IS_CLOSED",
    "IS_OPEN",
    "METADATA",
    "NUMBERS",
    "PUBLICATIONS",
    "REVISION",
    "REVOCATIONS",
    "SCHEMA_VERSION",
    "SECRETS",
    "TRANSACTIONS",
    "VERSIONS",
    "migrate",
]

SCHEMA_VERSION = 5

REVISION = "revocations"
"""The name of the number that counts what changes the revocations."""

METADATA = MetaData()
VERSIONS = Table("schema_version", METADATA, Column("version", Integer, primary_key=True))
TRANSACTIONS = Table(
    "transactions",
    METADATA,
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
    Column("label", String),
    # The first answers, as relational.py puts them together: a row of their own in ANSWERS takes two pages more.
    Column("answers", LargeBinary, nullable=False, server_default=""),
)
_LAST_OPEN: ColumnElement[int] = literal_column(str(int(TransactionState.CONFIRMING)))
IS_OPEN = TRANSACTIONS.c.state <= _LAST_OPEN
"""As in the partial indexes, with the number in the text: a parameter would not match them."""
IS_CLOSED = TRANSACTIONS.c.state > _LAST_OPEN
Index(
    "transactions_open",
    TRANSACTIONS.c.identity,
    TRANSACTIONS.c.deadline,
    sqlite_where=IS_OPEN,
    postgresql_where=IS_OPEN,
)
Index("transactions_closed", TRANSACTIONS.c.expires, sqlite_where=IS_CLOSED, postgresql_where=IS_CLOSED)
ANSWERS = Table(  # those that do not stand with their transaction
    "answers",
    METADATA,
    Column("transaction_id", LargeBinary, primary_key=True),
    Column("request_hash", LargeBinary, primary_key=True),
    Column("response", LargeBinary, nullable=False),
)
CERTIFICATES = Table(
    "certificates",
    METADATA,
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
_is_update = CERTIFICATES.c.updates.is_not(None)
Index("certificates_issued", CERTIFICATES.c.issued_at, CERTIFICATES.c.key)
Index("certificates_not_after", CERTIFICATES.c.not_after)
Index("certificates_updates", CERTIFICATES.c.updates, sqlite_where=_is_update, postgresql_where=_is_update)
ARCHIVED_KEYS = Table(
    "archived_keys",
    METADATA,
    Column("key", LargeBinary, primary_key=True),
    Column("identity", LargeBinary, nullable=False, index=True),
    Column("sealed", LargeBinary, nullable=False),
)
REVOCATIONS = Table(
    "revocations",
    METADATA,
    Column("key", LargeBinary, primary_key=True),
    Column("serial_number", String, nullable=False),
    Column("reason", Integer, nullable=False),
    Column("at", Float, nullable=False),
    Column("not_after", Float, nullable=False),
    Column("before", Integer, nullable=False, server_default=str(int(CertificateState.VALID))),
)
SECRETS = Table(
    "secrets",
    METADATA,
    Column("reference", LargeBinary, primary_key=True),
    Column("sealed", LargeBinary, nullable=False),
    Column("single_use", Integer, nullable=False),
    Column("used_at", Float),
    Column("created_at", Float, nullable=False),
    Column("subject", String),
    Column("profiles", String, nullable=False, server_default="[]"),
    Column("previous", LargeBinary),
    Column("previous_until", Float, nullable=False, server_default="0"),
)
NUMBERS = Table("numbers", METADATA, Column("name", String, primary_key=True), Column("value", Integer, nullable=False))
PUBLICATIONS = Table(
    "publications",
    METADATA,
    Column("name", String, primary_key=True),
    Column("number", Integer, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("made_at", Float, nullable=False),
    Column("good_until", Float, nullable=False),
    Column("content", LargeBinary, nullable=False),
)
APPLICATIONS = Table(
    "applications",
    METADATA,
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
    Column("label", String),
    Column("profile", String),
)

_MIGRATIONS: dict[int, tuple[str, ...]] = {
    2: (
        """ALTER TABLE revocations ADD COLUMN "before" INTEGER DEFAULT '1' NOT NULL""",
        "ALTER TABLE secrets ADD COLUMN subject VARCHAR",
        "ALTER TABLE secrets ADD COLUMN profiles VARCHAR DEFAULT '[]' NOT NULL",
    ),
    3: (
        "DROP INDEX transactions_expires",
        "CREATE INDEX transactions_closed ON transactions (expires) WHERE state > 1",
        "CREATE INDEX certificates_issued ON certificates (issued_at, key)",
        "ALTER TABLE secrets ADD COLUMN previous @BINARY@",
        "ALTER TABLE secrets ADD COLUMN previous_until FLOAT DEFAULT '0' NOT NULL",
        "CREATE INDEX certificates_not_after ON certificates (not_after)",
        "ALTER TABLE transactions ADD COLUMN label VARCHAR",
        "ALTER TABLE applications ADD COLUMN label VARCHAR",
        "ALTER TABLE applications ADD COLUMN profile VARCHAR",
    ),
    4: (
        "ALTER TABLE transactions ADD COLUMN answers @BINARY@ DEFAULT '' NOT NULL",
        "DROP INDEX transactions_deadline",
    ),
    5: (
        "CREATE TABLE archived_keys (key @BINARY@ NOT NULL, identity @BINARY@ NOT NULL, sealed @BINARY@ NOT NULL, "
        "PRIMARY KEY (key))",
        "CREATE INDEX ix_archived_keys_identity ON archived_keys (identity)",
    ),
}
"""By the version that they lead to, from the one before. What stands here is never changed once it was released.

``@BINARY@`` stands for the database's type of bytes.
"""


def migrate(connection: Connection) -> None:
    """Bring a database to ``SCHEMA_VERSION``, in the transaction that ``connection`` is in, which nobody else is in.

    Raises:
        ValueError: it was made by a newer version of this package; nothing was changed.
    """
    if not inspect(connection).has_table(VERSIONS.name):
        METADATA.create_all(connection)
        connection.execute(insert(NUMBERS).values(name=REVISION, value=0))
        connection.execute(insert(VERSIONS).values(version=SCHEMA_VERSION))
        return
    found: int = connection.execute(select(func.max(VERSIONS.c.version))).scalar() or 0
    if found > SCHEMA_VERSION:
        raise ValueError(
            f"the store has schema version {found}, this version of opensslcmp knows {SCHEMA_VERSION} at most; "
            "it was opened by a newer one before, which is needed from then on"
        )
    binary = LargeBinary().compile(connection.dialect)
    for version in range(found + 1, SCHEMA_VERSION + 1):
        for statement in _MIGRATIONS[version]:
            connection.execute(text(statement.replace("@BINARY@", binary)))
    connection.execute(update(VERSIONS).values(version=SCHEMA_VERSION))
