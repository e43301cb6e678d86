"""Many certificates at once: order of arrival, failures, a bound on what is taken, ends of every kind, both sessions."""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509 import CertificateSigningRequestBuilder, Name

from opensslcmp import (
    AsyncSession,
    BodyType,
    Context,
    Issued,
    Journal,
    Order,
    Outcome,
    Pending,
    Rejected,
    Session,
    SharedSecret,
    TransportError,
)
from opensslcmp.client.journal import State
from opensslcmp.context.keys import PrivateKey
from opensslcmp.context.protection import MacProtector
from tests.client.client_peers import SECRET, Entity
from tests.client.scripted import Scripted

PASSWORD = b"password"


class Peer:
    """The scripted CA, for several threads; refuses subjects that contain "bad"."""

    def __init__(self, ca: Entity) -> None:
        self.peer = Scripted(ca, MacProtector(SECRET), secret=SECRET)
        self.lock = threading.Lock()

    def send(self, request: bytes, timeout_seconds: float) -> bytes:
        if b"bad" in request:
            raise TransportError("nobody there")
        with self.lock:
            return self.peer.send(request, timeout_seconds)


@pytest.fixture
def peer(ca: Entity) -> Peer:
    return Peer(ca)


def mac(**options: Any) -> Context:
    return Context(credential=SECRET, **{"min_poll_seconds": 0.01, **options})


def orders(count: int, **options: Any) -> Iterator[Order]:
    return (Order(subject=f"CN=device-{number}", generate="ec:P-256", tag=number, **options) for number in range(count))


Many = Callable[..., list[Outcome]]


@pytest.fixture(params=["sync", "asyncio", "trio"])
def many(request: pytest.FixtureRequest) -> Many:
    """All outcomes of ``enroll_many``, or of ``recover`` when there are no orders."""

    def sync(
        peer: Any, orders: Iterable[Order] | None, journal: Journal | None = None, **options: Any
    ) -> list[Outcome]:
        session = Session(mac(), peer, journal=journal)
        return list(session.recover() if orders is None else session.enroll_many(orders, **options))

    def asynchronous(
        peer: Any, orders: Iterable[Order] | None, journal: Journal | None = None, **options: Any
    ) -> list[Outcome]:
        async def main() -> list[Outcome]:
            session = AsyncSession(mac(), peer, journal=journal)
            found = session.recover() if orders is None else session.enroll_many(orders, **options)
            return [outcome async for outcome in found]

        return anyio.run(main, backend=request.param)

    return sync if request.param == "sync" else asynchronous


@pytest.mark.parametrize("concurrency", [1, 3, 50])
def test_each_order_has_its_outcome(many: Many, peer: Peer, concurrency: int) -> None:
    outcomes = many(peer, orders(20), concurrency=concurrency)
    assert sorted(outcome.order.tag for outcome in outcomes if outcome.order) == list(range(20))
    for outcome in outcomes:
        assert outcome.error is None
        assert outcome.order is not None
        assert outcome.certificate is not None
        assert outcome.certificate.subject.rfc4514_string() == f"CN=device-{outcome.order.tag}"
        assert isinstance(outcome.result, Issued)
        assert outcome.result.key is not None
    assert len(peer.peer.confirmed) == 20


def test_one_that_fails_ends_nothing_else(many: Many, peer: Peer) -> None:
    wrong = [Order(subject="CN=bad", generate="ec:P-256"), Order(subject="CN=x"), Order(kind="p10cr")]
    outcomes = many(peer, itertools.chain(orders(3), wrong, orders(3)), concurrency=2)
    errors = [outcome.error for outcome in outcomes if outcome.error is not None]
    assert len(outcomes) == 9
    assert sorted(type(error).__name__ for error in errors) == ["TransportError", "ValueError", "ValueError"]
    assert all(outcome.certificate is None for outcome in outcomes if outcome.error is not None)


