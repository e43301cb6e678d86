"""What every store promises, asked of each."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from opensslcmp.enums import BodyType, RevocationReason
from opensslcmp.server import MemoryStore, SecretBook
from opensslcmp.server.sqlstore import SQLStore
from opensslcmp.server.store import (
    Application,
    ArchivedKey,
    CertificateRecord,
    CertificateSearch,
    CertificateState,
    Change,
    Conflict,
    Publication,
    Revocation,
    Store,
    StoredSecret,
    Transaction,
    TransactionState,
    certificate_key,
)
from tests.server.world import Plain

NOW = 1_000_000.0


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    made: Store
    if request.param == "memory":
        made = MemoryStore()
    elif request.param == "sqlite":
        made = SQLStore(tmp_path / "ca.db", clock=lambda: 0.0)
    else:
        from opensslcmp.server.postgres import PostgresStore

        made = PostgresStore(request.getfixturevalue("postgres").database(), clock=lambda: 0.0)
    yield made
    made.close()


def transaction(
    number: int = 1, state: TransactionState = TransactionState.CONFIRMING, **fields: object
) -> Transaction:
    made = Transaction(
        transaction_id=bytes([number]) * 16,
        identity=b"mac:x",
        algorithm="1.2.3",
        body_type=BodyType.IR,
        state=state,
        nonce=b"n" * 16,
        nonces=b"m" * 16,
        certificates=((0, b"k" * 32),),
        deadline=NOW + 10,
        expires=NOW + 100,
        request=b"request",
        pending=b"pending",
    )
    return replace(made, **fields)  # type: ignore[arg-type]


def record(number: int = 1, state: CertificateState = CertificateState.UNCONFIRMED) -> CertificateRecord:
    return CertificateRecord(
        key=bytes([number]) * 32,
        serial_number=number << 150,
        certificate=b"certificate",
        key_and_subject=b"ks" * 16,
        state=state,
        identity=b"mac:x",
        transaction_id=b"t" * 16,
        issued_at=NOW,
        not_after=NOW + 1000,
    )


def test_what_is_committed_is_found(store: Store) -> None:
    change = Change(transaction=transaction(), request_hash=b"h", response=b"answer", certificates=[record()])
    store.commit(change)
    found, answer = store.look(bytes([1]) * 16, b"h")
    assert (found, answer) == (transaction(), b"answer")
    assert store.look(bytes([1]) * 16, b"other") == (found, None)
    assert store.look(bytes([2]) * 16, b"h") == (None, None)
    assert store.certificate(bytes([1]) * 32) == record()
    assert store.certificate(bytes([2]) * 32) is None
    assert store.certified(b"ks" * 16, NOW) == record()
    assert store.certified(b"ks" * 16, NOW + 1000) is None
    assert store.certified(b"", NOW) is None
    assert store.certificates() == 1
    assert store.open_transactions(b"mac:x") == (1, 1)
    assert store.open_transactions(b"mac:y")[1] == 0


def test_every_answer_of_a_long_transaction_is_found_whatever_its_length(store: Store) -> None:
    now = transaction(state=TransactionState.WAITING)
    answers = {bytes([at]) * 32: bytes([at]) * (5000 if at in {2, 9} else at) for at in range(12)}
    for at, (request_hash, response) in enumerate(answers.items()):
        before, now = (now, replace(now, version=now.version + 1)) if at else (None, now)
        store.commit(Change(transaction=now, previous=before, request_hash=request_hash, response=response))
    before, now = now, replace(now, version=now.version + 1)
    store.commit(Change(transaction=now, previous=before))  # none, as when its time is up
    assert {asked: store.look(now.transaction_id, asked) for asked in answers} == {
        asked: (now, response) for asked, response in answers.items()
    }
    assert store.look(now.transaction_id, b"x" * 32) == (now, None)


def test_a_transaction_id_is_claimed_once(store: Store) -> None:
    store.commit(Change(transaction=transaction(), certificates=[record(1)]))
    with pytest.raises(Conflict):
        store.commit(Change(transaction=transaction(), certificates=[record(2)]))
    assert store.certificates() == 1


def test_a_change_of_what_somebody_else_changed_is_a_conflict_and_changes_nothing(store: Store) -> None:
    store.commit(Change(transaction=transaction(), certificates=[record()]))
    old = store.look(bytes([1]) * 16, b"")[0]
    assert old is not None
    closed = replace(old, state=TransactionState.CLOSED, version=2)
    states = [(record().key, CertificateState.UNCONFIRMED, CertificateState.VALID)]
    store.commit(Change(transaction=closed, previous=old, states=list(states)))
    with pytest.raises(Conflict):
        store.commit(Change(transaction=closed, previous=old))
    now = store.look(bytes([1]) * 16, b"")[0]
    assert now is not None
    with pytest.raises(Conflict):
        store.commit(Change(transaction=replace(now, nonce=b"", version=3), previous=now, states=list(states)))
    assert store.look(bytes([1]) * 16, b"")[0] == now
    with pytest.raises(Conflict):
        store.commit(Change(transaction=transaction(9), previous=transaction(9)))
    with pytest.raises(Conflict):
        store.commit(Change(transaction=transaction(8), certificates=[record()]))
    assert store.look(bytes([8]) * 16, b"")[0] is None
    assert store.open_transactions(b"mac:x")[1] == 0


def test_many_changes_are_committed_together_and_conflicts_told_in_their_places(store: Store) -> None:
    assert store.commit_many([]) == []
    numbers = range(1, 6)
    changes = [Change(transaction=transaction(at), certificates=[record(at)]) for at in numbers]
    assert store.commit_many(changes) == [None] * 5
    taken = Change(transaction=transaction(3), request_hash=b"h", response=b"r")
    fresh = [Change(transaction=transaction(at), request_hash=b"h", response=b"r") for at in (6, 7)]
    told = store.commit_many([fresh[0], taken, fresh[1]])
    assert [type(each) for each in told] == [type(None), Conflict, type(None)]
    assert [store.look(bytes([at]) * 16, b"h")[1] for at in (3, 6, 7)] == [None, b"r", b"r"]
    assert store.certificates() == 5


def test_changes_of_one_thing_in_one_batch_are_made_in_their_order(store: Store) -> None:
    first = Change(transaction=transaction(1), certificates=[record()])
    twice = Change(transaction=transaction(1), certificates=[record(2)])
    begun = first.transaction
    held = Revocation(key=record().key, serial_number=1, reason=RevocationReason.CERTIFICATE_HOLD, at=NOW, not_after=9)
    valid, revoked = CertificateState.VALID, CertificateState.REVOKED
    confirmed = Change(
        transaction=replace(begun, version=2),
        previous=begun,
        states=[(record().key, CertificateState.UNCONFIRMED, valid)],
    )
    hold = Change(transaction=transaction(2), states=[(record().key, valid, revoked)], revocations=[held])
    release = Change(transaction=transaction(3), states=[(record().key, revoked, valid)], released=[held.key])
    again = Change(transaction=transaction(4), released=[held.key])
    told = store.commit_many([first, twice, confirmed, hold, release, again])
    assert [each is None for each in told] == [True, False, True, True, True, False]
    assert (store.revision(), store.revocation(held.key)) == (2, None)
    assert store.certificate(record().key) == record(1, valid)
    assert store.certificate(record(2).key) is None


def test_a_store_goes_on_after_any_number_of_conflicts(store: Store) -> None:
    for at in range(1, 20):
        number = at % 5 + 1
        changes = [Change(transaction=transaction(each), certificates=[record(each)]) for each in (number, at + 20)]
        assert [each is None for each in store.commit_many(changes)] == [at <= 5, True]
        assert store.certificate(record(at + 20).key) is not None


def test_no_more_transactions_of_a_credential_are_opened_than_may_be(store: Store) -> None:
    changes = [Change(transaction=transaction(at), most_open=3) for at in range(1, 6)]
    assert [each is None for each in store.commit_many(changes)] == [True] * 3 + [False] * 2
    with pytest.raises(Conflict):
        store.commit(changes[4])
    store.commit(Change(transaction=transaction(6, identity=b"mac:y"), most_open=1))
    begun = changes[0].transaction
    closed = replace(begun, state=TransactionState.CLOSED, version=2)
    store.commit(Change(transaction=closed, previous=begun, most_open=0))
    store.commit(changes[4])
    assert store.open_transactions(b"mac:x")[1] == 3


def test_many_threads_claim_one_transaction_id_once(store: Store) -> None:
    outcomes: list[bool] = []

    def claim(number: int) -> None:
        try:
            store.commit(Change(transaction=transaction(), certificates=[record(number)]))
            outcomes.append(True)
        except Conflict:
            outcomes.append(False)

    threads = [threading.Thread(target=claim, args=(number,)) for number in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == [False] * 7 + [True]
    assert store.certificates() == 1


def test_overdue_transactions_are_found_and_old_ones_forgotten(store: Store) -> None:
    store.commit(Change(transaction=transaction(1), request_hash=b"h", response=b"r"))
    store.commit(Change(transaction=transaction(2, deadline=NOW + 5)))
    store.commit(Change(transaction=transaction(3, TransactionState.CLOSED), request_hash=b"h", response=b"r"))
    assert store.overdue(NOW + 4, 9) == []
    assert [each.transaction_id[0] for each in store.overdue(NOW + 10, 9)] == [2, 1]
    assert [each.transaction_id[0] for each in store.overdue(NOW + 10, 1)] == [2]
    assert store.forget(NOW + 99) == 0
    assert store.forget(NOW + 100) == 1
    assert store.look(bytes([3]) * 16, b"h") == (None, None)
    assert store.look(bytes([1]) * 16, b"h")[1] == b"r"


def test_an_archived_key_is_committed_with_its_certificate_and_found_by_whose_it_is(store: Store) -> None:
    kept = ArchivedKey(key=record().key, identity=b"mac:x", sealed=b"sealed")
    store.commit(Change(transaction=transaction(), certificates=[record()], archived=(kept,)))
    assert store.archived(b"mac:x") == [kept]
    assert store.archived(b"mac:y") == []
    again = Change(transaction=transaction(2), certificates=[record()], archived=(replace(kept, sealed=b"?"),))
    with pytest.raises(Conflict):
        store.commit(again)
    assert store.archived(b"mac:x") == [kept]


def test_revocations_are_listed_until_the_certificate_ends(store: Store) -> None:
    assert (store.revision(), store.revocations(NOW)) == (0, (0, []))
    made = [
        Revocation(
            key=bytes([number]) * 32,
            serial_number=number,
            reason=RevocationReason.KEY_COMPROMISE,
            at=NOW,
            not_after=NOW + number,
        )
        for number in (2, 1)
    ]
    store.commit(Change(transaction=transaction(), revocations=made))
    revision, found = store.revocations(NOW)
    assert revision == store.revision() == 1
    assert found == made[::-1]
    assert [each.serial_number for each in store.revocations(NOW + 1)[1]] == [2]


def test_a_revocation_is_taken_back_or_replaced_once(store: Store) -> None:
    held = Revocation(
        key=b"k" * 32, serial_number=5, reason=RevocationReason.CERTIFICATE_HOLD, at=NOW, not_after=NOW + 99
    )
    store.commit(Change(transaction=transaction(1), revocations=[held]))
    assert store.revocation(held.key) == held
    final = replace(held, reason=RevocationReason.KEY_COMPROMISE)
    store.commit(Change(transaction=transaction(2), revocations=[final], released=[held.key]))
    assert store.revocations(NOW) == (2, [final])
    store.commit(Change(transaction=transaction(3), released=[held.key]))
    assert (store.revocations(NOW), store.revocation(held.key)) == ((3, []), None)
    with pytest.raises(Conflict):
        store.commit(Change(transaction=transaction(4), released=[held.key]))
    assert store.look(bytes([4]) * 16, b"") == (None, None)


def test_certificates_are_listed_and_their_updates_found(store: Store) -> None:
    first, second = record(2), replace(record(1), issued_at=NOW + 1, updates=record(2).key)
    store.commit(Change(transaction=transaction(), certificates=[second, first]))
    assert list(store.every_certificate()) == [first, second]
    assert store.successors(first.key) == [second]
    assert store.successors(second.key) == []


def test_applications_are_filed_and_decided_once(store: Store) -> None:
    application = Application(
        id="a1", transaction_id=b"t" * 16, kind=BodyType.IR, subject="CN=x", key_hash="00", requester="device",
        filed_at=NOW, expires=NOW + 9,
    )  # fmt: skip
    later = replace(application, id="a0", filed_at=NOW + 1, expires=NOW + 99, address="::1", names="DNS:x")
    assert store.file(application) == application
    assert store.file(replace(application, subject="CN=other")) == application
    assert store.file(later) == later
    assert store.applications() == [application, later]
    assert store.decide("a1", False, "no", NOW + 2)
    assert not store.decide("a1", True, "", NOW + 3)
    assert not store.decide("a2", True, "", NOW + 3)
    assert store.application("a1") == replace(application, approved=False, reason="no", decided_at=NOW + 2)
    assert store.application("a2") is None
    store.forget(NOW + 9)
    assert store.applications() == [later]


def test_a_publication_takes_the_place_of_the_one_before_it(store: Store) -> None:
    first = Publication(name="crl", number=1, revision=0, made_at=NOW, good_until=NOW + 9, content=b"crl")
    assert store.publication("crl") is None
    store.publish(first)
    assert store.publication("crl") == first
    second = replace(first, number=2, content=b"next")
    store.publish(second)
    for late in (first, second, replace(first, number=4)):
        with pytest.raises(Conflict):
            store.publish(late)
    assert store.publication("crl") == second
    assert store.publication("other") is None


def test_secrets_are_kept_used_up_and_removed(store: Store) -> None:
    kept = StoredSecret(
        reference=b"r", sealed=b"sealed", single_use=True, created_at=NOW, subject="CN=a.*", profiles=("a", "b")
    )
    store.add_secret(kept)
    with pytest.raises(Conflict):
        store.add_secret(kept)
    assert store.secret(b"r") == kept
    store.commit(Change(transaction=transaction(1), secret_used=b"r", now=NOW))
    with pytest.raises(Conflict):
        store.commit(Change(transaction=transaction(2), secret_used=b"r", now=NOW))
    assert store.secrets() == [replace(kept, used_at=NOW)]
    assert store.remove_secret(b"r")
    assert not store.remove_secret(b"r")
    assert store.secret(b"r") is None


def test_a_secret_book_keeps_secrets_sealed(store: Store) -> None:
    book = SecretBook(store, Plain())
    assert book.add("given", "value") == b"value"
    made = book.add(b"made")
    assert len(made) == 20
    found = book.find(b"made")
    assert found is not None
    assert found.value == made
    assert "value" not in repr(found)
    for _ in range(2):
        again = book.find(b"given")
        assert again is not None
        assert again.value == b"value"
    assert [each.reference for each in book.list()] == [b"given", b"made"]
    assert "value" not in repr(book.list())
    for reference, secret in (("given", "x"), ("", "x"), ("x", "")):
        with pytest.raises(ValueError, match="secret"):
            book.add(reference, secret)
    assert book.remove("given")
    assert book.find(b"given") is None


def test_what_is_committed_to_sqlite_is_there_for_another_process(tmp_path: Path) -> None:
    first, second = SQLStore(tmp_path / "ca.db"), SQLStore(tmp_path / "ca.db")
    first.commit(Change(transaction=transaction(), request_hash=b"h", response=b"r", certificates=[record()]))
    assert second.look(bytes([1]) * 16, b"h")[1] == b"r"
    with pytest.raises(Conflict):
        second.commit(Change(transaction=transaction()))
    first.close()
    assert second.certificates() == 1
    second.close()
    assert (tmp_path / "ca.db").stat().st_mode & 0o777 == 0o600


def test_sqlite_is_in_wal_mode_and_waits_for_the_disk(tmp_path: Path) -> None:
    store = SQLStore(tmp_path / "ca.db")
    connection = store._connection()
    assert connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
    assert connection.execute("PRAGMA synchronous").fetchone()[0] == 2
    store.close()


def test_a_batch_is_one_transaction_of_sqlite_with_one_statement_of_each_kind(tmp_path: Path) -> None:
    store = SQLStore(tmp_path / "ca.db")
    said: list[str] = []
    store._connection().set_trace_callback(lambda text: said.append(text.split(" (")[0]))
    changes = [
        Change(transaction=transaction(at), request_hash=b"h", response=b"r", certificates=[record(at)])
        for at in (1, 2, 3)
    ]
    assert store.commit_many(changes) == [None] * 3
    inserts = [f"INSERT INTO {table}" for table in ("transactions", "certificates")]
    assert said == ["BEGIN IMMEDIATE", *(each for each in inserts for _ in changes), "COMMIT"]
    store.close()


def test_certificates_are_told_apart_by_issuer_and_number() -> None:
    keys = {certificate_key(issuer, number) for issuer in (b"a", b"b") for number in (0, 1, 127, 128, 255, 256, -1)}
    assert len(keys) == 14


def test_certificates_are_searched_by_all_that_is_given_a_page_at_a_time(store: Store) -> None:
    made = [
        replace(
            record(number, CertificateState.VALID if number % 2 else CertificateState.UPDATED),
            serial_number=number << 8 | 0xA,
            identity=b"mac:odd" if number % 2 else b"cert:\xff\xfe",
            issued_at=NOW + number // 2,
            not_after=NOW + 100 * number,
        )
        for number in range(1, 7)
    ]
    store.commit(Change(transaction=transaction(), certificates=made))

    def found(**wanted: Any) -> list[int]:
        return [each.serial_number >> 8 for each in store.search(CertificateSearch(**wanted), 100)]

    assert found() == [1, 2, 3, 4, 5, 6]
    assert found(states=frozenset({CertificateState.VALID})) == [1, 3, 5]
    assert found(states=frozenset()) == []
    assert found(serial="5") == [5]
    assert found(serial="50a") == [5]
    assert found(serial="51") == []
    assert found(identity=b"cert:\xff\xfe") == [2, 4, 6]
    assert found(identity=b"mac:") == []
    assert found(issued_after=NOW + 1, issued_before=NOW + 3) == [2, 3, 4, 5]
    assert found(expires_after=NOW + 200, expires_before=NOW + 400) == [2, 3]
    pages, after = [], None
    while page := store.search(CertificateSearch(), 4, after):
        pages.append([each.serial_number >> 8 for each in page])
        after = (page[-1].issued_at, page[-1].key)
    assert pages == [[1, 2, 3, 4], [5, 6]]


def test_a_secret_is_replaced_when_it_is_the_one_that_was_seen(store: Store) -> None:
    old = StoredSecret(reference=b"r", sealed=b"old", created_at=NOW, single_use=True, used_at=NOW, subject="CN=x")
    assert not store.replace_secret(old, b"old")
    store.add_secret(old)
    assert store.overlap_until() == 0.0
    new = replace(old, sealed=b"new", used_at=None, previous=b"old", previous_until=NOW + 5.5)
    assert not store.replace_secret(new, b"other")
    assert store.secret(b"r") == old
    assert store.replace_secret(new, b"old")
    assert store.secret(b"r") == new
    assert not store.replace_secret(new, b"old")
    store.add_secret(StoredSecret(reference=b"s", sealed=b"s", created_at=NOW))
    assert store.overlap_until() == NOW + 5.5
