"""Several certificate requests in one message: one response, in order, each decided on its own."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from opensslcmp.asn1 import InfoTypeAndValue, Message, PKIStatusInfo, encode_info, oids
from opensslcmp.context.certificates import facts
from opensslcmp.enums import BodyType, FailureInfo, PKIStatus
from opensslcmp.server import IssuingProfile
from opensslcmp.server.rules import PROFILES, RFC9810
from opensslcmp.server.store import CertificateState, certificate_key
from tests.server.device import KEYS, conf, crmf, name, revocation, said
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
