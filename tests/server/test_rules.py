"""Each rule: a message that breaks it, what it is told, and that the profiles switch it."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from opensslcmp.asn1 import (
    AlgorithmIdentifier,
    BitString,
    ErrorMsgContent,
    Extension,
    InfoTypeAndValue,
    Message,
    OptionalValidity,
    PKIStatusInfo,
    SubjectPublicKeyInfo,
    admit,
    assemble,
    decode,
    encode,
    encode_list,
    oids,
    protected_part,
    time,
    tlv,
)
from opensslcmp.asn1 import algorithm as identifier
from opensslcmp.client.announcements import ANNOUNCEMENTS
from opensslcmp.client.recovery import archive_control
from opensslcmp.context.certificates import Trust, facts
from opensslcmp.context.keys import PrivateKey
from opensslcmp.context.protection import MacProtector
from opensslcmp.credentials import MacParameters, SharedSecret
from opensslcmp.enums import BodyType, FailureInfo, PKIStatus, RevocationReason
from opensslcmp.server import CA, RULES, IssuingProfile, MemoryStore, Peer, profile_named
from opensslcmp.server.announcements import Ears
from opensslcmp.server.key_generation import KeyGenerator
from opensslcmp.server.policy import LabelPolicy
from opensslcmp.server.rules import ACCEPTED, LENIENT, PROFILES, RFC9810, STRICT
from tests.server.device import (
    CRL_REASON,
    KEYS,
    Device,
    certificate_of,
    conf,
    crmf,
    cross,
    csr,
    extension,
    mac_device,
    name,
    poll_request,
    revocation,
    said,
    status_of,
)
from tests.server.test_recovery import escrow, krr, own_escrow
from tests.server.world import Plain, World, other_ca

B, F = BodyType, FailureInfo
Case = Callable[[World], Message]
CASES: dict[str, tuple[Case, BodyType]] = {}


def breaks(rule: str, body: BodyType = B.ERROR) -> Callable[[Case], Case]:
    def add(case: Case) -> Case:
        assert rule not in CASES
        CASES[rule] = (case, body)
        return case

    return add


def ir(world: World, reference: str = "device", **fields: Any) -> Message:
    return world.device(reference).ask(B.IR, crmf(KEYS[0]), **fields)


def wish(world: World, **fields: Any) -> Message:
    return world.device().ask(B.IR, crmf(KEYS[0], **fields))


def info(oid: str, value: bytes | None = None) -> list[InfoTypeAndValue]:
    return [InfoTypeAndValue.make(oid, value)]


WEAK = PrivateKey.load(rsa.generate_private_key(65537, 1024))


@breaks("sender_is_a_name")
def _(world: World) -> Message:
    return ir(world, general_sender=tlv(b"\x82\x03a.b"))


@breaks("transaction_id_has_16_bytes")
def _(world: World) -> Message:
    return ir(world, transaction_id=os.urandom(15))


@breaks("sender_nonce_is_there")
def _(world: World) -> Message:
    return ir(world, sender_nonce=None)


@breaks("sender_nonce_has_16_bytes")
def _(world: World) -> Message:
    return ir(world, sender_nonce=os.urandom(15))


@breaks("no_recip_nonce_at_first")
def _(world: World) -> Message:
    return ir(world, recip_nonce=os.urandom(16))


@breaks("message_time_is_there")
def _(world: World) -> Message:
    return ir(world, message_time=None)


@breaks("message_time_is_near")
def _(world: World) -> Message:
    return ir(world, message_time=datetime.fromtimestamp(world.clock.now - 301, UTC))


@breaks("message_is_protected")
def _(world: World) -> Message:
    return ir(world, protected=False)


@breaks("update_is_signed")
def _(world: World) -> Message:
    return world.device().ask(B.KUR, crmf(KEYS[0]))


@breaks("revocation_is_signed")
def _(world: World) -> Message:
    device = world.device()
    certificate = device.enroll(KEYS[0])
    device.begin()
    return device.send(B.RR, [revocation(certificate)])


@breaks("implicit_confirm_is_null")
def _(world: World) -> Message:
    return ir(world, general_info=info(oids.IT_IMPLICIT_CONFIRM, b"\x02\x01\x00"))


@breaks("general_info_is_there_once")
def _(world: World) -> Message:
    return ir(world, general_info=info(oids.IT_IMPLICIT_CONFIRM, b"\x05\x00") * 2)


@breaks("implicit_confirm_is_for_requests")
def _(world: World) -> Message:
    device = world.device()
    return device.send(B.GENM, info(oids.IT_CA_CERTS), general_info=info(oids.IT_IMPLICIT_CONFIRM, b"\x05\x00"))


@breaks("confirm_wait_time_is_ours")
def _(world: World) -> Message:
    return ir(world, general_info=info(oids.IT_CONFIRM_WAIT_TIME, b"\x18\x0f20300101000000Z"))


@breaks("cert_profile_is_a_list_of_texts")
def _(world: World) -> Message:
    return ir(world, general_info=info(oids.IT_CERT_PROFILE, b"\x02\x01\x00"))


@breaks("cert_profile_is_for_requests")
def _(world: World) -> Message:
    device = world.device()
    certificate = certificate_of(device.ask(B.IR, crmf(KEYS[0])))
    return device.confirm(certificate, general_info=info(oids.IT_CERT_PROFILE, encode_list([encode("a")])))


@breaks("mac_sender_is_the_reference")
def _(world: World) -> Message:
    return ir(world, sender=name("CN=somebody"))


def behind_its_back(world: World, **options: Any) -> Device:
    """A device whose certificate the CA's key signed, and the CA knows nothing of."""
    key = PrivateKey.load(world.ca.signer.key)
    other = World(
        CA(world.ca.certificate, key, MemoryStore(), Plain(), clock=world.clock, **options),
        MemoryStore(),
        world.clock,
        world.responder,
    )
    other.store = other.ca.store
    other.responder = other.again()
    device = other.device()
    usage = extension(x509.ExtendedKeyUsage([x509.ObjectIdentifier("1.3.6.1.5.5.7.3.28")]))
    signing = device.signing(device.enroll(KEYS[0], extensions=[usage] if options else []), KEYS[0])
    signing.handle = world.responder.handle
    return signing


@breaks("signer_is_recorded")
def _(world: World) -> Message:
    return behind_its_back(world).ask(B.CR, crmf(KEYS[1]))


@breaks("signer_is_in_force")
def _(world: World) -> Message:
    device = world.device()
    certificate = device.enroll(KEYS[0])
    signing = device.signing(certificate, KEYS[0])
    signing.begin()
    assert said(signing.send(B.RR, [revocation(certificate)])) == (B.RP, None)
    return signing.ask(B.CR, crmf(KEYS[1]))


