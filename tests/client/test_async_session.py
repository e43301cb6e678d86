"""``AsyncSession`` is ``Session``, awaited: same operations, cancellation, exceptions and time, nothing left behind."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import inspect
import json
import subprocess
import sys
import threading
import traceback
import weakref
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import greenlet
import pytest

from opensslcmp import (
    AsyncSession,
    Context,
    FailureInfo,
    Issued,
    Rejected,
    Session,
    TimedOut,
    TransportError,
)
from opensslcmp._native import lib
from opensslcmp.client import exchange, greenlets
from opensslcmp.context.keys import PrivateKey
from opensslcmp.context.protection import MacProtector
from opensslcmp.enums import BodyType
from tests.client.client_peers import SECRET, Entity, Mock
from tests.client.scripted import Scripted
from tests.leaks import leaked

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(params=["asyncio", "trio"])
def run(request: pytest.FixtureRequest) -> Callable[[Callable[[], Awaitable[Any]]], Any]:
    """Runs an async function on asyncio and on trio."""
    return lambda function: anyio.run(function, backend=request.param)


Run = Callable[[Callable[[], Awaitable[Any]]], Any]


@pytest.fixture
def peer(ca: Entity) -> Scripted:
    return Scripted(ca, MacProtector(SECRET), secret=SECRET)


@pytest.fixture(scope="module")
def key() -> PrivateKey:
    """One that can decrypt, as keyEnc wants."""
    return PrivateKey.generate("rsa:2048")


class Slow:
    """A peer over an async way; what its ``hold`` says never gets an answer."""

    def __init__(self, peer: Scripted, hold: tuple[BodyType, ...] = ()) -> None:
        self.peer, self.hold = peer, hold
        self.stuck = 0

    async def send(self, request: bytes, timeout_seconds: float) -> bytes:
        await anyio.sleep(0)
        answer = self.peer.send(request, timeout_seconds)
        if self.peer.kinds[-1] in self.hold:
            self.stuck += 1
            await anyio.sleep_forever()
        return answer


def context(**options: Any) -> Context:
    return Context(credential=SECRET, min_poll_seconds=0.01, max_poll_seconds=0.01, **options)


def sleeping() -> list[Any]:
    """Greenlets of operations that have not ended."""
    gc.collect()
    return [
        each
        for each in gc.get_objects()
        if isinstance(each, greenlet.greenlet) and not each.dead and each.gr_frame is not None
    ]


# -- the same session ----------------------------------------------------------------------------------------------


def operations_of(session: type) -> dict[str, Any]:
    return {name: value for name, value in vars(session).items() if not name.startswith("_") and callable(value)}


def test_both_sessions_have_the_same_operations_with_the_same_signatures() -> None:
    ours, theirs = operations_of(AsyncSession), operations_of(Session)
    assert set(ours) - {"aclose"} == set(theirs)
    for name, function in theirs.items():
        signature = str(inspect.signature(ours[name])).replace("AsyncConfirm", "Confirm")
        if name in {"enroll_many", "recover"}:
            signature = signature.replace("AsyncIterator", "Iterator").replace(" | AsyncIterable[Order]", "")
        else:
            assert inspect.iscoroutinefunction(ours[name])
        assert signature == str(inspect.signature(function))
    parameters = [list(inspect.signature(each).parameters) for each in (AsyncSession, Session)]
    assert parameters[0] == parameters[1]


def test_a_polled_enrollment(run: Run, peer: Scripted) -> None:
    peer.waits = 3

    async def main() -> Issued:
        async with AsyncSession(context(), Slow(peer)) as session:
            return await session.enroll("CN=device-17", generate="ec:P-256")

    result = run(main)
    assert result.transaction_id in peer.confirmed
    assert peer.kinds == [BodyType.IR, *[BodyType.POLL_REQ] * 3, BodyType.CERT_CONF]


@pytest.mark.parametrize("kind", ["async send", "send", "async function", "function"])
def test_a_transport_may_be_async_or_not(run: Run, peer: Scripted, kind: str) -> None:
    async def function(request: bytes) -> bytes:
        return await Slow(peer).send(request, 1.0)

    ways: dict[str, Any] = {
        "async send": Slow(peer),
        "send": peer,
        "async function": function,
        "function": lambda request: peer.send(request, 1.0),
    }

    async def main() -> Issued:
        return await AsyncSession(context(), ways[kind]).enroll("CN=device-17", generate="ec:P-256")

    assert run(main).transaction_id in peer.confirmed


def test_what_is_no_transport_is_refused() -> None:
    with pytest.raises(TypeError, match="transport"):
        AsyncSession(context(), 7)
    with pytest.raises(ValueError, match="names no server"):
        AsyncSession(context())


def test_hundreds_at_once_keep_apart(run: Run, peer: Scripted) -> None:
    peer.waits = 70
    results: dict[int, Issued] = {}

    async def main() -> None:
        session = AsyncSession(context(), Slow(peer))

        async def enroll(number: int) -> None:
            results[number] = await session.enroll(f"CN=device-{number}", generate="ec:P-256")

        async with anyio.create_task_group() as group:
            for number in range(100):
                group.start_soon(enroll, number)

    run(main)
    assert len({result.transaction_id for result in results.values()}) == 100
    for number, result in results.items():
        assert result.certificate.subject.rfc4514_string() == f"CN=device-{number}"
    assert sleeping() == []


def test_over_http(run: Run, mock: Callable[..., Mock], issued: Entity) -> None:
    server = mock("-poll_count", "1", "-check_after", "1")

    async def main() -> Issued:
        async with AsyncSession(Context(server.url, credential=SECRET, max_poll_seconds=0.01)) as session:
            return await session.enroll("CN=device", issued.key)

    assert run(main).certificate == issued.certificate


def test_connections_are_closed_with_the_session(run: Run) -> None:
    async def main() -> None:
        session = AsyncSession(Context("http://127.0.0.1:9/", credential=SECRET))
        await session.aclose()
        await session.aclose()
        with pytest.raises(ValueError, match="closed"):
            await session.ca_certificates()

    run(main)


def test_an_rsa_key_is_made_beside_the_loop(run: Run, peer: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    generate = PrivateKey.generate

    def watched(kind: str, *, library: Any) -> Any:
        made.append(threading.current_thread().name)
        return generate(kind, library=library)

    monkeypatch.setattr(PrivateKey, "generate", watched)

    async def main() -> Issued:
        return await AsyncSession(context(), peer).enroll("CN=device-17", generate="rsa:2048")

    result = run(main)
    assert result.key is not None
    assert result.key.key_type == "RSA"
    assert made != []
    assert made[0] != threading.main_thread().name


# -- inside C ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("popo", ["signature", "keyEnc", "none"])
def test_the_error_queue_is_empty_at_each_switch(
    run: Run, peer: Scripted, popo: Any, key: PrivateKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With keyEnc and none OpenSSL waits inside C for its answer."""
    peer.waits = 2
    queues: list[int] = []
    ask = greenlets._ask

    def watched(*wish: Any) -> Any:
        queues.append(lib.ERR_peek_error())
        return ask(*wish)

    monkeypatch.setattr(greenlets, "_ask", watched)

    async def main() -> None:
        session = AsyncSession(context(popo=popo), Slow(peer))
        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(lambda: session.enroll("CN=device-17", key))

    run(main)
    assert len(peer.confirmed) == 5
    assert len(queues) >= 5 * 2 + 2
    assert set(queues) == {0}


