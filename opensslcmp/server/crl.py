"""Certificate revocation lists (RFC 5280, 5)."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from cryptography import x509

from opensslcmp.asn1 import (
    AlgorithmIdentifier,
    Extension,
    RevokedCertificate,
    TBSCertList,
    attach_signature,
    decode,
    encode,
    time,
    tlv,
    wrap,
)
from opensslcmp.context.keys import PrivateKey
from opensslcmp.enums import RevocationReason
from opensslcmp.server.store import Revocation

__all__ = ["build_crl"]

_CRL_NUMBER = x509.ObjectIdentifier("2.5.29.20")
_CRL_REASON = x509.ObjectIdentifier("2.5.29.21")
_AKI = x509.ObjectIdentifier("2.5.29.35")


def build_crl(
    *,
    issuer: bytes,
    key: PrivateKey,
    algorithm: bytes,
    key_id: bytes | None,
    number: int,
    this_update: datetime,
    next_update: datetime,
    revocations: Iterable[Revocation],
) -> bytes:
    """DER of a full, signed CRL.

    Args:
        issuer: DER of the CA's Name.
        algorithm: DER of the AlgorithmIdentifier to sign with.
        key_id: the CA's subjectKeyIdentifier.
        number: cRLNumber; greater than that of any CRL before.

    Raises:
        OpenSSLError: the key does not sign.

    Source: RFC 5280, 5.1 and 5.2.
    """
    entries = [
        RevokedCertificate(
            user_certificate=each.serial_number,
            revocation_date=time(datetime.fromtimestamp(each.at, UTC)),
            crl_entry_extensions=_reason(each.reason),
        )
        for each in revocations
    ]
    extensions = [Extension(extn_id=_CRL_NUMBER, extn_value=encode(number))]
    if key_id is not None:
        extensions.insert(0, Extension(extn_id=_AKI, extn_value=wrap(0x30, wrap(0x80, key_id))))
    to_be_signed = encode(
        TBSCertList(
            version=1,
            signature=decode(AlgorithmIdentifier, algorithm),
            issuer=tlv(issuer),
            this_update=time(this_update),
            next_update=time(next_update),
            revoked_certificates=entries or None,
            crl_extensions=extensions,
        )
    )
    return attach_signature(to_be_signed, algorithm, key.sign(to_be_signed, algorithm))


def _reason(reason: RevocationReason) -> list[Extension] | None:
    if reason is RevocationReason.UNSPECIFIED:
        return None
    return [Extension(extn_id=_CRL_REASON, extn_value=bytes((0x0A, 1, reason)))]