@breaks("no_update_is_open")
def _(world: World) -> Message:
    device = world.device()
    signing = device.signing(device.enroll(KEYS[0]), KEYS[0])
    certificate_of(signing.ask(B.KUR, crmf(KEYS[1])))
    return signing.ask(B.CR, crmf(KEYS[2]))


@breaks("signer_is_confirmed")
def _(world: World) -> Message:
    device = world.device()
    signing = device.signing(certificate_of(device.ask(B.IR, crmf(KEYS[0]))), KEYS[0])
    return signing.ask(B.CR, crmf(KEYS[1]))


@breaks("secret_is_not_used_up")
def _(world: World) -> Message:
    reference = os.urandom(4).hex()
    world.ca.add_secret(reference, "secret", single_use=True)
    device = world.device(reference)
    device.enroll(KEYS[0])
    return device.ask(B.IR, crmf(KEYS[1]))


@breaks("transaction_id_is_free")
def _(world: World) -> Message:
    device = world.device()
    device.ask(B.IR, crmf(KEYS[0]))
    return device.ask(B.IR, crmf(KEYS[0]), transaction_id=device.transaction_id, recip_nonce=None)


@breaks("transaction_is_known")
def _(world: World) -> Message:
    device = world.device()
    certificate = certificate_of(device.ask(B.IR, crmf(KEYS[0])))
    return device.confirm(certificate, transaction_id=os.urandom(16))


@breaks("protection_is_of_the_same_kind")
def _(world: World) -> Message:
    device = world.device()
    signing = device.signing(device.enroll(KEYS[0]), KEYS[0])
    certificate = certificate_of(signing.ask(B.CR, crmf(KEYS[1])))
    return signing.confirm(certificate, protector=device.credential)


@breaks("new_certificate_does_not_sign")
def _(world: World) -> Message:
    device = world.device()
    signing = device.signing(device.enroll(KEYS[0]), KEYS[0])
    certificate = certificate_of(signing.ask(B.CR, crmf(KEYS[1])))
    return signing.confirm(certificate, protector=device.signing(certificate, KEYS[1]).credential)


@breaks("credential_is_the_same")
def _(world: World) -> Message:
    device = world.device()
    certificate = certificate_of(device.ask(B.IR, crmf(KEYS[0])))
    return device.confirm(certificate, protector=world.device("other").credential)


@breaks("transaction_stays_at_its_label")
def _(world: World) -> Message:
    world.device()
    responder = world.again(labels={"here": LabelPolicy(), "there": LabelPolicy()}, profile=world.responder.profile)
    here, there = (
        mac_device(lambda der, label=label: responder.handle(der, Peer(label=label)), world.clock)  # type: ignore[misc]
        for label in ("here", "there")
    )
    certificate = certificate_of(here.ask(B.IR, crmf(KEYS[0])))
    there.transaction_id, there.recip_nonce = here.transaction_id, here.recip_nonce
    return there.confirm(certificate)


@breaks("mac_algorithm_is_the_same")
def _(world: World) -> Message:
    device = world.device()
    certificate = certificate_of(device.ask(B.IR, crmf(KEYS[0])))
    other = MacProtector(
        SharedSecret("device", "secret", parameters=MacParameters(scheme="pbmac1", iterations=100, key_length=32))
    )
    return device.confirm(certificate, protector=other)


@breaks("recip_nonce_is_there")
def _(world: World) -> Message:
    device = world.device()
    return device.confirm(certificate_of(device.ask(B.IR, crmf(KEYS[0]))), recip_nonce=None)


@breaks("recip_nonce_is_ours")
def _(world: World) -> Message:
    device = world.device()
    return device.confirm(certificate_of(device.ask(B.IR, crmf(KEYS[0]))), recip_nonce=os.urandom(16))


@breaks("sender_nonce_is_fresh")
def _(world: World) -> Message:
    device = world.device()
    certificate = certificate_of(device.ask(B.IR, crmf(KEYS[0])))
    return device.confirm(certificate, sender_nonce=device.sender_nonce)


@breaks("requests_are_not_too_many", B.IP)
def _(world: World) -> Message:
    return world.device().ask(B.IR, crmf(KEYS[0]), crmf(KEYS[1], request_id=1))


@breaks("request_ids_count_from_zero", B.IP)
def _(world: World) -> Message:
    return wish(world, request_id=1)


@breaks("cert_profiles_are_as_many_as_requests", B.IP)
def _(world: World) -> Message:
    return ir(world, general_info=info(oids.IT_CERT_PROFILE, encode_list([encode("default"), encode("b")])))


@breaks("public_key_is_there", B.IP)
def _(world: World) -> Message:
    return wish(world, public_key=None)


def central(world: World, device: Device | None = None, kind: str = "1.2.840.10045.2.1", **fields: Any) -> Message:
    """A request for a key, where keys are made."""
    generator = KeyGenerator(world.ca.certificate, world.ca._key, Plain())
    device = device or world.device()
    device.handle = world.again(profile=world.responder.profile, key_generator=generator).handle
    template = SubjectPublicKeyInfo(algorithm=identifier(kind), subject_public_key=BitString(b"", 0))
    if kind == "1.2.840.10045.2.1":
        template = dataclasses.replace(
            template, algorithm=decode(SubjectPublicKeyInfo, KEYS[0].public_key_der).algorithm
        )
    fields = {"pvno": 3, **fields}
    popo = fields.pop("popo", "none")
    return device.ask(B.IR, crmf(KEYS[0], public_key=template, popo=popo), **fields)


@breaks("central_key_needs_version_3", B.IP)
def _(world: World) -> Message:
    return central(world, pvno=2)


@breaks("central_key_is_of_a_kind_that_is_made", B.IP)
def _(world: World) -> Message:
    return central(world, kind="1.3.101.113")


@breaks("central_key_can_be_received", B.IP)
def _(world: World) -> Message:
    device = world.device()
    usage = extension(x509.KeyUsage(True, *(False,) * 8), critical=True)
    certificate = certificate_of(device.ask(B.IR, crmf(KEYS[1], "CN=signs", extensions=[usage]), implicit=True))
    return central(world, device.signing(certificate, KEYS[1]))


@breaks("central_key_has_no_proof", B.IP)
def _(world: World) -> Message:
    return central(world, popo="signature")


@breaks("key_to_archive_is_that_of_the_request", B.IP)
def _(world: World) -> Message:
    request = crmf(KEYS[0], controls=[archive_control(KEYS[1], own_escrow()[0], None)])
    return recovering(world).ask(B.IR, request)


