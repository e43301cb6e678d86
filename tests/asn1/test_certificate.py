"""Certificates and CRLs that these structures issue are read by ``cryptography``, byte for byte."""

from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from opensslcmp.asn1 import (
    Certificate,
    CertificateList,
    Extension,
    GeneralizedTime,
    RevokedCertificate,
    TBSCertificate,
    TBSCertList,
    UTCTime,
    Validity,
    algorithm,
    attach_signature,
    decode,
    encode,
    oids,
    outline,
    time,
    tlv,
)

KEY = ec.generate_private_key(ec.SECP256R1())
SPKI = KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
NAME = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "CA")])
ECDSA = algorithm(oids.ECDSA_WITH_SHA256)
START = datetime(2026, 1, 2, 3, 4, 5, 678, UTC)
END = datetime(2060, 1, 1, tzinfo=UTC)


def sign(tbs: bytes) -> bytes:
    return attach_signature(tbs, encode(ECDSA), KEY.sign(tbs, ec.ECDSA(hashes.SHA256())))


def test_certificate_is_read_and_verified_by_cryptography() -> None:
    constraints = Extension(
        extn_id=x509.ObjectIdentifier(oids.EXT_BASIC_CONSTRAINTS),
        critical=True,
        extn_value=x509.BasicConstraints(ca=True, path_length=None).public_bytes(),
    )
    tbs = TBSCertificate(
        version=2,
        serial_number=2**100,
        signature=ECDSA,
        issuer=tlv(NAME.public_bytes()),
        validity=Validity.between(START, END),
        subject=tlv(NAME.public_bytes()),
        subject_public_key_info=tlv(SPKI),
        extensions=[constraints],
    )
    der = sign(encode(tbs))
    certificate = x509.load_der_x509_certificate(der)
    certificate.verify_directly_issued_by(certificate)
    assert certificate.serial_number == 2**100
    assert certificate.not_valid_before_utc == START.replace(microsecond=0)
    assert certificate.not_valid_after_utc == END
    again = decode(Certificate, der)
    assert encode(again) == der
    assert encode(again.tbs_certificate) == encode(again.tbs) == encode(tbs)
    assert again.tbs.extension(oids.EXT_BASIC_CONSTRAINTS) == constraints.extn_value
    assert again.tbs.extension(oids.EXT_KEY_USAGE) is None
    assert outline(der) == (2**100, NAME.public_bytes(), END.timestamp(), NAME.public_bytes(), SPKI)


@pytest.mark.parametrize("broken", [b"", b"\x30\x00", b"\x30\x02\x30\x00"])
def test_what_is_no_certificate_has_no_outline(broken: bytes) -> None:
    with pytest.raises(ValueError, match=r"cut short|no certificate"):
        outline(broken)


@pytest.mark.parametrize("revoked", [[5, 6], []])
def test_crl_is_read_and_verified_by_cryptography(revoked: list[int]) -> None:
    reason = Extension(extn_id=x509.ObjectIdentifier(oids.EXT_CRL_REASON), extn_value=b"\x0a\x01\x01")
    entries = [
        RevokedCertificate(user_certificate=number, revocation_date=time(START), crl_entry_extensions=[reason])
        for number in revoked
    ]
    tbs = TBSCertList(
        version=1,
        signature=ECDSA,
        issuer=tlv(NAME.public_bytes()),
        this_update=time(START),
        next_update=time(END),
        revoked_certificates=entries or None,
        crl_extensions=[Extension(extn_id=x509.ObjectIdentifier(oids.EXT_CRL_NUMBER), extn_value=b"\x02\x01\x07")],
    )
    der = sign(encode(tbs))
    crl = x509.load_der_x509_crl(der)
    assert crl.is_signature_valid(KEY.public_key())
    assert [entry.serial_number for entry in crl] == revoked
    assert crl.next_update_utc == END
    again = decode(CertificateList, der)
    assert encode(again) == der
    assert encode(again.tbs) == encode(tbs)


def test_certificate_of_cryptography_comes_back_byte_for_byte() -> None:
    der = (
        x509.CertificateBuilder(NAME, NAME, KEY.public_key(), 7, START, END)
        .add_extension(x509.KeyUsage(True, *[False] * 8), critical=True)
        .sign(KEY, hashes.SHA256())
        .public_bytes(Encoding.DER)
    )
    again = decode(Certificate, der)
    assert encode(again) == der
    assert encode(again.tbs) == encode(again.tbs_certificate)


def test_times_change_their_type_in_2050() -> None:
    assert isinstance(time(datetime(2049, 12, 31, 23, 59, 59, tzinfo=UTC)), UTCTime)
    assert isinstance(time(datetime(2050, 1, 1, tzinfo=UTC)), GeneralizedTime)
    assert isinstance(time(datetime(1949, 1, 1, tzinfo=UTC)), GeneralizedTime)
    assert time(datetime(2030, 1, 1)) == time(datetime(2030, 1, 1, tzinfo=UTC))
