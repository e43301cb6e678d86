"""Several servers, and messages that are sent again: the same bytes, to whom, when, and how often."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from opensslcmp import AsyncSession, BodyType, Context, Rejected, Retry, Session, TimedOut, TransportError
from opensslcmp.asn1 import ErrorMsgContent, PKIStatusInfo, admit
from opensslcmp.client import failover, greenlets, operations
from opensslcmp.client.exchange import Waits
from opensslcmp.client.failover import Servers
from opensslcmp.context.protection import MacProtector
from opensslcmp.enums import FailureInfo, PKIStatus
from opensslcmp.transport import http1
from tests.client.client_peers import SECRET, Entity
from tests.client.scripted import Scripted


class Site:
    """Servers that share their state, each with its own way to fail; time that passes when somebody sleeps."""

    def __init__(self, ca: Entity, count: int) -> None:
        self.peer = Scripted(ca, MacProtector(SECRET), secret=SECRET)
        self.answers: dict[bytes, bytes] = {}
        self.asked: list[tuple[int, bytes]] = []
        self.fails: dict[int, Callable[[int, bytes], bytes | None]] = {}
        self.slept: list[float] = []
        self.time = 1000.0
        self.ways = [self._way(number) for number in range(count)]

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.time += seconds

    def process(self, request: bytes) -> bytes:
        """A retransmission is answered with the same bytes."""
        if request not in self.answers:
            self.answers[request] = self.peer.send(request, 1.0)
        return self.answers[request]

    def _way(self, number: int) -> Any:
        site = self

        class Way:
            def send(self, request: bytes, timeout_seconds: float) -> bytes:
                site.asked.append((number, request))
                fail = site.fails.get(number)
                answer = None if fail is None else fail(len(site.asked) - 1, request)
                return site.process(request) if answer is None else answer

        return Way()

    @property
    def servers(self) -> list[int]:
        return [number for number, _ in self.asked]


def refuse(_: int, request: bytes) -> bytes:
    raise TransportError("connection refused")


Run = Callable[..., Any]


@pytest.fixture(params=["sync", "async"])
def enroll(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Run:
    """An enrollment over all ways of a site, by either session's means."""

    def sync(site: Site, context: Context) -> Any:
        first, *others = [way.send for way in site.ways]
        waits = Waits(first, site.sleep, site.now, others=tuple(others))
        return operations.enroll(waits, context, "CN=device-17", generate="ec:P-256")

    def asynchronous(site: Site, context: Context) -> Any:
        session = AsyncSession(context, site.ways, sleep=site.sleep)
        with monkeypatch.context() as patch:
            patch.setattr(greenlets, "WAITS", dataclasses.replace(greenlets.WAITS, now=site.now))
            return anyio.run(lambda: session.enroll("CN=device-17", generate="ec:P-256"))

    return sync if request.param == "sync" else asynchronous


def context(site: Site, retry: Retry | None = None, **options: Any) -> Context:
    made = Context(credential=SECRET, retry=retry or Retry(), **options)
    object.__setattr__(made, "health", Servers(made.retry, site.now))
    return made


def test_the_first_server_is_asked_as_long_as_it_is_well(ca: Entity, enroll: Run) -> None:
    site = Site(ca, 3)
    issued = enroll(site, context(site))
    assert issued.transaction_id in site.peer.confirmed
    assert site.servers == [0, 0]
    assert site.slept == []


def test_another_server_is_asked_at_once_and_remembered(ca: Entity, enroll: Run) -> None:
    site = Site(ca, 3)
    site.fails[0] = refuse
    shared = context(site)
    enroll(site, shared)
    enroll(site, shared)
    assert site.servers == [0, 1, 1, 1, 1]
    assert site.asked[0][1] == site.asked[1][1]
    assert site.slept == []
    del site.fails[0]
    site.time += 11.0
    enroll(site, shared)
    assert site.servers[-2:] == [0, 0]