def recovering(world: World, device: Device | None = None, **options: Any) -> Device:
    """A device of a server with an escrow."""
    device = device or world.device()
    device.handle = world.again(profile=world.responder.profile, escrow=escrow(), **options).handle
    return device


@breaks("recovery_is_one_request", B.KRP)
def _(world: World) -> Message:
    return krr(world, recovering(world), number=2)


@breaks("recovery_needs_version_3", B.KRP)
def _(world: World) -> Message:
    return krr(world, recovering(world), pvno=2)


@breaks("recovered_key_can_be_received", B.KRP)
def _(world: World) -> Message:
    device = world.device()
    certificate = certificate_of(device.ask(B.IR, crmf(KEYS[0]), implicit=True))
    return krr(world, recovering(world, device.signing(certificate, KEYS[0])))


@breaks("recovery_asks_for_no_certificate", B.KRP)
def _(world: World) -> Message:
    return krr(world, recovering(world), popo=crmf(KEYS[0]).popo)


@breaks("recovery_for_others_names_the_certificate", B.KRP)
def _(world: World) -> Message:
    device = world.device()
    usage = x509.KeyUsage(True, False, False, False, True, False, False, False, False)
    asked = crmf(KEYS[0], extensions=[extension(usage, critical=True)])
    certificate = certificate_of(device.ask(B.IR, asked, implicit=True))
    ras = [facts(certificate).fingerprint]
    return krr(world, recovering(world, device.signing(certificate, KEYS[0]), registration_authorities=ras))


@breaks("key_is_one_that_is_certified", B.IP)
def _(world: World) -> Message:
    return world.device().ask(B.IR, crmf(WEAK))


@breaks("subject_or_san_is_there", B.IP)
def _(world: World) -> Message:
    return wish(world, subject=b"0\x00")


@breaks("secret_is_for_the_names", B.IP)
def _(world: World) -> Message:
    reference = os.urandom(4).hex()
    world.ca.add_secret(reference, "secret", subject="CN=device-[0-9]+")
    return world.device(reference).ask(B.IR, crmf(KEYS[0], "CN=device-7a"))


@breaks("secret_is_for_the_profile", B.IP)
def _(world: World) -> Message:
    reference = os.urandom(4).hex()
    world.ca.add_secret(reference, "secret", profiles=["other"])
    return ir(world, reference, general_info=info(oids.IT_CERT_PROFILE, encode_list([encode("default")])))


@breaks("signer_asks_for_its_own_names", B.CP)
def _(world: World) -> Message:
    device = world.device()
    return device.signing(device.enroll(KEYS[0]), KEYS[0]).ask(B.CR, crmf(KEYS[1], "CN=other"))


@breaks("template_leaves_the_rest_to_us", B.IP)
def _(world: World) -> Message:
    return wish(world, serial_number=5)


@breaks("csr_has_version_1", B.CP)
def _(world: World) -> Message:
    return world.device().ask(B.P10CR, csr(KEYS[0], version=1))


@breaks("extensions_are_there_once", B.IP)
def _(world: World) -> Message:
    san = extension(x509.SubjectAlternativeName([x509.DNSName("a.example")]))
    return wish(world, extensions=[san, san])


@breaks("basic_constraints_fit", B.IP)
def _(world: World) -> Message:
    usage = x509.KeyUsage(True, False, False, False, False, True, False, False, False)
    return wish(world, extensions=[extension(x509.BasicConstraints(ca=False, path_length=None)), extension(usage)])


@breaks("old_cert_id_names_the_signer", B.KUP)
def _(world: World) -> Message:
    device = world.device()
    other = device.enroll(KEYS[2], "CN=other")
    signing = device.signing(device.enroll(KEYS[0]), KEYS[0])
    return signing.ask(B.KUR, crmf(KEYS[1], old=other))


@breaks("update_is_of_our_certificate", B.KUP)
def _(world: World) -> Message:
    signing = world.device().signing(world.ca.certificate, PrivateKey.load(world.ca.signer.key))
    return signing.ask(B.KUR, crmf(KEYS[1]))


@breaks("updated_key_is_new", B.KUP)
def _(world: World) -> Message:
    device = world.device()
    return device.signing(device.enroll(KEYS[0]), KEYS[0]).ask(B.KUR, crmf(KEYS[0]))


@breaks("possession_is_proven", B.IP)
def _(world: World) -> Message:
    return wish(world, popo="none")


@breaks("ra_verified_is_said_by_an_ra", B.IP)
def _(world: World) -> Message:
    return wish(world, popo="raVerified")


@breaks("proof_is_of_an_accepted_kind", B.IP)
def _(world: World) -> Message:
    return wish(world, popo="thisMessage")


@breaks("proof_fits_the_key", B.IP)
def _(world: World) -> Message:
    return world.device().ask(BodyType.IR, crmf(KEYS[0], popo="keyEncipherment"), pvno=3)


@breaks("key_that_is_to_sign_signs", B.IP)
def _(world: World) -> Message:
    usage = Extension(extn_id=x509.ObjectIdentifier("2.5.29.15"), critical=True, extn_value=b"\x03\x02\x07\x80")
    asked = crmf(KEYS[0], popo="keyAgreement", extensions=[usage])
    return world.device().ask(BodyType.IR, asked, pvno=3)


@breaks("challenge_is_open", B.ERROR)
def _(world: World) -> Message:
    device = world.device()
    device.ask(BodyType.IR, crmf(KEYS[0]))
    return device.send(BodyType.POPDECR, [1])


@breaks("popo_input_is_there_when_needed", B.IP)
def _(world: World) -> Message:
    san = extension(x509.SubjectAlternativeName([x509.DNSName("a.example")]))
    return wish(world, subject=None, extensions=[san])


@breaks("popo_input_is_not_there_needlessly", B.IP)
def _(world: World) -> Message:
    return wish(world, popo="input", popo_sender=name("CN=device"))


@breaks("popo_input_fits", B.IP)
def _(world: World) -> Message:
    san = extension(x509.SubjectAlternativeName([x509.DNSName("a.example")]))
    return wish(world, subject=None, extensions=[san], popo="input", popo_sender=name("CN=somebody"))


@breaks("possession_verifies", B.IP)
def _(world: World) -> Message:
    return wish(world, signing_key=KEYS[1])


@breaks("nothing_is_confirmed_yet")
def _(world: World) -> Message:
    device = world.device()
    return device.confirm(certificate_of(device.ask(B.IR, crmf(KEYS[0]), implicit=True)))


@breaks("confirmation_is_expected")
def _(world: World) -> Message:
    device = world.device()
    assert said(device.ask(B.IR, crmf(KEYS[0], popo="none"))) == (B.IP, F.BAD_POP)
    return device.confirm(world.ca.certificate)