def test_orders_of_every_kind(many: Many, peer: Peer, device: Entity) -> None:
    request = CertificateSigningRequestBuilder().subject_name(Name.from_rfc4514_string("CN=csr"))
    key = PrivateKey.generate("ec:P-256")
    every = [
        Order(subject="CN=cr", key=key, kind="cr"),
        Order(kind="p10cr", request=request.sign(device.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)),
        Order(kind="kur", certificate=device.certificate, generate="ec:P-256"),
    ]
    outcomes = many(peer, every)
    assert [outcome.error for outcome in outcomes] == [None] * 3
    assert set(peer.peer.kinds) == {BodyType.CR, BodyType.P10CR, BodyType.KUR, BodyType.CERT_CONF}


def test_an_order_may_have_a_credential_of_its_own(many: Many, ca: Entity) -> None:
    references: list[bytes | None] = []
    peer = Scripted(ca, MacProtector(SECRET), secret=SECRET)

    def send(request: bytes) -> bytes:
        answer = peer.send(request, 1.0)
        references.append(peer.requests[-1].sender_kid)
        return answer

    credential = SharedSecret("another", SECRET.secret)
    many(send, [Order(subject="CN=d", generate="ec:P-256", credential=credential)], concurrency=1)
    assert references[0] == b"another"
    assert "secret" not in repr(Order(credential=credential, token="secret", password=b"secret"))


def test_no_more_is_taken_than_is_worked_on(many: Many, peer: Peer) -> None:
    taken = 0

    def lazy() -> Iterator[Order]:
        nonlocal taken
        for order in orders(1000):
            taken += 1
            yield order

    session = Session(mac(), peer)
    found = session.enroll_many(lazy(), concurrency=4)
    for _ in range(10):
        next(found)
    found.close()  # type: ignore[attr-defined]
    # Handed out, worked on, and waiting to be fetched.
    assert 10 <= taken <= 10 + 4 + 4


def test_an_input_that_raises_ends_it_once_all_is_handed_out(many: Many, peer: Peer) -> None:
    def broken() -> Iterator[Order]:
        yield from orders(5)
        raise LookupError("line 6")

    got: list[Outcome] = []

    def some() -> Iterator[Order]:
        yield from broken()

    with pytest.raises(LookupError, match="line 6"):
        got += many(peer, some(), concurrency=2)
    assert len(peer.peer.confirmed) == 5


@pytest.mark.parametrize("session", [Session, AsyncSession])
def test_nonsense_is_refused_at_once(session: Any, peer: Peer) -> None:
    with pytest.raises(ValueError, match="concurrency"):
        session(mac(), peer).enroll_many([], concurrency=0)
    with pytest.raises(ValueError, match="no journal"):
        session(mac(), peer).recover()


def test_the_same_input_again_gives_what_is_there(many: Many, peer: Peer, tmp_path: Path) -> None:
    def labelled() -> Iterator[Order]:
        return (Order(subject=f"CN=d-{each}", generate="ec:P-256", label=f"d-{each}") for each in range(6))

    with Journal(tmp_path / "journal", password=PASSWORD) as journal:
        first = {outcome.label: outcome.certificate for outcome in many(peer, itertools.islice(labelled(), 4), journal)}
        again = {outcome.label: outcome.certificate for outcome in many(peer, labelled(), journal)}
        assert {label: again[label] for label in first} == first
        assert len(peer.peer.issued) == 6
        assert journal.counts()[State.DONE] == 6


def test_what_is_unfinished_is_recovered(many: Many, peer: Peer, tmp_path: Path) -> None:
    down = threading.Event()
    down.set()

    class Down:
        def send(self, request: bytes, timeout_seconds: float) -> bytes:
            if down.is_set():
                raise TransportError("down")
            return peer.send(request, timeout_seconds)

    with Journal(tmp_path / "journal", password=PASSWORD) as journal:
        outcomes = many(Down(), orders(5), journal)
        assert all(isinstance(outcome.error, TransportError) for outcome in outcomes)
        down.clear()
        recovered = many(Down(), None, journal)
        assert [outcome.error for outcome in recovered] == [None] * 5
        assert len(peer.peer.issued) == 5
        assert journal.unfinished() == []


