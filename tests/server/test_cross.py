"""Cross-certification: another CA asks for a certificate (RFC 9810, appendix D.6)."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from opensslcmp.asn1 import Extension, Message, OptionalValidity, algorithm, tlv
from opensslcmp.context.certificates import Trust, facts
from opensslcmp.context.keys import PrivateKey
from opensslcmp.context.protection import protector_for
from opensslcmp.credentials import Signer
from opensslcmp.enums import BodyType, FailureInfo
from opensslcmp.server import CA, CrossProfile, IssuingProfile, open_responder
from opensslcmp.server.rules import PROFILES
from tests.server.device import KEYS, Device, certificate_of, crmf, cross, extension, name, said
from tests.server.world import World, other_ca

B, F = BodyType, FailureInfo


def asking(world: World, **options: Any) -> Device:
    """The other CA, which the Responder trusts for this."""
    certificate, key = other_ca()
    options = {"profile": world.responder.profile, "cross_certification": Trust([certificate]), **options}
    return world.device(handle=world.again(**options).handle).signing(certificate, key)


def ask(world: World, device: Device, implicit: bool = False, **template: Any) -> Message:
    certificate, key = other_ca()
    signing = PrivateKey.load(world.ca.signer.key).signature_algorithm()
    return device.ask(B.CCR, cross(key, certificate, signing, world.clock.now, **template), implicit=implicit)


def loaded(answer: Message) -> x509.Certificate:
    return x509.load_der_x509_certificate(certificate_of(answer))


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("implicit", [True, False])
def test_another_ca_gets_a_cross_certificate(make: Callable[..., World], profile: str, implicit: bool) -> None:
    world = make(profile=PROFILES[profile])
    device = asking(world)
    answer = ask(world, device, implicit)
    assert answer.body_type is B.CCP
    assert answer.implicit_confirm is implicit
    certificate = loaded(answer)
    certificate.verify_directly_issued_by(x509.load_der_x509_certificate(world.ca.certificate))
    other = facts(other_ca()[0])
    about = facts(certificate_of(answer))
    assert (about.subject, about.spki) == (other.subject, other.spki)
    assert about.not_after == world.clock.now + 90 * 86400
    constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (constraints.critical, constraints.value.ca, constraints.value.path_length) == (True, True, 0)
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    assert usage.key_cert_sign
    assert usage.crl_sign
    assert not usage.digital_signature
    assert about.key_id == other.key_id
    if not implicit:
        assert said(device.confirm(certificate_of(answer))) == (B.PKICONF, None)


def test_it_is_off_by_default(world: World) -> None:
    certificate, key = other_ca()
    device = world.device().signing(certificate, key)
    assert said(ask(world, device)) == (B.ERROR, F.BAD_REQUEST)


def test_a_ca_that_is_not_trusted_for_it_gets_none(make: Callable[..., World]) -> None:
    world = make()
    device = asking(world, cross_certification=Trust([world.ca.certificate]))
    assert said(ask(world, device)) == (B.ERROR, F.SIGNER_NOT_TRUSTED)


def test_a_ca_that_is_trusted_for_it_gets_nothing_else(make: Callable[..., World]) -> None:
    world = make()
    device = asking(world)
    assert said(device.ask(B.CR, crmf(KEYS[0]))) == (B.ERROR, F.SIGNER_NOT_TRUSTED)


@pytest.mark.parametrize(
    ("template", "failure"),
    [
        ({"version": None}, F.BAD_CERT_TEMPLATE),
        ({"version": 0}, F.BAD_CERT_TEMPLATE),
        ({"signing_alg": None}, F.BAD_CERT_TEMPLATE),
        ({"signing_alg": algorithm("1.2.840.10045.4.3.4")}, F.BAD_CERT_TEMPLATE),
        ({"issuer": None}, F.BAD_CERT_TEMPLATE),
        ({"issuer": tlv(name("CN=somebody"))}, F.BAD_CERT_TEMPLATE),
        ({"validity": None}, F.BAD_CERT_TEMPLATE),
        ({"validity": OptionalValidity()}, F.BAD_CERT_TEMPLATE),
        ({"public_key": None}, F.BAD_CERT_TEMPLATE),
        ({"subject": None}, F.BAD_CERT_TEMPLATE),
        ({"serial_number": 5}, F.BAD_CERT_TEMPLATE),
        ({"popo": "none"}, F.BAD_POP),
        ({"popo": "keyEncipherment"}, F.BAD_POP),
        ({"signing_key": KEYS[0]}, F.BAD_POP),
        ({"request_id": 1}, F.BAD_REQUEST),
        ({"extensions": [extension(x509.BasicConstraints(False, None))]}, F.BAD_CERT_TEMPLATE),
        (
            {"extensions": [Extension(extn_id=x509.ObjectIdentifier("2.5.29.14"), extn_value=b"nonsense")]},
            F.BAD_CERT_TEMPLATE,
        ),
        ({"extensions": [extension(x509.InhibitAnyPolicy(0)), extension(x509.OCSPNoCheck())]}, F.UNACCEPTED_EXTENSION),
        (
            {"extensions": [extension(x509.KeyUsage(True, False, False, False, False, False, True, False, False))]},
            F.BAD_CERT_TEMPLATE,
        ),
    ],
)
def test_a_request_that_is_not_complete_is_rejected(
    make: Callable[..., World], template: dict[str, Any], failure: FailureInfo
) -> None:
    world = make()
    assert said(ask(world, asking(world), **template)) == (B.CCP, failure)
    assert world.store.certificates() == 0


def test_extensions_that_constrain_are_taken_over(make: Callable[..., World]) -> None:
    world = make(ca_cross=CrossProfile(max_path_length=2))
    constraints = x509.NameConstraints([x509.DNSName("a.example")], None)
    usage = x509.KeyUsage(True, False, False, False, False, True, True, False, False)
    identifier = x509.SubjectKeyIdentifier(b"other")
    issuer = x509.AuthorityKeyIdentifier(b"other", None, None)
    asked = [x509.BasicConstraints(True, 1), constraints, usage, identifier, issuer]
    answer = ask(world, asking(world), extensions=[extension(each) for each in asked])
    found = loaded(answer).extensions
    assert found.get_extension_for_class(x509.NameConstraints).value == constraints
    assert found.get_extension_for_class(x509.BasicConstraints).value.path_length == 1
    assert found.get_extension_for_class(x509.SubjectKeyIdentifier).value == identifier
    assert not found.get_extension_for_class(x509.KeyUsage).value.digital_signature
    assert found.get_extension_for_class(x509.AuthorityKeyIdentifier).value != issuer
    assert len(answer.content().response[0].status.status_string) == 2


def test_a_path_that_is_too_long_is_made_shorter(make: Callable[..., World]) -> None:
    world = make()
    answer = ask(world, asking(world), extensions=[extension(x509.BasicConstraints(True, 3))])
    assert loaded(answer).extensions.get_extension_for_class(x509.BasicConstraints).value.path_length == 0


def test_an_rsa_key_that_is_too_small_is_rejected_here_too(make: Callable[..., World]) -> None:
    world = make(ca_cross=CrossProfile(key_types=frozenset(("rsa",))))
    assert said(ask(world, asking(world))) == (B.CCP, F.BAD_CERT_TEMPLATE)


@pytest.mark.parametrize("store", ["memory", "sql"], indirect=True)
def test_whom_the_other_ca_certifies_has_no_say_here(make: Callable[..., World]) -> None:
    world = make(ca_profiles=[IssuingProfile(refused_extended_key_usages=frozenset())])
    device = asking(world)
    bridge = certificate_of(ask(world, device, implicit=True))
    certificate, key = other_ca()
    builder = x509.CertificateBuilder()
    theirs = (
        builder.subject_name(x509.Name.from_rfc4514_string("CN=RA over there"))
        .issuer_name(x509.load_der_x509_certificate(certificate).subject)
        .public_key(x509.load_der_x509_certificate(world.device().enroll(KEYS[0])).public_key())
        .serial_number(5)
        .not_valid_before(x509.load_der_x509_certificate(bridge).not_valid_before_utc)
        .not_valid_after(x509.load_der_x509_certificate(bridge).not_valid_after_utc)
        .add_extension(x509.ExtendedKeyUsage([x509.ObjectIdentifier("1.3.6.1.5.5.7.3.28")]), critical=False)
    )
    native: Any = serialization.load_pem_private_key(key.to_pem(), None)
    leaf = theirs.sign(native, hashes.SHA256()).public_bytes(serialization.Encoding.DER)
    intruder = world.device().signing(leaf, KEYS[0], [bridge])
    assert said(intruder.ask(B.CR, crmf(KEYS[1]))) == (B.ERROR, F.SIGNER_NOT_TRUSTED)


def test_open_responder_takes_the_cas_that_may_ask(tmp_path: Path) -> None:
    CA.create(tmp_path / "ca", "CN=Test CA").close()
    certificate, key = other_ca()
    responder = open_responder(tmp_path / "ca", cross_certified=[certificate])
    assert isinstance(responder.authority, CA)
    ca = responder.authority
    signing = PrivateKey.load(ca.signer.key).signature_algorithm()
    device = Device(responder.handle, protector_for(Signer(certificate, key)), time.time)
    answer = device.ask(B.CCR, cross(key, certificate, signing, time.time()))
    assert said(answer) == (B.CCP, None)
    responder.close()