@breaks("confirmed_ids_are_known")
def _(world: World) -> Message:
    device = world.device()
    certificate = certificate_of(device.ask(B.IR, crmf(KEYS[0])))
    return device.send(B.CERT_CONF, [conf(certificate, request_id=3)])


@breaks("each_certificate_has_one_status")
def _(world: World) -> Message:
    device = world.device()
    certificate = certificate_of(device.ask(B.IR, crmf(KEYS[0])))
    return device.send(B.CERT_CONF, [conf(certificate), conf(certificate)])


@breaks("status_makes_sense")
def _(world: World) -> Message:
    device = world.device()
    certificate = certificate_of(device.ask(B.IR, crmf(KEYS[0])))
    return device.confirm(certificate, status=PKIStatusInfo.make(PKIStatus.ACCEPTED, failure=F.BAD_ALG))


@breaks("hash_alg_needs_version_3")
def _(world: World) -> Message:
    device = world.device()
    certificate = certificate_of(device.ask(B.IR, crmf(KEYS[0])))
    status = conf(certificate, hash_alg=identifier("2.16.840.1.101.3.4.2.1"))
    return device.send(B.CERT_CONF, [status])


@breaks("hash_alg_is_known")
def _(world: World) -> Message:
    device = world.device()
    certificate = certificate_of(device.ask(B.IR, crmf(KEYS[0]), pvno=3))
    return device.send(B.CERT_CONF, [conf(certificate, hash_alg=identifier("1.2.3.4"))], pvno=3)


@breaks("hash_is_the_certificates")
def _(world: World) -> Message:
    device = world.device()
    certificate = certificate_of(device.ask(B.IR, crmf(KEYS[0])))
    return device.confirm(certificate + b"x")


@breaks("transaction_is_waiting")
def _(world: World) -> Message:
    device = world.device()
    device.ask(B.IR, crmf(KEYS[0]))
    return device.send(B.POLL_REQ, poll_request())


def rr(world: World, *items: Any, **template: Any) -> Message:
    device = world.device()
    certificate = device.enroll(KEYS[0])
    signing = device.signing(certificate, KEYS[0])
    signing.begin()
    wanted = [item(certificate) if callable(item) else item for item in items]
    return signing.send(B.RR, wanted or [revocation(certificate, **template)])


@breaks("revocation_is_one", B.RP)
def _(world: World) -> Message:
    return rr(world, revocation, revocation)


@breaks("issuer_and_serial_are_there", B.RP)
def _(world: World) -> Message:
    return rr(world, serial_number=None)


@breaks("reason_is_there_once", B.RP)
def _(world: World) -> Message:
    from opensslcmp.asn1 import Extension, RevDetails

    def twice(certificate: bytes) -> RevDetails:
        reasons = [Extension(extn_id=CRL_REASON, extn_value=bytes((10, 1, number))) for number in (1, 3)]
        return RevDetails(cert_details=revocation(certificate).cert_details, crl_entry_details=reasons)

    return rr(world, twice)


@breaks("reason_is_there", B.RP)
def _(world: World) -> Message:
    return rr(world, lambda certificate: revocation(certificate, None))


@breaks("reason_is_known", B.RP)
def _(world: World) -> Message:
    return rr(world, reason=7)


@breaks("revoked_certificate_is_ours", B.RP)
def _(world: World) -> Message:
    return rr(world, serial_number=12345)


@breaks("other_details_agree", B.RP)
def _(world: World) -> Message:
    return rr(world, subject=tlv(name("CN=somebody")))


@breaks("revoker_is_the_holder_or_an_ra", B.RP)
def _(world: World) -> Message:
    other = world.device().enroll(KEYS[1], "CN=other")
    return rr(world, revocation(other))


@breaks("certificate_is_not_revoked", B.RP)
def _(world: World) -> Message:
    device = world.device()
    ra = device.signing(device.enroll(KEYS[1], "CN=ra"), KEYS[1])
    ra.handle = world.again(
        profile=world.responder.profile, registration_authorities=[facts(ra.credential.certificates[0]).fingerprint]
    ).handle
    certificate = device.enroll(KEYS[0])
    for _ in range(2):
        ra.begin()
        answer = ra.send(B.RR, [revocation(certificate)])
    return answer


@breaks("only_held_certificates_are_revived", B.RP)
def _(world: World) -> Message:
    device = world.device()
    ra = device.signing(device.enroll(KEYS[1], "CN=ra"), KEYS[1])
    ra.handle = world.again(
        profile=world.responder.profile, registration_authorities=[facts(ra.credential.certificates[0]).fingerprint]
    ).handle
    certificate = device.enroll(KEYS[0])
    for reason in (RevocationReason.KEY_COMPROMISE, RevocationReason.REMOVE_FROM_CRL):
        ra.begin()
        answer = ra.send(B.RR, [revocation(certificate, reason)])
    return answer


@breaks("confirmed_certificate_is_in_force")
def _(world: World) -> Message:
    device = world.device()
    certificate = certificate_of(device.ask(B.IR, crmf(KEYS[0])))
    world.ca.change_status(facts(certificate).serial_number, RevocationReason.SUPERSEDED)
    return device.confirm(certificate)


@breaks("valid_certificate_is_not_revived", B.RP)
def _(world: World) -> Message:
    return rr(world, reason=RevocationReason.REMOVE_FROM_CRL)


@breaks("info_types_are_not_too_many")
def _(world: World) -> Message:
    return world.device().send(B.GENM, info(oids.IT_CA_CERTS) + info(oids.IT_CURRENT_CRL))


@breaks("info_types_are_named")
def _(world: World) -> Message:
    return world.device().send(B.GENM, [])


@breaks("info_values_are_where_they_belong")
def _(world: World) -> Message:
    return world.device().send(B.GENM, info(oids.IT_CA_CERTS, b"\x02\x01\x00"))


@breaks("info_values_are_there")
def _(world: World) -> Message:
    return world.device().send(B.GENM, info(oids.IT_CRL_STATUS_LIST))


@breaks("info_values_decode")
def _(world: World) -> Message:
    return world.device().send(B.GENM, info(oids.IT_SUPP_LANG_TAGS, b"\x30\x03\x02\x01\x00"))


def nested(world: World, *inner: bytes, is_ra: bool = True, **fields: Any) -> Message:
    device = world.device()
    ra = device.signing(device.enroll(KEYS[2], "CN=ra"), KEYS[2])
    listed = [facts(ra.credential.certificates[0]).fingerprint] if is_ra else []
    ra.handle = world.again(profile=world.responder.profile, registration_authorities=listed).handle
    answered = fields.pop("answered", ())
    answer = admit(ra.handle(ra.build(B.NESTED, list(inner), **fields)))
    assert answer.recip_nonce in {fields.get("sender_nonce", ra.sender_nonce), *answered}
    return answer