def test_an_answer_that_is_lost_is_fetched_from_another_server(ca: Entity, enroll: Run) -> None:
    site = Site(ca, 2)

    def drop(_: int, request: bytes) -> bytes:
        site.process(request)
        raise TimedOut("no answer in time")

    site.fails[0] = drop
    issued = enroll(site, context(site))
    assert issued.transaction_id in site.peer.confirmed
    assert len(site.peer.issued) == 1
    assert site.servers == [0, 1, 1]
    assert site.peer.kinds == [BodyType.IR, BodyType.CERT_CONF]


@pytest.mark.parametrize("server", [0, 1])
def test_every_answer_may_be_lost_once(ca: Entity, enroll: Run, server: int) -> None:
    site = Site(ca, 2)
    lost: set[bytes] = set()

    def drop(_: int, request: bytes) -> bytes | None:
        if request in lost:
            return None
        lost.add(request)
        site.process(request)
        raise TransportError("connection reset")

    site.fails = {0: drop, 1: drop} if server else {0: drop}
    site.peer.waits = 2
    issued = enroll(site, context(site))
    assert issued.transaction_id in site.peer.confirmed
    assert len(site.peer.issued) == 1
    assert len({admit(request).transaction_id for _, request in site.asked}) == 1


def test_waits_grow_are_drawn_and_end_with_the_attempts(
    ca: Entity, enroll: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = Site(ca, 1)
    site.fails[0] = refuse
    bounds: list[tuple[float, float]] = []

    def uniform(least: float, most: float) -> float:
        bounds.append((least, most))
        return most

    monkeypatch.setattr(failover.random, "uniform", uniform)  # type: ignore[attr-defined]
    with pytest.raises(TransportError, match="refused"):
        enroll(site, context(site, Retry(attempts=5, first_seconds=1.0, max_seconds=5.0)))
    assert bounds == [(0.0, 1.0), (0.0, 2.0), (0.0, 4.0), (0.0, 5.0)]
    assert site.slept == [1.0, 2.0, 4.0, 5.0]
    assert len({request for _, request in site.asked}) == 1
    assert len(site.asked) == 5


def test_the_transactions_time_bounds_it_all(ca: Entity, enroll: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    site = Site(ca, 2)
    site.fails = {0: refuse, 1: refuse}
    monkeypatch.setattr(failover.random, "uniform", lambda least, most: most)  # type: ignore[attr-defined]
    with pytest.raises(TransportError):
        enroll(site, context(site, Retry(attempts=1000, first_seconds=3.0), total_timeout_seconds=20.0))
    assert sum(site.slept) < 20.0


def test_one_server_is_asked_once_unless_told_otherwise(ca: Entity, enroll: Run) -> None:
    site = Site(ca, 1)
    site.fails[0] = refuse
    made = Context(credential=SECRET)
    assert made.retry.attempts == 1
    assert Context(servers=["http://a.example", "http://b.example"], credential=SECRET).retry.attempts == 5
    with pytest.raises(TransportError):
        enroll(site, made)
    assert len(site.asked) == 1


def test_retry_after_is_honoured(ca: Entity, enroll: Run) -> None:
    site = Site(ca, 1)

    def busy(number: int, _: bytes) -> bytes | None:
        if number:
            return None
        raise TransportError("HTTP 503", http_status=503, retry_after_seconds=17.0)

    site.fails[0] = busy
    assert enroll(site, context(site)).transaction_id in site.peer.confirmed
    assert site.slept == [17.0]


def test_a_wrong_url_is_not_asked_again(ca: Entity, enroll: Run) -> None:
    def missing(_: int, request: bytes) -> bytes:
        raise TransportError("HTTP 404", http_status=404)

    site = Site(ca, 2)
    site.fails = {0: missing, 1: missing}
    with pytest.raises(TransportError, match="404"):
        enroll(site, context(site))
    assert site.servers == [0, 1]
    site = Site(ca, 2)
    site.fails = {0: missing}
    assert enroll(site, context(site)).transaction_id in site.peer.confirmed


def test_a_busy_server_that_says_so_in_cmp_is_asked_again(ca: Entity, enroll: Run) -> None:
    site = Site(ca, 1)

    def busy(number: int, request: bytes) -> bytes | None:
        if number % 2:
            return None
        status = PKIStatusInfo.make(PKIStatus.REJECTION, "busy", failure=FailureInfo.SYSTEM_UNAVAIL)
        return site.peer.build(admit(request), BodyType.ERROR, ErrorMsgContent(pki_status_info=status))

    site.fails[0] = busy
    assert enroll(site, context(site)).transaction_id in site.peer.confirmed
    assert len(site.asked) == 4
    site = Site(ca, 1)
    site.fails[0] = lambda _, request: busy(0, request)
    with pytest.raises(Rejected, match="systemUnavail"):
        enroll(site, context(site, Retry(attempts=3)))
    assert len(site.asked) == 3


def test_follow_ups_stay_with_a_server_when_they_shall(ca: Entity, enroll: Run) -> None:
    for sticky, servers in ((False, [0, 1, 0]), (True, [0, 1, 1])):
        site = Site(ca, 2)
        retry = Retry(sticky=sticky, cool_down_seconds=0.0)

        def once(number: int, request: bytes) -> bytes | None:
            return refuse(number, request) if number == 0 else None

        site.fails[0] = once
        enroll(site, context(site, retry))
        assert site.servers == servers


def test_spread_begins_with_any_server(ca: Entity, enroll: Run) -> None:
    seen = set()
    for _ in range(60):
        seen.add(tuple(Servers(Retry(spread=True)).order(2)))
    assert seen == {(0, 1), (1, 0)}


def test_cool_down_doubles_and_the_least_tired_is_asked_when_all_failed() -> None:
    now = [0.0]
    servers = Servers(Retry(cool_down_seconds=10.0), lambda: now[0])
    for _ in range(3):
        servers.failed(0)
    servers.failed(1)
    assert servers.order(3) == [2, 1, 0]
    servers.failed(2, 3.0)
    assert servers.order(3) == [2, 1, 0]
    now[0] = 11.0
    assert servers.order(3) == [1, 2, 0]
    now[0] = 39.0
    assert servers.is_down(0)
    servers.answered(0)
    assert servers.order(3) == [0, 1, 2]


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("17", 17.0), ("", None), ("soon", None), ("-1", None), ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0)],
)
def test_retry_after_is_read_from_http(value: str, seconds: float | None) -> None:
    headers = {"retry-after": value, "content-type": "text/plain"}
    answer = http1.Answer(status=503, reason="busy", headers=headers, body=b"busy", reusable=True)
    with pytest.raises(TransportError) as raised:
        http1.message_of(answer)
    assert raised.value.http_status == 503
    assert raised.value.retry_after_seconds == seconds


