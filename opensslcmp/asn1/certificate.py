"""Certificates and CRLs to issue and to look into (RFC 5280, 4.1 and 5.1; explicit and implicit tags as there).

To issue: build ``TBSCertificate``, sign ``encode(tbs)``, and put it together with ``attach_signature``. Names and the
SubjectPublicKeyInfo stay the bytes that the requester sent.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated

from cryptography.hazmat.asn1 import Default, Explicit, Implicit

from opensslcmp.asn1.common import (
    TLV,
    AlgorithmIdentifier,
    BitString,
    Extension,
    GeneralizedTime,
    Time,
    UTCTime,
    decode,
    elements,
    encode,
    read_header,
    structure,
    unwrap,
    wrap,
)

__all__ = [
    "Certificate",
    "CertificateList",
    "RevokedCertificate",
    "TBSCertList",
    "TBSCertificate",
    "Validity",
    "attach_signature",
    "outline",
    "time",
]


@structure
class Validity:
    """Validity (RFC 5280, 4.1.2.5)."""

    not_before: Time
    not_after: Time

    @classmethod
    def between(cls, not_before: datetime, not_after: datetime) -> Validity:
        """From two moments, each UTCTime or GeneralizedTime as RFC 5280 asks."""
        return cls(not_before=time(not_before), not_after=time(not_after))


@structure
class TBSCertificate:
    """TBSCertificate; ``version`` counts from 0 (2 is v3)."""

    version: Annotated[int, Explicit(0), Default(0)] = 0
    serial_number: int
    signature: AlgorithmIdentifier
    issuer: TLV
    validity: Validity
    subject: TLV
    subject_public_key_info: TLV
    issuer_unique_id: Annotated[BitString | None, Implicit(1)] = None
    subject_unique_id: Annotated[BitString | None, Implicit(2)] = None
    extensions: Annotated[list[Extension] | None, Explicit(3)] = None

    def extension(self, oid: str) -> bytes | None:
        """The value of the extension of this type, or None."""
        for extension in self.extensions or ():
            if extension.oid == oid:
                return extension.extn_value
        return None


@structure
class Certificate:
    """Certificate with its TBSCertificate raw, since the signature covers that."""

    tbs_certificate: TLV
    signature_algorithm: AlgorithmIdentifier
    signature: BitString

    @property
    def tbs(self) -> TBSCertificate:
        """The TBSCertificate, decoded.

        Raises:
            ValueError: it is none.
        """
        return decode(TBSCertificate, encode(self.tbs_certificate))


@structure
class RevokedCertificate:
    """One entry of a CRL."""

    user_certificate: int
    revocation_date: Time
    crl_entry_extensions: list[Extension] | None = None


@structure
class TBSCertList:
    """TBSCertList; ``version`` 1 is v2. ``revoked_certificates`` is None, not empty, when nothing is revoked."""

    version: int | None = None
    signature: AlgorithmIdentifier
    issuer: TLV
    this_update: Time
    next_update: Time | None = None
    revoked_certificates: list[RevokedCertificate] | None = None
    crl_extensions: Annotated[list[Extension] | None, Explicit(0)] = None


@structure
class CertificateList:
    """CertificateList with its TBSCertList raw."""

    tbs_cert_list: TLV
    signature_algorithm: AlgorithmIdentifier
    signature: BitString

    @property
    def tbs(self) -> TBSCertList:
        """The TBSCertList, decoded.

        Raises:
            ValueError: it is none.
        """
        return decode(TBSCertList, encode(self.tbs_cert_list))


def time(moment: datetime) -> Time:
    """UTCTime until 2049, GeneralizedTime before 1950 and from 2050, in whole seconds of UTC (RFC 5280, 4.1.2.5).

    A naive ``moment`` is taken as UTC.
    """
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    moment = moment.replace(microsecond=0)
    return UTCTime(moment) if 1950 <= moment.year < 2050 else GeneralizedTime(moment)


def attach_signature(to_be_signed: bytes, algorithm: bytes, signature: bytes) -> bytes:
    """DER of a certificate, CRL or PKCS #10 request from what was signed, the AlgorithmIdentifier and the signature."""
    return wrap(0x30, to_be_signed + algorithm + wrap(0x03, b"\0" + signature))


def outline(certificate: bytes) -> tuple[int, bytes, float, bytes, bytes]:
    """serialNumber, issuer, notAfter (seconds since 1970), subject and SubjectPublicKeyInfo of a certificate (DER).

    A walk over six headers, where decoding all of it takes ten times as long.

    Raises:
        ValueError: it is no certificate.

    Source: RFC 5280, 4.1.
    """
    _, inside, _ = read_header(certificate, 0, len(certificate))
    _, at, end = read_header(certificate, inside, len(certificate))
    parts: list[bytes] = []
    while len(parts) < 7 and at < end:
        _, _, stop = read_header(certificate, at, end)
        parts.append(certificate[at:stop])
        at = stop
    if parts and parts[0][:1] == b"\xa0":  # of version 1 there is none
        parts.pop(0)
    if len(parts) < 6 or parts[0][:1] != b"\x02":
        raise ValueError("no certificate")
    serial, _, issuer, validity, subject, key = parts[:6]
    number = int.from_bytes(unwrap(serial), "big", signed=True)
    return number, issuer, _not_after(validity), subject, key


@lru_cache(maxsize=64)
def _not_after(validity: bytes) -> float:
    _, (start, stop) = elements(validity)
    kind: type[UTCTime] | type[GeneralizedTime] = UTCTime if validity[start] == 0x17 else GeneralizedTime
    return decode(kind, validity[start:stop]).as_datetime().timestamp()