def inner_request(world: World, reference: str, **fields: Any) -> bytes:
    return world.device(reference).build(B.IR, [crmf(KEYS[0])], **fields)


@breaks("nested_is_signed")
def _(world: World) -> Message:
    return world.device().send(B.NESTED, [inner_request(world, "a")])


@breaks("nested_is_signed_by_an_ra")
def _(world: World) -> Message:
    return nested(world, inner_request(world, "a"), is_ra=False)


def announced(world: World, device: Device) -> Message:
    """What a server that listens for cann says to a device that announces: an error, or nothing, which stands here as pkiconf."""
    ears = Ears(trust=Trust([world.ca.certificate]), hooks={B.CANN: lambda _: None})
    responder = world.again(announcements=ears, profile=world.responder.profile)

    def handle(der: bytes) -> bytes:
        asked = admit(der).header
        header = dataclasses.replace(asked, recip_nonce=asked.sender_nonce, protection_alg=None)
        return responder.handle(der) or assemble(protected_part(header, B.PKICONF, b"\x05\x00"), None)

    device.handle = handle
    return device.send(B.CANN, world.ca.certificate)


@breaks("announcement_is_signed")
def _(world: World) -> Message:
    return announced(world, world.device())


@breaks("announcement_is_by_a_ca")
def _(world: World) -> Message:
    device = world.device()
    return announced(world, device.signing(device.enroll(KEYS[0]), KEYS[0]))


@breaks("batched_message_is_protected")
def _(world: World) -> Message:
    return nested(world, inner_request(world, "a", protected=False), inner_request(world, "b"))


@breaks("one_message_is_no_batch")
def _(world: World) -> Message:
    return nested(world, inner_request(world, "a"))


@breaks("added_protection_repeats_the_nonce")
def _(world: World) -> Message:
    same, nonce = os.urandom(16), os.urandom(16)
    inner = inner_request(world, "a", transaction_id=same, sender_nonce=nonce)
    # Whether refused or answered for the entity, it is the nonce of the inner or of the outer message that comes back.
    return nested(world, inner, transaction_id=same, answered=(nonce,))


@breaks("batched_transaction_ids_differ")
def _(world: World) -> Message:
    same = os.urandom(16)
    return nested(world, *[inner_request(world, each, transaction_id=same) for each in "ab"])


@breaks("batched_nonces_differ")
def _(world: World) -> Message:
    same = os.urandom(16)
    return nested(world, *[inner_request(world, each, sender_nonce=same) for each in "ab"])


def ccr(world: World, *, count: int = 1, popo: str = "signature", **template: Any) -> Message:
    certificate, key = other_ca()
    responder = world.again(
        profile=dataclasses.replace(world.responder.profile, max_requests=2),
        cross_certification=Trust([certificate]),
        registration_authorities=[facts(certificate).fingerprint],
    )
    algorithm = PrivateKey.load(world.ca.signer.key).signature_algorithm()
    asking = world.device(handle=responder.handle).signing(certificate, key)
    wishes = [
        cross(key, certificate, algorithm, world.clock.now, popo=popo, request_id=at, **template) for at in range(count)
    ]
    return asking.ask(B.CCR, *wishes)


@breaks("cross_request_is_signed")
def _(world: World) -> Message:
    handle = world.again(profile=world.responder.profile, cross_certification=Trust([other_ca()[0]])).handle
    return world.device(handle=handle).ask(B.CCR, crmf(KEYS[0]))


@breaks("cross_requester_is_a_ca")
def _(world: World) -> Message:
    device = world.device()
    asking = device.signing(device.enroll(KEYS[0]), KEYS[0])
    trust = Trust([world.ca.certificate])
    asking.handle = world.again(profile=world.responder.profile, cross_certification=trust).handle
    return asking.ask(B.CCR, crmf(KEYS[0]))


@breaks("cross_request_is_one", B.CCP)
def _(world: World) -> Message:
    return ccr(world, count=2)


@breaks("cross_template_is_complete", B.CCP)
def _(world: World) -> Message:
    return ccr(world, validity=None)


@breaks("cross_subject_is_the_requesters", B.CCP)
def _(world: World) -> Message:
    return ccr(world, subject=name("CN=somebody"))


@breaks("cross_possession_is_proven_by_signature", B.CCP)
def _(world: World) -> Message:
    return ccr(world, popo="raVerified")


def rebuilt(whole: Message, protector: Any, certificates: tuple[bytes, ...], **changes: Any) -> bytes:
    """A message with other header fields, protected again over them, and with these extraCerts."""
    algorithm, make = protector.begin()
    header = dataclasses.replace(whole.header, protection_alg=decode(AlgorithmIdentifier, algorithm), **changes)
    part = protected_part(header, whole.body_type, whole.body_der)
    return assemble(part, make(part), certificates)


@breaks("transaction_id_is_there")
def _(world: World) -> Message:
    device = world.device()
    content = ErrorMsgContent(pki_status_info=PKIStatusInfo.make(PKIStatus.REJECTION, failure=F.BAD_ALG))
    return admit(world.responder.handle(device.build(B.ERROR, content, transaction_id=None)))


@breaks("sender_kid_is_there")
def _(world: World) -> Message:
    device = world.device()
    request = device.build(B.IR, [crmf(KEYS[0])])
    return admit(world.responder.handle(rebuilt(admit(request), device.credential, (), sender_kid=None)))


@breaks("signer_is_first_of_extra_certs")
def _(world: World) -> Message:
    device = world.device()
    certificate = device.enroll(KEYS[0])
    signing = device.signing(certificate, KEYS[0])
    request = admit(signing.build(B.CR, [crmf(KEYS[1])], recip_nonce=None, transaction_id=os.urandom(16)))
    certificates = (world.ca.certificate, certificate)
    return admit(world.responder.handle(rebuilt(request, signing.credential, certificates)))


@breaks("key_usage_allows_signing")
def _(world: World) -> Message:
    usage = extension(x509.KeyUsage(False, False, True, False, False, False, False, False, False))
    device = world.device()
    return device.signing(device.enroll(KEYS[0], extensions=[usage]), KEYS[0]).ask(B.CR, crmf(KEYS[1]))


