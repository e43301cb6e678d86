"""What operations return: frozen dataclasses, certificates as ``cryptography`` objects."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from cryptography import x509

from opensslcmp.asn1 import initializer
from opensslcmp.context.keys import PrivateKey
from opensslcmp.context.protection import ProtectionKind
from opensslcmp.enums import FailureInfo, PKIStatus
from opensslcmp.errors import BadMessage

__all__ = [
    "Info",
    "Issued",
    "Protection",
    "RecoveredKey",
    "RequestTemplate",
    "Revoked",
    "RootCaUpdate",
    "certificate_of",
    "crl_of",
    "new_certificate_of",
]


@dataclass(frozen=True, kw_only=True, slots=True)
class Protection:
    """How the peer's answer was protected, and by whom.

    Attributes:
        kind: MAC, SIGNATURE or NONE.
        algorithm: name of protectionAlg.
        reference: of the shared secret; None for a signature.
        signer: the protection certificate; None for a MAC.
        chain: the path from the signer to the anchor that vouches for it.
    """

    kind: ProtectionKind
    algorithm: str = ""
    reference: bytes | None = None
    signer: x509.Certificate | None = None
    chain: tuple[x509.Certificate, ...] = ()


Protection.__init__ = initializer(Protection)  # type: ignore[method-assign]


@dataclass(frozen=True, kw_only=True, slots=True)
class RecoveredKey:
    """A key that was archived.

    Attributes:
        certificate: as it was issued; it may have expired or been revoked since.
        key: its private key.
    """

    certificate: x509.Certificate
    key: PrivateKey = field(repr=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class Issued:
    """A certificate, and what came with it.

    Attributes:
        certificate: the new one.
        key: the private key it belongs to, when we hold it.
        chain: issuing certificates as far as they are known, the issuer of ``certificate`` first. Verified only when
            ``Context(certificates_trusted=...)`` says against what.
        ca_certificates: caPubs. Handed out, never trusted by us.
        extra_certificates: extraCerts of the answer.
        status, status_text, failures: PKIStatusInfo of the certificate.
        protection: of the answer that brought it, as the peer made it.
        transaction_id: of the transaction.
        implicitly_confirmed: the server waived the confirmation.
    """

    certificate: x509.Certificate
    key: PrivateKey | None = field(default=None, repr=False)
    chain: tuple[x509.Certificate, ...] = ()
    ca_certificates: tuple[x509.Certificate, ...] = ()
    extra_certificates: tuple[x509.Certificate, ...] = ()
    status: PKIStatus = PKIStatus.ACCEPTED
    status_text: tuple[str, ...] = ()
    failures: tuple[FailureInfo, ...] = ()
    protection: Protection
    transaction_id: bytes
    implicitly_confirmed: bool = False


Issued.__init__ = initializer(Issued)  # type: ignore[method-assign]


@dataclass(frozen=True, kw_only=True, slots=True)
class Revoked:
    """A revocation that was granted.

    Attributes:
        status, status_text, failures: PKIStatusInfo.
        crls: CRLs that the answer carried.
        extra_certificates: extraCerts of the answer.
        protection: of the answer.
        transaction_id: of the transaction.
    """

    status: PKIStatus
    status_text: tuple[str, ...] = ()
    failures: tuple[FailureInfo, ...] = ()
    crls: tuple[x509.CertificateRevocationList, ...] = ()
    extra_certificates: tuple[x509.Certificate, ...] = ()
    protection: Protection
    transaction_id: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Info:
    """One value of a genp.

    Attributes:
        oid: dotted.
        name: such as ``id-it-caCerts``; the dotted OID when it is not known.
        value: DER, or None when absent.
        decoded: as ``opensslcmp.asn1.decode_info`` gives it.
    """

    oid: str
    name: str
    value: bytes | None = field(repr=False)
    decoded: Any


@dataclass(frozen=True, kw_only=True, slots=True)
class RootCaUpdate:
    """A new root, verified against the one already held (RFC 9810, 5.3.19.15).

    Attributes:
        new_with_new: the new root, self-signed.
        new_with_old: the new key signed with the old one.
        old_with_new: the old key signed with the new one, when it was sent.
    """

    new_with_new: x509.Certificate
    new_with_old: x509.Certificate
    old_with_new: x509.Certificate | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class RequestTemplate:
    """What the server wants a request to hold (RFC 9810, 5.3.19.16).

    Attributes:
        subject: wished, with empty values where the client fills in; None when the server leaves it open.
        extensions: dotted OID -> (critical, DER of the value).
        keys: what kinds of keys are taken: bits of RSA as int, else DER of an AlgorithmIdentifier.
        value: all of it, as ``opensslcmp.asn1.CertReqTemplateContent``.
    """

    subject: x509.Name | None
    extensions: dict[str, tuple[bool, bytes]]
    keys: tuple[bytes | int, ...]
    value: Any = field(repr=False)


def new_certificate_of(der: bytes) -> x509.Certificate:
    """A certificate that a peer sent, as an object.

    Raises:
        BadMessage: badDataFormat, it is none.
    """
    try:
        return x509.load_der_x509_certificate(der)
    except (ValueError, x509.InvalidVersion) as error:
        raise BadMessage(FailureInfo.BAD_DATA_FORMAT, f"a certificate that does not decode: {error}") from None


@lru_cache(maxsize=512)
def certificate_of(der: bytes) -> x509.Certificate:
    """As ``new_certificate_of``; CA certificates come again and again, so they are remembered."""
    return new_certificate_of(der)


def crl_of(der: bytes) -> x509.CertificateRevocationList:
    """A CRL that a peer sent, as an object.

    Raises:
        BadMessage: badDataFormat, it is none.
    """
    try:
        crl = x509.load_der_x509_crl(der)
        # Read on demand, and so where nobody expects that it fails.
        _ = crl.issuer, crl.last_update_utc, crl.next_update_utc
        return crl
    except (ValueError, x509.InvalidVersion) as error:
        raise BadMessage(FailureInfo.BAD_DATA_FORMAT, f"a CRL that does not decode: {error}") from None
