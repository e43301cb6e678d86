"""handle_async: the same answers as handle, many at once, with shared commits and authorities that are awaited."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import greenlet
import pytest

from opensslcmp.asn1 import InfoTypeAndValue, Message, admit, oids
from opensslcmp.enums import BodyType, FailureInfo, RevocationReason
from opensslcmp.server import hub
from opensslcmp.server.app import App
from opensslcmp.server.authority import Authority, CertificateRequest, InfoRequest, Issued, Pending, RevocationRequest
from opensslcmp.server.hub import InThreads
from opensslcmp.server.memory import MemoryStore
from opensslcmp.server.peer import Peer
from opensslcmp.server.responder import Responder
from opensslcmp.server.store import Change, Conflict, Store
from tests.server.device import KEYS, Device, certificate_of, conf, crmf, revocation, said
from tests.server.world import World

B, F = BodyType, FailureInfo
BOTH = pytest.mark.parametrize("store", ["memory", "sql"], indirect=True)


def request_of(device: Device, subject: str = "CN=device") -> bytes:
    """An ir in a new transaction, not sent yet."""
    device.begin()
    return device.build(B.IR, [crmf(KEYS[0], subject)])


def together(responder: Responder, *requests: bytes) -> list[Message]:
    """The answers to requests that come in one turn of the loop."""

    async def all_of_them() -> list[bytes]:
        return list(await asyncio.gather(*(responder.handle_async(each) for each in requests)))

    return [admit(each) for each in asyncio.run(all_of_them())]


class Counting:
    """How many changes each ``commit_many`` of a store made."""

    def __init__(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        self.batches: list[int] = []
        self.threads: set[int] = set()
        original = store.commit_many

        def commit_many(changes: Sequence[Change]) -> list[Conflict | None]:
            self.batches.append(len(changes))
            self.threads.add(threading.get_ident())
            return original(changes)

        monkeypatch.setattr(store, "commit_many", commit_many)


class Wrapping:
    """An authority that asks the CA, in coroutine functions."""

    def __init__(self, world: World, before: Callable[[], Awaitable[object]]) -> None:
        self.ca: Authority = world.ca
        self.before = before
        self.asked: list[str] = []

    async def issue(self, request: CertificateRequest) -> Issued | Pending:
        self.asked.append("issue")
        await self.before()
        return self.ca.issue(request)

    async def confirm(self, issued: Issued, accepted: bool) -> Pending | None:
        self.asked.append("confirm")
        await self.before()
        return self.ca.confirm(issued, accepted)

    async def revoke(self, request: RevocationRequest) -> Pending | None:
        self.asked.append("revoke")
        await self.before()
        return self.ca.revoke(request)

    async def info(self, request: InfoRequest) -> Any:
        self.asked.append("info")
        await self.before()
        return self.ca.info(request)


async def shortly() -> None:
    await asyncio.sleep(0)


@BOTH
def test_messages_of_one_turn_of_the_loop_share_a_commit(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    counting = Counting(world.store, monkeypatch)
    requests = [request_of(world.device(), f"CN=device {number}") for number in range(8)]
    answers = together(world.responder, *requests)
    assert [each.body_type for each in answers] == [B.IP] * 8
    assert counting.batches == [8]
    assert len({certificate_of(each) for each in answers}) == 8
    assert world.store.certificates() == 8


def test_an_answer_waits_for_its_commit_and_a_store_that_fails_is_told(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(changes: Sequence[Change]) -> list[Conflict | None]:
        raise OSError("the disk is full")

    monkeypatch.setattr(world.store, "commit_many", full)
    answers = together(world.responder, *(request_of(world.device()) for _ in range(3)))
    assert [said(each) for each in answers] == [(B.ERROR, F.SYSTEM_FAILURE)] * 3
    assert world.store.certificates() == 0
    assert "the disk is full" in caplog.text


def test_a_whole_enrollment_is_answered_like_by_handle(world: World) -> None:
    device = world.device()
    device.handle = lambda request: asyncio.run(_one(world.responder, request))
    certificate = device.enroll(KEYS[0])
    signing = device.signing(certificate, KEYS[0])
    signing.begin()
    assert said(signing.send(B.RR, [revocation(certificate)]))[0] is B.RP
    signing.begin()
    assert said(signing.send(B.GENM, [])) == (B.ERROR, F.CERT_REVOKED)


async def _one(responder: Responder, request: bytes) -> bytes:
    return await responder.handle_async(request)


def test_garbage_is_answered_at_once(world: World) -> None:
    (answer,) = together(world.responder, b"nonsense")
    assert said(answer) == (B.ERROR, F.BAD_DATA_FORMAT)


def test_the_same_request_twice_at_once_is_worked_on_once(world: World) -> None:
    authority = Wrapping(world, shortly)
    request = request_of(world.device())
    first, second, third = together(world.again(authority), request, request, request)
    assert first.der == second.der == third.der
    assert authority.asked == ["issue"]


def test_every_method_of_an_authority_may_be_a_coroutine_function(world: World) -> None:
    authority = Wrapping(world, shortly)
    responder = world.again(authority)
    device = world.device()
    device.handle = lambda request: asyncio.run(_one(responder, request))
    certificate = device.enroll(KEYS[0])
    device.begin()
    device.send(B.GENM, [InfoTypeAndValue.make(oids.IT_CA_CERTS)])
    signing = device.signing(certificate, KEYS[0])
    signing.begin()
    signing.send(B.RR, [revocation(certificate)])
    assert authority.asked[:2] == ["issue", "confirm"]
    assert authority.asked[-1] == "revoke"
    assert "info" in authority.asked


def test_others_are_answered_while_an_authority_is_awaited(world: World) -> None:
    async def main() -> None:
        released = asyncio.Event()
        slow = world.again(Wrapping(world, released.wait))
        waiting = asyncio.ensure_future(slow.handle_async(request_of(world.device())))
        answer = admit(await world.responder.handle_async(request_of(world.device())))
        assert answer.body_type is B.IP
        assert not waiting.done()
        released.set()
        assert admit(await waiting).body_type is B.IP

    asyncio.run(main())


def test_what_was_begun_goes_on_when_nobody_waits_any_more(world: World) -> None:
    async def main() -> None:
        released = asyncio.Event()
        authority = Wrapping(world, released.wait)
        responder = world.again(authority)
        request = request_of(world.device())
        waiting = asyncio.ensure_future(responder.handle_async(request))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
        released.set()
        answer = admit(await responder.handle_async(request))
        assert answer.body_type is B.IP
        assert authority.asked == ["issue"]

    asyncio.run(main())


def test_an_awaited_authority_that_fails_or_is_cancelled_is_a_system_failure(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail() -> None:
        raise OSError("no route")

    async def give_up() -> None:
        raise asyncio.CancelledError

    for before in (fail, give_up):
        (answer,) = together(world.again(Wrapping(world, before)), request_of(world.device()))
        assert said(answer) == (B.IP, F.SYSTEM_FAILURE)
    assert "no route" in caplog.text
    assert "cancelled" in caplog.text


@pytest.mark.parametrize(
    "error", [SystemExit(3), KeyboardInterrupt(), greenlet.GreenletExit(), asyncio.CancelledError()]
)
@pytest.mark.parametrize("awaited", [True, False])
def test_what_is_no_exception_ends_its_own_message_only(
    world: World, monkeypatch: pytest.MonkeyPatch, error: BaseException, awaited: bool
) -> None:
    """The others of one commit are answered, the transaction is let go, and the loop goes on."""
    asked = 0

    async def leave() -> None:
        nonlocal asked
        asked += 1
        if asked == 1:
            raise error

    def leave_at_once(request: CertificateRequest) -> Issued | Pending:
        nonlocal asked
        asked += 1
        if asked == 1:
            raise error
        return issue(request)

    issue = world.ca.issue
    if not awaited:
        monkeypatch.setattr(world.ca, "issue", leave_at_once)
    responder = world.again(Wrapping(world, leave) if awaited else world.ca)
    requests = [request_of(world.device()) for _ in range(3)]

    async def main() -> list[bytes | BaseException]:
        answers = await asyncio.gather(*(responder.handle_async(each) for each in requests), return_exceptions=True)
        return [*answers, await responder.handle_async(requests[0])]

    first, second, third, again = asyncio.run(main())
    if isinstance(first, bytes):  # an authority that is awaited is a task of its own
        assert said(admit(first)) == (B.IP, F.SYSTEM_FAILURE)
    else:
        assert isinstance(first, RuntimeError)
        assert type(error).__name__ in str(first)
        assert isinstance(again, bytes)
        assert said(admit(again)) == (B.IP, None)
    for each in (second, third):
        assert isinstance(each, bytes)
        assert said(admit(each)) == (B.IP, None)


def test_handle_says_what_it_lacks_for_coroutine_functions(world: World, caplog: pytest.LogCaptureFixture) -> None:
    answer = admit(world.again(Wrapping(world, shortly)).handle(request_of(world.device())))
    assert said(answer) == (B.ERROR, F.SYSTEM_FAILURE)
    assert "handle_async" in caplog.text


def test_an_authority_that_blocks_runs_in_threads(world: World) -> None:
    both = threading.Barrier(2, timeout=20)
    where: list[int] = []

    class Blocking:
        def __getattr__(self, name: str) -> Any:
            return getattr(world.ca, name)

        def issue(self, request: CertificateRequest) -> Issued:
            where.append(threading.get_ident())
            both.wait()
            return world.ca.issue(request)

    authority = InThreads(Blocking(), threads=2)
    responder = world.again(authority)
    answers = together(responder, request_of(world.device()), request_of(world.device(), "CN=other"))
    assert [each.body_type for each in answers] == [B.IP, B.IP]
    assert threading.get_ident() not in where
    authority.close()


def test_under_handle_an_authority_in_threads_is_called_straight(world: World) -> None:
    authority = InThreads(world.ca)
    device = world.device(handle=world.again(authority).handle)
    certificate = device.enroll(KEYS[0])
    device.begin()
    device.send(B.GENM, [])
    signing = device.signing(certificate, KEYS[0])
    signing.begin()
    assert said(signing.send(B.RR, [revocation(certificate)]))[0] is B.RP
    authority.close()


def test_commits_that_take_long_run_in_a_thread(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "_SHORT_SECONDS", -1.0)
    monkeypatch.setattr(hub, "_LONG_SECONDS", -1.0)
    counting = Counting(world.store, monkeypatch)

    async def main() -> None:
        first = [world.responder.handle_async(request_of(world.device(), f"CN=a {number}")) for number in range(3)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        more = [world.responder.handle_async(request_of(world.device(), f"CN=b {number}")) for number in range(3)]
        for each in (*first, *more):
            assert admit(await each).body_type is B.IP

    asyncio.run(main())
    assert sum(counting.batches) == 6
    assert threading.get_ident() not in counting.threads


def test_a_conflict_in_a_shared_commit_is_looked_at_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    original = world.store.commit_many
    calls: list[int] = []

    def once_in_conflict(changes: Sequence[Change]) -> list[Conflict | None]:
        calls.append(len(changes))
        if len(calls) == 1:
            return [Conflict(), *original(changes[1:])]
        return original(changes)

    monkeypatch.setattr(world.store, "commit_many", once_in_conflict)
    answers = together(world.responder, request_of(world.device()), request_of(world.device(), "CN=other"))
    assert [each.body_type for each in answers] == [B.IP, B.IP]
    assert calls == [2, 1]


def test_what_is_overdue_is_ended_beside_the_messages(world: World) -> None:
    device = world.device()
    certificate = certificate_of(device.ask(B.IR, crmf(KEYS[0])))
    world.clock.now += 3600
    together(world.responder, request_of(world.device(), "CN=other"))
    refused = admit(world.responder.handle(device.build(B.CERT_CONF, [conf(certificate)])))
    assert refused.body_type is B.ERROR
    revoked = world.store.revocations(world.clock.now)[1]
    assert [each.reason for each in revoked] == [RevocationReason.UNSPECIFIED]


def test_publishing_runs_in_a_thread_and_its_failure_is_logged(
    world: World, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    where: list[int] = []

    def publish() -> None:
        where.append(threading.get_ident())
        raise OSError("read-only")

    certificate = world.device().enroll(KEYS[0])
    monkeypatch.setattr(world.ca, "publish", publish)
    signing = world.device().signing(certificate, KEYS[0])
    signing.begin()
    (answer,) = together(world.responder, signing.build(B.RR, [revocation(certificate)]))
    assert said(answer)[0] is B.RP
    assert len(where) == 1
    assert where[0] != threading.get_ident()
    assert "read-only" in caplog.text


def test_a_loop_and_a_store_that_are_done_with_are_let_go(world: World) -> None:
    loops = []
    stores = []

    async def main() -> None:
        loops.append(weakref.ref(asyncio.get_running_loop()))
        store = MemoryStore()
        stores.append(weakref.ref(store))
        other = world.again().beside(store, world.ca)
        await other.handle_async(request_of(world.device()))

    asyncio.run(main())
    gc.collect()
    assert loops[0]() is None
    assert stores[0]() is None


def test_the_application_without_threads_is_asgi_over_handle_async(world: World) -> None:
    """As any server of ASGI calls it, several requests at once."""
    app = App(world.responder, threads=0)

    async def ask(request: bytes) -> bytes:
        sent: list[Any] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": request}

        async def send(message: Any) -> None:
            sent.append(message)

        headers = [(b"content-type", b"application/pkixcmp")]
        scope = {"type": "http", "method": "POST", "path": "/.well-known/cmp", "headers": headers}
        await app(scope, receive, send)
        assert sent[0]["status"] == 200
        body: bytes = sent[1]["body"]
        return body

    async def main() -> list[bytes]:
        return list(await asyncio.gather(*(ask(request_of(world.device(), f"CN=d {number}")) for number in range(3))))

    assert [admit(each).body_type for each in asyncio.run(main())] == [B.IP] * 3


def test_more_changes_than_go_into_one_commit_go_into_several(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "_MOST_CHANGES", 2)
    counting = Counting(world.store, monkeypatch)
    answers = together(world.responder, *(request_of(world.device(), f"CN=d {number}") for number in range(5)))
    assert [each.body_type for each in answers] == [B.IP] * 5
    assert counting.batches == [2, 2, 1]


def test_what_is_awaited_outside_of_handle_async_is_a_type_error() -> None:
    assert hub.settle(3) == 3
    with pytest.raises(TypeError, match="handle_async"):
        hub.settle(shortly())

    async def main() -> None:
        waiting = asyncio.get_running_loop().create_future()
        with pytest.raises(TypeError, match="handle_async"):
            hub.settle(waiting)

    asyncio.run(main())


def test_who_fails_to_take_its_answer_does_not_disturb_others(world: World, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        def done(answer: bytes | None, error: BaseException | None) -> None:
            raise OSError("gone")

        other = world.responder.handle_async(request_of(world.device(), "CN=other"))
        hub.Hub.here().begin(world.responder, request_of(world.device()), Peer(), done)
        assert admit(await other).body_type is B.IP

    asyncio.run(main())
    assert "an answer could not be handed over" in caplog.text


def test_a_sweep_that_fails_is_logged(
    world: World, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(now: float, limit: int) -> list[Any]:
        raise OSError("no disk")

    monkeypatch.setattr(world.store, "overdue", broken)
    (answer,) = together(world.responder, request_of(world.device()))
    assert answer.body_type is B.IP
    assert "sweeping failed" in caplog.text


def test_a_handler_that_raises_is_told_to_who_waits() -> None:
    async def main() -> None:
        seen: list[BaseException | None] = []

        def work() -> None:
            raise OSError("broken")

        hub.Hub.here().start(work, lambda _, error: seen.append(error))
        assert [str(each) for each in seen] == ["broken"]

    asyncio.run(main())


def test_an_authority_in_threads_publishes_when_it_can(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    published: list[bool] = []
    monkeypatch.setattr(world.ca, "publish", lambda: published.append(True))
    authority = InThreads(world.ca)
    authority.publish()
    silent = InThreads(Wrapping(world, shortly))  # type: ignore[arg-type]
    silent.publish()
    assert published == [True]
    assert authority.signer == world.ca.signer
    authority.close()
    silent.close()
