"""What a requester gets, operation by operation."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography import x509

from opensslcmp.asn1 import (
    InfoTypeAndValue,
    Message,
    OptionalValidity,
    PKIStatusInfo,
    admit,
    algorithm,
    decode,
    der,
    general_time,
    oids,
    time,
)
from opensslcmp.context.certificates import facts
from opensslcmp.context.keys import PrivateKey
from opensslcmp.context.protection import MacProtector, verify
from opensslcmp.credentials import MacParameters, SharedSecret
from opensslcmp.enums import BodyType, FailureInfo, PKIStatus, RevocationReason
from opensslcmp.errors import Rejected
from opensslcmp.server import (
    CertificateRequest,
    InfoRequest,
    Issued,
    IssuingProfile,
    Pending,
    RevocationRequest,
)
from opensslcmp.server.store import CertificateState, certificate_key
from tests.server.device import (
    KEYS,
    Device,
    certificate_of,
    conf,
    crmf,
    csr,
    extension,
    poll_request,
    revocation,
    said,
    status_of,
)
from tests.server.world import World

B, F = BodyType, FailureInfo
BOTH = pytest.mark.parametrize("store", ["memory", "sql"], indirect=True)


def state_of(world: World, certificate: bytes) -> CertificateState:
    about = facts(certificate)
    record = world.store.certificate(certificate_key(about.issuer, about.serial_number))
    assert record is not None
    assert record.certificate == certificate
    return record.state


def x(certificate: bytes) -> x509.Certificate:
    return x509.load_der_x509_certificate(certificate)


@BOTH
def test_a_device_enrolls_with_a_secret_and_confirms(world: World, device: Device) -> None:
    answer = device.ask(B.IR, crmf(KEYS[0]))
    certificate = certificate_of(answer)
    assert said(answer) == (B.IP, None)
    assert status_of(answer).status == PKIStatus.ACCEPTED
    assert state_of(world, certificate) is CertificateState.UNCONFIRMED
    assert said(device.confirm(certificate)) == (B.PKICONF, None)
    assert state_of(world, certificate) is CertificateState.VALID
    x(certificate).verify_directly_issued_by(x(world.ca.certificate))
    assert x(certificate).subject.rfc4514_string() == "CN=device"


@pytest.mark.parametrize("kind", [B.IR, B.CR, B.P10CR])
def test_each_kind_of_request_has_its_answer(device: Device, kind: BodyType) -> None:
    wanted: Any = csr(KEYS[0]) if kind is B.P10CR else crmf(KEYS[0])
    answer = device.ask(kind, wanted)
    assert answer.body_type is (B.IP if kind is B.IR else B.CP)
    assert answer.content().response[0].cert_req_id == (-1 if kind is B.P10CR else 0)
    certificate = certificate_of(answer)
    request_id = -1 if kind is B.P10CR else 0
    assert said(device.send(B.CERT_CONF, [conf(certificate, request_id=request_id)])) == (B.PKICONF, None)


def test_the_answer_has_the_ids_of_the_request_and_fresh_ones_of_its_own(world: World, device: Device) -> None:
    first = device.ask(B.IR, crmf(KEYS[0]))
    second = device.ask(B.IR, crmf(KEYS[0]))
    assert first.header.pvno == 2
    assert len(first.sender_nonce or b"") == 16 != len(second.sender_nonce or b"") - 16
    assert first.sender_nonce != second.sender_nonce
    assert first.message_time == datetime.fromtimestamp(world.clock.now, UTC)
    assert first.sender == facts(world.ca.certificate).subject
    assert first.recipient == device.credential.sender_name
    assert first.sender_kid == b"device"
    assert world.ca.certificate in first.extra_certs
    assert device.ask(B.IR, crmf(KEYS[0]), pvno=3).header.pvno == 3


@pytest.mark.parametrize(
    "parameters",
    [
        MacParameters(owf="SHA512", mac="hmac-sha512", iterations=700, salt_length=24),
        MacParameters(owf="SHA1", mac="hmac-sha1", iterations=500),
        MacParameters(scheme="pbmac1", owf="SHA256", mac="hmac-sha256", iterations=300, key_length=32),
    ],
)
def test_a_mac_is_answered_by_the_same_mac_with_the_same_salt(device: Device, parameters: MacParameters) -> None:
    device.credential = MacProtector(SharedSecret("device", "secret", parameters=parameters))
    answer = device.ask(B.IR, crmf(KEYS[0]))
    verified = verify(answer, secrets=lambda _: b"secret")
    assert verified.mac == parameters
    # RFC 9810, 5.1.3.1: PBMParameter should stay as it is throughout a transaction.
    assert der(answer.header.protection_alg) == der(admit(device.last_request).header.protection_alg)


def test_ca_pubs_come_in_an_ip_under_a_mac_only(world: World, device: Device) -> None:
    first = device.ask(B.IR, crmf(KEYS[0]), implicit=True)
    assert [der(each) for each in first.content().ca_pubs] == [world.ca.certificate]
    assert device.ask(B.CR, crmf(KEYS[0])).content().ca_pubs is None
    signing = device.signing(certificate_of(first), KEYS[0])
    assert signing.ask(B.IR, crmf(KEYS[1])).content().ca_pubs is None
    rejected = device.ask(B.IR, crmf(KEYS[0], signing_key=KEYS[1]))
    assert rejected.content().ca_pubs is None


def test_implicit_confirmation_is_echoed_exactly_when_granted(make: Callable[..., World]) -> None:
    world = make()
    device = world.device()
    answer = device.ask(B.IR, crmf(KEYS[0]), implicit=True)
    assert answer.implicit_confirm
    assert answer.confirm_wait_time is None
    assert state_of(world, certificate_of(answer)) is CertificateState.VALID
    refusing = world.device(handle=world.again(implicit_confirm=False).handle)
    answer = refusing.ask(B.IR, crmf(KEYS[0]), implicit=True)
    assert not answer.implicit_confirm
    assert answer.confirm_wait_time == datetime.fromtimestamp(world.clock.now + 600, UTC)
    assert said(refusing.confirm(certificate_of(answer))) == (B.PKICONF, None)


def test_signed_requests_get_signed_answers(world: World, device: Device) -> None:
    signing = device.signing(device.enroll(KEYS[0]), KEYS[0])
    answer = signing.ask(B.CR, crmf(KEYS[1], "CN=other"))
    assert answer.extra_certs[0] == world.ca.certificate
    assert verify(answer, pinned=world.ca.certificate).certificate == world.ca.certificate
    assert said(signing.confirm(certificate_of(answer))) == (B.PKICONF, None)


@pytest.mark.parametrize("kind", ["rsa:2048", "ed25519", "ed448", "ec:P-384"])
def test_keys_of_every_kind_are_certified_and_then_sign(device: Device, kind: str) -> None:
    key = PrivateKey.generate(kind)
    signing = device.signing(device.enroll(key), key)
    assert said(signing.ask(B.GENM, genm_body(oids.IT_CA_CERTS)))[0] is B.GENP


def genm_body(oid: str, value: bytes | None = None) -> Any:
    return InfoTypeAndValue.make(oid, value)


# -- confirmation --------------------------------------------------------------------------------------------------


@BOTH
def test_a_rejected_certificate_is_revoked(world: World, device: Device) -> None:
    certificate = certificate_of(device.ask(B.IR, crmf(KEYS[0])))
    status = PKIStatusInfo.make(PKIStatus.REJECTION, "not mine", failure=F.INCORRECT_DATA)
    assert said(device.confirm(certificate, status=status)) == (B.PKICONF, None)
    assert state_of(world, certificate) is CertificateState.REVOKED
    crl = x509.load_der_x509_crl(world.ca.crl())
    assert crl.get_revoked_certificate_by_serial_number(x(certificate).serial_number) is not None


def test_an_empty_cert_conf_revokes(world: World, device: Device) -> None:
    certificate = certificate_of(device.ask(B.IR, crmf(KEYS[0])))
    assert said(device.send(B.CERT_CONF, [])) == (B.PKICONF, None)
    assert state_of(world, certificate) is CertificateState.REVOKED


def test_a_hash_alg_of_the_peer_counts_with_version_3(device: Device) -> None:
    certificate = certificate_of(device.ask(B.IR, crmf(KEYS[0]), pvno=3))
    status = conf(certificate, digest="sha512", hash_alg=algorithm("2.16.840.1.101.3.4.2.3"))
    assert said(device.send(B.CERT_CONF, [status], pvno=2)) == (B.ERROR, F.BAD_REQUEST)
    assert said(device.send(B.CERT_CONF, [status], pvno=3)) == (B.PKICONF, None)


@BOTH
def test_what_is_not_confirmed_in_time_is_revoked(world: World, device: Device) -> None:
    certificate = certificate_of(device.ask(B.IR, crmf(KEYS[0])))
    world.clock.now += 599
    assert world.responder.sweep() == 0
    world.clock.now += 2
    assert world.responder.sweep() == 1
    assert state_of(world, certificate) is CertificateState.REVOKED
    assert said(device.confirm(certificate)) == (B.ERROR, F.BAD_REQUEST)
    assert world.store.open_transactions(b"mac:device")[1] == 0


def test_a_late_confirmation_finds_the_certificate_revoked_without_a_sweep(make: Callable[..., World]) -> None:
    world = make(sweep_seconds=1e9)
    device = world.device()
    certificate = certificate_of(device.ask(B.IR, crmf(KEYS[0])))
    world.clock.now += 601
    assert said(device.confirm(certificate)) == (B.ERROR, F.BAD_REQUEST)
    assert state_of(world, certificate) is CertificateState.REVOKED


def test_any_message_sweeps_now_and_then(world: World, device: Device) -> None:
    certificate = certificate_of(device.ask(B.IR, crmf(KEYS[0])))
    world.clock.now += 601
    world.responder.handle(b"")
    assert state_of(world, certificate) is CertificateState.REVOKED


@BOTH
def test_closed_transactions_are_forgotten_in_the_end(world: World, device: Device) -> None:
    device.enroll(KEYS[0])
    request = device.last_request
    transaction_id = device.transaction_id
    world.clock.now += 86401
    world.responder.sweep()
    assert world.store.look(transaction_id, b"") == (None, None)
    # A replay is refused by its messageTime then.
    assert said(admit(world.responder.handle(request))) == (B.ERROR, F.BAD_TIME)


def test_an_error_of_the_requester_takes_the_certificate_back(world: World, device: Device) -> None:
    from opensslcmp.asn1 import ErrorMsgContent

    certificate = certificate_of(device.ask(B.IR, crmf(KEYS[0])))
    status = PKIStatusInfo.make(PKIStatus.REJECTION, failure=F.BAD_MESSAGE_CHECK)
    answer = device.send(B.ERROR, ErrorMsgContent(pki_status_info=status))
    assert said(answer) == (B.PKICONF, None)
    assert state_of(world, certificate) is CertificateState.REVOKED


# -- retransmission ------------------------------------------------------------------------------------------------


@BOTH
def test_the_same_request_gets_the_same_answer_from_any_worker(world: World, device: Device) -> None:
    answer = device.ask(B.IR, crmf(KEYS[0]))
    request = device.last_request
    assert world.responder.handle(request) == answer.der
    assert world.again().handle(request) == answer.der
    assert world.store.certificates() == 1
    confirmed = device.confirm(certificate_of(answer))
    assert world.again().handle(device.last_request) == confirmed.der
    assert world.again().handle(request) == answer.der
    assert said(device.confirm(certificate_of(answer))) == (B.ERROR, F.CERT_CONFIRMED)


@BOTH
def test_another_request_with_a_used_transaction_id_is_refused(world: World, device: Device) -> None:
    device.ask(B.IR, crmf(KEYS[0]))
    again = device.ask(B.IR, crmf(KEYS[0]), transaction_id=device.transaction_id, recip_nonce=None)
    assert said(again) == (B.ERROR, F.TRANSACTION_ID_IN_USE)
    assert world.store.certificates() == 1


def test_a_refusal_is_retransmitted_too(world: World, device: Device) -> None:
    answer = device.ask(B.IR, crmf(KEYS[0]), recip_nonce=bytes(16))
    assert said(answer)[0] is B.ERROR
    rejected = device.ask(B.IR, crmf(KEYS[0], popo="none"))
    assert said(rejected) == (B.IP, F.BAD_POP)
    assert world.responder.handle(device.last_request) == rejected.der


@BOTH
def test_threads_with_the_same_request_issue_once(world: World, device: Device) -> None:
    device.begin()
    request = device.build(B.IR, [crmf(KEYS[0])])
    answers: list[bytes] = []
    responders = [world.responder, world.again(), world.again(), world.again()]
    threads = [threading.Thread(target=lambda each=each: answers.append(each.handle(request))) for each in responders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(answers)) == 1
    assert world.store.certificates() == 1


# -- update and revocation -----------------------------------------------------------------------------------------


@BOTH
def test_an_update_takes_the_place_of_the_old_certificate(world: World, device: Device) -> None:
    san = extension(x509.SubjectAlternativeName([x509.DNSName("device.example")]))
    old = device.enroll(KEYS[0], extensions=[san])
    signing = device.signing(old, KEYS[0])
    answer = signing.ask(B.KUR, crmf(KEYS[1], old=old))
    new = certificate_of(answer)
    assert answer.body_type is B.KUP
    assert state_of(world, old) is CertificateState.UPDATING
    assert said(signing.ask(B.KUR, crmf(KEYS[2]), transaction_id=bytes(16), recip_nonce=None)) == (
        B.ERROR,
        F.BAD_REQUEST,
    )
    signing.transaction_id = answer.transaction_id or b""
    signing.recip_nonce = answer.sender_nonce
    assert said(signing.confirm(new)) == (B.PKICONF, None)
    assert state_of(world, old) is CertificateState.UPDATED
    assert state_of(world, new) is CertificateState.VALID
    assert x(new).subject == x(old).subject
    names = x(new).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["device.example"]
    assert said(signing.ask(B.KUR, crmf(KEYS[2]))) == (B.ERROR, F.CERT_REVOKED)
    about = facts(new)
    record = world.store.certificate(certificate_key(about.issuer, about.serial_number))
    assert record is not None
    assert record.updates == certificate_key(facts(old).issuer, facts(old).serial_number)


def test_an_update_that_is_not_confirmed_leaves_the_old_certificate(world: World, device: Device) -> None:
    old = device.enroll(KEYS[0])
    signing = device.signing(old, KEYS[0])
    new = certificate_of(signing.ask(B.KUR, crmf(KEYS[1])))
    world.clock.now += 601
    world.responder.sweep()
    assert state_of(world, old) is CertificateState.VALID
    assert state_of(world, new) is CertificateState.REVOKED
    assert said(signing.ask(B.KUR, crmf(KEYS[2]), implicit=True)) == (B.KUP, None)
    assert state_of(world, old) is CertificateState.UPDATED


@BOTH
def test_the_holder_revokes_and_the_crl_shows_it_at_once(world: World, device: Device) -> None:
    certificate = device.enroll(KEYS[0])
    before = x509.load_der_x509_crl(world.ca.crl())
    signing = device.signing(certificate, KEYS[0])
    signing.begin()
    answer = signing.send(B.RR, [revocation(certificate, RevocationReason.KEY_COMPROMISE)])
    assert answer.body_type is B.RP
    assert status_of(answer).status == PKIStatus.ACCEPTED
    assert status_of(answer).text == ("revoked: keyCompromise",)
    crl = x509.load_der_x509_crl(world.ca.crl())
    entry = crl.get_revoked_certificate_by_serial_number(x(certificate).serial_number)
    assert entry is not None
    assert entry.extensions.get_extension_for_class(x509.CRLReason).value.reason is x509.ReasonFlags.key_compromise
    assert crl.is_signature_valid(x(world.ca.certificate).public_key())  # type: ignore[arg-type]
    number = x509.CRLNumber
    assert (
        crl.extensions.get_extension_for_class(number).value.crl_number
        > before.extensions.get_extension_for_class(number).value.crl_number
    )
    assert crl.next_update_utc is not None
    signing.begin()
    assert said(signing.send(B.RR, [revocation(certificate)])) == (B.ERROR, F.CERT_REVOKED)


def test_a_registration_authority_revokes_for_others(make: Callable[..., World]) -> None:
    world = make()
    device, ra = world.device(), world.device("ra")
    certificate = device.enroll(KEYS[0])
    credential = ra.enroll(KEYS[1], "CN=ra")
    stranger = ra.signing(credential, KEYS[1])
    stranger.begin()
    assert said(stranger.send(B.RR, [revocation(certificate)])) == (B.RP, F.NOT_AUTHORIZED)
    listed = world.again(registration_authorities=[facts(credential).fingerprint])
    stranger.handle = listed.handle
    stranger.begin()
    assert said(stranger.send(B.RR, [revocation(certificate)])) == (B.RP, None)
    assert state_of(world, certificate) is CertificateState.REVOKED
    # An RA says raVerified, nobody else does.
    answer = stranger.ask(B.IR, crmf(KEYS[2], popo="raVerified"))
    assert said(answer) == (B.IP, None)
    assert said(device.ask(B.IR, crmf(KEYS[2], popo="raVerified"))) == (B.IP, F.NOT_AUTHORIZED)


# -- genm ----------------------------------------------------------------------------------------------------------


def ask(device: Device, oid: str, value: bytes | None = None) -> Message:
    device.begin()
    return device.send(B.GENM, [InfoTypeAndValue.make(oid, value)])


def test_genm_is_answered(world: World, device: Device) -> None:
    def value(oid: str, given: bytes | None = None) -> tuple[str, bytes | None]:
        answer = ask(device, oid, given)
        assert answer.body_type is B.GENP, status_of(answer)
        (item,) = answer.content()
        return item.oid, item.value_der

    assert value(oids.IT_CA_CERTS) == (
        oids.IT_CA_CERTS,
        b"0\x82" + len(world.ca.certificate).to_bytes(2, "big") + world.ca.certificate,
    )
    assert value(oids.IT_ROOT_CA_CERT, world.ca.certificate) == (oids.IT_ROOT_CA_KEY_UPDATE, None)
    assert value(oids.IT_ROOT_CA_CERT) == (oids.IT_ROOT_CA_KEY_UPDATE, None)
    assert value(oids.IT_CURRENT_CRL) == (oids.IT_CURRENT_CRL, world.ca.crl())
    assert value(oids.IT_CERT_REQ_TEMPLATE)[1] is not None


def test_an_unknown_info_type_is_refused_alone(device: Device) -> None:
    assert said(ask(device, "1.2.3.4")) == (B.ERROR, F.BAD_REQUEST)
    assert said(ask(device, oids.IT_CRL_STATUS_LIST, b"\x05\x00")) == (B.ERROR, F.BAD_DATA_FORMAT)
    assert said(ask(device, oids.IT_ROOT_CA_CERT, b"\x30\x00")) == (B.ERROR, F.BAD_DATA_FORMAT)
    device.begin()
    two = [InfoTypeAndValue.make(oids.IT_CA_CERTS), InfoTypeAndValue.make("1.2.3.4")]
    assert said(device.send(B.GENM, two)) == (B.ERROR, F.BAD_REQUEST)


# -- many, later, broken -------------------------------------------------------------------------------------------


@BOTH
def test_50_interleaved_clients_each_get_their_own(world: World) -> None:
    devices = [world.device(f"device{number}") for number in range(50)]
    answers = [each.ask(B.IR, crmf(KEYS[0], f"CN={number}")) for number, each in enumerate(devices)]
    for number, (each, answer) in reversed(list(enumerate(zip(devices, answers, strict=True)))):
        certificate = certificate_of(answer)
        assert x(certificate).subject.rfc4514_string() == f"CN={number}"
        assert said(devices[number - 1].confirm(certificate, transaction_id=each.transaction_id)) != (B.PKICONF, None)
        assert said(each.confirm(certificate)) == (B.PKICONF, None)
    assert world.store.certificates() == 50


class Slow:
    """An authority that says "later" until it is allowed."""

    def __init__(self, world: World) -> None:
        self.ca = world.ca
        self.allowed = False
        self.asked: list[bytes | None] = []

    def issue(self, request: CertificateRequest) -> Issued | Pending:
        self.asked.append(request.pending)
        if not self.allowed:
            return Pending(check_after_seconds=7, text="ask my boss", reference=b"ticket")
        return self.ca.issue(request)

    def confirm(self, issued: Issued, accepted: bool) -> None:
        self.ca.confirm(issued, accepted)

    def revoke(self, request: RevocationRequest) -> None:
        self.ca.revoke(request)

    def info(self, request: InfoRequest) -> list[InfoTypeAndValue]:
        return self.ca.info(request)


@BOTH
def test_a_certificate_may_come_later(world: World) -> None:
    slow = Slow(world)
    device = world.device(handle=world.again(slow).handle)
    answer = device.ask(B.IR, crmf(KEYS[0]))
    assert status_of(answer).status == PKIStatus.WAITING
    report = device.send(B.POLL_REQ, poll_request())
    (item,) = report.content()
    assert (item.cert_req_id, item.check_after, item.reason) == (0, 7, ["ask my boss"])
    assert said(device.send(B.POLL_REQ, poll_request(5))) == (B.ERROR, F.BAD_REQUEST)
    slow.allowed = True
    device.handle = world.again(slow).handle
    answer = device.send(B.POLL_REQ, poll_request())
    certificate = certificate_of(answer)
    assert answer.body_type is B.IP
    assert said(device.confirm(certificate)) == (B.PKICONF, None)
    assert slow.asked == [None, b"ticket", b"ticket"]
    assert said(device.send(B.POLL_REQ, poll_request())) == (B.ERROR, F.BAD_REQUEST)


@BOTH
def test_of_two_updates_that_were_put_off_one_is_made(world: World) -> None:
    slow = Slow(world)
    handle = world.again(slow).handle
    old = world.device().enroll(KEYS[0])
    first, second = (world.device(handle=handle).signing(old, KEYS[0]) for _ in range(2))
    for device, key in (first, KEYS[1]), (second, KEYS[2]):
        assert status_of(device.ask(B.KUR, crmf(key))).status == PKIStatus.WAITING
    slow.allowed = True
    certificate = certificate_of(first.send(B.POLL_REQ, poll_request()))
    assert said(second.send(B.POLL_REQ, poll_request())) == (B.ERROR, F.BAD_REQUEST)
    assert said(first.confirm(certificate)) == (B.PKICONF, None)
    assert said(second.send(B.POLL_REQ, poll_request())) == (B.ERROR, F.CERT_REVOKED)


@BOTH
def test_a_single_use_secret_of_two_requests_that_were_put_off_gives_one_certificate(world: World) -> None:
    slow = Slow(world)
    handle = world.again(slow).handle
    world.ca.add_secret("once", "secret", single_use=True)
    first, second = (world.device("once", handle=handle) for _ in range(2))
    for device, key in (first, KEYS[1]), (second, KEYS[2]):
        assert status_of(device.ask(B.IR, crmf(key))).status == PKIStatus.WAITING
    slow.allowed = True
    certificate_of(first.send(B.POLL_REQ, poll_request()))
    assert said(second.send(B.POLL_REQ, poll_request())) == (B.ERROR, F.NOT_AUTHORIZED)


class Broken(Slow):
    """An authority with a bug."""

    def issue(self, request: CertificateRequest) -> Issued | Pending:
        raise ZeroDivisionError("secret detail")

    def info(self, request: InfoRequest) -> list[InfoTypeAndValue]:
        raise Rejected(F.WRONG_AUTHORITY, "ask somebody else")


def test_a_bug_in_an_authority_is_logged_and_issues_nothing(world: World, caplog: pytest.LogCaptureFixture) -> None:
    device = world.device(handle=world.again(Broken(world)).handle)
    answer = device.ask(B.IR, crmf(KEYS[0]))
    assert said(answer) == (B.IP, F.SYSTEM_FAILURE)
    assert b"secret detail" not in answer.der
    assert "ZeroDivisionError" in caplog.text
    assert world.store.certificates() == 0
    assert said(ask(device, oids.IT_CA_CERTS)) == (B.ERROR, F.WRONG_AUTHORITY)


def test_a_broken_store_is_a_system_failure(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    device = world.device()

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(world.store, "commit", fail)
    assert said(device.ask(B.IR, crmf(KEYS[0]))) == (B.ERROR, F.SYSTEM_FAILURE)
    assert world.store.certificates() == 0


def test_a_broken_signer_still_leaves_an_answer(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    import opensslcmp.server.responder as module

    def fail(*_: object, **__: object) -> bytes:
        raise OSError("token removed")

    monkeypatch.setattr(module, "protect", fail)
    answer = admit(world.responder.handle(b"nonsense"))
    assert said(answer) == (B.ERROR, F.SYSTEM_FAILURE)
    assert answer.protection is None
    assert answer.recipient == b"0\x00"


# -- what is granted -----------------------------------------------------------------------------------------------


def test_validity_is_honoured_within_bounds(make: Callable[..., World]) -> None:
    world = make(ca_profiles=[IssuingProfile(validity_days=10, max_validity_days=20)])
    device = world.device()

    def asked(days: float) -> Message:
        until = time(datetime.fromtimestamp(world.clock.now + days * 86400, UTC))
        return device.ask(B.IR, crmf(KEYS[0], validity=OptionalValidity(not_after=until)))

    now = world.clock.now
    default = x(certificate_of(device.ask(B.IR, crmf(KEYS[0]))))
    assert default.not_valid_after_utc.timestamp() == now + 10 * 86400
    answer = asked(15)
    assert status_of(answer).status == PKIStatus.ACCEPTED
    assert x(certificate_of(answer)).not_valid_after_utc.timestamp() == now + 15 * 86400
    answer = asked(40)
    assert status_of(answer).status == PKIStatus.GRANTED_WITH_MODS
    assert "validity ends" in status_of(answer).text[0]
    assert x(certificate_of(answer)).not_valid_after_utc.timestamp() == now + 20 * 86400
    assert said(asked(-1)) == (B.IP, F.BAD_CERT_TEMPLATE)


def test_a_single_use_secret_issues_once(world: World) -> None:
    world.ca.add_secret("once", "secret", single_use=True)
    device = world.device("once")
    certificate = certificate_of(device.ask(B.IR, crmf(KEYS[0])))
    assert said(device.confirm(certificate)) == (B.PKICONF, None)
    assert said(device.ask(B.IR, crmf(KEYS[0]))) == (B.ERROR, F.NOT_AUTHORIZED)
    assert world.store.certificates() == 1


def test_confirm_wait_time_is_a_generalized_time(world: World, device: Device) -> None:
    answer = device.ask(B.IR, crmf(KEYS[0]))
    item = answer.header.info(oids.IT_CONFIRM_WAIT_TIME)
    assert item is not None
    moment = general_time(datetime.fromtimestamp(world.clock.now + 600, UTC))
    assert decode(type(moment), item.value_der or b"").as_datetime() == moment.as_datetime()


def test_several_requests_are_answered_one_by_one_where_the_profile_allows(world: World) -> None:
    profile = dataclasses.replace(world.responder.profile, max_requests=3)
    device = world.device(handle=world.again(profile=profile).handle)
    wishes = [crmf(KEYS[0], request_id=0), crmf(KEYS[1], request_id=1, popo="none"), crmf(KEYS[2], request_id=2)]
    answer = device.ask(B.IR, *wishes)
    responses = answer.content().response
    assert [each.cert_req_id for each in responses] == [0, 1, 2]
    assert [each.status.failures for each in responses] == [(), (F.BAD_POP,), ()]
    one, two = responses[0].certificate, responses[2].certificate
    rejected = PKIStatusInfo.make(PKIStatus.REJECTION, failure=F.INCORRECT_DATA)
    answer = device.send(B.CERT_CONF, [conf(one), conf(two, rejected, request_id=2)])
    assert said(answer) == (B.PKICONF, None)
    assert state_of(world, one) is CertificateState.VALID
    assert state_of(world, two) is CertificateState.REVOKED


class Stubborn(Slow):
    """An authority that does not take confirmations."""

    def __init__(self, world: World, error: Exception) -> None:
        super().__init__(world)
        self.allowed = True
        self.error: Exception | None = error

    def confirm(self, issued: Issued, accepted: bool) -> None:
        if self.error is not None:
            raise self.error


def test_an_authority_may_refuse_a_confirmation_in_its_own_words(world: World) -> None:
    device = world.device(handle=world.again(Stubborn(world, Rejected(F.WRONG_AUTHORITY, "no"))).handle)
    certificate = certificate_of(device.ask(B.IR, crmf(KEYS[0])))
    answer = device.confirm(certificate)
    assert said(answer) == (B.ERROR, F.WRONG_AUTHORITY)
    assert status_of(answer).text == ("no",)
    assert state_of(world, certificate) is CertificateState.UNCONFIRMED


def test_an_authority_that_fails_does_not_keep_other_transactions_open(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    stubborn = Stubborn(world, ZeroDivisionError())
    responder = world.again(stubborn)
    device = world.device(handle=responder.handle)
    certificates = [certificate_of(device.ask(B.IR, crmf(KEYS[0]))) for _ in range(2)]
    assert said(device.confirm(certificates[1])) == (B.ERROR, F.SYSTEM_FAILURE)
    world.clock.now += 601
    assert responder.sweep() == 0
    assert "ZeroDivisionError" in caplog.text
    stubborn.error = None
    assert responder.sweep() == 2
    assert {state_of(world, each) for each in certificates} == {CertificateState.REVOKED}