def test_an_order_that_does_not_wait_gives_a_pending(many: Many, peer: Peer) -> None:
    peer.peer.waits = 1
    (outcome,) = many(peer, orders(1, wait=False))
    assert isinstance(outcome.result, Pending)
    assert outcome.certificate is None


def test_closing_breaks_off_what_waits_and_tells_the_server(peer: Peer) -> None:
    peer.peer.check_after = 500
    confirmed, waiting = threading.Event(), threading.Event()

    class Watching:
        def send(self, request: bytes, timeout_seconds: float) -> bytes:
            answer = peer.send(request, timeout_seconds)
            if peer.peer.kinds[-1] is BodyType.CERT_CONF:
                confirmed.set()
            elif peer.peer.kinds[-1] is BodyType.POLL_REQ:
                waiting.set()
            return answer

    def one_after_the_other() -> Iterator[Order]:
        first, second = orders(2)
        yield first
        assert confirmed.wait(20)
        peer.peer.waits = 2
        yield second

    found = Session(mac(), Watching()).enroll_many(one_after_the_other(), concurrency=2)
    assert next(found).certificate is not None
    assert waiting.wait(20)
    found.close()  # type: ignore[attr-defined]
    assert peer.peer.kinds[-1] is BodyType.ERROR


def test_an_interrupt_leaves_no_threads_and_a_journal_to_go_on_with(peer: Peer, tmp_path: Path) -> None:
    before = threading.active_count()
    with Journal(tmp_path / "journal", password=PASSWORD) as journal:
        session = Session(mac(), peer, journal=journal)

        def interrupted() -> None:
            with contextlib.closing(session.enroll_many(orders(100), concurrency=4)) as found:  # type: ignore[type-var]
                for number, _ in enumerate(found):
                    if number == 5:
                        raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            interrupted()
        assert threading.active_count() == before
        assert BodyType.ERROR not in peer.peer.kinds
        unfinished = len(journal.unfinished())
        assert [outcome.error for outcome in session.recover()] == [None] * unfinished
        assert len(peer.peer.issued) == journal.counts()[State.DONE]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_tasks_end_with_their_iterator(peer: Peer, backend: str) -> None:
    asked = 0

    async def slow(request: bytes) -> bytes:
        nonlocal asked
        asked += 1
        if asked > 6:
            await anyio.sleep_forever()
        return peer.send(request, 1.0)

    async def main() -> int:
        session = AsyncSession(mac(), slow)
        got = 0
        async with contextlib.aclosing(session.enroll_many(orders(100), concurrency=4)) as found:  # type: ignore[type-var]
            async for _ in found:
                got += 1
                if got == 1:
                    break
        return got

    assert anyio.run(main, backend=backend) == 1


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_cancelled_consumer_cancels_all(peer: Peer, backend: str) -> None:
    async def stuck(request: bytes) -> bytes:
        if b"broke off" in request:
            return peer.send(request, 1.0)
        await anyio.sleep_forever()
        raise AssertionError

    async def main() -> bool:
        session = AsyncSession(mac(), stuck)
        with anyio.move_on_after(0.1) as scope:
            async with contextlib.aclosing(session.enroll_many(orders(100), concurrency=4)) as found:  # type: ignore[type-var]
                async for _ in found:
                    raise AssertionError
        return scope.cancelled_caught

    assert anyio.run(main, backend=backend)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_orders_may_come_from_an_async_iterable(peer: Peer, backend: str) -> None:
    async def coming() -> AsyncIterator[Order]:
        for order in orders(5):
            await anyio.sleep(0)
            yield order

    async def main() -> list[Outcome]:
        return [outcome async for outcome in AsyncSession(mac(), peer).enroll_many(coming(), concurrency=2)]

    assert len(anyio.run(main, backend=backend)) == 5


def test_a_refusal_is_an_outcome(many: Many, ca: Entity) -> None:
    def refuse(subject: bytes, spki: bytes) -> bytes:
        raise Rejected(None, "no")

    peer = Scripted(ca, MacProtector(SECRET), secret=SECRET, issue=refuse)
    (outcome,) = many(peer, orders(1))
    assert isinstance(outcome.error, Rejected)