@breaks("open_transactions_are_bounded")
def _(world: World) -> Message:
    profile = dataclasses.replace(world.responder.profile, max_open_per_credential=1)
    device = world.device(os.urandom(4).hex(), handle=world.again(profile=profile).handle)
    certificate_of(device.ask(B.IR, crmf(KEYS[0])))
    return device.ask(B.IR, crmf(KEYS[0]))


@breaks("messages_are_bounded")
def _(world: World) -> Message:
    profile = dataclasses.replace(world.responder.profile, max_messages_per_transaction=1)
    device = world.device(handle=world.again(profile=profile).handle)
    return device.confirm(certificate_of(device.ask(B.IR, crmf(KEYS[0]))))


@breaks("key_and_subject_are_new", B.IP)
def _(world: World) -> Message:
    ca = CA(
        world.ca.certificate,
        PrivateKey.load(world.ca.signer.key),
        world.store,
        Plain(),
        profiles=[IssuingProfile(reissue=False)],
        clock=world.clock,
    )
    device = world.device(handle=world.again(ca, profile=world.responder.profile).handle)
    device.ask(B.IR, crmf(KEYS[0]), implicit=True)
    return device.ask(B.IR, crmf(KEYS[0]))


def at(world: World, operation: str) -> Callable[[bytes], bytes]:
    return lambda request: world.responder.handle(request, Peer(operation=operation))


@breaks("body_is_for_the_paths_operation")
def _(world: World) -> Message:
    return world.device(handle=at(world, "revocation")).ask(B.IR, crmf(KEYS[0]))


@breaks("info_type_is_for_the_paths_operation")
def _(world: World) -> Message:
    return world.device(handle=at(world, "getcrls")).send(B.GENM, info(oids.IT_CA_CERTS))


def test_every_rule_has_a_message_that_breaks_it() -> None:
    assert CASES.keys() == RULES.keys()


@pytest.mark.parametrize("rule", CASES)
def test_a_broken_rule_is_told_with_its_fail_info(make: Callable[..., World], rule: str) -> None:
    case, body = CASES[rule]
    world = make(profile=RFC9810.but(on=[rule]))
    before = world.store.certificates()
    assert said(case(world)) == (body, RULES[rule].failure)
    assert before == 0


# What is refused with the same words when the rule is off, and why that cannot be otherwise.
STILL_REFUSED = {
    "message_is_protected": "nobody knows who asks",
    "transaction_id_is_there": "there is nothing to remember it by",
    "transaction_id_is_free": "the store has one transaction under a transactionID",
    "transaction_is_known": "there is nothing to follow up",
    "key_to_archive_is_that_of_the_request": "no other key is archived",
    "cert_profile_is_a_list_of_texts": "nobody knows which profile is meant",
}


def words(answer: Message) -> list[str]:
    """The statusString of a rejection."""
    return list(status_of(answer).status_string or ()) if said(answer)[1] is not None else []


@pytest.mark.parametrize("rule", CASES)
def test_a_rule_that_is_off_is_not_told(make: Callable[..., World], rule: str) -> None:
    case, _ = CASES[rule]
    refused = case(make(profile=RFC9810.but(on=[rule])))
    answer = case(make(profile=RFC9810.but(off=[rule])))
    assert words(refused)
    # Another rule, or the issuing profile, may refuse the same message; but then in other words.
    assert (words(answer) == words(refused)) is (rule in STILL_REFUSED)
    if rule in STILL_REFUSED:
        assert said(answer)[1] == RULES[rule].failure


def test_open_transactions_are_bounded_in_all_and_by_credential(make: Callable[..., World]) -> None:
    world = make(profile=dataclasses.replace(RFC9810, max_open_per_credential=2, max_open_transactions=3))
    one, two = world.device("one"), world.device("two")
    for _ in range(2):
        certificate = certificate_of(one.ask(B.IR, crmf(KEYS[0])))
    transaction = one.transaction_id, one.recip_nonce
    assert said(one.ask(B.IR, crmf(KEYS[0]))) == (B.ERROR, F.SYSTEM_UNAVAIL)
    certificate_of(two.ask(B.IR, crmf(KEYS[0])))
    assert said(two.ask(B.IR, crmf(KEYS[0]))) == (B.ERROR, F.SYSTEM_UNAVAIL)
    one.transaction_id, one.recip_nonce = transaction
    assert said(one.confirm(certificate)) == (B.PKICONF, None)
    certificate_of(admit(two.handle(two.last_request)))  # "later" is not for ever
    assert said(one.ask(B.IR, crmf(KEYS[0]))) == (B.ERROR, F.SYSTEM_UNAVAIL)


def test_messages_of_a_transaction_are_bounded(make: Callable[..., World]) -> None:
    world = make(profile=dataclasses.replace(RFC9810, max_messages_per_transaction=3))
    device = world.device()
    certificate = certificate_of(device.ask(B.IR, crmf(KEYS[0])))
    for _ in range(2):
        assert said(device.confirm(certificate + b"x")) == (B.ERROR, F.BAD_CERT_ID)
    assert said(device.confirm(certificate)) == (B.ERROR, F.BAD_REQUEST)


@pytest.mark.parametrize("nonce", [b"eight by", b"sixteen bytes 16", bytes(64)])
def test_a_nonce_of_any_length_is_taken_once(world: World, nonce: bytes) -> None:
    device = world.device()
    certificate = certificate_of(device.ask(B.IR, crmf(KEYS[0]), sender_nonce=nonce))
    assert said(device.confirm(certificate, sender_nonce=nonce)) == (B.ERROR, F.BAD_SENDER_NONCE)


def test_the_same_key_and_subject_are_certified_once_where_the_profile_says_so(make: Callable[..., World]) -> None:
    world = make(ca_profiles=[IssuingProfile(reissue=False)])
    device = world.device()
    device.enroll(KEYS[0])
    assert said(device.ask(B.IR, crmf(KEYS[0]))) == (B.IP, F.DUPLICATE_CERT_REQ)
    assert said(device.ask(B.IR, crmf(KEYS[0], "CN=other"))) == (B.IP, None)


def test_a_key_is_updated_with_itself_where_the_profile_says_so(make: Callable[..., World]) -> None:
    world = make(ca_profiles=[IssuingProfile(reuse_key=True)])
    device = world.device()
    signing = device.signing(device.enroll(KEYS[0]), KEYS[0])
    assert said(signing.ask(B.KUR, crmf(KEYS[0]))) == (B.KUP, None)


def test_a_certificate_that_may_not_sign_is_not_authorised(make: Callable[..., World]) -> None:
    usage = extension(x509.KeyUsage(False, False, True, False, False, False, False, False, False))
    world = make()
    device = world.device()
    signing = device.signing(device.enroll(KEYS[0], extensions=[usage]), KEYS[0])
    assert said(signing.ask(B.CR, crmf(KEYS[1]))) == (B.ERROR, F.NOT_AUTHORIZED)
    signing.handle = world.again(profile=LENIENT).handle
    assert said(signing.ask(B.CR, crmf(KEYS[1]))) == (B.CP, None)