@pytest.mark.parametrize("options", [{"attempts": 0}, {"first_seconds": -1.0}, {"max_seconds": float("inf")}])
def test_a_retry_that_makes_no_sense_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be"):
        Retry(**options)


def test_servers_and_server_exclude_each_other() -> None:
    with pytest.raises(ValueError, match="either server or servers"):
        Context("http://a.example", servers=["http://b.example"], credential=SECRET)
    with pytest.raises(TypeError, match="several"):
        Context(servers="http://b.example", credential=SECRET)
    with pytest.raises(ValueError, match="needs a transport"):
        Session(Context(credential=SECRET), [])
    made = Context(servers=["http://a.example/p", "http://b.example/p"], credential=SECRET)
    assert [each.url for each in made.transports()] == list(made.servers)
    made.close()


def test_a_context_for_another_party_shares_what_is_known_of_the_servers() -> None:
    made = Context(servers=["http://a.example", "http://b.example"], credential=SECRET)
    other = made.with_credential(dataclasses.replace(SECRET, reference=b"other"))
    assert other.health is made.health
    assert other.transports() == made.transports()
    assert other.protector is not None
    assert made.protector is not None
    assert other.protector.identity != made.protector.identity
    made.close()


def test_sessions_take_the_same_arguments() -> None:
    ours, theirs = (list(inspect.signature(each).parameters) for each in (AsyncSession, Session))
    assert ours == theirs
