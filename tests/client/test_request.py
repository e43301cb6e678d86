"""The bodies that we put together against those that OpenSSL's OSSL_CMP_CTX makes of the same wishes."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from opensslcmp.asn1 import NULL_DN, Extension, decode_body, der, elements, encode_list, raw_cert_requests
from opensslcmp.client.request import request_body
from opensslcmp.context.enrollment import EnrollmentRequest, build_request
from opensslcmp.context.keys import PrivateKey, verify_signature
from opensslcmp.enums import BodyType
from tests.context import issuing

SUBJECT = issuing.name("device").public_bytes()
ISSUER = issuing.name("some CA").public_bytes()
BEGIN = datetime(2031, 5, 6, 7, 8, 9, tzinfo=UTC)
USAGE = x509.KeyUsage(True, False, False, False, False, False, False, False, False)
SANS = x509.SubjectAlternativeName([x509.DNSName("device.example"), x509.RFC822Name("a@b.example")])


def extensions(*values: x509.ExtensionType) -> bytes:
    return encode_list([Extension(extn_id=each.oid, critical=True, extn_value=each.public_bytes()) for each in values])


def old(*, names: bool) -> bytes:
    builder = (
        x509.CertificateBuilder()
        .subject_name(issuing.name("device before"))
        .issuer_name(issuing.name("its CA"))
        .public_key(issuing.key().public_key())
        .serial_number(0x8877665544332211)
        .not_valid_before(issuing.NOW)
        .not_valid_after(issuing.NOW + issuing.DAY)
    )
    if names:
        builder = builder.add_extension(SANS, critical=False)
    return issuing.der(builder.sign(issuing.key(), hashes.SHA256()))


WISHES: dict[str, dict[str, Any]] = {
    "a subject": {"subject": SUBJECT},
    "an issuer": {"subject": SUBJECT, "issuer": ISSUER},
    "no subject but names": {"extensions": extensions(SANS)},
    "a NULL-DN": {"subject": NULL_DN, "extensions": extensions(SANS)},
    "extensions": {"subject": SUBJECT, "extensions": extensions(USAGE, SANS)},
    "a validity": {"subject": SUBJECT, "validity": (BEGIN, BEGIN + timedelta(days=9000))},
    "a validity after 2049": {"subject": SUBJECT, "validity": (BEGIN, BEGIN + timedelta(days=90))},
    "an update": {"body_type": BodyType.KUR, "old_certificate": old(names=False)},
    "an update with names": {"body_type": BodyType.KUR, "old_certificate": old(names=True)},
    "an update with names and an extension": {
        "body_type": BodyType.KUR,
        "old_certificate": old(names=True),
        "extensions": extensions(USAGE),
    },
    "an update without default names": {
        "body_type": BodyType.KUR,
        "old_certificate": old(names=True),
        "default_sans": False,
    },
    "an update of the subject": {
        "body_type": BodyType.KUR,
        "old_certificate": old(names=True),
        "subject": SUBJECT,
        "issuer": ISSUER,
    },
    "an update to no subject": {"body_type": BodyType.KUR, "old_certificate": old(names=True), "subject": NULL_DN},
}


@pytest.mark.parametrize("kind", ["ec:P-256", "ed25519", "rsa:2048"])
@pytest.mark.parametrize("wish", WISHES)
def test_a_request_is_the_one_that_openssl_makes(wish: str, kind: str) -> None:
    key = PrivateKey.generate(kind)
    request = EnrollmentRequest(**{"body_type": BodyType.IR, "key": key, **WISHES[wish]})
    (kind_of_ours, ours), (kind_of_theirs, theirs) = request_body(request), build_request(request)
    assert kind_of_ours is kind_of_theirs
    assert raw_cert_requests(ours) == raw_cert_requests(theirs)
    if kind != "ec:P-256":  # the others sign the same thing the same way each time
        assert ours == theirs


@pytest.mark.parametrize("kind", ["ec:P-256", "ec:P-384", "ed25519", "ed448", "rsa:2048"])
def test_the_proof_of_possession_verifies_over_the_request_as_it_stands(kind: str) -> None:
    key = PrivateKey.generate(kind)
    _, body = request_body(EnrollmentRequest(body_type=BodyType.CR, key=key, subject=SUBJECT))
    proof = decode_body(BodyType.CR, body)[0].popo.value
    (signed,) = raw_cert_requests(body)
    verify_signature(key.public_key_der, der(proof.algorithm_identifier), signed, proof.signature.as_bytes())


def test_a_digest_for_the_proof_is_used() -> None:
    key = PrivateKey.generate("ec:P-256")
    request = EnrollmentRequest(body_type=BodyType.CR, key=key, subject=SUBJECT, digest="SHA512")
    proofs = [decode_body(BodyType.CR, make(request)[1])[0].popo.value for make in (request_body, build_request)]
    assert proofs[0].algorithm_identifier == proofs[1].algorithm_identifier


def test_ra_verified_is_the_one_that_openssl_makes() -> None:
    request = EnrollmentRequest(
        body_type=BodyType.CR, key=PrivateKey.generate("ec:P-256"), subject=SUBJECT, popo="raVerified"
    )
    assert request_body(request) == build_request(request)


def test_days_become_a_validity_from_now() -> None:
    request = EnrollmentRequest(
        body_type=BodyType.IR, key=PrivateKey.generate("ec:P-256"), subject=SUBJECT, validity_days=10
    )
    template = decode_body(BodyType.IR, request_body(request)[1])[0].cert_req.cert_template
    begin, end = template.validity.not_before.as_datetime(), template.validity.not_after.as_datetime()
    assert end - begin == timedelta(days=10)
    assert abs(begin - datetime.now(UTC).replace(tzinfo=begin.tzinfo)) < timedelta(minutes=5)


def test_what_is_not_ours_is_left_to_openssl() -> None:
    request = EnrollmentRequest(body_type=BodyType.IR, key=PrivateKey.generate("ed25519"), subject=SUBJECT)
    with_token = replace(request, token="once")
    _, body = request_body(with_token)
    (cert_request,) = raw_cert_requests(body)
    assert len(list(elements(cert_request))) == 3
    assert request_body(with_token) == build_request(with_token)


def test_a_csr_is_the_body_as_it_is() -> None:
    csr = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(issuing.name("device"))
        .sign(issuing.key(), hashes.SHA256())
    )
    request = EnrollmentRequest(body_type=BodyType.P10CR, request=issuing.der(csr))
    assert request_body(request) == build_request(request)
