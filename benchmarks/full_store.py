"""A store that holds many certificates already: is an enrollment still as fast? Filled by bulk SQL, not by enrollments."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from sqlalchemy import Engine, create_engine, insert

from benchmarks.anchor import Case
from benchmarks.ends import Ends
from opensslcmp.server.schema import CERTIFICATES
from opensslcmp.server.sqlstore import SQLStore
from opensslcmp.server.store import CertificateState, Store

__all__ = ["Filled", "fill", "measure", "open_store"]

_CASE = Case(confirm="explicit")
_CHUNK = 5000


@dataclass(frozen=True, kw_only=True)
class Filled:
    """An enrollment from a server whose store holds ``certificates``; microseconds of CPU of the server, and wall.

    Attributes:
        beside: CPU with a store that is all but empty, measured in turn with it.
    """

    certificates: int
    server: float
    beside: float
    wall: float
    bytes_each: float


def open_store(place: str) -> Store:
    """A store in a file, or at the URL of a PostgreSQL database."""
    if "://" not in place:
        return SQLStore(place)
    from opensslcmp.server.postgres import PostgresStore

    return PostgresStore(place)


def _engine(place: str) -> Engine:
    return create_engine(
        place.replace("postgresql:", "postgresql+psycopg:") if "://" in place else f"sqlite:///{place}"
    )


def fill(place: str, more: int, certificate: bytes) -> None:
    """Put ``more`` certificates into a store that has been opened before. Their keys are random, as those of others are."""
    now = time.time()
    engine = _engine(place)
    with engine.begin() as connection:
        for first in range(0, more, _CHUNK):
            rows = [
                {
                    "key": os.urandom(32),
                    "serial_number": f"{int.from_bytes(os.urandom(19)):x}",
                    "certificate": certificate,
                    "key_and_subject": os.urandom(32),
                    "state": int(CertificateState.VALID),
                    "identity": b"device",
                    "transaction_id": os.urandom(16),
                    "issued_at": now - more + number,
                    "not_after": now + 86400 * 365,
                }
                for number in range(first, min(first + _CHUNK, more))
            ]
            connection.execute(insert(CERTIFICATES), rows)
    engine.dispose()


def measure(place: str, empty: str, sizes: list[int], count: int, rounds: int = 3) -> list[Filled]:
    """Enrollments from a store of each size, growing; the least of the rounds counts.

    Args:
        place, empty: of two new stores; the second one stays as it is, but for what is enrolled.
    """
    store, other = open_store(place), open_store(empty)
    ends, beside = Ends(_CASE, store=store), Ends(_CASE, store=other)
    ends.run(5)
    beside.run(5)
    certificate = x509.load_der_x509_certificate(next(store.every_certificate()).certificate).public_bytes(Encoding.DER)
    found = []
    before = _size(place)
    for size in sizes:
        held = store.certificates()
        if size > held:
            fill(place, size - held, certificate)
            ends.run(5)
        taken = []
        for _ in range(rounds):
            start = time.perf_counter()
            share = ends.run(count)
            wall = (time.perf_counter() - start) / count * 1e6
            taken.append((share.server, beside.run(count).server, wall))
        found.append(
            Filled(
                certificates=size,
                server=min(server for server, _, _ in taken),
                beside=min(beside for _, beside, _ in taken),
                wall=min(wall for _, _, wall in taken),
                bytes_each=(_size(place) - before) / size if size else 0.0,
            )
        )
    store.close()
    other.close()
    return found


def _size(place: str) -> int:
    """Bytes that the store takes on the disk."""
    if "://" not in place:
        engine = _engine(place)
        with engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        engine.dispose()
        return Path(place).stat().st_size
    engine = _engine(place)
    with engine.connect() as connection:
        size: int = connection.exec_driver_sql("SELECT pg_total_relation_size('certificates')").scalar_one()
    engine.dispose()
    return size
