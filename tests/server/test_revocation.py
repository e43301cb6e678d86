"""Revocation, hold and release, by the holder, by a registration authority and by the operator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from cryptography import x509

from opensslcmp.asn1 import Message
from opensslcmp.context.certificates import facts
from opensslcmp.enums import BodyType, FailureInfo, RevocationReason
from opensslcmp.errors import Rejected
from opensslcmp.server.rules import RFC9810
from opensslcmp.server.store import CertificateState, certificate_key
from tests.server.device import KEYS, Device, certificate_of, crmf, revocation, said, status_of
from tests.server.world import World

B, F, R = BodyType, FailureInfo, RevocationReason
BOTH = pytest.mark.parametrize("store", ["memory", "sql"], indirect=True)
FINAL = [each for each in R if each not in {R.CERTIFICATE_HOLD, R.REMOVE_FROM_CRL}]


def state_of(world: World, certificate: bytes) -> CertificateState:
    about = facts(certificate)
    record = world.store.certificate(certificate_key(about.issuer, about.serial_number))
    assert record is not None
    return record.state


def entry(world: World, certificate: bytes) -> x509.RevokedCertificate | None:
    crl = x509.load_der_x509_crl(world.ca.crl())
    return crl.get_revoked_certificate_by_serial_number(facts(certificate).serial_number)


def reason_in_crl(world: World, certificate: bytes) -> x509.ReasonFlags | None:
    found = entry(world, certificate)
    assert found is not None
    try:
        return found.extensions.get_extension_for_class(x509.CRLReason).value.reason
    except x509.ExtensionNotFound:
        return None


def ask(device: Device, certificate: bytes, reason: RevocationReason | None) -> Message:
    device.begin()
    return device.send(B.RR, [revocation(certificate, reason)])


def ra_of(world: World, **options: Any) -> Device:
    ra = world.device("ra")
    certificate = ra.enroll(KEYS[2], "CN=ra")
    signing = ra.signing(certificate, KEYS[2])
    signing.handle = world.again(registration_authorities=[facts(certificate).fingerprint], **options).handle
    return signing


@pytest.mark.parametrize("reason", FINAL)
def test_each_reason_is_said_and_stands_in_the_crl(world: World, device: Device, reason: RevocationReason) -> None:
    certificate = device.enroll(KEYS[0])
    answer = ask(device.signing(certificate, KEYS[0]), certificate, reason)
    assert said(answer) == (B.RP, None)
    assert status_of(answer).text == (f"revoked: {reason.text}",)
    shown = reason_in_crl(world, certificate)
    # RFC 5280, 5.3.1: unspecified is told by no reason.
    assert (shown is None) if reason is R.UNSPECIFIED else shown is not None


@BOTH
def test_a_holder_puts_a_certificate_on_hold_and_releases_it(world: World, device: Device) -> None:
    certificate = device.enroll(KEYS[0])
    signing = device.signing(certificate, KEYS[0])
    answer = ask(signing, certificate, R.CERTIFICATE_HOLD)
    assert (said(answer), status_of(answer).text) == ((B.RP, None), ("put on hold",))
    assert state_of(world, certificate) is CertificateState.REVOKED
    assert reason_in_crl(world, certificate) is x509.ReasonFlags.certificate_hold
    assert said(signing.ask(B.CR, crmf(KEYS[1]))) == (B.ERROR, F.CERT_REVOKED)
    assert said(ask(signing, certificate, R.KEY_COMPROMISE)) == (B.ERROR, F.CERT_REVOKED)
    answer = ask(signing, certificate, R.REMOVE_FROM_CRL)
    assert (said(answer), status_of(answer).text) == ((B.RP, None), ("released: in force again",))
    assert state_of(world, certificate) is CertificateState.VALID
    assert entry(world, certificate) is None
    assert said(signing.ask(B.CR, crmf(KEYS[1]))) == (B.CP, None)
    assert said(ask(signing, certificate, R.REMOVE_FROM_CRL)) == (B.RP, F.BAD_CERT_ID)


def test_a_certificate_on_hold_releases_only_itself(world: World, device: Device) -> None:
    held, other = device.enroll(KEYS[0]), device.enroll(KEYS[1], "CN=other")
    signing = device.signing(held, KEYS[0])
    for certificate, key in ((other, KEYS[1]), (held, KEYS[0])):
        assert said(ask(device.signing(certificate, key), certificate, R.CERTIFICATE_HOLD)) == (B.RP, None)
    assert said(ask(signing, other, R.REMOVE_FROM_CRL)) == (B.ERROR, F.CERT_REVOKED)
    signing.begin()
    both = [revocation(held, R.REMOVE_FROM_CRL), revocation(other, R.REMOVE_FROM_CRL)]
    assert said(signing.send(B.RR, both)) == (B.ERROR, F.CERT_REVOKED)


def test_a_stranger_neither_holds_nor_releases(world: World, device: Device) -> None:
    certificate, other = device.enroll(KEYS[0]), device.enroll(KEYS[1], "CN=other")
    stranger = device.signing(other, KEYS[1])
    assert said(ask(stranger, certificate, R.CERTIFICATE_HOLD)) == (B.RP, F.NOT_AUTHORIZED)
    assert said(ask(device.signing(certificate, KEYS[0]), certificate, R.CERTIFICATE_HOLD)) == (B.RP, None)
    assert said(ask(stranger, certificate, R.REMOVE_FROM_CRL)) == (B.RP, F.NOT_AUTHORIZED)
    assert said(ask(device, certificate, R.REMOVE_FROM_CRL)) == (B.ERROR, F.WRONG_INTEGRITY)
    assert state_of(world, certificate) is CertificateState.REVOKED


def test_release_may_be_left_to_registration_authorities(make: Callable[..., World]) -> None:
    world = make(ca_holders_release=False)
    device = world.device()
    certificate = device.enroll(KEYS[0])
    signing = device.signing(certificate, KEYS[0])
    ask(signing, certificate, R.CERTIFICATE_HOLD)
    assert said(ask(signing, certificate, R.REMOVE_FROM_CRL)) == (B.RP, F.NOT_AUTHORIZED)
    assert said(ask(ra_of(world), certificate, R.REMOVE_FROM_CRL)) == (B.RP, None)
    assert state_of(world, certificate) is CertificateState.VALID


@BOTH
def test_a_registration_authority_holds_releases_and_revokes_for_good(world: World, device: Device) -> None:
    certificate = device.enroll(KEYS[0])
    ra = ra_of(world)
    assert said(ask(ra, certificate, R.CERTIFICATE_HOLD)) == (B.RP, None)
    assert said(ask(ra, certificate, R.CERTIFICATE_HOLD)) == (B.RP, F.CERT_REVOKED)
    world.clock.now += 60
    assert said(ask(ra, certificate, R.KEY_COMPROMISE)) == (B.RP, None)
    assert reason_in_crl(world, certificate) is x509.ReasonFlags.key_compromise
    found = entry(world, certificate)
    assert found is not None
    assert found.revocation_date_utc.timestamp() == world.clock.now
    assert said(ask(ra, certificate, R.REMOVE_FROM_CRL)) == (B.RP, F.CERT_REVOKED)
    assert said(ask(ra, certificate, R.CERTIFICATE_HOLD)) == (B.RP, F.CERT_REVOKED)


def test_what_is_revoked_for_good_is_revived_where_the_rule_is_off(world: World, device: Device) -> None:
    certificate = device.enroll(KEYS[0])
    ra = ra_of(world, profile=RFC9810.but(off=["only_held_certificates_are_revived"]))
    assert said(ask(ra, certificate, R.KEY_COMPROMISE)) == (B.RP, None)
    assert said(ask(ra, certificate, R.REMOVE_FROM_CRL)) == (B.RP, None)
    assert entry(world, certificate) is None


@BOTH
def test_a_release_does_not_bring_back_what_was_updated(world: World, device: Device) -> None:
    old = device.enroll(KEYS[0])
    signing = device.signing(old, KEYS[0])
    new = certificate_of(signing.ask(B.KUR, crmf(KEYS[1], old=old)))
    assert said(signing.confirm(new)) == (B.PKICONF, None)
    ra = ra_of(world)
    for reason in (R.CERTIFICATE_HOLD, R.REMOVE_FROM_CRL):
        assert said(ask(ra, old, reason)) == (B.RP, None)
    assert state_of(world, old) is CertificateState.UPDATED
    assert said(signing.ask(B.CR, crmf(KEYS[1]))) == (B.ERROR, F.CERT_REVOKED)


@BOTH
def test_a_certificate_that_is_revoked_while_it_is_updated_stays_so(world: World, device: Device) -> None:
    old = device.enroll(KEYS[0])
    signing = device.signing(old, KEYS[0])
    new = certificate_of(signing.ask(B.KUR, crmf(KEYS[1], old=old)))
    assert said(ask(ra_of(world), old, R.SUPERSEDED)) == (B.RP, None)
    # The old one signs nothing any more, not even its certConf.
    assert said(signing.confirm(new)) == (B.ERROR, F.CERT_REVOKED)
    world.clock.now += 601
    assert world.responder.sweep() == 1
    assert (state_of(world, old), state_of(world, new)) == (CertificateState.REVOKED, CertificateState.REVOKED)


@BOTH
def test_a_certificate_that_is_revoked_before_it_is_confirmed_stays_so(world: World, device: Device) -> None:
    certificate = certificate_of(device.ask(B.IR, crmf(KEYS[0])))
    assert said(ask(ra_of(world), certificate, R.SUPERSEDED)) == (B.RP, None)
    assert said(device.confirm(certificate)) == (B.ERROR, F.CERT_REVOKED)
    assert said(device.send(B.CERT_CONF, [])) == (B.PKICONF, None)
    assert reason_in_crl(world, certificate) is x509.ReasonFlags.superseded


@BOTH
def test_the_operator_revokes_holds_and_releases(world: World, device: Device) -> None:
    certificate = device.enroll(KEYS[0])
    serial = facts(certificate).serial_number
    assert world.ca.change_status(serial, R.CERTIFICATE_HOLD) == "put on hold"
    assert entry(world, certificate) is not None
    assert world.ca.change_status(serial, R.REMOVE_FROM_CRL) == "released: in force again"
    assert entry(world, certificate) is None
    with pytest.raises(Rejected, match="not on hold"):
        world.ca.change_status(serial, R.REMOVE_FROM_CRL)
    assert world.ca.change_status(serial, R.KEY_COMPROMISE) == "revoked: keyCompromise"
    with pytest.raises(Rejected, match="revoked already"):
        world.ca.change_status(serial, R.CERTIFICATE_HOLD)
    with pytest.raises(Rejected, match="for good"):
        world.ca.change_status(serial, R.REMOVE_FROM_CRL)
    with pytest.raises(Rejected, match="no such certificate"):
        world.ca.change_status(1, R.UNSPECIFIED)
    assert said(device.signing(certificate, KEYS[0]).ask(B.CR, crmf(KEYS[1]))) == (B.ERROR, F.CERT_REVOKED)


@BOTH
@pytest.mark.parametrize("confirmed", [True, False])
def test_a_release_knows_whether_an_update_was_confirmed_that_is_revoked_now(
    world: World, device: Device, confirmed: bool
) -> None:
    old = device.enroll(KEYS[0])
    signing = device.signing(old, KEYS[0])
    ra = ra_of(world)
    new = certificate_of(signing.ask(B.KUR, crmf(KEYS[1], old=old)))
    if confirmed:
        assert said(signing.confirm(new)) == (B.PKICONF, None)
    # On hold first, so that what the update was is carried over to the second revocation.
    for certificate, reason in ((new, R.CERTIFICATE_HOLD), (new, R.SUPERSEDED), (old, R.CERTIFICATE_HOLD)):
        assert said(ask(ra, certificate, reason)) == (B.RP, None)
    answer = ask(ra, old, R.REMOVE_FROM_CRL)
    words = "released: but an update took its place" if confirmed else "released: in force again"
    assert status_of(answer).text == (words,)
    assert state_of(world, old) is (CertificateState.UPDATED if confirmed else CertificateState.VALID)
    assert said(signing.ask(B.CR, crmf(KEYS[1])))[1] is (F.CERT_REVOKED if confirmed else None)


@BOTH
def test_a_certificate_that_is_held_before_it_is_confirmed_is_confirmed_after_its_release(
    world: World, device: Device
) -> None:
    certificate = certificate_of(device.ask(B.IR, crmf(KEYS[0])))
    ra = ra_of(world)
    assert said(ask(ra, certificate, R.CERTIFICATE_HOLD)) == (B.RP, None)
    assert said(device.confirm(certificate)) == (B.ERROR, F.CERT_REVOKED)
    assert status_of(ask(ra, certificate, R.REMOVE_FROM_CRL)).text == ("released: still to be confirmed",)
    assert state_of(world, certificate) is CertificateState.UNCONFIRMED
    assert said(device.confirm(certificate)) == (B.PKICONF, None)
    assert state_of(world, certificate) is CertificateState.VALID


@BOTH
@pytest.mark.parametrize("swept", [True, False])
def test_a_certificate_that_nobody_confirmed_in_time_is_not_released(world: World, device: Device, swept: bool) -> None:
    certificate = certificate_of(device.ask(B.IR, crmf(KEYS[0])))
    ra = ra_of(world, sweep_seconds=1e9)
    assert said(ask(ra, certificate, R.CERTIFICATE_HOLD)) == (B.RP, None)
    world.clock.now += 601
    if swept:
        world.responder.sweep()
    assert said(ask(ra, certificate, R.REMOVE_FROM_CRL)) == (B.RP, F.CERT_REVOKED)
    assert state_of(world, certificate) is CertificateState.REVOKED
    with pytest.raises(Rejected, match="never confirmed"):
        world.ca.change_status(facts(certificate).serial_number, R.REMOVE_FROM_CRL)


@BOTH
def test_an_update_that_is_held_and_released_may_still_be_confirmed(world: World, device: Device) -> None:
    old = device.enroll(KEYS[0])
    signing = device.signing(old, KEYS[0])
    new = certificate_of(signing.ask(B.KUR, crmf(KEYS[1], old=old)))
    ra = ra_of(world)
    assert said(ask(ra, new, R.CERTIFICATE_HOLD)) == (B.RP, None)
    assert state_of(world, old) is CertificateState.VALID
    assert said(ask(ra, new, R.REMOVE_FROM_CRL)) == (B.RP, None)
    assert state_of(world, old) is CertificateState.UPDATING
    assert said(signing.confirm(new)) == (B.PKICONF, None)
    assert (state_of(world, old), state_of(world, new)) == (CertificateState.UPDATED, CertificateState.VALID)


@BOTH
def test_an_update_is_open_until_the_last_of_its_certificates_is_revoked(make: Callable[..., World]) -> None:
    world = make(profile=replace(RFC9810, max_requests=3))
    device = world.device()
    old = device.enroll(KEYS[0])
    signing = device.signing(old, KEYS[0])
    answer = signing.ask(B.KUR, *[crmf(KEYS[1], request_id=at, old=old) for at in range(2)])
    first, second = (each.certificate for each in answer.content().response)
    ra = ra_of(world)
    assert said(ask(ra, first, R.SUPERSEDED)) == (B.RP, None)
    assert state_of(world, old) is CertificateState.UPDATING
    assert said(ask(ra, second, R.SUPERSEDED)) == (B.RP, None)
    assert state_of(world, old) is CertificateState.VALID