@pytest.mark.parametrize("popo", ["signature", "keyEnc"])
def test_an_exception_of_the_transport_arrives_whole(run: Run, popo: Any, key: PrivateKey) -> None:
    class Broken:
        async def send(self, request: bytes, timeout_seconds: float) -> bytes:
            raise LookupError("the wire is cut")

    async def main() -> None:
        await AsyncSession(context(popo=popo), Broken()).enroll("CN=device-17", key)

    with pytest.raises(LookupError, match="the wire is cut") as caught:
        run(main)
    assert "send" in [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert sleeping() == []


# -- the caller's functions ----------------------------------------------------------------------------------------

WHO = contextvars.ContextVar("WHO", default="nobody")


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_confirm_runs_in_the_callers_task_and_may_wait(run: Run, peer: Scripted, is_async: bool) -> None:
    seen: list[Any] = []

    def look(issued: Issued) -> None:
        seen.append((WHO.get(), anyio.get_current_task().id, issued.certificate.subject.rfc4514_string()))

    async def look_longer(issued: Issued) -> None:
        await anyio.sleep(0)
        look(issued)

    async def main() -> None:
        WHO.set("the caller")
        session = AsyncSession(context(), Slow(peer))
        await session.enroll("CN=device-17", generate="ec:P-256", confirm=look_longer if is_async else look)
        assert seen == [("the caller", anyio.get_current_task().id, "CN=device-17")]

    run(main)
    assert peer.confirmed != set()


class Doubt(Exception):
    """The caller's own."""


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_an_exception_of_confirm_arrives_whole_and_the_server_is_told(run: Run, peer: Scripted, is_async: bool) -> None:
    def doubt(issued: Issued) -> None:
        raise Doubt(issued.certificate.serial_number) from ValueError("why")

    async def doubt_longer(issued: Issued) -> None:
        await anyio.sleep(0)
        doubt(issued)

    async def main() -> None:
        session = AsyncSession(context(), Slow(peer))
        await session.enroll("CN=device-17", generate="ec:P-256", confirm=doubt_longer if is_async else doubt)

    with pytest.raises(Doubt) as caught:
        run(main)
    assert isinstance(caught.value.__cause__, ValueError)
    assert "doubt" in [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert peer.kinds == [BodyType.IR, BodyType.CERT_CONF]
    assert peer.confirmed == set()


def test_a_refusal_by_confirm_names_its_reason(run: Run, peer: Scripted) -> None:
    async def refuse(issued: Issued) -> None:
        raise Rejected(FailureInfo.BAD_CERT_TEMPLATE, "not what I asked for")

    async def main() -> None:
        await AsyncSession(context(), peer).enroll("CN=device-17", generate="ec:P-256", confirm=refuse)

    with pytest.raises(Rejected, match="not what I asked for"):
        run(main)
    assert peer.requests[-1].content()[0].status_info.failures == (FailureInfo.BAD_CERT_TEMPLATE,)


# -- breaking off --------------------------------------------------------------------------------------------------


async def until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(20):
        while not condition():
            await anyio.sleep(0)


@pytest.mark.parametrize("popo", ["signature", "keyEnc"])
@pytest.mark.parametrize("where", ["ir", "poll", "certConf", "sleep"])
def test_cancellation_tells_the_server_and_leaves_nothing_behind(
    run: Run, peer: Scripted, where: str, popo: Any, key: PrivateKey
) -> None:
    kinds = {"ir": BodyType.IR, "poll": BodyType.POLL_REQ, "certConf": BodyType.CERT_CONF}
    way = Slow(peer, (kinds[where],) if where in kinds else ())
    peer.waits = {"poll": 5, "sleep": 5}.get(where, 0)
    asleep: list[float] = []

    async def sleep(seconds: float) -> None:
        asleep.append(seconds)
        await anyio.sleep_forever()

    async def main() -> None:
        session = AsyncSession(context(popo=popo), way, sleep=sleep)
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: session.enroll("CN=device-17", key))
            await until(lambda: bool(way.stuck or asleep))
            assert len(sleeping()) == 1
            group.cancel_scope.cancel()

    run(main)
    assert peer.kinds[-1] is BodyType.ERROR
    assert peer.kinds.count(BodyType.ERROR) == 1
    assert peer.requests[-1].content().pki_status_info.text == ("the client broke off the transaction",)
    assert sleeping() == []
    assert lib.ERR_peek_error() == 0


def test_cancellation_in_confirm_tells_the_server(run: Run, peer: Scripted) -> None:
    looking = False

    async def look(issued: Issued) -> None:
        nonlocal looking
        looking = True
        await anyio.sleep_forever()

    async def main() -> None:
        session = AsyncSession(context(), peer)
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: session.enroll("CN=device-17", generate="ec:P-256", confirm=look))
            await until(lambda: looking)
            group.cancel_scope.cancel()

    run(main)
    assert peer.kinds == [BodyType.IR, BodyType.ERROR]
    assert peer.confirmed == set()