def test_a_certificate_that_is_not_in_the_records_signs_when_it_is_listed_as_an_ras(world: World) -> None:
    signing = behind_its_back(world)
    assert said(signing.ask(B.CR, crmf(KEYS[1]))) == (B.ERROR, F.SIGNER_NOT_TRUSTED)
    listed = [facts(signing.credential.certificates[0]).fingerprint]
    signing.handle = world.again(registration_authorities=listed).handle
    assert said(signing.ask(B.CR, crmf(KEYS[1], popo="raVerified"))) == (B.CP, None)


def test_the_usage_of_registration_authorities_counts_under_anchors_that_are_marked_for_it(
    world: World, tmp_path: Any
) -> None:
    profiles = [IssuingProfile(refused_extended_key_usages=frozenset())]
    other = CA.create(tmp_path / "other", "CN=Other CA", profiles=profiles, clock=world.clock)
    theirs = World(other, other.store, world.clock, world.responder)
    theirs.responder = theirs.again()
    usage = extension(x509.ExtendedKeyUsage([x509.ObjectIdentifier("1.3.6.1.5.5.7.3.28")]))
    device = theirs.device()
    ra = device.signing(device.enroll(KEYS[0], extensions=[usage]), KEYS[0])
    trust = Trust([world.ca.certificate, other.certificate])
    for marked, failure in (([], F.NOT_AUTHORIZED), ([other.certificate], None)):
        ra.handle = world.again(trust=trust, ra_anchors=marked).handle
        assert said(ra.ask(B.CR, crmf(KEYS[1], popo="raVerified"))) == (B.CP, failure)
    other.close()


def test_a_signer_of_another_ca_is_not_trusted(world: World, tmp_path: Any) -> None:
    other = CA.create(tmp_path / "other", "CN=Other CA")
    signing = world.device().signing(other.certificate, PrivateKey.load(other.signer.key))
    assert said(signing.ask(B.CR, crmf(KEYS[1]))) == (B.ERROR, F.SIGNER_NOT_TRUSTED)
    other.close()


@pytest.mark.parametrize(
    ("fields", "failure"),
    [
        ({"pvno": 1}, F.UNSUPPORTED_VERSION),
        ({"transaction_id": b"short"}, F.BAD_REQUEST),
        ({"sender_nonce": b"short"}, F.BAD_SENDER_NONCE),
    ],
)
def test_the_gate_is_told_with_the_ids_of_the_request(
    world: World, fields: dict[str, Any], failure: FailureInfo
) -> None:
    assert said(ir(world, **fields)) == (B.ERROR, failure)


def test_a_body_that_does_not_decode_gets_an_error_under_the_mac(world: World) -> None:
    device = world.device()
    answer = device.send(B.IR, b"\x30\x03\x02\x01\x05")
    assert said(answer) == (B.ERROR, F.BAD_DATA_FORMAT)
    device.check(answer, b"secret")


@pytest.mark.parametrize("body", [B.IP, B.CP, B.RP, B.GENP, B.PKICONF, B.CCR, B.POLL_REP, B.CANN])
def test_a_body_that_is_not_for_a_server_is_refused(world: World, body: BodyType) -> None:
    content: Any = None if body is B.PKICONF else b"\x30\x00"
    assert said(world.device().send(body, content)) == (B.ERROR, F.BAD_REQUEST)


@pytest.mark.parametrize(
    ("fields", "failure"),
    [
        ({"extensions": [extension(x509.BasicConstraints(ca=True, path_length=None), True)]}, F.BAD_CERT_TEMPLATE),
        ({"extensions": [extension(x509.InhibitAnyPolicy(1))]}, F.UNACCEPTED_EXTENSION),
        (
            {"extensions": [extension(x509.ExtendedKeyUsage([x509.ObjectIdentifier("1.3.6.1.5.5.7.3.28")]))]},
            F.BAD_CERT_TEMPLATE,
        ),
        ({"issuer": tlv(name("CN=Other CA"))}, F.BAD_CERT_TEMPLATE),
        ({"signing_alg": identifier("1.2.840.10045.4.3.2")}, F.BAD_CERT_TEMPLATE),
        (
            {"validity": OptionalValidity(not_after=time(datetime(2001, 1, 1, tzinfo=UTC)))},
            F.BAD_CERT_TEMPLATE,
        ),
    ],
)
def test_what_the_issuing_profile_does_not_allow_is_rejected(
    world: World, fields: dict[str, Any], failure: FailureInfo
) -> None:
    assert said(wish(world, **fields)) == (B.IP, failure)
    assert world.store.certificates() == 0


def test_an_unknown_cert_profile_is_rejected_and_a_known_one_chosen(make: Callable[..., World]) -> None:
    world = make(ca_profiles=[IssuingProfile(), IssuingProfile(name="short", validity_days=1)])

    def with_profile(text: str) -> Message:
        return ir(world, general_info=info(oids.IT_CERT_PROFILE, encode_list([encode(text)])))

    assert said(with_profile("nonsense")) == (B.IP, F.BAD_CERT_TEMPLATE)
    certificate = facts(certificate_of(with_profile("short")))
    assert certificate.not_after == world.clock.now + 86400


SAN = x509.SubjectAlternativeName


@pytest.mark.parametrize(
    ("subject", "names", "failure"),
    [
        ("CN=device-7", None, None),
        ("CN=device-7", [x509.DNSName("7.example"), x509.IPAddress(ip_address("192.0.2.7"))], None),
        ("CN=device-7", [x509.DNSName("8.example")], F.NOT_AUTHORIZED),
        ("CN=device-7", [x509.DNSName("7.example"), x509.RegisteredID(CRL_REASON)], F.NOT_AUTHORIZED),
        ("CN=device-7", [x509.IPAddress(ip_address("192.0.2.8"))], F.NOT_AUTHORIZED),
        ("CN=device-7,O=More", None, F.NOT_AUTHORIZED),
        ("CN=device-8", None, F.NOT_AUTHORIZED),
        (b"0\x00", [x509.DNSName("7.example")], None),
        (b"0\x02\x05\x00", None, F.NOT_AUTHORIZED),
    ],
)
def test_a_secret_is_bound_to_names(
    world: World, subject: str | bytes, names: list[x509.GeneralName] | None, failure: FailureInfo | None
) -> None:
    world.ca.add_secret("bound", "secret", subject=r"CN=device-7|DNS:7\.example|IP:192\.0\.2\.7")
    extensions = [extension(SAN(names))] if names else []
    answer = world.device("bound").ask(B.IR, crmf(KEYS[0], subject, extensions=extensions))
    assert said(answer) == (B.IP, failure)


