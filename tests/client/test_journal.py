"""The journal: what is on the disk before a message leaves, and what a client makes of it afterwards."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from opensslcmp import (
    AsyncSession,
    BodyType,
    Context,
    Issued,
    Journal,
    OpenSSLError,
    Pending,
    Rejected,
    Revoked,
    Session,
    SharedSecret,
    TimedOut,
    TransportError,
)
from opensslcmp.client.journal import Entry, State
from opensslcmp.context.keys import PrivateKey
from opensslcmp.context.protection import MacProtector
from tests.client.client_peers import SECRET, Entity
from tests.client.scripted import Scripted

PASSWORD = b"a journal's password"


class Killed(BaseException):
    """The process ends here: nothing more is sent or written."""


class Life:
    """A client that dies at one of its seams, the next one of which it reaches being number ``dies_at``.

    Seams: before and after each message is sent, and after each entry is on the disk.
    """

    def __init__(self, peer: Any, journal: Journal, dies_at: int | None) -> None:
        self.peer, self.journal, self.left = peer, journal, dies_at

    def seam(self) -> None:
        if self.left is not None:
            self.left -= 1
            if self.left <= 0:
                self.left = 0
                raise Killed

    def send(self, request: bytes, timeout_seconds: float) -> bytes:
        self.seam()
        answer: bytes = self.peer.send(request, timeout_seconds)
        self.seam()
        return answer


class Remembering:
    """A server that answers a retransmission with the same bytes."""

    def __init__(self, peer: Scripted) -> None:
        self.peer = peer
        self.answers: dict[bytes, bytes] = {}

    def send(self, request: bytes, timeout_seconds: float) -> bytes:
        if request not in self.answers:
            self.answers[request] = self.peer.send(request, timeout_seconds)
        return self.answers[request]


@pytest.fixture
def peer(ca: Entity) -> Scripted:
    return Scripted(ca, MacProtector(SECRET), secret=SECRET)


Call = Callable[..., Any]


@pytest.fixture(params=["sync", "async"])
def twin(request: pytest.FixtureRequest) -> Call:
    """``twin(context, peer, journal, "enroll", ...)`` on either session."""

    def sync(context: Context, peer: Any, journal: Journal, name: str, *arguments: Any, **options: Any) -> Any:
        session = Session(context, peer, sleep=lambda seconds: None, journal=journal)
        return getattr(session, name)(*arguments, **options)

    def asynchronous(context: Context, peer: Any, journal: Journal, name: str, *arguments: Any, **options: Any) -> Any:
        session = AsyncSession(context, peer, sleep=lambda seconds: None, journal=journal)
        return anyio.run(lambda: getattr(session, name)(*arguments, **options))

    return sync if request.param == "sync" else asynchronous


def mac(**options: Any) -> Context:
    return Context(credential=SECRET, min_poll_seconds=0.01, **options)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal"


@pytest.mark.parametrize("implicit", [False, True], ids=["explicit", "implicit"])
def test_a_client_killed_at_any_seam_ends_with_one_confirmed_certificate(
    twin: Call, ca: Entity, tmp_path: Path, implicit: bool
) -> None:
    survived = False
    seam = 0
    while not survived:
        seam += 1
        path = tmp_path / f"journal-{seam}"
        peer = Scripted(ca, MacProtector(SECRET), secret=SECRET, waits=2, grant_implicit=implicit)
        server = Remembering(peer)
        with Journal(path, password=PASSWORD) as journal:
            try:
                life = Life(server, journal, seam)
                twin(mac(), life, journal, "enroll", "CN=d", generate="ec:P-256", label="d", implicit_confirm=implicit)
                survived = True
            except Killed:
                pass
        with Journal(path, password=PASSWORD) as journal:
            begun = [entry.transaction_id for entry in journal.unfinished()]
            issued = twin(
                mac(), server, journal, "enroll", "CN=d", generate="ec:P-256", label="d", implicit_confirm=implicit
            )
            assert isinstance(issued, Issued)
            assert begun in ([], [issued.transaction_id])
            assert issued.key is not None
            assert issued.key.public_key_der in issued.certificate.public_bytes(Encoding.DER)
            assert issued.implicitly_confirmed is implicit
            assert journal.counts() == {State.OPEN: 0, State.DONE: 1, State.FAILED: 0}
        assert len(peer.issued) == 1
        assert implicit or len(peer.confirmed) == 1
        assert len({message.transaction_id for message in peer.requests}) == 1
        assert BodyType.ERROR not in peer.kinds
    # ir, two pollReqs and perhaps certConf: before and after each.
    assert seam == 2 * (3 if implicit else 4) + 1


def test_an_entry_is_on_the_disk_before_its_message_leaves(twin: Call, peer: Scripted, path: Path) -> None:
    seen: list[bytes | None] = []
    with Journal(path, password=PASSWORD) as journal:

        def send(request: bytes) -> bytes:
            (entry,) = journal.unfinished()
            seen.append(entry.message)
            assert entry.message == request
            return peer.send(request, 1.0)

        issued = twin(mac(), send, journal, "enroll", "CN=d", generate="ec:P-256")
        entry = journal.get(issued.transaction_id)
        assert entry is not None
        assert (entry.state, entry.message) == (State.DONE, None)
    assert len(seen) == 2


def test_a_key_of_ours_is_encrypted_and_one_in_a_file_is_named(twin: Call, peer: Scripted, path: Path) -> None:
    file = path.with_name("device.key")
    key = PrivateKey.generate("ec:P-256")
    file.write_bytes(key.to_pem())
    with Journal(path, password=PASSWORD) as journal:
        made = twin(mac(), peer, journal, "enroll", "CN=d", generate="ec:P-256", label="made")
        twin(mac(), peer, journal, "enroll", "CN=d", str(file), label="file")
        twin(mac(), peer, journal, "enroll", "CN=d", PrivateKey.generate("ec:P-256"), label="object")
        entries = {label: journal.find(label) for label in ("made", "file", "object")}
        assert entries["made"] is not None
        assert entries["made"].key is not None
        assert entries["made"].key.startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY")
        assert made.key is not None
        found = journal.key_of(entries["made"])
        assert found is not None
        assert found.public_key_der == made.key.public_key_der
        assert entries["file"] is not None
        assert (entries["file"].key, entries["file"].key_source) == (None, str(file))
        assert entries["object"] is not None
        assert (entries["object"].key, entries["object"].key_source) == (None, None)
        assert twin(mac(), peer, journal, "enroll", "CN=d", label="object").key is None
    content = b"".join(each.read_bytes() for each in path.parent.glob("journal*"))
    for secret in (PASSWORD, SECRET.secret, b"-----BEGIN PRIVATE KEY"):
        assert secret not in content
    with Journal(path, password=b"another") as journal, pytest.raises(OpenSSLError):
        twin(mac(), peer, journal, "enroll", label="made")


def test_a_journal_without_password_keeps_no_keys(twin: Call, peer: Scripted, path: Path) -> None:
    with Journal(path) as journal:
        with pytest.raises(ValueError, match="keeps no keys"):
            twin(mac(), peer, journal, "enroll", "CN=d", generate="ec:P-256")
        assert peer.requests == []
        assert journal.counts()[State.OPEN] == 0


def test_a_label_has_one_certificate(twin: Call, peer: Scripted, path: Path) -> None:
    with Journal(path, password=PASSWORD) as journal:
        first = twin(mac(), peer, journal, "enroll", "CN=d", generate="ec:P-256", label="d")
        again = twin(mac(), peer, journal, "enroll", "CN=d", generate="ec:P-256", label="d")
        assert again.certificate == first.certificate
        assert again.transaction_id == first.transaction_id
        assert len(peer.issued) == 1
        update = twin(mac(), peer, journal, "update", first.certificate, generate="ec:P-256", label="d-2")
        assert update.certificate != first.certificate
        journal.forget(first.transaction_id)
        assert journal.find("d") is None
        assert journal.find("d-2") is not None


def test_two_transactions_do_not_share_a_label(path: Path) -> None:
    with Journal(path) as journal:
        journal.record(Entry(transaction_id=b"1", label="d", pending=b""))
        with pytest.raises(ValueError, match="label 'd'"):
            journal.record(Entry(transaction_id=b"2", label="d", pending=b""))
        journal.record(Entry(transaction_id=b"1", label="d", pending=b"", state=State.FAILED, error="no"))
        journal.record(Entry(transaction_id=b"2", label="d", pending=b""))
        assert [each.error for each in journal.failed()] == ["no"]


def test_a_refusal_ends_an_entry_and_the_label_may_be_tried_again(twin: Call, peer: Scripted, path: Path) -> None:
    def refuse(issued: Issued) -> None:
        raise Rejected(None, "not mine")

    with Journal(path, password=PASSWORD) as journal:
        with pytest.raises(Rejected, match="not mine"):
            twin(mac(), peer, journal, "enroll", "CN=d", generate="ec:P-256", label="d", confirm=refuse)
        assert [each.error for each in journal.failed()] == ["rejection: not mine"]
        twin(mac(), peer, journal, "enroll", "CN=d", generate="ec:P-256", label="d")
        assert len(peer.issued) == 2
        assert len(peer.confirmed) == 1


def test_a_refusal_that_was_not_heard_is_told_again(twin: Call, peer: Scripted, path: Path) -> None:
    server = Remembering(peer)

    def refuse(issued: Issued) -> None:
        raise Rejected(None, "not mine")

    def deaf(request: bytes) -> bytes:
        if len(server.answers) == 1:
            raise TransportError("down")
        return server.send(request, 1.0)

    with Journal(path, password=PASSWORD) as journal:
        with pytest.raises(TransportError):
            twin(mac(), deaf, journal, "enroll", "CN=d", generate="ec:P-256", label="d", confirm=refuse)
        with pytest.raises(Rejected, match="not mine"):
            twin(mac(), server, journal, "enroll", label="d")
        assert peer.confirmed == set()
        assert journal.counts()[State.FAILED] == 1


def test_no_answer_leaves_an_entry_to_take_up_again(twin: Call, peer: Scripted, path: Path) -> None:
    def down(request: bytes) -> bytes:
        raise TransportError("down")

    with Journal(path, password=PASSWORD) as journal:
        with pytest.raises(TransportError):
            twin(mac(), down, journal, "enroll", "CN=d", generate="ec:P-256", label="d")
        (entry,) = journal.unfinished()
        issued = twin(mac(), peer, journal, "enroll", "CN=d", label="d")
        assert issued.transaction_id == entry.transaction_id


def test_revocations_are_journaled_and_questions_are_not(
    twin: Call, peer: Scripted, device: Entity, path: Path
) -> None:
    with Journal(path) as journal:
        assert isinstance(twin(mac(), peer, journal, "revoke", device.certificate), Revoked)
        assert journal.counts()[State.DONE] == 1
        twin(mac(), peer, journal, "request_info")
        assert sum(journal.counts().values()) == 1


def test_a_pending_is_in_the_journal_too(twin: Call, peer: Scripted, path: Path) -> None:
    peer.waits = 1
    server = Remembering(peer)
    with Journal(path, password=PASSWORD) as journal:
        pending = twin(mac(), server, journal, "enroll", "CN=d", generate="ec:P-256", label="d", wait=False)
        assert isinstance(pending, Pending)
        issued = twin(mac(), server, journal, "enroll", label="d")
        assert issued.transaction_id == pending.transaction_id


def test_the_file_is_private_and_belongs_to_one(path: Path) -> None:
    with Journal(path):
        assert {each.stat().st_mode & 0o777 for each in path.parent.glob("journal*")} == {0o600}
        with pytest.raises(ValueError, match="in use"):
            Journal(path)
        code = f"from opensslcmp import Journal\ntry:\n    Journal({str(path)!r})\nexcept ValueError as error:\n    print(error)"
        result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert "in use" in result.stdout
    Journal(path).close()
    path.chmod(0o644)
    with pytest.raises(ValueError, match="0600"):
        Journal(path)


def test_what_is_no_journal_is_refused_and_left_as_it_was(path: Path) -> None:
    path.write_bytes(b"something else" * 100)
    path.chmod(0o600)
    with pytest.raises(ValueError, match="not a journal"):
        Journal(path)
    assert path.read_bytes() == b"something else" * 100
    other = path.with_name("other")
    with sqlite3.connect(other) as database:
        database.execute("CREATE TABLE x (y)")
    database.close()
    other.chmod(0o600)
    with pytest.raises(ValueError, match="not a journal"):
        Journal(other)
    with pytest.raises(OSError, match="missing"):
        Journal(path.parent / "missing" / "journal")


def test_a_closed_journal_says_so(path: Path) -> None:
    journal = Journal(path)
    journal.close()
    journal.close()
    with pytest.raises(ValueError, match="closed"):
        journal.unfinished()
    with pytest.raises(ValueError, match="closed"):
        journal.record(Entry(transaction_id=b"1", pending=b""))
    assert repr(journal) == f"Journal({str(path)!r})"


def test_a_disk_that_takes_nothing_stops_the_message(twin: Call, peer: Scripted, path: Path) -> None:
    with Journal(path, password=PASSWORD) as journal:
        database = journal._open()
        (pages,) = database.execute("PRAGMA page_count").fetchone()
        database.execute(f"PRAGMA max_page_count = {pages}")

        def until_it_is_full() -> None:
            for number in range(100):
                twin(mac(), peer, journal, "enroll", f"CN=d-{number}", generate="ec:P-256")

        with pytest.raises(OSError, match="cannot be written"):
            until_it_is_full()
        # What is not written is not sent either.
        known = {entry.transaction_id for entry in journal.unfinished()}
        assert {message.transaction_id for message in peer.requests} - peer.confirmed <= known


def test_entries_of_many_threads_share_their_fsyncs(path: Path) -> None:
    with Journal(path) as journal:
        commits: list[str] = []
        journal._open().set_trace_callback(commits.append)
        start = threading.Barrier(8)

        def write(number: int) -> None:
            start.wait()
            for step in range(20):
                journal.record(Entry(transaction_id=b"%d %d" % (number, step), pending=b""))

        threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert journal.counts()[State.OPEN] == 160
        assert commits.count("COMMIT") <= 160


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_entries_of_many_tasks_share_their_fsyncs(peer: Scripted, path: Path, backend: str) -> None:
    with Journal(path, password=PASSWORD) as journal:
        commits: list[str] = []
        journal._open().set_trace_callback(commits.append)

        async def main() -> None:
            session = AsyncSession(mac(), peer, journal=journal)
            async with anyio.create_task_group() as group:
                for number in range(50):

                    async def one(name: str = f"device-{number}") -> None:
                        await session.enroll(f"CN={name}", generate="ec:P-256", label=name)

                    group.start_soon(one)

        anyio.run(main, backend=backend)
        assert journal.counts()[State.DONE] == 50
        assert commits.count("COMMIT") < 50


def test_the_journal_says_nothing_of_its_password(path: Path) -> None:
    with Journal(path, password=PASSWORD) as journal:
        assert PASSWORD.decode() not in repr(journal)
        assert os.stat(path).st_uid == os.getuid()


@pytest.mark.parametrize("column", ["state", "label"])
def test_a_journal_that_is_damaged_inside_says_so(path: Path, column: str) -> None:
    Journal(path).close()
    with closing(sqlite3.connect(path)) as database:
        values = {"state": b"open", "label": b"l"} | {column: b"\xff"}
        database.execute(
            "INSERT INTO entries (transaction_id, label, state, pending, begun, changed)"
            " VALUES (x'01', CAST(? AS TEXT), CAST(? AS TEXT), x'', 0, 0)",
            (values["label"], values["state"]),
        )
        database.commit()
    with Journal(path) as journal, pytest.raises(OSError, match="cannot be read"):
        journal.counts() if column == "state" else journal.get(b"\x01")


def test_a_request_that_the_server_may_have_forgotten_is_not_sent_again(twin: Call, peer: Scripted, path: Path) -> None:
    key = PrivateKey.generate("ec:P-256")
    pem = path.with_name("key.pem")
    pem.write_bytes(key.to_pem())

    def down(request: bytes) -> bytes:
        raise TransportError("no route")

    with Journal(path) as journal:
        with pytest.raises(TransportError):
            twin(mac(), down, journal, "enroll", "CN=d", str(pem), label="d")
        hasty = mac(max_resend_seconds=1e-9)
        for _ in range(2):
            with pytest.raises(TimedOut, match="only the server can tell"):
                twin(hasty, peer, journal, "enroll", "CN=d", str(pem), label="d")
        assert not peer.requests
        (entry,) = journal.unfinished()
        assert entry.recorded > 0
        assert twin(mac(), peer, journal, "enroll", "CN=d", str(pem), label="d").transaction_id == entry.transaction_id
        # What is there is given out, however old it is.
        assert twin(hasty, peer, journal, "enroll", "CN=d", str(pem), label="d").transaction_id == entry.transaction_id


def test_one_that_waits_is_polled_for_however_old_it_is(twin: Call, peer: Scripted, path: Path) -> None:
    pem = path.with_name("key.pem")
    pem.write_bytes(PrivateKey.generate("ec:P-256").to_pem())
    peer.waits = 2
    context = mac(max_resend_seconds=1e-9)
    with Journal(path) as journal:
        for _ in range(2):
            assert isinstance(twin(context, peer, journal, "enroll", "CN=d", str(pem), label="d", wait=False), Pending)
        issued = twin(context, peer, journal, "enroll", "CN=d", str(pem), label="d")
    assert issued.transaction_id in peer.confirmed
    assert peer.kinds == [BodyType.IR, BodyType.POLL_REQ, BodyType.POLL_REQ, BodyType.CERT_CONF]


def test_entries_of_other_credentials_are_recovered_with_these(twin: Call, ca: Entity, path: Path) -> None:
    party = SharedSecret("other", "another secret")
    pem = path.with_name("key.pem")
    pem.write_bytes(PrivateKey.generate("ec:P-256").to_pem())

    def down(request: bytes) -> bytes:
        raise TransportError("no route")

    async def of(found: Any) -> list[Any]:
        return [each async for each in found]

    def recover(journal: Journal, **options: Any) -> list[Any]:
        peer = Scripted(ca, MacProtector(party), secret=party)
        found = Session(mac(), peer, journal=journal).recover(**options)
        return list(found)

    async def recover_async(journal: Journal, **options: Any) -> list[Any]:
        peer = Scripted(ca, MacProtector(party), secret=party)
        return await of(AsyncSession(mac(), peer, journal=journal).recover(**options))

    with Journal(path) as journal:
        for label in "a", "b":
            with pytest.raises(TransportError):
                twin(Context(credential=party), down, journal, "enroll", "CN=d", str(pem), label=label)
        (refused, _) = recover(journal)
        assert isinstance(refused.error, ValueError)
        (found, _) = recover(journal, credentials=[SECRET, party])
        assert found.error is None
        with pytest.raises(TransportError):
            twin(Context(credential=party), down, journal, "enroll", "CN=d", str(pem), label="c")
        (again,) = anyio.run(lambda: recover_async(journal, credentials=[party]))
        assert again.error is None
