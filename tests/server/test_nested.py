"""nested: protection that an RA adds, and batches."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography import x509

from opensslcmp.asn1 import InfoTypeAndValue, Limits, Message, admit, oids
from opensslcmp.context.certificates import Trust, facts
from opensslcmp.context.keys import PrivateKey
from opensslcmp.context.protection import ProtectionKind, Verified, verify
from opensslcmp.enums import BodyType, FailureInfo, PKIStatus
from opensslcmp.server import CertificateRequest, IssuingProfile, Peer, Pending, Responder
from opensslcmp.server import responder as responder_module
from opensslcmp.server.rules import PROFILES, RFC9810, STRICT
from tests.server.device import (
    KEYS,
    Device,
    certificate_of,
    conf,
    crmf,
    extension,
    poll_request,
    said,
    status_of,
)
from tests.server.world import World

B, F = BodyType, FailureInfo
RA_KEY = PrivateKey.generate("ec:P-256")
CM_RA = x509.ObjectIdentifier("1.3.6.1.5.5.7.3.28")


@pytest.fixture
def make_ra(make: Callable[..., World]) -> Callable[..., tuple[World, Device]]:
    """Makes a world and an RA that has id-kp-cmcRA."""

    def made(**options: Any) -> tuple[World, Device]:
        world = make(ca_profiles=[IssuingProfile(refused_extended_key_usages=frozenset())], **options)
        device = world.device("ra", handle=world.again().handle)
        certificate = device.enroll(RA_KEY, "CN=RA", extensions=[extension(x509.ExtendedKeyUsage([CM_RA]))])
        device.handle = world.responder.handle
        return world, device.signing(certificate, RA_KEY)

    return made


@pytest.fixture
def parties(make_ra: Callable[..., tuple[World, Device]]) -> tuple[World, Device]:
    return make_ra()


def wrap_one(ra: Device, der: bytes, **fields: Any) -> bytes:
    """Protection added to one message."""
    inner = admit(der)
    values = {"transaction_id": inner.transaction_id, "sender_nonce": inner.sender_nonce, "recip_nonce": None}
    return ra.build(B.NESTED, [der], **(values | fields))


def send_one(ra: Device, device: Device, der: bytes, **fields: Any) -> Message:
    device.last_request = der
    answer = admit(ra.handle(wrap_one(ra, der, **fields)), limits=Limits(min_id_bytes=1))
    if answer.body_type is not B.ERROR:
        device.recip_nonce = answer.sender_nonce
    return answer


def send_batch(ra: Device, *messages: bytes, **fields: Any) -> Message:
    ra.begin()
    return ra.send(B.NESTED, list(messages), **fields)


def request(world: World, reference: str = "device", **fields: Any) -> bytes:
    return world.device(reference).build(B.IR, [crmf(KEYS[0])], **fields)


@pytest.mark.parametrize("profile", PROFILES)
def test_protection_is_added_to_a_whole_enrollment(make_ra: Callable[..., tuple[World, Device]], profile: str) -> None:
    world, ra = make_ra(profile=PROFILES[profile])
    device = world.device()
    answer = send_one(ra, device, device.build(B.IR, [crmf(KEYS[0])]))
    assert (answer.transaction_id, answer.recip_nonce) == (device.transaction_id, device.sender_nonce)
    device.check(answer, b"secret")
    certificate = certificate_of(answer)
    done = send_one(ra, device, device.build(B.CERT_CONF, [conf(certificate)]))
    assert said(done) == (B.PKICONF, None)
    device.check(done, b"secret")


def test_added_protection_sent_again_gets_the_same_answer(parties: tuple[World, Device]) -> None:
    world, ra = parties
    nested = wrap_one(ra, request(world))
    before = world.store.certificates()
    assert ra.handle(nested) == ra.handle(nested)
    assert world.store.certificates() == before + 1


def test_a_refusal_under_added_protection_is_for_the_entity(parties: tuple[World, Device]) -> None:
    world, ra = parties
    device = world.device()
    answer = send_one(ra, device, device.build(B.IR, [crmf(KEYS[0], popo="none")]))
    assert said(answer) == (B.IP, F.BAD_POP)
    device.check(answer, b"secret")
    broken = send_one(ra, device, world.device("other", "wrong").build(B.IR, [crmf(KEYS[0])]))
    assert said(broken) == (B.ERROR, F.BAD_MESSAGE_CHECK)
    late = device.build(B.IR, [crmf(KEYS[0])], message_time=datetime(2001, 1, 1, tzinfo=UTC), recip_nonce=None)
    assert said(send_one(ra, device, late)) == (B.ERROR, F.BAD_TIME)


def test_the_authority_is_told_who_added_protection(parties: tuple[World, Device]) -> None:
    world, ra = parties
    seen: list[CertificateRequest] = []

    class Asked:
        def __getattr__(self, name: str) -> Any:
            return getattr(world.ca, name)

        def issue(self, wish: CertificateRequest) -> Any:
            seen.append(wish)
            return world.ca.issue(wish)

    ra.handle = world.again(Asked()).handle
    device = world.device()
    certificate_of(send_one(ra, device, device.build(B.IR, [crmf(KEYS[0])])))
    (wish,) = seen
    assert wish.approved_by is not None
    assert wish.approved_by.certificate == ra.credential.certificates[0]
    assert not wish.ra
    assert wish.requester.kind is ProtectionKind.MAC


@pytest.mark.parametrize("store", ["memory", "sql"], indirect=True)
@pytest.mark.parametrize("passed_on", [True, False])
def test_who_vouched_for_a_request_that_is_put_off_is_remembered(
    make_ra: Callable[..., tuple[World, Device]], passed_on: bool
) -> None:
    """Whoever passes on the pollReq, and whether anybody does."""
    world, ra = make_ra()
    seen: list[CertificateRequest] = []

    class Slow:
        certificate = world.ca.certificate

        def __getattr__(self, name: str) -> Any:
            return getattr(world.ca, name)

        def issue(self, wish: CertificateRequest) -> Any:
            seen.append(wish)
            return world.ca.issue(wish) if len(seen) == 3 else Pending()

    ra.handle = world.again(Slow()).handle
    device = world.device(handle=ra.handle)
    answer = send_one(ra, device, device.build(B.IR, [crmf(KEYS[0])]))
    assert status_of(answer).status == PKIStatus.WAITING
    for _ in range(2):
        if passed_on:
            answer = send_one(ra, device, device.build(B.POLL_REQ, poll_request()))
        else:
            answer = device.send(B.POLL_REQ, poll_request())
    certificate_of(answer)
    approvers = {each.approved_by for each in seen}
    assert len(approvers) == 1
    (approver,) = approvers
    assert approver is not None
    assert approver.certificate == ra.credential.certificates[0]
    assert approver.kind is ProtectionKind.SIGNATURE


def test_who_passes_on_a_poll_request_vouched_for_nothing(parties: tuple[World, Device]) -> None:
    world, ra = parties
    seen: list[CertificateRequest] = []

    class Slow:
        certificate = world.ca.certificate

        def __getattr__(self, name: str) -> Any:
            return getattr(world.ca, name)

        def issue(self, wish: CertificateRequest) -> Any:
            seen.append(wish)
            return world.ca.issue(wish) if len(seen) == 2 else Pending()

    ra.handle = world.again(Slow()).handle
    device = world.device(handle=ra.handle)
    device.ask(B.IR, crmf(KEYS[0]))
    certificate_of(send_one(ra, device, device.build(B.POLL_REQ, poll_request())))
    assert [each.approved_by for each in seen] == [None, None]


def test_a_batch_verifies_each_protection_once(parties: tuple[World, Device], monkeypatch: pytest.MonkeyPatch) -> None:
    world, ra = parties
    seen: list[bytes] = []

    def counting(message: Message, **options: Any) -> Verified:
        seen.append(message.der)
        return verify(message, **options)

    monkeypatch.setattr(responder_module, "verify", counting)
    inner = [request(world, each) for each in "abc"]
    assert len(send_batch(ra, *inner).nested()) == 3
    assert sorted(seen) == sorted([*inner, ra.last_request])


def test_a_secret_that_is_used_up_inside_a_batch_opens_nothing_more(parties: tuple[World, Device]) -> None:
    world, ra = parties
    world.ca.add_secret("once", "secret", single_use=True)
    answers = send_batch(ra, request(world, "once"), request(world, "once")).nested()
    assert [said(each) for each in answers] == [(B.IP, None), (B.ERROR, F.NOT_AUTHORIZED)]


def test_a_secret_that_is_forgotten_during_a_batch_is_an_unknown_one(parties: tuple[World, Device]) -> None:
    world, ra = parties
    looks = 0

    def find(reference: bytes) -> Any:
        nonlocal looks
        looks += 1
        return world.ca.secrets.find(reference) if looks <= 1 else None

    world.device()
    ra.handle = world.again(secrets=find).handle
    (answer,) = send_batch(ra, request(world)).nested()
    assert said(answer) == (B.ERROR, F.BAD_MESSAGE_CHECK)


def test_unprotected_messages_in_a_batch_are_the_ras_where_the_rule_is_off(
    make_ra: Callable[..., tuple[World, Device]],
) -> None:
    world, ra = make_ra(profile=RFC9810.but(off=["batched_message_is_protected"]))
    device = world.device()
    first = device.build(B.IR, [crmf(KEYS[0], popo="raVerified")], protected=False)
    answer, other = send_batch(ra, first, request(world, "b")).nested()
    assert (said(answer), said(other)) == ((B.IP, None), (B.IP, None))
    assert verify(answer, pinned=world.ca.certificate).kind is ProtectionKind.SIGNATURE
    certificate = certificate_of(answer)
    confirmation = device.build(
        B.CERT_CONF,
        [conf(certificate)],
        protected=False,
        recip_nonce=answer.sender_nonce,
        transaction_id=answer.transaction_id,
    )
    # Alone, or with protection that is only added, it is from nobody.
    assert said(admit(world.responder.handle(confirmation))) == (B.ERROR, F.WRONG_INTEGRITY)
    assert said(send_one(ra, device, confirmation, recip_nonce=None)) == (B.ERROR, F.WRONG_INTEGRITY)
    (confirmed,) = send_batch(ra, confirmation).nested()
    assert said(confirmed) == (B.PKICONF, None)
    kur = device.build(B.KUR, [crmf(KEYS[1])], protected=False, transaction_id=os.urandom(16), recip_nonce=None)
    assert said(send_batch(ra, kur)) == (B.ERROR, F.WRONG_INTEGRITY)


def test_one_message_under_another_transaction_id_is_a_batch_of_one(
    make_ra: Callable[..., tuple[World, Device]],
) -> None:
    world, ra = make_ra()
    answer = send_batch(ra, request(world))
    assert (answer.body_type, len(answer.nested())) == (B.NESTED, 1)
    ra.handle = world.again(profile=RFC9810.but(on=["one_message_is_no_batch"])).handle
    assert said(send_batch(ra, request(world))) == (B.ERROR, F.BAD_REQUEST)


def test_who_is_no_ra_may_not_nest(parties: tuple[World, Device]) -> None:
    world, _ = parties
    device = world.device()
    other = device.signing(device.enroll(KEYS[1], "CN=other"), KEYS[1])
    inner = request(world)
    answer = admit(other.handle(wrap_one(other, inner)))
    assert said(answer) == (B.ERROR, F.NOT_AUTHORIZED)
    assert said(send_batch(other, inner)) == (B.ERROR, F.NOT_AUTHORIZED)
    listed = world.again(registration_authorities=[facts(other.credential.certificates[0]).fingerprint])
    other.handle = listed.handle
    assert said(admit(other.handle(wrap_one(other, inner)))) == (B.IP, None)


def test_a_mac_may_not_nest(parties: tuple[World, Device]) -> None:
    world, _ = parties
    device = world.device()
    device.begin()
    assert said(device.send(B.NESTED, [request(world)])) == (B.ERROR, F.WRONG_INTEGRITY)
    assert said(device.send(B.NESTED, [request(world)], protected=False)) == (B.ERROR, F.WRONG_INTEGRITY)


def test_added_protection_repeats_id_and_nonce(parties: tuple[World, Device]) -> None:
    world, ra = parties
    device = world.device()
    answer = send_one(ra, device, device.build(B.IR, [crmf(KEYS[0])]), sender_nonce=os.urandom(16))
    assert said(answer) == (B.ERROR, F.BAD_SENDER_NONCE)
    answer = send_one(ra, device, device.build(B.IR, [crmf(KEYS[0])]), transaction_id=os.urandom(16))
    assert said(answer) == (B.ERROR, F.BAD_SENDER_NONCE)


def test_ra_verified_is_not_taken_from_inside(parties: tuple[World, Device]) -> None:
    world, ra = parties
    device = world.device()
    answer = send_one(ra, device, device.build(B.IR, [crmf(KEYS[0], popo="raVerified")]))
    assert said(answer) == (B.IP, F.NOT_AUTHORIZED)
    assert said(ra.ask(B.CR, crmf(KEYS[0], popo="raVerified"))) == (B.CP, None)


@pytest.mark.parametrize("store", ["memory", "sql"], indirect=True)
def test_a_batch_is_answered_in_order_and_each_for_its_entity(parties: tuple[World, Device]) -> None:
    world, ra = parties
    devices = [world.device(f"device{at}") for at in range(3)]
    answer = send_batch(
        ra,
        devices[0].build(B.IR, [crmf(KEYS[0])]),
        devices[1].build(B.IR, [crmf(KEYS[1], popo="none")]),
        devices[2].build(B.GENM, [InfoTypeAndValue.make(oids.IT_CA_CERTS)]),
    )
    assert answer.body_type is B.NESTED
    assert verify(answer, trust=Trust([world.ca.certificate])).kind is ProtectionKind.SIGNATURE
    inside = answer.nested()
    assert [said(each) for each in inside] == [(B.IP, None), (B.IP, F.BAD_POP), (B.GENP, None)]
    for device, each in zip(devices, inside, strict=True):
        assert (each.transaction_id, each.recip_nonce) == (device.transaction_id, device.sender_nonce)
        device.check(each, b"secret")
    devices[0].recip_nonce = inside[0].sender_nonce
    second = send_batch(ra, devices[0].build(B.CERT_CONF, [conf(certificate_of(inside[0]))]))
    assert said(second.nested()[0]) == (B.PKICONF, None)


@pytest.mark.parametrize("store", ["memory", "sql"], indirect=True)
def test_a_batch_sent_again_gets_the_same_answer_and_its_id_is_used_up(parties: tuple[World, Device]) -> None:
    world, ra = parties
    first = send_batch(ra, request(world, "a"), request(world, "b"))
    before = world.store.certificates()
    assert ra.handle(ra.last_request) == first.der
    assert world.again().handle(ra.last_request) == first.der
    answer = ra.send(B.NESTED, [request(world)], recip_nonce=None)
    assert said(answer) == (B.ERROR, F.TRANSACTION_ID_IN_USE)
    assert world.store.certificates() == before


def test_a_batch_that_another_worker_answered_meanwhile_gets_that_answer(parties: tuple[World, Device]) -> None:
    world, ra = parties
    others: list[bytes] = []

    class Raced:
        """An authority during whose work another worker answers the same batch."""

        def __getattr__(self, name: str) -> Any:
            return getattr(world.ca, name)

        def info(self, asked: Any) -> Any:
            others.append(world.responder.handle(ra.last_request))
            return world.ca.info(asked)

    ra.handle = world.again(Raced()).handle
    inner = world.device().build(B.GENM, [InfoTypeAndValue.make(oids.IT_CA_CERTS)])
    assert [send_batch(ra, inner).der] == others


def test_a_batch_whose_id_was_taken_meanwhile_is_refused(parties: tuple[World, Device]) -> None:
    world, ra = parties

    class Raced:
        """An authority during whose work another batch comes under the same transactionID."""

        def __getattr__(self, name: str) -> Any:
            return getattr(world.ca, name)

        def info(self, asked: Any) -> Any:
            other = ra.build(B.NESTED, [request(world, "other")])
            assert admit(world.responder.handle(other)).body_type is B.NESTED
            ra.sender_nonce = nonce
            return world.ca.info(asked)

    ra.handle = world.again(Raced()).handle
    inner = world.device().build(B.GENM, [InfoTypeAndValue.make(oids.IT_CA_CERTS)])
    nonce = os.urandom(16)
    assert said(send_batch(ra, inner, sender_nonce=nonce)) == (B.ERROR, F.TRANSACTION_ID_IN_USE)


@pytest.mark.parametrize(
    ("fields", "failure"),
    [
        ({"message_time": datetime(2001, 1, 1, tzinfo=UTC)}, F.BAD_TIME),
        ({"protected": False}, F.WRONG_INTEGRITY),
        ({"sender_nonce": None}, F.BAD_SENDER_NONCE),
        ({"recip_nonce": bytes(16)}, F.BAD_RECIPIENT_NONCE),
        ({"pvno": 1}, F.UNSUPPORTED_VERSION),
    ],
)
def test_a_bad_inner_header_spoils_the_batch(
    parties: tuple[World, Device], fields: dict[str, Any], failure: FailureInfo
) -> None:
    world, ra = parties
    before = world.store.certificates()
    assert said(send_batch(ra, request(world, "a"), request(world, "b", **fields))) == (B.ERROR, failure)
    assert world.store.certificates() == before


def test_a_bad_inner_protection_spoils_the_batch(parties: tuple[World, Device]) -> None:
    world, ra = parties
    before = world.store.certificates()
    world.device("b")
    wrong = world.device("b", "wrong").build(B.IR, [crmf(KEYS[0])])
    assert said(send_batch(ra, request(world, "a"), wrong)) == (B.ERROR, F.BAD_MESSAGE_CHECK)
    assert world.store.certificates() == before


def test_an_inner_follow_up_without_its_transaction_spoils_the_batch(parties: tuple[World, Device]) -> None:
    world, ra = parties
    stray = world.device().build(B.CERT_CONF, [conf(world.ca.certificate)], recip_nonce=bytes(16))
    assert said(send_batch(ra, request(world, "a"), stray)) == (B.ERROR, F.BAD_REQUEST)


def test_an_inner_transaction_id_in_use_spoils_the_batch(parties: tuple[World, Device]) -> None:
    world, ra = parties
    device = world.device()
    device.ask(B.IR, crmf(KEYS[0]))
    again = device.build(B.IR, [crmf(KEYS[1])], recip_nonce=None)
    assert said(send_batch(ra, again, request(world, "a"))) == (B.ERROR, F.TRANSACTION_ID_IN_USE)


def test_ids_and_nonces_in_a_batch_differ(parties: tuple[World, Device]) -> None:
    world, ra = parties
    same = os.urandom(16)
    twice = [request(world, each, transaction_id=same) for each in "ab"]
    assert said(send_batch(ra, *twice)) == (B.ERROR, F.TRANSACTION_ID_IN_USE)
    twice = [request(world, each, sender_nonce=same) for each in "ab"]
    assert said(send_batch(ra, *twice)) == (B.ERROR, F.BAD_SENDER_NONCE)
    ra.begin()
    mine = [request(world, "a", transaction_id=ra.transaction_id), request(world, "b")]
    assert said(ra.send(B.NESTED, mine)) == (B.ERROR, F.TRANSACTION_ID_IN_USE)
    answer = ra.send(B.NESTED, [request(world, "a", sender_nonce=same), request(world, "b")], sender_nonce=same)
    assert said(answer) == (B.ERROR, F.BAD_SENDER_NONCE)


def test_nested_is_not_nested_again(parties: tuple[World, Device]) -> None:
    world, ra = parties
    inner = wrap_one(ra, request(world))
    assert said(send_batch(ra, inner)) == (B.ERROR, F.BAD_REQUEST)


def test_a_batch_is_bounded(parties: tuple[World, Device]) -> None:
    world, ra = parties
    assert said(send_batch(ra, *[request(world)] * 101)) == (B.ERROR, F.BAD_REQUEST)
    ra.handle = world.again(limits=Limits(max_nested_messages=2)).handle
    assert said(send_batch(ra, *[request(world, each) for each in "abc"])) == (B.ERROR, F.BAD_REQUEST)
    assert len(send_batch(ra, *[request(world, each) for each in "ab"]).nested()) == 2


@pytest.mark.parametrize(
    ("operation", "expected"),
    [("nested", (B.IP, None)), ("initialization", (B.IP, None)), ("getcacerts", (B.ERROR, F.BAD_REQUEST))],
)
def test_nested_comes_by_the_paths_that_are_for_it(
    parties: tuple[World, Device], operation: str, expected: tuple[BodyType, FailureInfo | None]
) -> None:
    world, ra = parties
    answer = world.responder.handle(wrap_one(ra, request(world)), Peer(operation=operation))
    assert said(admit(answer)) == expected


def test_an_inner_message_that_makes_the_server_fail_spoils_only_its_own_answer(
    parties: tuple[World, Device], caplog: pytest.LogCaptureFixture
) -> None:
    world, ra = parties

    class Failing(Responder):
        def _process(self, message: Message, *rest: Any) -> bytes:
            if message.body_type is B.GENM:
                raise ZeroDivisionError
            return super()._process(message, *rest)

    ra.handle = Failing(
        world.ca,
        world.store,
        world.ca.signer,
        secrets=world.ca.secrets.find,
        trust=Trust([world.ca.certificate]),
        clock=world.clock,
        profile=STRICT,
    ).handle
    genm = world.device("b").build(B.GENM, [InfoTypeAndValue.make(oids.IT_CA_CERTS)])
    answer = send_batch(ra, request(world, "a"), genm)
    assert [said(each) for each in answer.nested()] == [(B.IP, None), (B.ERROR, F.SYSTEM_FAILURE)]
    assert "ZeroDivisionError" in caplog.text
