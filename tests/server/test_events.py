"""What the Responder tells of each message."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from opensslcmp.asn1 import PKIStatusInfo, admit
from opensslcmp.context.certificates import facts
from opensslcmp.context.protection import ProtectionKind
from opensslcmp.enums import BodyType, FailureInfo, PKIStatus, RevocationReason
from opensslcmp.errors import Rejected
from opensslcmp.server import CA, CertificateRequest, Issued, Peer, Pending
from opensslcmp.server.events import Decision, Event, tell_all
from opensslcmp.server.rules import RFC9810
from tests.server.device import KEYS, Device, certificate_of, conf, crmf, poll_request, revocation, said
from tests.server.test_nested import make_ra, request, send_batch, send_one  # noqa: F401 -- a fixture
from tests.server.world import World

B, D, F = BodyType, Decision, FailureInfo


@pytest.fixture
def events() -> list[Event]:
    return []


@pytest.fixture
def seen(make: Callable[..., World], events: list[Event]) -> World:
    """A world whose events are kept."""
    return make(observe=events.append)


def serial(certificate: bytes) -> int:
    return facts(certificate).serial_number


def test_an_enrollment_is_told_of_with_who_asked_and_what_came_of_it(seen: World, events: list[Event]) -> None:
    device = seen.device()
    handle = seen.responder.handle
    device.handle = lambda der: handle(der, Peer(address="192.0.2.1", label="plant"))
    certificate = device.enroll(KEYS[0])
    asked, confirmed = events
    assert (asked.body_type, asked.answer, asked.decision) == (B.IR, B.IP, D.ACCEPTED)
    assert (asked.peer.address, asked.peer.label) == ("192.0.2.1", "plant")
    assert asked.transaction_id == confirmed.transaction_id == device.transaction_id
    assert asked.requester is not None
    assert (asked.requester.kind, asked.requester.reference) == (ProtectionKind.MAC, b"device")
    assert asked.identity == b"mac:device"
    assert (asked.issued, asked.confirmed, asked.revoked) == ((serial(certificate),), (), ())
    assert (confirmed.body_type, confirmed.answer, confirmed.decision) == (B.CERT_CONF, B.PKICONF, D.ACCEPTED)
    assert (confirmed.issued, confirmed.confirmed) == ((), (serial(certificate),))
    assert asked.time == seen.clock.now
    assert 0 < asked.verify_seconds + asked.decide_seconds + asked.store_seconds <= asked.seconds
    assert min(asked.verify_seconds, asked.decide_seconds, asked.store_seconds) > 0


def test_a_retransmission_is_told_of_as_one(seen: World, events: list[Event]) -> None:
    device = seen.device()
    first = device.build(B.IR, [crmf(KEYS[0])])
    assert device.handle(first) == device.handle(first)
    assert [event.decision for event in events] == [D.ACCEPTED, D.REPLAYED]
    assert events[1].answer is None
    assert events[1].issued == ()


def test_who_is_not_verified_is_told_of_by_what_the_message_claims(seen: World, events: list[Event]) -> None:
    answer = seen.device(secret="wrong").ask(B.IR, crmf(KEYS[0]))
    assert said(answer) == (B.ERROR, F.BAD_MESSAGE_CHECK)
    (event,) = events
    assert (event.decision, event.requester, event.identity) == (D.ERROR, None, b"")
    assert event.claimed == b"device"
    assert event.failures == (F.BAD_MESSAGE_CHECK,)
    assert event.reasons == ("the protection of the message does not verify",)
    assert event.store_seconds == event.decide_seconds == 0


def test_what_is_no_message_is_told_of(seen: World, events: list[Event]) -> None:
    seen.responder.handle(b"nonsense", Peer(address="192.0.2.7"))
    (event,) = events
    assert (event.decision, event.body_type, event.transaction_id) == (D.ERROR, None, None)
    assert event.peer.address == "192.0.2.7"
    assert event.failures == (F.BAD_DATA_FORMAT,)


class Deciding:
    """An authority that answers as it is told to."""

    def __init__(self, ca: CA) -> None:
        self.ca = ca
        self.answers: list[Exception | Pending | tuple[str, ...] | None] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.ca, name)

    def issue(self, request: CertificateRequest) -> Issued | Pending:
        answer = self.answers.pop(0) if self.answers else None
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, Pending):
            return answer
        issued = self.ca.issue(request)
        return issued if answer is None else Issued(certificate=issued.certificate, changes=answer)


@pytest.mark.parametrize(
    ("answers", "decision", "failures"),
    [
        ([Rejected(F.NOT_AUTHORIZED, "no")], D.REJECTED, (F.NOT_AUTHORIZED,)),
        ([Pending(text="soon")], D.WAITING, ()),
        ([("shorter",)], D.GRANTED_WITH_MODS, ()),
        ([RuntimeError("broken")], D.REJECTED, (F.SYSTEM_FAILURE,)),
    ],
)
def test_what_the_authority_said_is_told(
    seen: World, events: list[Event], answers: list[Any], decision: Decision, failures: tuple[FailureInfo, ...]
) -> None:
    authority = Deciding(seen.ca)
    authority.answers = answers
    device = seen.device()
    device.handle = seen.again(authority, observe=events.append).handle
    device.ask(B.IR, crmf(KEYS[0]))
    assert [(event.decision, event.failures) for event in events] == [(decision, failures)]


def test_polling_is_told_of_until_the_answer_is_there(seen: World, events: list[Event]) -> None:
    authority = Deciding(seen.ca)
    authority.answers = [Pending(), Pending(), Rejected(F.BAD_CERT_TEMPLATE, "after all not")]
    device = seen.device()
    device.handle = seen.again(authority, observe=events.append).handle
    device.ask(B.IR, crmf(KEYS[0]))
    device.send(B.POLL_REQ, poll_request())
    device.send(B.POLL_REQ, poll_request())
    assert [(event.body_type, event.answer, event.decision) for event in events] == [
        (B.IR, B.IP, D.WAITING),
        (B.POLL_REQ, B.POLL_REP, D.WAITING),
        (B.POLL_REQ, B.IP, D.REJECTED),
    ]
    assert events[-1].reasons == ("after all not",)


def test_holding_releasing_and_revoking_are_told_by_serial_number(seen: World, events: list[Event]) -> None:
    device = seen.device()
    certificate = device.enroll(KEYS[0])
    holder = device.signing(certificate, KEYS[0])
    events.clear()
    for reason in (RevocationReason.CERTIFICATE_HOLD, RevocationReason.REMOVE_FROM_CRL, RevocationReason.SUPERSEDED):
        holder.begin()
        answer = holder.send(B.RR, [revocation(certificate, reason)])
        assert answer.body_type is B.RP
    number = (serial(certificate),)
    assert [(event.revoked, event.released) for event in events] == [(number, ()), ((), number), (number, ())]
    assert all(event.requester is not None and event.requester.certificate == certificate for event in events)


def test_a_certificate_that_nobody_confirms_is_told_of_when_it_is_revoked(seen: World, events: list[Event]) -> None:
    device = seen.device()
    certificate = certificate_of(device.ask(B.IR, crmf(KEYS[0])))
    seen.clock.now += 601
    seen.responder.sweep()
    (_, ended) = events
    assert (ended.decision, ended.body_type, ended.revoked) == (D.EXPIRED, None, (serial(certificate),))
    assert (ended.transaction_id, ended.identity) == (device.transaction_id, b"mac:device")


def test_added_protection_and_the_message_inside_are_told_of_apart(
    make_ra: Callable[..., tuple[World, Device]],  # noqa: F811
    events: list[Event],
) -> None:
    world, ra = make_ra(observe=events.append)
    events.clear()
    device = world.device()
    der = device.build(B.IR, [crmf(KEYS[0])])
    send_one(ra, device, der)
    send_one(ra, device, der)
    assert [(event.body_type, event.decision, len(event.issued)) for event in events] == [
        (B.IR, D.ACCEPTED, 1),
        (B.NESTED, D.ACCEPTED, 0),
        (B.IR, D.REPLAYED, 0),
        (B.NESTED, D.REPLAYED, 0),
    ]
    assert [event.identity[:4] for event in events] == [b"mac:", b"cert", b"", b"cert"]
    assert events[1].ra


def test_a_batch_is_told_of_after_what_is_in_it(
    make_ra: Callable[..., tuple[World, Device]],  # noqa: F811
    events: list[Event],
) -> None:
    world, ra = make_ra(observe=events.append)
    events.clear()
    send_batch(ra, request(world, "a"), request(world, "b"))
    ra.handle(ra.last_request)
    assert [(event.body_type, event.decision) for event in events] == [
        (B.IR, D.ACCEPTED),
        (B.IR, D.ACCEPTED),
        (B.NESTED, D.ACCEPTED),
        (B.NESTED, D.REPLAYED),
    ]


def test_an_observer_that_fails_keeps_no_answer_back(
    make: Callable[..., World], caplog: pytest.LogCaptureFixture
) -> None:
    def observe(event: Event) -> None:
        raise RuntimeError("cannot look")

    world = make(observe=observe)
    with caplog.at_level(logging.ERROR, "opensslcmp.server"):
        assert world.device().enroll(KEYS[0])
    assert "an observer failed" in caplog.text


def test_a_closed_server_does_nothing_and_says_so(make: Callable[..., World], events: list[Event]) -> None:
    doors = [False, True, True]
    world = make(observe=events.append, is_open=lambda: doors.pop(0))
    device = world.device()
    answer = admit(device.handle(device.build(B.IR, [crmf(KEYS[0])])))
    assert said(answer) == (B.ERROR, F.SYSTEM_UNAVAIL)
    assert answer.transaction_id == device.transaction_id
    assert world.store.certificates() == 0
    assert [event.decision for event in events] == [D.ERROR]
    device.enroll(KEYS[0])
    assert world.store.certificates() == 1


def test_several_requests_of_which_one_is_refused_are_partly_granted(seen: World, events: list[Event]) -> None:
    authority = Deciding(seen.ca)
    authority.answers = [None, Rejected(F.BAD_CERT_TEMPLATE, "not this one")]
    device = seen.device()
    device.handle = seen.again(authority, observe=events.append, profile=replace(RFC9810, max_requests=2)).handle
    device.ask(B.IR, crmf(KEYS[0]), crmf(KEYS[1], request_id=1))
    assert [(event.decision, event.failures) for event in events] == [(D.PARTLY, (F.BAD_CERT_TEMPLATE,))]


def test_a_confirmation_that_says_no_is_told_as_a_revocation(seen: World, events: list[Event]) -> None:
    device = seen.device()
    certificate = certificate_of(device.ask(B.IR, crmf(KEYS[0])))
    device.send(B.CERT_CONF, [conf(certificate, status=PKIStatusInfo.make(PKIStatus.REJECTION))])
    assert (events[-1].confirmed, events[-1].revoked) == ((), (serial(certificate),))


def test_several_observers_are_told_and_one_that_fails_keeps_none_from_it(events: list[Event]) -> None:
    def fail(event: Event) -> None:
        raise RuntimeError("cannot look")

    told = Event(time=0.0, peer=Peer(), decision=D.ACCEPTED)
    tell = tell_all([fail, None, events.append])
    assert tell is not None
    with pytest.raises(ExceptionGroup, match="observers failed"):
        tell(told)
    assert events == [told]
    both = tell_all([events.append, events.append])
    assert both is not None
    both(told)
    assert len(events) == 3
    assert tell_all([None]) is None
    assert tell_all([fail]) is fail
