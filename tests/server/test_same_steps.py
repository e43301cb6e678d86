"""A reference that does not exist and one with another secret: the same steps, one by one, so there is no time to tell."""

from __future__ import annotations

import gc
import os
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from sqlalchemy import create_engine
from sqlalchemy.schema import CreateTable

from opensslcmp.asn1 import admit, encode_body, make_header
from opensslcmp.context.protection import MacProtector, fresh_bytes, protect
from opensslcmp.credentials import SharedSecret
from opensslcmp.enums import BodyType, FailureInfo
from opensslcmp.server import CA, Responder, open_responder
from opensslcmp.server.schema import SECRETS
from opensslcmp.server.statements import Statements
from tests.server.device import KEYS, mac_device, said
from tests.server.world import Clock

REFERENCES = ("device", "cold!!", "nobody", "aaaaaa", "zzzzzz")
"""One that enrolled, one that never did, and three that are not there: between, before and after those that are."""


@pytest.fixture(params=[False, True], ids=["one secret each", "one in rotation"])
def responder(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Responder]:
    clock = Clock()
    with closing(CA.create(tmp_path / "ca", clock=clock)) as ca:
        ca.add_secret("device", "right")
        ca.add_secret("cold!!", "other")
        if request.param:
            ca.add_secret("rotates", "old")
            ca.secrets.rotate("rotates", "new", overlap_seconds=600)
    with closing(open_responder(tmp_path / "ca", clock=clock)) as opened:
        mac_device(opened.handle, clock, "device", "right").enroll(KEYS[0])
        opened.handle(wrong("warm-up"))  # what is made once is made
        yield opened


def wrong(reference: str) -> bytes:
    protector = MacProtector(SharedSecret(reference, "wrong"))
    header = make_header(
        sender=protector.sender_name, recipient=b"0\0", transaction_id=fresh_bytes(16), sender_nonce=fresh_bytes(16)
    )
    return protect(header, BodyType.GENM, encode_body(BodyType.GENM, []), protector)


def steps(work: Callable[[], Any]) -> tuple[Any, list[str]]:
    """What ``work`` gives, and the functions that it called, those in C too, one after the other."""
    seen: list[str] = []

    def note(frame: FrameType, event: str, argument: Any) -> None:
        if event == "call":
            seen.append(frame.f_code.co_qualname)
        elif event == "c_call" and argument is not os.urandom:  # it fills the pool of nonces, now and then
            seen.append(getattr(argument, "__qualname__", repr(argument)))

    gc.disable()  # its callbacks would be among them
    sys.setprofile(note)
    try:
        result = work()
    finally:
        sys.setprofile(None)
        gc.enable()
    return result, seen


def test_an_unknown_reference_takes_the_steps_of_a_wrong_secret(responder: Responder) -> None:
    for _ in range(2):  # the second time their failures are counted already
        taken = {}
        for reference in REFERENCES:
            request = wrong(reference)
            answer, taken[reference] = steps(lambda request=request: responder.handle(request))  # type: ignore[misc]
            assert said(admit(answer)) == (BodyType.ERROR, FailureInfo.BAD_MESSAGE_CHECK)
        expected = taken["device"]
        assert "unseal" in expected
        for reference in REFERENCES:
            assert taken[reference] == expected, reference


def test_sqlite_takes_as_many_steps_for_a_reference_that_is_not_there() -> None:
    """Counted in instructions of its virtual machine."""
    dialect = create_engine("sqlite://").dialect
    statement = Statements(dialect).get_secret
    counted = 0

    def count() -> int:
        nonlocal counted
        counted += 1
        return 0

    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute(str(CreateTable(SECRETS).compile(dialect=dialect)))
        for name in (b"cold!!", b"device", b"printer"):
            connection.execute(
                "INSERT INTO secrets (reference, sealed, single_use, created_at) VALUES (?, ?, 0, 0)",
                (name, os.urandom(48)),
            )
        connection.set_progress_handler(count, 1)
        costs = []
        for reference in REFERENCES:
            counted = 0
            rows = connection.execute(statement.text, statement.parameters({"which": reference.encode()})).fetchall()
            assert len(rows) == 1
            costs.append(counted)
    # Of some 60: where in the index the row stands makes two, or six in newer versions of SQLite; a statement more, sixty.
    assert max(costs) - min(costs) <= 6