def test_a_server_that_says_nothing_more_does_not_hold_up_a_cancellation(
    run: Run, peer: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "_LAST_WORD_SECONDS", 0.05)
    way = Slow(peer, (BodyType.IR, BodyType.ERROR))

    async def main() -> None:
        session = AsyncSession(context(), way)
        with anyio.fail_after(10), anyio.move_on_after(0.05) as scope:
            await session.enroll("CN=device-17", generate="ec:P-256")
        assert scope.cancelled_caught

    run(main)
    assert way.stuck == 2
    assert sleeping() == []


def test_a_task_of_asyncio_is_cancelled_by_itself_or_by_a_timeout(peer: Scripted) -> None:
    way = Slow(peer, (BodyType.IR,))

    async def main() -> None:
        session = AsyncSession(context(), way)
        task = asyncio.create_task(session.enroll("CN=device-17", generate="ec:P-256"))
        await until(lambda: way.stuck == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await session.enroll("CN=device-17", generate="ec:P-256")

    asyncio.run(main())
    assert peer.kinds == [BodyType.IR, BodyType.ERROR] * 2
    assert sleeping() == []


def test_a_second_cancellation_does_not_wait_for_the_last_word(peer: Scripted) -> None:
    way = Slow(peer, (BodyType.IR, BodyType.ERROR))

    async def main() -> None:
        task = asyncio.create_task(AsyncSession(context(), way).enroll("CN=device-17", generate="ec:P-256"))
        await until(lambda: way.stuck == 1)
        task.cancel()
        await until(lambda: way.stuck == 2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(task, 3)

    asyncio.run(main())
    assert sleeping() == []


# -- time ----------------------------------------------------------------------------------------------------------


def test_an_async_function_is_held_to_the_message_timeout(run: Run) -> None:
    async def never(request: bytes) -> bytes:
        await anyio.sleep_forever()
        raise AssertionError

    async def main() -> None:
        await AsyncSession(context(message_timeout_seconds=0.02), never).enroll("CN=device-17", generate="ec:P-256")

    with pytest.raises(TimedOut, match=r"0\.02 seconds"):
        run(main)


def test_a_transport_is_told_the_message_timeout(run: Run, peer: Scripted) -> None:
    async def main() -> None:
        await AsyncSession(context(message_timeout_seconds=7), Slow(peer)).enroll("CN=device-17", generate="ec:P-256")

    run(main)
    assert peer.timeouts == [7, 7]


def test_polling_ends_with_the_total_timeout(run: Run, peer: Scripted) -> None:
    peer.waits = 10**6

    async def main() -> None:
        session = AsyncSession(context(total_timeout_seconds=0.1), Slow(peer))
        await session.enroll("CN=device-17", generate="ec:P-256")

    with pytest.raises(TimedOut):
        run(main)
    assert peer.kinds[-1] is BodyType.ERROR


def test_a_time_that_the_caller_sets_himself_is_his(run: Run) -> None:
    async def late(request: bytes) -> bytes:
        raise TimeoutError("mine")

    async def main() -> None:
        await AsyncSession(context(), late).ca_certificates()

    with pytest.raises(TimeoutError, match="mine") as caught:
        run(main)
    assert not isinstance(caught.value, TransportError)


# -- nothing left behind -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("popo", ["signature", "keyEnc"])
@pytest.mark.parametrize("where", [BodyType.IR, BodyType.CERT_CONF], ids=["ir", "certConf"])
def test_an_abandoned_coroutine_leaves_nothing_behind(
    peer: Scripted, popo: Any, where: BodyType, key: PrivateKey
) -> None:
    way = Slow(peer, (where,))

    class Device:
        """Holds the task that holds it: only the collector can see that nobody needs them."""

        def __init__(self) -> None:
            enrollment = AsyncSession(context(popo=popo), self.send).enroll("CN=device-17", key, confirm=self.confirm)
            self.coroutine = enrollment

        async def send(self, request: bytes) -> bytes:
            return await way.send(request, 1.0)

        def confirm(self, issued: Issued) -> None:
            pass

    async def main() -> weakref.ref[Device]:
        device = Device()
        task = device.coroutine
        with contextlib.suppress(StopIteration):
            while not way.stuck:
                task.send(None)
                await anyio.sleep(0)
        assert len(sleeping()) == 1
        return weakref.ref(device)

    found = anyio.run(main)
    assert sleeping() == []
    assert found() is None
    assert lib.ERR_peek_error() == 0


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_closed_loop_leaves_nothing_behind(peer: Scripted) -> None:
    way = Slow(peer, (BodyType.IR,))
    loop = asyncio.new_event_loop()
    problems: list[Any] = []
    loop.set_exception_handler(lambda _loop, problem: problems.append(problem["message"]))
    session = AsyncSession(context(), way)

    async def start() -> None:
        enrollments = [session.enroll("CN=device-17", generate="ec:P-256") for _ in range(5)]
        tasks = [asyncio.create_task(enrollment) for enrollment in enrollments]
        await until(lambda: way.stuck == len(tasks))

    loop.run_until_complete(start())
    assert len(sleeping()) == 5
    loop.close()
    del loop
    assert sleeping() == []
    assert BodyType.ERROR not in peer.kinds


def test_what_another_thread_drops_is_unwound_by_its_own(peer: Scripted) -> None:
    way = Slow(peer, (BodyType.IR,))
    kept: list[Any] = []

    async def main() -> None:
        enrollment = AsyncSession(context(), way).enroll("CN=device-17", generate="ec:P-256")
        kept.append(enrollment)
        while not way.stuck:
            enrollment.send(None)
            await anyio.sleep(0)

    anyio.run(main)
    assert len(sleeping()) == 1
    thread = threading.Thread(target=kept.clear)
    thread.start()
    thread.join()
    greenlet.greenlet(lambda: None).switch()
    assert sleeping() == []


@pytest.mark.parametrize("scenario", ["finished", "cancelled", "abandoned"])
def test_libcryptos_memory_is_given_back(scenario: str) -> None:
    assert leaked(f"tests.client.async_scenarios:{scenario}", rounds=10) == {}


# -- the extra -----------------------------------------------------------------------------------------------------

WITHOUT = """
import sys
sys.modules["{missing}"] = None
from opensslcmp import AsyncSession, Context, Session, SharedSecret
context = Context(credential=SharedSecret("device-17", "secret"))
Session(context, lambda request: b"")
assert not {{"greenlet", "anyio"}} & {{name for name, module in sys.modules.items() if module is not None}}
try:
    AsyncSession(context, lambda request: b"")
except ImportError as error:
    print(error)
"""


@pytest.mark.parametrize("missing", ["greenlet", "anyio"])
def test_without_the_extra_it_is_named_and_session_works(missing: str) -> None:
    child = subprocess.run(
        [sys.executable, "-c", WITHOUT.format(missing=missing)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert child.stdout == "AsyncSession needs greenlet and anyio: pip install 'opensslcmp[async]'\n", child.stderr


# -- thousands -----------------------------------------------------------------------------------------------------


def test_five_thousand_in_flight_stay_below_250_megabytes() -> None:
    """Both ends in one process. Fewer here, counted up to the whole; the benchmark runs all of them."""
    command = [sys.executable, "-m", "benchmarks.in_flight", "1000"]
    child = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert child.returncode == 0, child.stderr
    found = json.loads(child.stdout)
    assert found["before_mb"] + 5000 * (found["most_mb"] - found["before_mb"]) / 1000 < 250, found