def test_a_secret_is_bound_to_names_in_a_pkcs10_request_too(world: World) -> None:
    world.ca.add_secret("bound", "secret", subject="CN=device-7")
    device = world.device("bound")
    assert said(device.ask(B.P10CR, csr(KEYS[0], "CN=device-8"))) == (B.CP, F.NOT_AUTHORIZED)
    assert said(device.ask(B.P10CR, csr(KEYS[0], "CN=device-7"))) == (B.CP, None)


def test_a_pattern_that_is_none_is_refused(world: World) -> None:
    with pytest.raises(ValueError, match="regular expression"):
        world.ca.add_secret("bound", "secret", subject="(")


def test_a_secret_is_bound_to_profiles_and_the_first_is_for_who_names_none(make: Callable[..., World]) -> None:
    profiles = [IssuingProfile(name=each, validity_days=days) for days, each in enumerate(("a", "b", "c"), 1)]
    world = make(ca_profiles=profiles)
    world.ca.add_secret("bound", "secret", profiles=["b", "c"])

    def days(*names: str) -> float:
        general = info(oids.IT_CERT_PROFILE, encode_list([encode(each) for each in names])) if names else []
        answer = ir(world, "bound", general_info=general)
        assert said(answer) == (B.IP, None)
        return (facts(certificate_of(answer)).not_after - world.clock.now) / 86400

    assert (days(), days("b"), days("c")) == (2, 2, 3)


def test_a_signer_asks_for_its_own_names_where_the_rule_is_on(make: Callable[..., World]) -> None:
    world = make(profile=RFC9810.but(on=["signer_asks_for_its_own_names"]))
    device = world.device()
    san, other = (extension(SAN([x509.DNSName(each)])) for each in ("a.example", "b.example"))
    certificate = device.enroll(KEYS[0], extensions=[san])
    signing = device.signing(certificate, KEYS[0])
    assert said(signing.ask(B.CR, crmf(KEYS[1], extensions=[san]))) == (B.CP, None)
    assert said(signing.ask(B.IR, crmf(KEYS[1]))) == (B.IP, None)
    assert said(signing.ask(B.P10CR, csr(KEYS[1], "CN=other"))) == (B.CP, F.NOT_AUTHORIZED)
    assert said(signing.ask(B.CR, crmf(KEYS[1], extensions=[other]))) == (B.CP, F.NOT_AUTHORIZED)
    listed = [facts(certificate).fingerprint]
    signing.handle = world.again(profile=world.responder.profile, registration_authorities=listed).handle
    assert said(signing.ask(B.CR, crmf(KEYS[1], "CN=other", extensions=[other]))) == (B.CP, None)


def test_keys_that_are_too_small_or_of_another_kind_are_rejected(make: Callable[..., World]) -> None:
    world = make(ca_profiles=[IssuingProfile(key_types=frozenset(("rsa",)), min_rsa_bits=3072)])
    device = world.device()
    assert said(device.ask(B.IR, crmf(KEYS[0]))) == (B.IP, F.BAD_CERT_TEMPLATE)
    assert said(device.ask(B.IR, crmf(PrivateKey.generate("rsa:2048")))) == (B.IP, F.BAD_CERT_TEMPLATE)


def test_a_poposk_input_is_verified(world: World) -> None:
    san = extension(x509.SubjectAlternativeName([x509.DNSName("a.example")]))
    answer = wish(world, subject=None, extensions=[san], popo="input", popo_sender=name("CN=device"))
    assert said(answer) == (B.IP, None)
    certificate = x509.load_der_x509_certificate(certificate_of(answer))
    assert certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).critical


def test_an_update_keeps_the_names(world: World) -> None:
    device = world.device()
    signing = device.signing(device.enroll(KEYS[0]), KEYS[0])
    assert said(signing.ask(B.KUR, crmf(KEYS[1], "CN=somebody else"))) == (B.KUP, F.BAD_CERT_TEMPLATE)


def test_profiles_are_what_their_names_say() -> None:
    assert PROFILES == {"rfc9810": RFC9810, "strict": STRICT, "lenient": LENIENT}
    assert LENIENT.rules < RFC9810.rules < STRICT.rules
    assert RULES.keys() - STRICT.rules == {"signer_asks_for_its_own_names", "one_message_is_no_batch"}
    assert profile_named("strict", off=["message_time_is_there"]).rules == STRICT.rules - {"message_time_is_there"}
    assert "recip_nonce_is_there" not in LENIENT
    with pytest.raises(ValueError, match="no such validation profile"):
        profile_named("nonsense")
    with pytest.raises(ValueError, match="no such rule"):
        profile_named("strict", on=["nonsense"])
    with pytest.raises(ValueError, match="no such rule"):
        profile_named("strict", off=["nonsense"])
    for rule in RULES.values():
        assert rule.source
        assert rule.text
        assert rule.bodies <= ACCEPTED | ANNOUNCEMENTS


@pytest.mark.parametrize("profile", PROFILES)
def test_a_well_behaved_device_passes_under_every_profile(make: Callable[..., World], profile: str) -> None:
    world = make(profile=PROFILES[profile])
    device = world.device()
    answer = device.ask(B.IR, crmf(KEYS[0]))
    certificate = certificate_of(answer)
    assert said(device.confirm(certificate)) == (B.PKICONF, None)
    assert answer.sender == (name("CN=device") if profile == "strict" else facts(world.ca.certificate).subject)
    signing = device.signing(certificate, KEYS[0])
    new = certificate_of(signing.ask(B.KUR, crmf(KEYS[1], old=certificate)))
    assert said(signing.confirm(new)) == (B.PKICONF, None)
    signing = device.signing(new, KEYS[1])
    signing.begin()
    assert said(signing.send(B.RR, [revocation(new)])) == (B.RP, None)


def test_an_older_peer_passes_under_lenient(make: Callable[..., World]) -> None:
    world = make(profile=LENIENT)
    device = world.device()
    certificate = certificate_of(device.ask(B.IR, crmf(KEYS[0]), message_time=None))
    assert said(device.confirm(certificate, recip_nonce=None, message_time=None)) == (B.PKICONF, None)


def test_openssl_names_pass_under_the_default_profile(world: World) -> None:
    assert said(ir(world, sender=b"0\x00")) == (B.IP, None)
    assert said(ir(world, sender=name("CN=device asked for"))) == (B.IP, None)
