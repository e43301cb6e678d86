"""Certificates and messages for the tests of this layer."""

import datetime
import os
from functools import cache
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from opensslcmp.asn1 import NULL_DN, make_header
from opensslcmp.context.protection import Protector, protect
from opensslcmp.enums import BodyType

NOW = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
DAY = datetime.timedelta(days=1)
PKICONF = b"\x05\x00"


def key(kind: str = "ec", number: int = 0) -> Any:
    """A private key that stays the same for the whole test run."""
    return _key(kind, number)


@cache
def _key(kind: str, number: int) -> Any:
    match kind:
        case "ec":
            return ec.generate_private_key(ec.SECP256R1())
        case "ec384":
            return ec.generate_private_key(ec.SECP384R1())
        case "rsa":
            return rsa.generate_private_key(65537, 2048)
        case "rsa1024":
            return rsa.generate_private_key(65537, 1024)
        case "ed25519":
            return ed25519.Ed25519PrivateKey.generate()
        case "ed448":
            return ed448.Ed448PrivateKey.generate()
    raise ValueError(kind)


def name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def certificate(
    subject: str,
    subject_key: Any,
    issuer: str | None = None,
    issuer_key: Any = None,
    *,
    ca: bool = False,
    usage: str | None = "digital_signature",
    key_id: bool = True,
    authority_id: bool = True,
    start: datetime.datetime = NOW - DAY,
    end: datetime.datetime = NOW + 30 * DAY,
    digest: Any = None,
) -> x509.Certificate:
    """A certificate; self-signed without an issuer."""
    signing = issuer_key or subject_key
    builder = (
        x509.CertificateBuilder()
        .subject_name(name(subject))
        .issuer_name(name(issuer or subject))
        .public_key(subject_key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca, None), True)
    )
    if key_id:
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(subject_key.public_key()), False)
    if issuer is not None and authority_id:
        authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(signing.public_key())
        builder = builder.add_extension(authority, False)
    if usage is not None:
        flags = dict.fromkeys(
            (
                "digital_signature",
                "content_commitment",
                "key_encipherment",
                "data_encipherment",
                "key_agreement",
                "key_cert_sign",
                "crl_sign",
                "encipher_only",
                "decipher_only",
            ),
            False,
        )
        flags[usage] = True
        if ca:
            flags["key_cert_sign"] = flags["crl_sign"] = True
        builder = builder.add_extension(x509.KeyUsage(**flags), True)
    edwards = isinstance(signing, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey)
    return builder.sign(signing, None if edwards else digest or hashes.SHA256())


def crl(issuer: str, issuer_key: Any, *revoked: x509.Certificate, end: datetime.datetime = NOW + DAY) -> Any:
    """A CRL of that issuer."""
    builder = x509.CertificateRevocationListBuilder().issuer_name(name(issuer))
    builder = builder.last_update(NOW - DAY).next_update(end)
    for each in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(each.serial_number).revocation_date(NOW - DAY).build()
        builder = builder.add_revoked_certificate(entry)
    return builder.sign(issuer_key, hashes.SHA256())


def der(value: Any) -> bytes:
    return bytes(value.public_bytes(Encoding.DER))


ROOT_KEY = key("ec", 100)
INTER_KEY = key("ec", 101)
ROOT = certificate("root", ROOT_KEY, ca=True)
INTER = certificate("intermediate", INTER_KEY, "root", ROOT_KEY, ca=True)


def device(kind: str = "ec", **options: Any) -> x509.Certificate:
    """A certificate for ``key(kind)`` by the intermediate CA."""
    return certificate("device", key(kind), "intermediate", INTER_KEY, **options)


def message(protector: Protector, *, sender: bytes | None = None, body: bytes = PKICONF, **header: Any) -> bytes:
    """A protected pkiConf."""
    made = make_header(
        sender=protector.sender_name if sender is None else sender,
        recipient=header.pop("recipient", NULL_DN),
        transaction_id=os.urandom(16),
        sender_nonce=os.urandom(16),
        **header,
    )
    return protect(made, BodyType.PKICONF, body, protector)
