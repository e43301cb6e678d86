"""What both pure-Python peers do with ``cryptography``, ``hashlib`` and ``hmac``."""

import hashlib
import hmac
import os
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

__all__ = [
    "CA_KEY",
    "CA_NAME",
    "DEVICE_KEY",
    "DEVICE_NAME",
    "DEVICE_SPKI",
    "ITERATIONS",
    "REFERENCE",
    "SECRET",
    "issue",
    "now",
    "password_based_mac",
    "random_bytes",
]

REFERENCE = b"device"
SECRET = b"anchor-secret"
ITERATIONS = 500  # what OpenSSL's client uses

CA_KEY = ec.generate_private_key(ec.SECP256R1())
DEVICE_KEY = ec.generate_private_key(ec.SECP256R1())
CA_NAME = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Peer CA")])
DEVICE_NAME = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "device")])
DEVICE_SPKI = DEVICE_KEY.public_key().public_bytes(
    serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
)

random_bytes = os.urandom


def now() -> datetime:
    """This second, in UTC."""
    return datetime.now(UTC).replace(microsecond=0)


def password_based_mac(salt: bytes, iterations: int, data: bytes) -> bytes:
    """PasswordBasedMac with SHA-256 and HMAC-SHA1, as OpenSSL's client asks for (RFC 9810, 5.1.3.1)."""
    key = SECRET + salt
    for _ in range(iterations):
        key = hashlib.sha256(key).digest()
    return hmac.digest(key, data, "sha1")


def issue(subject: x509.Name, spki: bytes) -> bytes:
    """A certificate with the extensions that the anchor's has, in DER."""
    key = serialization.load_der_public_key(spki)
    assert isinstance(key, ec.EllipticCurvePublicKey)
    moment = now()
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(CA_NAME)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(moment)
        .not_valid_after(moment + timedelta(days=90))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(
            x509.KeyUsage(
                digital_signature=True,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                key_cert_sign=False,
                crl_sign=False,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(CA_KEY.public_key()), critical=False)
    )
    return builder.sign(CA_KEY, hashes.SHA256()).public_bytes(serialization.Encoding.DER)
