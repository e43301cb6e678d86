"""Rates: who asks too often, or is wrong too often, is refused before anything dear is done."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from opensslcmp.asn1 import Limits, Message, admit
from opensslcmp.enums import BodyType, FailureInfo
from opensslcmp.server import Responder
from opensslcmp.server.http_service import answer_to
from opensslcmp.server.peer import Peer
from opensslcmp.server.throttle import Later, RateLimits, Throttle, Throttled
from tests.server.device import KEYS, Device, crmf, said
from tests.server.world import World

B, F = BodyType, FailureInfo
HERE, THERE = Peer(address="192.0.2.1"), Peer(address="192.0.2.2")


class Stopwatch:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def watch() -> Stopwatch:
    return Stopwatch()


@pytest.fixture
def limited(make: Callable[..., World], watch: Stopwatch) -> Callable[..., World]:
    """Makes a world with rate limits."""

    def made(**limits: Any) -> World:
        return make(throttle=Throttle(RateLimits(**limits), clock=watch))

    return made


def genm(device: Device) -> bytes:
    device.begin()
    return device.build(B.GENM, [])


def outcome(responder: Responder, request: bytes, peer: Peer = HERE) -> tuple[BodyType, FailureInfo | None]:
    answer = responder.handle(request, peer)
    found: Message = admit(answer, limits=Limits(min_id_bytes=1))
    asked = admit(request)
    assert found.transaction_id == asked.transaction_id
    assert found.recip_nonce == asked.sender_nonce
    return said(found)


LATER = (B.ERROR, F.SYSTEM_UNAVAIL)
WRONG = (B.ERROR, F.BAD_MESSAGE_CHECK)


def test_a_credential_may_ask_so_often(limited: Callable[..., World], watch: Stopwatch) -> None:
    world = limited(messages_per_second=2, burst=3)
    device, other = world.device(), world.device("other")
    assert [outcome(world.responder, genm(device))[0] for _ in range(3)] == [B.GENP] * 3
    assert outcome(world.responder, genm(device)) == LATER
    assert outcome(world.responder, genm(device), THERE) == LATER
    assert outcome(world.responder, genm(other))[0] is B.GENP
    watch.now += 0.5
    assert outcome(world.responder, genm(device))[0] is B.GENP
    assert outcome(world.responder, genm(device)) == LATER


def test_strangers_cannot_use_up_what_a_credential_may_ask(limited: Callable[..., World]) -> None:
    world = limited(messages_per_second=1, burst=2)
    device, stranger = world.device(), world.device(secret="wrong")
    assert {outcome(world.responder, genm(stranger), THERE) for _ in range(10)} == {WRONG}
    assert outcome(world.responder, genm(device))[0] is B.GENP


def test_an_address_may_be_wrong_so_often(limited: Callable[..., World], watch: Stopwatch) -> None:
    world = limited(failures_per_minute_and_address=3, failures_per_minute_and_credential=0)
    device = world.device()
    wrong = [world.device(f"device {number}", secret="wrong") for number in range(5)]
    assert [outcome(world.responder, genm(each)) for each in wrong] == [WRONG] * 3 + [LATER] * 2
    assert outcome(world.responder, genm(device)) == LATER
    assert outcome(world.responder, genm(device), THERE)[0] is B.GENP
    watch.now += 21
    assert outcome(world.responder, genm(device))[0] is B.GENP


def test_a_secret_may_be_guessed_so_often_and_its_holder_is_let_through_where_it_was(
    limited: Callable[..., World],
) -> None:
    world = limited(failures_per_minute_and_address=0, failures_per_minute_and_credential=3)
    device = world.device()
    assert outcome(world.responder, genm(device))[0] is B.GENP
    guesses = [
        outcome(world.responder, genm(world.device(secret=f"guess {number}")), Peer(address=f"198.51.100.{number}"))
        for number in range(6)
    ]
    assert guesses == [WRONG] * 3 + [LATER] * 3
    assert outcome(world.responder, genm(device))[0] is B.GENP
    assert outcome(world.responder, genm(device), THERE) == LATER


def test_who_is_refused_costs_neither_a_mac_nor_a_signature(
    limited: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    from opensslcmp.server import responder

    world = limited(failures_per_minute_and_address=1)
    stranger = world.device(secret="wrong")
    requests = [genm(stranger) for _ in range(2)]
    world.responder.handle(requests[0], HERE)

    def dear(*_: Any, **__: Any) -> Any:
        raise AssertionError("verified or protected")

    monkeypatch.setattr(responder, "verify", dear)
    monkeypatch.setattr(responder, "protect", dear)
    answer = world.responder.handle(requests[1], HERE)
    assert isinstance(answer, Later)
    assert answer.retry_after_seconds == 60
    reply = answer_to(answer)
    assert (reply.status, reply.headers) == (429, ((b"retry-after", b"60"),))


def test_a_signer_is_counted_by_its_certificate(limited: Callable[..., World]) -> None:
    world = limited(messages_per_second=1, burst=3)
    certificate = world.device().enroll(KEYS[0])
    signing = world.device().signing(certificate, KEYS[0])
    assert [outcome(world.responder, genm(signing))[0] for _ in range(3)] == [B.GENP] * 3
    assert outcome(world.responder, genm(signing)) == LATER


def test_whoever_says_nothing_of_itself_is_counted_too(limited: Callable[..., World]) -> None:
    world = limited(failures_per_minute_and_credential=1)
    device = world.device()
    device.begin()
    plain = device.build(B.IR, [crmf(KEYS[0])], protected=False)
    assert outcome(world.responder, plain)[0] is B.ERROR


def test_nothing_that_a_peer_sends_makes_the_tables_grow(watch: Stopwatch) -> None:
    throttle = Throttle(
        RateLimits(messages_per_second=1, burst=1, failures_per_minute_and_address=1, tracked=10), clock=watch
    )
    for number in range(1000):
        throttle.failed(f"192.0.2.{number}", b"%d" % number)
        throttle.accepted(f"192.0.2.{number}", b"%d" % number)
    tables = (throttle._messages, throttle._of_address, throttle._of_claim, throttle._accepted)
    assert [len(each) for each in tables] == [10] * 4
    with pytest.raises(Throttled):
        throttle.check("192.0.2.999", b"999")
    throttle.check("192.0.2.1", b"1")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"messages_per_second": -1.0}, "messages_per_second is negative"),
        ({"failures_per_minute_and_address": -1}, "failures_per_minute_and_address is negative"),
        ({"burst": 0}, "burst is not positive"),
        ({"tracked": 0}, "tracked is not positive"),
    ],
)
def test_limits_that_make_no_sense_are_named(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        RateLimits(**values)
