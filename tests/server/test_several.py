"""Several certificate requests in one message: one response, in order, each decided on its own."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from opensslcmp.asn1 import InfoTypeAndValue, Message, PKIStatusInfo, PollReq, admit, encode_info, oids
from opensslcmp.context.certificates import facts
from opensslcmp.enums import BodyType, FailureInfo, PKIStatus
from opensslcmp.errors import Rejected
from opensslcmp.server import CertificateRequest, Issued, IssuingProfile, Pending
from opensslcmp.server.rules import PROFILES, RFC9810
from opensslcmp.server.store import CertificateState, certificate_key
from tests.server.device import KEYS, Device, conf, crmf, name, revocation, said
from tests.server.world import World

B, F, S = BodyType, FailureInfo, PKIStatus
SEVERAL = dataclasses.replace(RFC9810, max_requests=3)
THREE = [crmf(KEYS[at], f"CN=device {at}", request_id=at) for at in range(3)]


def outcomes(answer: Message) -> list[tuple[int, int, FailureInfo | None]]:
    """certReqId, status and failInfo of each response."""
    found = []
    for each in answer.content().response:
        assert (each.certificate is None) is bool(each.status.failures)
        found.append((each.cert_req_id, each.status.status, next(iter(each.status.failures), None)))
    return found


def certificates(answer: Message) -> list[bytes]:
    return [each.certificate for each in answer.content().response if each.certificate is not None]


def state(world: World, certificate: bytes) -> CertificateState:
    about = facts(certificate)
    record = world.store.certificate(certificate_key(about.issuer, about.serial_number))
    assert record is not None
    return record.state


@pytest.mark.parametrize("profile", PROFILES)
def test_several_requests_are_answered_in_order(make: Callable[..., World], profile: str) -> None:
    world = make(profile=dataclasses.replace(PROFILES[profile], max_requests=3))
    device = world.device()
    answer = device.ask(B.IR, *THREE)
    assert outcomes(answer) == [(0, S.ACCEPTED, None), (1, S.ACCEPTED, None), (2, S.ACCEPTED, None)]
    issued = certificates(answer)
    assert [facts(each).subject for each in issued] == [name(f"CN=device {at}") for at in range(3)]
    assert len(answer.content().ca_pubs) == 1
    statuses = [conf(each, request_id=at) for at, each in enumerate(issued)]
    assert said(device.send(B.CERT_CONF, statuses)) == (B.PKICONF, None)
    assert {state(world, each) for each in issued} == {CertificateState.VALID}


@pytest.mark.parametrize("store", ["memory", "sql"], indirect=True)
def test_each_request_is_rejected_on_its_own(make: Callable[..., World]) -> None:
    world = make(profile=SEVERAL)
    device = world.device()
    bad = crmf(KEYS[1], request_id=1, signing_key=KEYS[2])
    answer = device.ask(B.CR, crmf(KEYS[0]), bad, crmf(KEYS[2], request_id=2, serial_number=5))
    assert outcomes(answer) == [
        (0, S.ACCEPTED, None),
        (1, S.REJECTION, F.BAD_POP),
        (2, S.REJECTION, F.BAD_CERT_TEMPLATE),
    ]
    (issued,) = certificates(answer)
    assert said(device.send(B.CERT_CONF, [conf(issued, request_id=1)])) == (B.ERROR, F.BAD_CERT_ID)
    assert said(device.confirm(issued)) == (B.PKICONF, None)


def test_when_all_are_rejected_nothing_waits_for_confirmation(make: Callable[..., World]) -> None:
    device = make(profile=SEVERAL).device()
    answer = device.ask(B.IR, *[crmf(KEYS[at], request_id=at, popo="none") for at in range(2)])
    assert [failure for _, _, failure in outcomes(answer)] == [F.BAD_POP] * 2
    assert answer.content().ca_pubs is None
    assert said(device.send(B.CERT_CONF, [])) == (B.ERROR, F.BAD_REQUEST)


def test_more_requests_than_allowed_are_all_refused(make: Callable[..., World]) -> None:
    world = make(profile=dataclasses.replace(RFC9810, max_requests=2))
    answer = world.device().ask(B.IR, *THREE)
    assert {failure for _, _, failure in outcomes(answer)} == {F.BAD_REQUEST}
    assert world.store.certificates() == 0


def test_ids_out_of_order_are_refused_each(make: Callable[..., World]) -> None:
    answer = make(profile=SEVERAL).device().ask(B.IR, THREE[0], THREE[2])
    assert outcomes(answer) == [(0, S.ACCEPTED, None), (2, S.REJECTION, F.BAD_REQUEST)]


@pytest.mark.parametrize("explicit", [True, False])
def test_some_are_confirmed_and_others_not(make: Callable[..., World], explicit: bool) -> None:
    world = make(profile=SEVERAL)
    device = world.device()
    issued = certificates(device.ask(B.IR, *THREE))
    no = PKIStatusInfo.make(S.REJECTION, failure=F.BAD_CERT_TEMPLATE)
    statuses: list[Any] = [conf(issued[2], request_id=2), conf(issued[0], request_id=0)]
    if explicit:
        statuses.insert(1, conf(issued[1], no, request_id=1))
    assert said(device.send(B.CERT_CONF, statuses)) == (B.PKICONF, None)
    expected = [CertificateState.VALID, CertificateState.REVOKED, CertificateState.VALID]
    assert [state(world, each) for each in issued] == expected
    assert said(device.send(B.CERT_CONF, statuses)) == (B.ERROR, F.CERT_CONFIRMED)


def test_one_wrong_hash_spoils_the_confirmation_of_all(make: Callable[..., World]) -> None:
    world = make(profile=SEVERAL)
    device = world.device()
    issued = certificates(device.ask(B.IR, *THREE))
    wrong = [conf(issued[0]), conf(issued[0], request_id=1), conf(issued[2], request_id=2)]
    assert said(device.send(B.CERT_CONF, wrong)) == (B.ERROR, F.BAD_CERT_ID)
    assert {state(world, each) for each in issued} == {CertificateState.UNCONFIRMED}
    assert said(device.send(B.CERT_CONF, [])) == (B.PKICONF, None)
    assert {state(world, each) for each in issued} == {CertificateState.REVOKED}


def test_implicit_confirmation_is_for_all(make: Callable[..., World]) -> None:
    world = make(profile=SEVERAL)
    answer = world.device().ask(B.IR, *THREE, implicit=True)
    assert answer.implicit_confirm
    assert [state(world, each) for each in certificates(answer)] == [CertificateState.VALID] * 3


@pytest.mark.parametrize("store", ["memory", "sql"], indirect=True)
@pytest.mark.parametrize(
    ("accepted", "after"),
    [((0, 1), CertificateState.UPDATED), ((1,), CertificateState.UPDATED), ((), CertificateState.VALID)],
)
def test_a_certificate_is_updated_by_several(
    make: Callable[..., World], accepted: tuple[int, ...], after: CertificateState
) -> None:
    world = make(profile=SEVERAL)
    device = world.device()
    old = device.enroll(KEYS[0])
    signing = device.signing(old, KEYS[0])
    updates = [crmf(KEYS[at + 1], request_id=at, old=old) for at in range(2)]
    issued = certificates(signing.ask(B.KUR, *updates))
    assert state(world, old) is CertificateState.UPDATING
    statuses = [conf(issued[at], request_id=at) for at in accepted]
    assert said(signing.send(B.CERT_CONF, statuses)) == (B.PKICONF, None)
    assert state(world, old) is after
    for at, each in enumerate(issued):
        assert state(world, each) is (CertificateState.VALID if at in accepted else CertificateState.REVOKED)


@pytest.mark.parametrize("store", ["memory", "sql"], indirect=True)
def test_several_updates_that_nobody_confirms_are_taken_back(make: Callable[..., World]) -> None:
    world = make(profile=SEVERAL)
    device = world.device()
    old = device.enroll(KEYS[0])
    signing = device.signing(old, KEYS[0])
    issued = certificates(signing.ask(B.KUR, *[crmf(KEYS[at + 1], request_id=at) for at in range(2)]))
    world.clock.now += 601
    assert world.responder.sweep() == 1
    assert state(world, old) is CertificateState.VALID
    assert {state(world, each) for each in issued} == {CertificateState.REVOKED}
    signing.begin()
    assert said(signing.send(B.RR, [revocation(old)])) == (B.RP, None)


def test_the_same_key_and_subject_twice_in_a_message_are_refused_where_the_profile_says_so(
    make: Callable[..., World],
) -> None:
    world = make(profile=SEVERAL, ca_profiles=[IssuingProfile(reissue=False)])
    answer = world.device().ask(B.IR, crmf(KEYS[0]), crmf(KEYS[0], request_id=1))
    assert outcomes(answer) == [(0, S.ACCEPTED, None), (1, S.REJECTION, F.DUPLICATE_CERT_REQ)]


def named(*names: str) -> list[InfoTypeAndValue]:
    return [encode_info(oids.IT_CERT_PROFILE, list(names))]


def test_each_request_names_its_own_cert_profile(make: Callable[..., World]) -> None:
    world = make(profile=SEVERAL, ca_profiles=[IssuingProfile(), IssuingProfile(name="short", validity_days=1)])
    device = world.device()
    answer = device.ask(B.IR, *THREE, general_info=named("short", "nonsense", "default"))
    assert outcomes(answer) == [(0, S.ACCEPTED, None), (1, S.REJECTION, F.BAD_CERT_TEMPLATE), (2, S.ACCEPTED, None)]
    ends = [facts(each).not_after - world.clock.now for each in certificates(answer)]
    assert ends == [86400, 365 * 86400]
    answer = device.ask(B.IR, *THREE, general_info=named("short", "default"))
    assert {failure for _, _, failure in outcomes(answer)} == {F.BAD_REQUEST}


def test_fewer_cert_profiles_than_requests_are_taken_where_the_rule_is_off(make: Callable[..., World]) -> None:
    profile = dataclasses.replace(SEVERAL.but(off=["cert_profiles_are_as_many_as_requests"]))
    world = make(profile=profile, ca_profiles=[IssuingProfile(), IssuingProfile(name="short", validity_days=1)])
    answer = world.device().ask(B.IR, *THREE, general_info=named("default", "short"))
    ends = [facts(each).not_after - world.clock.now for each in certificates(answer)]
    assert ends == [365 * 86400, 86400, 86400]


def test_whether_a_key_is_used_again_is_said_by_the_profile_that_is_named(make: Callable[..., World]) -> None:
    again = IssuingProfile(name="again", reuse_key=True, reissue=False)
    world = make(ca_profiles=[IssuingProfile(), again])
    device = world.device()
    signing = device.signing(device.enroll(KEYS[0]), KEYS[0])
    assert said(signing.ask(B.CR, crmf(KEYS[0]), general_info=named("again"))) == (B.CP, F.DUPLICATE_CERT_REQ)
    assert said(signing.ask(B.CR, crmf(KEYS[0], "CN=other"))) == (B.CP, None)
    assert said(signing.ask(B.KUR, crmf(KEYS[0]))) == (B.KUP, F.BAD_CERT_TEMPLATE)
    assert said(signing.ask(B.KUR, crmf(KEYS[0]), general_info=named("again"))) == (B.KUP, None)


# -- each waits on its own (RFC 9810, 5.3.22) -----------------------------------------------------------------------


class Choosy:
    """An authority that says "later" to some certReqIds."""

    def __init__(self, world: World, *later: int) -> None:
        self.ca = world.ca
        self.later = set(later)
        self.asked: list[tuple[int, bytes | None]] = []
        self.refuses: set[int] = set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.ca, name)

    def issue(self, request: CertificateRequest) -> Issued | Pending:
        self.asked.append((request.cert_req_id, request.pending))
        if request.cert_req_id in self.refuses:
            raise Rejected(F.NOT_AUTHORIZED, "no")
        if request.cert_req_id in self.later:
            text = f"later {request.cert_req_id}"
            return Pending(check_after_seconds=request.cert_req_id + 5, text=text, reference=text.encode())
        return self.ca.issue(request)


def waiting(make: Callable[..., World], *later: int, **options: Any) -> tuple[World, Choosy, Device]:
    world = make(profile=SEVERAL)
    choosy = Choosy(world, *later)
    return world, choosy, world.device(handle=world.again(choosy, profile=SEVERAL, **options).handle)


def all_statuses(answer: Message) -> list[tuple[int, int, FailureInfo | None]]:
    return [
        (each.cert_req_id, each.status.status, next(iter(each.status.failures), None))
        for each in answer.content().response
    ]


def polled(device: Device, *numbers: int) -> Message:
    return device.send(B.POLL_REQ, [PollReq(cert_req_id=number) for number in numbers])


BOTH = pytest.mark.parametrize("store", ["memory", "sql"], indirect=True)


@BOTH
def test_what_is_decided_is_answered_and_confirmed_while_the_rest_is_waited_for(make: Callable[..., World]) -> None:
    world, choosy, device = waiting(make, 1, 2)
    first = device.ask(B.IR, *THREE)
    assert all_statuses(first) == [(0, S.ACCEPTED, None), (1, S.WAITING, None), (2, S.WAITING, None)]
    assert [each.status.text for each in first.content().response] == [(), ("later 1",), ("later 2",)]
    assert first.confirm_wait_time is not None
    (one,) = certificates(first)
    assert said(device.confirm(one)) == (B.PKICONF, None)
    assert state(world, one) is CertificateState.VALID

    report = polled(device, 1, 2)
    told = [(each.cert_req_id, each.check_after, each.reason) for each in report.content()]
    assert told == [(1, 6, ["later 1"]), (2, 7, ["later 2"])]
    assert said(polled(device, 0)) == (B.ERROR, F.BAD_REQUEST)  # that one is answered

    choosy.later.remove(2)
    second = polled(device, 1, 2)
    assert all_statuses(second) == [(1, S.WAITING, None), (2, S.ACCEPTED, None)]
    (three,) = certificates(second)
    assert said(device.send(B.CERT_CONF, [conf(one)])) == (B.ERROR, F.CERT_CONFIRMED)
    assert said(device.send(B.CERT_CONF, [conf(three, request_id=2)])) == (B.PKICONF, None)
    assert [state(world, each) for each in (one, three)] == [CertificateState.VALID] * 2
    assert said(device.send(B.CERT_CONF, [])) == (B.ERROR, F.BAD_REQUEST)

    choosy.later.clear()
    third = polled(device, -1)
    assert all_statuses(third) == [(1, S.ACCEPTED, None)]
    (two,) = certificates(third)
    assert said(device.send(B.CERT_CONF, [conf(two, request_id=1)])) == (B.PKICONF, None)
    assert [state(world, each) for each in (one, two, three)] == [CertificateState.VALID] * 3
    assert said(polled(device, 1)) == (B.ERROR, F.BAD_REQUEST)
    assert said(device.send(B.CERT_CONF, [conf(two, request_id=1)])) == (B.ERROR, F.CERT_CONFIRMED)
    # Each was asked with what was said of it, and not again once it was decided.
    assert choosy.asked.count((0, None)) == 1
    assert {each for each in choosy.asked if each[1]} == {(1, b"later 1"), (2, b"later 2")}


def test_only_what_is_polled_for_is_asked_anew(make: Callable[..., World]) -> None:
    _, choosy, device = waiting(make, 0, 1, 2)
    assert {status for _, status, _ in all_statuses(device.ask(B.IR, *THREE))} == {S.WAITING}
    choosy.later.clear()
    choosy.asked.clear()
    answer = polled(device, 1)
    assert all_statuses(answer) == [(0, S.WAITING, None), (1, S.ACCEPTED, None), (2, S.WAITING, None)]
    assert choosy.asked == [(1, b"later 1")]
    assert all_statuses(polled(device, 0, 2)) == [(0, S.ACCEPTED, None), (2, S.ACCEPTED, None)]


@BOTH
def test_certificates_are_confirmed_together_when_nothing_is_waited_for_any_more(make: Callable[..., World]) -> None:
    world, choosy, device = waiting(make, 1)
    issued = certificates(device.ask(B.IR, *THREE))
    choosy.later.clear()
    issued.insert(1, *certificates(polled(device, 1)))
    statuses = [conf(each, request_id=at) for at, each in enumerate(issued)]
    assert said(device.send(B.CERT_CONF, statuses)) == (B.PKICONF, None)
    assert [state(world, each) for each in issued] == [CertificateState.VALID] * 3


def test_a_refusal_is_told_at_once_or_later_without_the_others(make: Callable[..., World]) -> None:
    world, choosy, device = waiting(make, 1, 2)
    choosy.refuses = {0}
    assert all_statuses(device.ask(B.IR, *THREE)) == [
        (0, S.REJECTION, F.NOT_AUTHORIZED),
        (1, S.WAITING, None),
        (2, S.WAITING, None),
    ]
    choosy.refuses, choosy.later = {1}, {2}
    assert all_statuses(polled(device, 1, 2)) == [(1, S.REJECTION, F.NOT_AUTHORIZED), (2, S.WAITING, None)]
    choosy.refuses = {2}
    assert all_statuses(polled(device, 2)) == [(2, S.REJECTION, F.NOT_AUTHORIZED)]
    assert said(polled(device, 2)) == (B.ERROR, F.BAD_REQUEST)
    assert world.store.open_transactions(b"mac:device")[1] == 0


@BOTH
def test_what_is_not_confirmed_in_time_ends_the_waiting_too(make: Callable[..., World]) -> None:
    world, _, device = waiting(make, 1)
    issued = certificates(device.ask(B.IR, *THREE))
    world.clock.now += 599
    assert said(polled(device, 1)) == (B.POLL_REP, None)
    world.clock.now += 2
    assert said(polled(device, 1)) == (B.ERROR, F.BAD_REQUEST)
    assert {state(world, each) for each in issued} == {CertificateState.REVOKED}


def test_what_was_confirmed_stays_when_the_waiting_ends(make: Callable[..., World]) -> None:
    world, _, device = waiting(make, 1, 2)
    (one,) = certificates(device.ask(B.IR, *THREE))
    assert said(device.confirm(one)) == (B.PKICONF, None)
    world.clock.now += 7 * 86400 + 1
    assert said(polled(device, 1)) == (B.ERROR, F.BAD_REQUEST)
    assert state(world, one) is CertificateState.VALID


def test_implicit_confirmation_is_granted_with_each_answer(make: Callable[..., World]) -> None:
    world, choosy, device = waiting(make, 1)
    first = device.ask(B.IR, *THREE, implicit=True)
    assert first.implicit_confirm
    assert {state(world, each) for each in certificates(first)} == {CertificateState.VALID}
    assert said(device.send(B.CERT_CONF, [])) == (B.ERROR, F.BAD_REQUEST)
    choosy.later.clear()
    second = polled(device, 1)
    assert second.implicit_confirm
    assert state(world, *certificates(second)) is CertificateState.VALID
    assert said(device.send(B.CERT_CONF, [])) == (B.ERROR, F.CERT_CONFIRMED)


@BOTH
def test_a_secret_for_one_transaction_is_good_for_all_that_it_waits_for(make: Callable[..., World]) -> None:
    world, choosy, device = waiting(make, 1)
    world.ca.add_secret("once", "secret", single_use=True)
    device = world.device("once", handle=device.handle)
    assert len(certificates(device.ask(B.IR, *THREE))) == 2
    choosy.later.clear()
    assert all_statuses(polled(device, 1)) == [(1, S.ACCEPTED, None)]
    assert said(device.ask(B.IR, THREE[0])) == (B.ERROR, F.NOT_AUTHORIZED)


def test_the_updates_of_a_certificate_wait_together(make: Callable[..., World]) -> None:
    world, choosy, device = waiting(make, 1)
    old = world.device(handle=world.responder.handle).enroll(KEYS[0])
    signing = device.signing(old, KEYS[0])
    updates = [crmf(KEYS[at + 1], request_id=at, old=old) for at in range(2)]
    assert all_statuses(signing.ask(B.KUR, *updates)) == [(0, S.WAITING, None), (1, S.WAITING, None)]
    assert said(polled(signing, 0, 1)) == (B.POLL_REP, None)
    choosy.later.clear()
    answer = polled(signing, 0, 1)
    assert all_statuses(answer) == [(0, S.ACCEPTED, None), (1, S.ACCEPTED, None)]
    statuses = [conf(each, request_id=at) for at, each in enumerate(certificates(answer))]
    assert said(signing.send(B.CERT_CONF, statuses)) == (B.PKICONF, None)


def test_a_confirmation_that_would_have_to_wait_itself_is_put_off_without_a_trace(make: Callable[..., World]) -> None:
    _, choosy, device = waiting(make, 1)
    choosy.confirm = lambda issued, accepted: Pending()  # type: ignore[attr-defined]
    issued = certificates(device.ask(B.IR, *THREE))
    statuses = [conf(issued[0]), conf(issued[1], request_id=2)]
    for _ in range(2):
        assert said(device.send(B.CERT_CONF, statuses)) == (B.ERROR, F.SYSTEM_UNAVAIL)
    del choosy.confirm
    # Sent again as it was, it is no retransmission of something that was answered.
    assert said(admit(device.handle(device.last_request))) == (B.PKICONF, None)
