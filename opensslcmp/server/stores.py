"""Which store a CA has, by its settings: SQLite in its directory, or PostgreSQL."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from opensslcmp.server.store import Store
from opensslcmp.server.tables import WrongValue

__all__ = ["StoreSettings", "open_store"]


@dataclass(frozen=True, kw_only=True, slots=True)
class StoreSettings:
    """``[store]`` in ``opensslcmp.toml``.

    Attributes:
        url: ``postgresql://user@host/database``, with libpq's parameters; None is ``ca.db`` in the CA's directory. A
            password is better kept in libpq's password file (``PGPASSFILE``) or service file (``?service=ca``).
        pool_size: connections of each process to PostgreSQL at most.
        timeout_seconds: to wait for a connection to PostgreSQL.
        statement_timeout_seconds: after which PostgreSQL gives up a statement.

    Raises:
        ValueError: a URL that is none, or a number out of range. The text does not have the URL.
    """

    url: str | None = field(default=None, repr=False)
    pool_size: int = 8
    timeout_seconds: float = 10.0
    statement_timeout_seconds: float = 30.0

    def __post_init__(self) -> None:
        if self.url is not None and not self.url.startswith(("postgresql://", "postgres://")):
            raise WrongValue("is not that of a PostgreSQL database, such as postgresql://ca@db.example/ca", "url")
        if not 1 <= self.pool_size <= 1000:
            raise WrongValue("is not between 1 and 1000", "pool_size")
        for name in ("timeout_seconds", "statement_timeout_seconds"):
            if not 0 < getattr(self, name) <= 3600:
                raise WrongValue("is not more than 0 and at most 3600", name)

    @property
    def place(self) -> str:
        """Where it is, for people: without user and password."""
        if self.url is None:
            return "ca.db"
        parts = urlsplit(self.url)
        return f"postgresql://{parts.netloc.rpartition('@')[2]}{parts.path}"


def open_store(settings: StoreSettings, directory: Path) -> Store:
    """The store that the settings of the CA in a directory name. Close it when done.

    Raises:
        ImportError: PostgreSQL without ``opensslcmp[postgres]``.
        ConnectionError: PostgreSQL cannot be reached, or refuses.
        OSError, ValueError: it cannot be opened, or was made by a newer version of this package.
    """
    if settings.url is None:
        from opensslcmp.server.sqlstore import SQLStore

        return SQLStore(directory / "ca.db")
    try:
        import psycopg

        from opensslcmp.server.postgres import PostgresStore
    except ImportError as error:
        raise ImportError(
            "PostgreSQL needs psycopg and libpq: pip install 'opensslcmp[postgres]', and the system's libpq5"
        ) from error
    try:
        return PostgresStore(
            settings.url,
            pool_size=settings.pool_size,
            timeout_seconds=settings.timeout_seconds,
            statement_timeout_seconds=settings.statement_timeout_seconds,
        )
    except psycopg.Error as error:
        raise ConnectionError(f"{settings.place}: {str(error).strip()}") from error
